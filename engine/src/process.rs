//! Processes: the only place that spawns them, and holding them by descriptor.
//!
//! What it refuses: signals by bare pid from other modules, and children that nobody reaps.

pub mod command;
pub mod guard;
pub mod init;
pub mod pidfd;
