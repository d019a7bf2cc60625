//! One contract for every place outside of the host: a folder, a bucket of S3 (a server in this process), a peer. What each of them does
//! on its bad days besides stands beside it.
#![allow(missing_docs)]
#![expect(clippy::disallowed_methods, reason = "tests write as CRIU does, and damage what was written")]

mod bad_days;
mod contract;
mod fixture;
mod handover;
mod peers;
mod s3;
