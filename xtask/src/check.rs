//! `cargo xtask check`.

use anyhow::Result;

/// Runs them.
pub(crate) fn run() -> Result<()> {
    Ok(())
}
