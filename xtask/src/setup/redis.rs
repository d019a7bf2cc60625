//! redis-server, the real service of the demonstration and the measurements.
//!
//! Installing Debian's package would start a redis on every host with an init system, and stopping that takes a
//! global policy file. So the package is not installed: it is unpacked into the cache folder with the
//! libraries that are missing here, and started through a two-line script.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{apt, host, launcher};
use crate::cache::Cache;
use crate::command;

const PROGRAMS: [&str; 2] = ["redis-server", "redis-cli"];

/// Unpacks it unless it is there and starts.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    let ours = cache.bin().join(PROGRAMS[0]);
    for candidate in [host::find_program(PROGRAMS[0]), Some(ours)].into_iter().flatten() {
        if version(&candidate).is_ok() {
            println!("setup: redis-server: {}", candidate.display());
            return Ok(());
        }
    }
    println!("setup: redis-server: unpacking Debian's package into the cache folder (not installing it)");
    let work = cache.work("redis")?;
    let root = apt::unpack(&["redis-server"], &work)?;
    let root = cache.keep(&root, "redis")?;
    for program in PROGRAMS {
        launcher::install(cache, &root.join("usr/bin").join(program), &root)?;
    }
    let server = cache.bin().join(PROGRAMS[0]);
    version(&server)?;
    println!("setup: redis-server: {}", server.display());
    Ok(())
}

fn version(server: &Path) -> Result<String> {
    command::output(Command::new(server).arg("--version"))
}
