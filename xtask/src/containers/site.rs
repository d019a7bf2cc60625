//! Where everything of one keeper is. The name says whose it is: `PID-START`, with the kernel's start time, so
//! that a pid that was given out again is not taken for the keeper.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cache;

/// Sockets have short paths only; so this is not in the cache folder.
const RUN: &str = "/run/supervisor-dev";

/// The folders of one keeper, and what is in them by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    pid: u32,
    name: String,
    run: PathBuf,
    data: PathBuf,
}

impl Site {
    /// The site of a keeper that is alive.
    pub(super) fn of(pid: u32) -> Result<Site> {
        let start = start_time(pid).with_context(|| format!("process {pid} is gone"))?;
        Site::named(pid, format!("{pid}-{start}"))
    }

    fn named(pid: u32, name: String) -> Result<Site> {
        let data = cache::folder()?.join("containers").join(&name);
        Ok(Site { pid, run: Path::new(RUN).join(&name), data, name })
    }

    /// Those whose keeper is dead.
    pub(super) fn stale() -> Result<Vec<Site>> {
        let mut names: Vec<String> = Vec::new();
        for folder in [PathBuf::from(RUN), cache::folder()?.join("containers")] {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            names.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()));
        }
        names.sort();
        names.dedup();
        let mut stale = Vec::new();
        for name in names {
            // A folder of another kind is somebody else's.
            let Some((pid, start)) = parse(&name) else { continue };
            if start_time(pid) != Some(start) {
                stale.push(Site::named(pid, name)?);
            }
        }
        Ok(stale)
    }

    /// Makes the folders.
    pub(super) fn make(&self) -> Result<()> {
        for folder in [&self.run, &self.data] {
            fs::create_dir_all(folder).with_context(|| format!("can't make {}", folder.display()))?;
        }
        Ok(())
    }

    /// What does not outlive a run: sockets, settings, logs.
    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    /// Images and containers; may be large.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// The docker daemon's socket.
    pub(super) fn docker_socket(&self) -> PathBuf {
        self.run.join("docker.sock")
    }

    /// The script that calls podman with all that makes it ours.
    pub(super) fn podman(&self) -> PathBuf {
        self.run.join("bin/podman")
    }

    /// The network namespace; the keeper's own.
    pub(super) fn network(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.pid))
    }

    /// The cgroup of docker's containers, in each hierarchy.
    pub(super) fn cgroup(&self) -> String {
        format!("supervisor-dev-{}", self.name)
    }
}

fn parse(name: &str) -> Option<(u32, u64)> {
    let (pid, start) = name.split_once('-')?;
    Some((pid.parse().ok()?, start.parse().ok()?))
}

/// Field 22 of `/proc/PID/stat`; the name before it may hold anything, blanks and brackets too.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_site_is_told_by_pid_and_start_time() {
        let ours = Site::of(std::process::id()).expect("we are alive");
        assert_eq!(parse(&ours.name).map(|(pid, _)| pid), Some(std::process::id()));
        assert_eq!(ours, Site::of(std::process::id()).expect("we are alive"));
        assert_eq!(parse("hand"), None);
        assert_eq!(parse("12-"), None);
    }
}
