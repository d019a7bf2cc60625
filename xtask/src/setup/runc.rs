//! runc, for the tests of that runtime. Refuses to judge its version: `supervisor doctor` does.

use anyhow::{Context, Result};

use super::{apt, host};

/// Installs it unless it is there.
pub(crate) fn bring() -> Result<()> {
    if host::find_program("runc").is_none() {
        apt::install(&["runc"], "containers")?;
    }
    let runc = host::find_program("runc").context("runc is still missing after its installation")?;
    println!("setup: runc: {}", runc.display());
    Ok(())
}
