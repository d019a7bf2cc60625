//! `cargo xtask check`: everything that CI checks without running tests. It never writes into the checkout, the
//! lock file included.
//!
//! All steps run, quick ones first, and all findings are reported at the end. Refuses to skip a step silently.

mod dependencies;
mod licences;
mod metadata;
mod sources;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::command;
use metadata::Metadata;

/// A file longer than this is worth splitting; said, not enforced.
const LINES_MAX: usize = 400;

/// Runs every step.
pub(crate) fn run() -> Result<()> {
    let root = root()?;
    let mut failed = Vec::new();
    let mut step = |name: &str, result: Result<()>| {
        println!("check: {name}: {}", if result.is_ok() { "good" } else { "FAILED" });
        if let Err(error) = result {
            failed.push(format!("{name}: {error:#}"));
        }
    };
    step("format", command::run(command::cargo().args(["fmt", "--all", "--check"])));
    step("sources", sources::check(&root));
    match Metadata::of_workspace() {
        Ok(metadata) => {
            step("dependency directions", dependencies::check(&metadata));
            step("licences and origins", licences::check(&metadata));
            notes(&root, &metadata);
        }
        Err(error) => step("metadata", Err(error)),
    }
    step("cargo deny", deny());
    step("clippy", clippy());
    step("documentation", documentation());
    step("generated documents", command::run(&mut crate::fix::documents()));
    if !failed.is_empty() {
        bail!("{} of the steps failed\n\n{}", failed.len(), failed.join("\n\n"));
    }
    println!("check: all good");
    Ok(())
}

fn clippy() -> Result<()> {
    let workspace = ["clippy", "--workspace", "--all-targets", "--locked"];
    command::run(command::cargo().args(workspace).args(["--", "-D", "warnings"]))?;
    // What only fail points compile.
    let features = ["--features", "supervisor/failpoints"];
    command::run(command::cargo().args(workspace).args(features).args(["--", "-D", "warnings"]))
}

fn documentation() -> Result<()> {
    let mut doc = command::cargo();
    doc.args(["doc", "--workspace", "--no-deps", "--locked", "--quiet"]).env("RUSTDOCFLAGS", "-D warnings");
    command::run(&mut doc)
}

/// Ten minutes to compile, so it is used where it is installed; `licences` checks the same from what cargo knows.
fn deny() -> Result<()> {
    if command::output(command::cargo().args(["deny", "--version"])).is_err() {
        println!("check: cargo-deny is not installed; licences and origins are checked without it");
        return Ok(());
    }
    // Advisories need a database from the network.
    command::run(command::cargo().args(["deny", "--offline", "check", "licenses", "bans", "sources"]))
}

/// What to look at some day, but no reason to fail.
fn notes(root: &Path, metadata: &Metadata) {
    for (name, versions) in metadata.duplicates() {
        println!("check: note: {name} is there in {} versions: {}", versions.len(), versions.join(", "));
    }
    for (file, lines) in sources::longer_than(root, LINES_MAX).unwrap_or_default() {
        println!("check: note: {} has {lines} lines, more than {LINES_MAX}: split it", file.display());
    }
}

fn root() -> Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().map(Path::to_path_buf).context("xtask lies in no workspace")
}
