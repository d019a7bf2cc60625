//! `cargo xtask demo`: a service is killed, hung, and its newest image damaged; its state survives.

use anyhow::{Result, bail};

use crate::prepare;

/// Set-up and release binaries; the scenes themselves go here.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    let prepared = prepare::release(&["supervisor", "counter"])?;
    bail!("the demonstration's scenes are not written yet; binaries are in {}", prepared.binaries.display())
}
