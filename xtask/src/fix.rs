//! `cargo xtask fix`: everything that `check` would complain about and a program can mend.

use std::process::Command;

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
    command::run(documents().env("UPDATE_DOCS", "1"))?;
    command::run(&mut matrix::document())
}

/// The documents that are made of the supervisor's own tables: compared, or written where `UPDATE_DOCS` says so.
pub(crate) fn documents() -> Command {
    let mut cargo = command::cargo();
    let selection = ["test", "--quiet", "--locked", "--workspace", "--features", "supervisor/failpoints"];
    cargo.args(selection).args(["--bin", "supervisor", "documents::"]);
    cargo
}
