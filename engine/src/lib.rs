//! Every effect of the supervisor: processes, disks, network, clock.
//!
//! What it refuses: decisions (those are in `policies`) and the words of the configuration file.

pub mod compat;
pub mod durable;
pub mod error;
pub mod failpoint;

pub use error::{Error, Result};
