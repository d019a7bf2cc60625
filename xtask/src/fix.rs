//! `cargo xtask fix`: everything that `check` would complain about and a program can mend.

use anyhow::Result;

use crate::{command, matrix};

/// Format, lints' suggestions, generated documents. Works on uncommitted changes too: it is asked for.
pub(crate) fn run() -> Result<()> {
    command::run(command::cargo().args([
        "clippy",
        "--workspace",
        "--all-targets",
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ]))?;
    command::run(command::cargo().args(["fmt", "--all"]))?;
    command::run(command::cargo().args(["test", "--quiet", "--package", "config"]).env("UPDATE_DOCS", "1"))?;
    command::run(&mut matrix::document())
}
