//! A small Debian with systemd, as a folder: the root of machines in which tests have systemd as process 1.
//!
//! Made by Debian's own debootstrap, which is unpacked and not installed; so there is a whole dpkg in it, for the tests of our package.
//! Its suite is the host's, since programs that were built here run in it. Refuses to leave mounts behind: debootstrap has a
//! mount namespace of its own.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::apt;
use crate::cache::Cache;
use crate::command;

/// What a host with systemd has beside Debian's minimum.
const PACKAGES: &str = "systemd-sysv,dbus";
/// What must be there in the end.
const PROGRAMS: [&str; 3] = ["usr/lib/systemd/systemd", "usr/bin/systemctl", "usr/bin/dpkg"];
/// Units that concern the kernel, which is the host's, or terminals, which there are none of.
const MASKED: [&str; 9] = [
    "dev-hugepages.mount",
    "getty.target",
    "modprobe@.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-modules-load.service",
    "systemd-sysctl.service",
];
/// What nobody reads there.
const TRIMMED: [&str; 4] = ["usr/share/doc", "usr/share/locale", "usr/share/man", "var/log/journal"];

/// Makes it unless it is there.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    let place = cache.unpacked("machine");
    if is_whole(&place) {
        println!("setup: a Debian with systemd: {}", place.display());
        return Ok(());
    }
    let suite = suite(&fs::read_to_string("/etc/os-release").unwrap_or_default());
    println!("setup: a Debian with systemd: debootstrap of {suite} into the cache folder, a minute or two");
    let work = cache.work("machine")?;
    let root = work.join("machine");
    debootstrap(cache, &work, &suite, &root)?;
    for unit in MASKED {
        let link = root.join("etc/systemd/system").join(unit);
        symlink("/dev/null", &link).with_context(|| format!("can't make {}", link.display()))?;
    }
    for folder in TRIMMED {
        if root.join(folder).exists() {
            fs::remove_dir_all(root.join(folder)).with_context(|| format!("can't remove {folder}"))?;
        }
    }
    if !is_whole(&root) {
        bail!("not everything is there: {}", PROGRAMS.join(", "));
    }
    let root = cache.keep(&root, "machine")?;
    println!("setup: a Debian with systemd: {}", root.display());
    Ok(())
}

fn debootstrap(cache: &Cache, work: &Path, suite: &str, root: &Path) -> Result<()> {
    let tools = apt::unpack(&["debootstrap"], work)?;
    let log = cache.log("machine")?;
    let mut failures = Vec::new();
    for mirror in apt::mirrors() {
        let mut make = Command::new("unshare");
        make.args(["--mount", "--"]).arg(tools.join("usr/sbin/debootstrap"));
        make.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]).arg(root).arg(&mirror);
        make.env("DEBOOTSTRAP_DIR", tools.join("usr/share/debootstrap"));
        // It fetches with wget, which was unpacked beside it where it was missing.
        make.env("PATH", with("PATH", &[tools.join("usr/bin")])?);
        make.env("LD_LIBRARY_PATH", apt::library_path(&tools)?);
        match command::logged(&mut make, &log) {
            Ok(()) => return Ok(()),
            Err(error) => failures.push(format!("{mirror}: {error:#}")),
        }
        if root.exists() {
            fs::remove_dir_all(root).context("can't remove what debootstrap left")?;
        }
    }
    bail!("no mirror gave a {suite}: is there a network?\n{}", failures.join("\n"))
}

/// A list of folders in the environment, with more at its end.
fn with(variable: &str, more: &[std::path::PathBuf]) -> Result<OsString> {
    let there = std::env::var_os(variable).unwrap_or_default();
    std::env::join_paths(std::env::split_paths(&there).chain(more.iter().cloned()))
        .with_context(|| format!("can't make a {variable}"))
}

fn is_whole(root: &Path) -> bool {
    PROGRAMS.iter().all(|program| root.join(program).exists())
}

/// The host's if it is a Debian.
fn suite(release: &str) -> String {
    let value = |key: &str| {
        let found = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        found.map(|value| value.trim_matches('"').to_owned())
    };
    match (value("ID").as_deref(), value("VERSION_CODENAME")) {
        (Some("debian"), Some(codename)) => codename,
        _ => "bookworm".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suite_is_the_hosts_if_it_is_a_debian() {
        assert_eq!(suite("PRETTY_NAME=\"x\"\nVERSION_CODENAME=trixie\nID=debian\n"), "trixie");
        assert_eq!(suite("ID=ubuntu\nVERSION_CODENAME=noble\n"), "bookworm");
        assert_eq!(suite(""), "bookworm");
    }
}
