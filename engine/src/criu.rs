//! CRIU, driven over its RPC: a `criu swrk` worker for each dump and each restore.
//!
//! A worker is started by the service's [`crate::shim::Shim`], so that it stands in the service's namespaces and a restored
//! service is the shim's child. It is started *before* the service is frozen: its start-up is then no part of the pause.
//!
//! What it refuses: deciding, freezing (see [`crate::checkpoint`]), and keeping images.

mod breakpoints;
mod connections;
mod entries;
pub mod features;
mod file;
pub mod log;
mod message;
pub(crate) mod network;
mod options;
mod stats;
pub mod tar;
mod timers;
mod worker;

pub use connections::close_connections;
pub(crate) use connections::close_outer_connections;
pub use options::{Afterwards, Network, Options, SharedOptions, Tcp};
pub use timers::keep_timers;
pub use worker::{DumpTarget, DuringDump, Start, Worker, left_code_in};

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Report, Result};
use crate::process::command::Command;

/// The installed CRIU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Criu {
    program: PathBuf,
    version: String,
    feature_cache: Option<PathBuf>,
    problem: Option<String>,
}

impl Criu {
    /// Finds out which CRIU `program` is. `run_dir` keeps its feature cache where `/run` cannot.
    pub async fn find(program: &Path, run_dir: &Path) -> Result<Self> {
        let output = Command::new(vec![program.display().to_string(), "--version".to_owned()])
            .timeout(Duration::from_secs(10))
            .run()
            .await
            .map_err(|_| absent(program, "it cannot be run"))?;
        let version = output
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("Version:"))
            .map(|v| v.trim().to_owned())
            .ok_or_else(|| absent(program, "it does not say its version"))?;
        let feature_cache = features::cache(program, run_dir).await;
        let criu = Self { program: absolute(program), version, feature_cache, problem: None };
        criu.check().await?;
        Ok(criu)
    }

    /// A CRIU that is not there or does not work: every use of it is refused with the reason.
    pub fn absent(program: &Path, why: &Error) -> Self {
        let (program, version) = (program.to_owned(), "none".to_owned());
        Self { program, version, feature_cache: None, problem: Some(why.to_string()) }
    }

    /// For people.
    pub fn describe(&self) -> String {
        self.problem.clone().unwrap_or_else(|| self.version.clone())
    }

    fn usable(&self) -> Result<()> {
        match &self.problem {
            Some(why) => Err(Error::Refused(Report::new(why.clone()))),
            None => Ok(()),
        }
    }

    /// Its version, for example `4.2.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Its feature cache, if `/run` cannot keep one.
    pub fn feature_cache(&self) -> Option<&Path> {
        self.feature_cache.as_deref()
    }

    /// Runs `criu check`: can this kernel do what CRIU needs?
    pub async fn check(&self) -> Result<()> {
        let output = Command::new(vec![self.program.display().to_string(), "check".to_owned()])
            .timeout(Duration::from_secs(30))
            .run()
            .await?;
        if output.success() {
            return Ok(());
        }
        Err(Error::Refused(
            Report::new(format!("check CRIU {} on this kernel", self.version))
                .output(log::last_lines(&output.stderr, 6))
                .remedy("install a CRIU that knows this kernel (4.1 or newer for Linux 6.12 and later)"),
        ))
    }
}

fn absent(program: &Path, why: &str) -> Error {
    Error::Refused(
        Report::new(format!("run CRIU at {}: {why}", program.display()))
            .remedy("install criu (Debian: apt-get install criu), or name one in SUPERVISOR_CRIU"),
    )
}

/// A name without a folder is looked for in PATH once, so that it means the same to shims and to runc.
fn absolute(program: &Path) -> PathBuf {
    if program.components().count() > 1 {
        return program.to_owned();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|p| p.is_file());
    found.unwrap_or_else(|| program.to_owned())
}
