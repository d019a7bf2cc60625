//! docker, its daemon and containerd, for the tests of that runtime.
//!
//! Debian's package would start a daemon, add a group and open the host's firewall. So it is unpacked into the
//! cache folder; `cargo xtask test` starts a daemon of its own for as long as the tests take.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, host, launcher};
use crate::cache::Cache;
use crate::command;

/// What a daemon and its command line consist of; runc is brought by itself.
const PROGRAMS: [&str; 5] = ["dockerd", "docker", "containerd", "containerd-shim-runc-v2", "docker-proxy"];
const PACKAGES: [&str; 2] = ["docker.io", "containerd"];

/// The first with which `checkpoint` was seen to work.
const OLDEST: (u32, u32) = (20, 10);

/// Unpacks it unless there is one that suits.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    if host::find_program("ip").is_none() {
        apt::install(&["iproute2"], "the network of containers")?;
    }
    if let Some(version) = found(cache) {
        println!("setup: docker: {version}");
        return Ok(());
    }
    println!("setup: docker: unpacking Debian's packages into the cache folder (not installing them)");
    let work = cache.work("docker")?;
    let root = apt::unpack(&PACKAGES, &work)?;
    let root = cache.keep(&root, "docker")?;
    for program in PROGRAMS {
        let places = ["usr/bin", "usr/sbin"].map(|folder| root.join(folder).join(program));
        // What was not downloaded is installed here already, and found by PATH.
        if let Some(program) = places.iter().find(|place| place.is_file()) {
            launcher::install(cache, program, &root)?;
        }
    }
    let version = found(cache).context("what was unpacked will not start, or is too old")?;
    println!("setup: docker: {version}");
    Ok(())
}

/// The daemon's version line, if all programs are there and it is new enough.
fn found(cache: &Cache) -> Option<String> {
    // Ours come first in PATH.
    let place = |name: &str| {
        let ours = cache.bin().join(name);
        if ours.is_file() { Some(ours) } else { host::find_program(name) }
    };
    for program in PROGRAMS {
        place(program)?;
    }
    version(&place("dockerd")?).ok()
}

fn version(program: &Path) -> Result<String> {
    let line = command::output(Command::new(program).arg("--version"))?;
    let line = line.trim();
    match host::first_version(line) {
        Some(version) if version >= OLDEST => Ok(format!("{} ({line})", program.display())),
        _ => bail!("{} is older than {}.{}: {line}", program.display(), OLDEST.0, OLDEST.1),
    }
}
