//! Set-up and the programs built, for whatever runs them: demonstration and measurements.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::command;
use crate::setup::{self, Environment};

/// What is ready to be run.
pub(crate) struct Prepared {
    /// What to start programs with.
    pub(crate) environment: Environment,
    /// The folder of `supervisor`, `counter`, `memhog`.
    pub(crate) binaries: PathBuf,
}

/// Does the set-up and builds release binaries of the packages.
pub(crate) fn release(packages: &[&str]) -> Result<Prepared> {
    let environment = setup::set_up()?;
    let mut build = command::cargo();
    build.args(["build", "--release"]);
    for package in packages {
        build.args(["--package", package]);
    }
    command::run(environment.apply(&mut build))?;
    Ok(Prepared { environment, binaries: target_folder()?.join("release") })
}

/// Where cargo puts what it builds.
pub(crate) fn target_folder() -> Result<PathBuf> {
    let text = command::output(command::cargo().args(["metadata", "--format-version=1", "--no-deps"]))?;
    let metadata: serde_json::Value =
        serde_json::from_str(&text).context("can't read what cargo metadata printed")?;
    let folder = metadata["target_directory"].as_str().context("cargo metadata names no target_directory")?;
    Ok(PathBuf::from(folder))
}
