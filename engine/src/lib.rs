//! Every effect of the supervisor: processes, disks, network, clock.
//!
//! What it refuses: decisions (those are in `policies`) and the words of the configuration file.

pub mod address;
pub mod capture;
pub mod certificates;
pub mod checkpoint;
pub mod clock;
pub mod compat;
pub mod criu;
mod descriptor;
pub mod durable;
pub mod error;
pub mod failpoint;
pub mod fence;
pub mod freeze;
pub mod hook;
pub mod host;
pub mod https;
pub mod images;
pub mod interchange;
pub mod journal;
pub mod lease;
pub mod lock;
pub mod names;
pub mod probe;
pub mod process;
pub mod recipient;
pub mod replica;
pub mod runtime;
pub mod shim;
pub mod systemd;

pub use error::{Error, Result};
