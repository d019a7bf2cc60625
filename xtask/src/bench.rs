//! `cargo xtask bench`: the paper's tables, for criu, runc and us.

use anyhow::{Result, bail};

use crate::prepare;

/// Set-up and release binaries; the measurements themselves go here.
pub(crate) fn run(_arguments: &[String]) -> Result<()> {
    let prepared = prepare::release(&["supervisor", "memhog"])?;
    bail!("the measurements are not written yet; binaries are in {}", prepared.binaries.display())
}
