//! `cargo xtask demo`: a service is killed, hung, and its newest image damaged; its state survives.
//!
//! What is shown is measured by a client outside: the time without an answer, and what the service still knew.
//! Refuses: any state of the host but a folder below `target/`, free ports on 127.0.0.1, and what set-up says it installs.

mod client;
mod counter;
mod redis;
mod stage;
mod table;
mod watch;

use anyhow::Result;

use crate::{command, prepare};

/// Set-up, release binaries, then the scenes.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    let prepared = prepare::release(&["supervisor", "counter"])?;
    let mut doctor = std::process::Command::new(prepared.binaries.join("supervisor"));
    // What the host lacks is worth seeing; whether it is too much shows in the scenes.
    let _ = command::run(prepared.environment.apply(doctor.arg("doctor")));
    let mut rows = counter::play(&prepared)?;
    rows.extend(redis::play(&prepared)?);
    table::print(&rows);
    Ok(())
}
