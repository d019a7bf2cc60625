//! Set-up: brings what the tests, the demonstration and the measurements need, one file per thing.
//!
//! What is there and works is used as it is. What is missing comes from the host's package sources or is
//! built, and is kept in the cache folder. Refuses: changing the host's apt configuration, starting a
//! package's service, and leaving something half-done under its final name.

mod apt;
mod chromium;
mod criu;
mod docker;
mod etcd;
mod host;
mod launcher;
mod machine;
mod netfilter;
mod podman;
mod redis;
mod runc;
mod services;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cache::{self, Cache};

pub(crate) use host::{SYSTEM_FOLDERS, find_program, first_version, is_root};
pub(crate) use podman::Parts as PodmanParts;

/// What later commands are started with, so that they use what set-up brought.
pub(crate) struct Environment {
    criu: Option<PathBuf>,
    path: OsString,
}

impl Environment {
    /// What there is without set-up: for hosts where we are not root.
    pub(crate) fn as_found() -> Result<Environment> {
        let bin = cache::folder()?.join("bin");
        let criu = Some(bin.join("criu")).filter(|criu| criu.is_file()).or_else(|| find_program("criu"));
        Ok(Environment { criu, path: path_with(&bin)? })
    }

    /// Gives a command `SUPERVISOR_CRIU`, and `PATH` with our programs first.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        if let Some(criu) = &self.criu {
            command.env("SUPERVISOR_CRIU", criu);
        }
        command.env("PATH", &self.path)
    }
}

impl Environment {
    /// Where programs are looked for, ours first.
    pub(crate) fn search_path(&self) -> &std::ffi::OsStr {
        &self.path
    }
}

/// `cargo xtask setup`.
pub(crate) fn run() -> Result<()> {
    let environment = set_up()?;
    if let Some(criu) = &environment.criu {
        println!("setup: done; SUPERVISOR_CRIU={}", criu.display());
    }
    Ok(())
}

/// Brings everything; quick when everything is there.
pub(crate) fn set_up() -> Result<Environment> {
    let cache = Cache::open()?;
    let criu = criu::bring(&cache).context("set-up of criu")?;
    runc::bring().context("set-up of runc")?;
    netfilter::bring().context("set-up of nft and iptables")?;
    redis::bring(&cache).context("set-up of redis-server")?;
    etcd::bring(&cache).context("set-up of etcd")?;
    docker::bring(&cache).context("set-up of docker")?;
    podman::bring(&cache).context("set-up of podman")?;
    chromium::bring(&cache).context("set-up of chromium")?;
    services::bring(&cache).context("set-up of the matrix's services")?;
    machine::bring(&cache).context("set-up of a Debian with systemd")?;
    Ok(Environment { criu: Some(criu), path: path_with(&cache.bin())? })
}

fn path_with(bin: &Path) -> Result<OsString> {
    let rest = std::env::var_os("PATH").unwrap_or_default();
    let parts = std::iter::once(bin.to_owned()).chain(std::env::split_paths(&rest));
    std::env::join_paths(parts).context("can't put the cache folder into PATH")
}
