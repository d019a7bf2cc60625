//! `cargo xtask matrix`: the matrix of what can be checkpointed, run for real, and `docs/compatibility.md` written of it.

use std::fs;

use anyhow::{Context, Result};

use crate::{command, prepare, test};

/// Where cells say what they came to.
const VARIABLE: &str = "SUPERVISOR_MATRIX_DIR";

/// Runs all cells. The document is written only if each was as the table has it.
pub(crate) fn run() -> Result<()> {
    let folder = prepare::target_folder()?.join("matrix");
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
    }
    let only = ["--test", "matrix"].map(str::to_owned);
    test::run_with(&only, &[(VARIABLE, &folder)])?;
    command::run(document().env(VARIABLE, &folder))
}

/// Writes the document, with the last run as it is or as the environment has it.
pub(crate) fn document() -> std::process::Command {
    let mut cargo = command::cargo();
    cargo
        .args(["test", "--quiet", "--package", "system-tests", "--test", "compatibility"])
        .env("UPDATE_DOCS", "1");
    cargo
}
