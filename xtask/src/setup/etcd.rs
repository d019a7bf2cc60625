//! etcd, for the tests of leases that are kept in it.
//!
//! Debian's package would start a member on every host with an init system. So it is unpacked into the cache folder, not
//! installed, and found there by `PATH`; tests start members of their own on loopback.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, host, launcher};
use crate::cache::Cache;
use crate::command;

const PROGRAM: &str = "etcd";

/// The first whose JSON gateway answers under `/v3`.
const OLDEST: (u32, u32) = (3, 4);

/// Unpacks it unless there is one that suits.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    let ours = cache.bin().join(PROGRAM);
    for candidate in [Some(ours.clone()), host::find_program(PROGRAM)].into_iter().flatten() {
        if let Ok(version) = version(&candidate) {
            println!("setup: etcd: {version}");
            return Ok(());
        }
    }
    println!("setup: etcd: unpacking Debian's package into the cache folder (not installing it)");
    let work = cache.work("etcd")?;
    let root = apt::unpack(&["etcd-server"], &work)?;
    let root = cache.keep(&root, "etcd")?;
    launcher::install(cache, &root.join("usr/bin").join(PROGRAM), &root)?;
    println!("setup: etcd: {}", version(&ours).context("what was unpacked")?);
    Ok(())
}

fn version(program: &Path) -> Result<String> {
    let said = command::output(Command::new(program).arg("--version"))?;
    let line = said.lines().next().unwrap_or_default();
    match host::first_version(line) {
        Some(version) if version >= OLDEST => Ok(format!("{} ({line})", program.display())),
        _ => bail!("{} is older than {}.{}: {line}", program.display(), OLDEST.0, OLDEST.1),
    }
}
