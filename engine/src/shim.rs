//! The shim: a small process beside each service, its parent and its reaper.
//!
//! ```text
//! supervisor ──socket──> shim (pid 1 of the service's pid namespace, when it has one)
//!                          ├── the service's process tree
//!                          ├── CRIU or runc, while one works
//!                          └── keeper of the fence (beside it, in no namespace but the host's)
//! ```
//!
//! What it is for: the supervisor may die, be killed or be upgraded at any instant, and still the service
//! runs on, its exit status is not lost, its output is read, what it says of itself is heard, its orphans are reaped, and a freeze that the
//! supervisor began is ended. CRIU is started from here so that it stands in the same namespaces as the
//! service (it then need not dump them) and so that a restored service is a child of the shim again.
//!
//! What it refuses: decisions, the configuration, the image store, threads.

pub mod client;
mod ear;
mod keeper;
pub(crate) mod program;
pub mod protocol;
mod pump;
mod said;
mod sandbox;
pub mod server;
mod setup;

pub use client::Shim;
pub use protocol::{Listen, Output, Program, User};
pub use said::Said;
pub use sandbox::Isolation;
pub(crate) use sandbox::raise_pids;
