//! A CRIU that passes `criu check` on this kernel.
//!
//! In this order: the one named by `SUPERVISOR_CRIU`; the one installed; the one that we brought before; the one
//! the host's package sources offer; Debian's newer source, built. Ours is kept as `bin/criu` in the cache
//! folder and checked again each time, for kernels change. Refuses to hand on one that fails the check.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, host};
use crate::cache::Cache;
use crate::command;

/// Newest first; the second in case the first does not build here or does not suit the kernel.
const SUITES: [&str; 2] = ["sid", "trixie"];

const BUILD_PACKAGES: [&str; 19] = [
    "gcc",
    "libaio-dev",
    "libbsd-dev",
    "libc6-dev",
    "libcap-dev",
    "libgnutls28-dev",
    "libnet1-dev",
    "libnftables-dev",
    "libnl-3-dev",
    "libnl-route-3-dev",
    "libprotobuf-c-dev",
    "libprotobuf-dev",
    "make",
    "pkg-config",
    "protobuf-c-compiler",
    "protobuf-compiler",
    "python3-protobuf",
    "uuid-dev",
    "xz-utils",
];

/// Finds or makes one, and gives its path.
pub(crate) fn bring(cache: &Cache) -> Result<PathBuf> {
    if !host::is_root() {
        bail!(
            "only root can run `criu check`, and only root can dump other processes: run `sudo -E cargo xtask setup`"
        );
    }
    if let Some(found) = find(cache)? {
        return Ok(found);
    }
    println!("setup: criu: none here that passes `criu check`");
    if let Some(packaged) = from_package(cache)? {
        return Ok(packaged);
    }
    let mut failures = Vec::new();
    for suite in SUITES {
        match build(cache, suite) {
            Ok(criu) => return Ok(criu),
            Err(error) => failures.push(format!("from {suite}: {error:#}")),
        }
    }
    bail!(
        "can't bring a CRIU that works here; one of your own can be named by SUPERVISOR_CRIU\n{}",
        failures.join("\n")
    )
}

fn find(cache: &Cache) -> Result<Option<PathBuf>> {
    if let Some(named) = std::env::var_os("SUPERVISOR_CRIU").filter(|named| !named.is_empty()) {
        let named = PathBuf::from(named);
        check(&named).context("SUPERVISOR_CRIU names a CRIU that fails")?;
        report(&named);
        return Ok(Some(named));
    }
    let candidates = [host::find_program("criu"), Some(cache.bin().join("criu"))];
    for candidate in candidates.into_iter().flatten().filter(|criu| criu.is_file()) {
        match check(&candidate) {
            Ok(()) => {
                report(&candidate);
                return Ok(Some(candidate));
            }
            Err(error) => println!("setup: criu: {} will not do: {error:#}", candidate.display()),
        }
    }
    Ok(None)
}

/// What the host's own sources offer is unpacked and tried; it is never installed over what is there.
fn from_package(cache: &Cache) -> Result<Option<PathBuf>> {
    let Some(version) = apt::candidate("criu") else {
        return Ok(None);
    };
    println!("setup: criu: trying the packaged version {version}");
    let work = cache.work("criu-package")?;
    match unpacked(cache, &work) {
        Ok(criu) => {
            report(&criu);
            Ok(Some(criu))
        }
        Err(error) => {
            println!("setup: criu: the package will not do: {error:#}");
            Ok(None)
        }
    }
}

fn unpacked(cache: &Cache, work: &Path) -> Result<PathBuf> {
    let root = apt::unpack(&["criu"], work)?;
    let program = root.join("usr/sbin/criu");
    if !program.is_file() {
        bail!("already installed, and it fails");
    }
    let libraries = apt::library_packages(work)?;
    let libraries: Vec<&str> = libraries.iter().map(String::as_str).collect();
    check_with(&program, &apt::library_path(&root)?)?;
    // It works with the libraries beside it, so it will with the same ones installed.
    apt::install(&libraries, "libraries of criu")?;
    check(&program)?;
    cache.install(&program, "criu")
}

fn build(cache: &Cache, suite: &str) -> Result<PathBuf> {
    apt::install(&BUILD_PACKAGES, "building criu")?;
    let work = cache.work("criu-build")?;
    let log = cache.log(&format!("criu-{suite}"))?;
    println!("setup: criu: fetching Debian's source from {suite} (log: {})", log.display());
    let tar = apt::source("criu", suite, &work, &log)?;
    let tree = work.join("tree");
    std::fs::create_dir_all(&tree)?;
    command::logged(
        Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&tree).arg("--strip-components=1"),
        &log,
    )?;
    let jobs = std::thread::available_parallelism().map_or(1, |count| count.get());
    println!("setup: criu: building {}, about a minute", file_name(&tar));
    command::logged(Command::new("make").arg(format!("-j{jobs}")).arg("criu").current_dir(&tree), &log)?;
    let program = tree.join("criu/criu");
    check(&program)?;
    let criu = cache.install(&program, "criu")?;
    report(&criu);
    Ok(criu)
}

fn check(criu: &Path) -> Result<()> {
    command::output(Command::new(criu).arg("check")).map(drop)
}

fn check_with(criu: &Path, library_path: &std::ffi::OsStr) -> Result<()> {
    command::output(Command::new(criu).arg("check").env("LD_LIBRARY_PATH", library_path)).map(drop)
}

fn report(criu: &Path) {
    let version = command::output(Command::new(criu).arg("--version")).unwrap_or_default();
    let version = version.lines().next().unwrap_or_default().trim_start_matches("Version: ");
    println!("setup: criu: {} (version {version}) passes `criu check`", criu.display());
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
