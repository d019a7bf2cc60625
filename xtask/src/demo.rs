//! `cargo xtask demo`: a service is killed, hung, and its newest image damaged; its state survives.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{command, prepare};

/// Set-up and release binaries; the scenes themselves go here.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    let prepared = prepare::release(&["supervisor", "counter"])?;
    let mut doctor = Command::new(prepared.binaries.join("supervisor"));
    command::run(prepared.environment.apply(doctor.arg("doctor")))?;
    bail!("the demonstration's scenes are not written yet; binaries are in {}", prepared.binaries.display())
}
