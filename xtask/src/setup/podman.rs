//! podman, for the tests of that runtime.
//!
//! Unpacked like docker's package, for podman shares its settings, its locks and its networks with whatever
//! containers the host has: our tests give it a configuration of their own. Refuses to write below `/etc/containers`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{apt, host, launcher};
use crate::cache::{self, Cache};
use crate::command;

/// conmon, netavark and the settings are only recommended by podman, or other packages may stand in for them.
const PACKAGES: [&str; 4] = ["podman", "conmon", "netavark", "golang-github-containers-common"];

/// The first with netavark.
const OLDEST: (u32, u32) = (4, 0);

/// Unpacks it unless there is one that suits.
pub(crate) fn bring(cache: &Cache) -> Result<()> {
    let ours = cache.bin().join("podman");
    for candidate in [Some(ours.clone()), host::find_program("podman")].into_iter().flatten() {
        if let Ok(version) = version(&candidate) {
            println!("setup: podman: {version}");
            return Ok(());
        }
    }
    println!("setup: podman: unpacking Debian's packages into the cache folder (not installing them)");
    let work = cache.work("podman")?;
    let root = apt::unpack(&PACKAGES, &work)?;
    let root = cache.keep(&root, "podman")?;
    launcher::install(cache, &root.join("usr/bin/podman"), &root)?;
    println!("setup: podman: {}", version(&ours).context("what was unpacked")?);
    Ok(())
}

fn version(program: &Path) -> Result<String> {
    let line = command::output(Command::new(program).arg("--version"))?;
    let line = line.trim();
    match host::first_version(line) {
        Some(version) if version >= OLDEST => Ok(format!("{} ({line})", program.display())),
        _ => bail!("{} is older than {}.{}: {line}", program.display(), OLDEST.0, OLDEST.1),
    }
}

/// Where the parts of the podman that is used lie. Their usual places are compiled into it.
pub(crate) struct Parts {
    /// The program itself, for it starts itself again and a script between would lose our environment.
    pub(crate) program: PathBuf,
    /// Candidates, best first.
    pub(crate) conmon: Vec<PathBuf>,
    /// Folders with netavark.
    pub(crate) helpers: Vec<PathBuf>,
    /// What the kernel lets a container call.
    pub(crate) seccomp: Option<PathBuf>,
    /// For the loader; empty when podman is installed.
    pub(crate) libraries: OsString,
}

impl Parts {
    /// Of the unpacked podman if there is one, as in `PATH`.
    pub(crate) fn find() -> Result<Parts> {
        let cache = cache::folder()?;
        let unpacked = cache.join("unpacked/podman");
        let is_ours = cache.join("bin/podman").is_file();
        let root = if is_ours { unpacked.as_path() } else { Path::new("/") };
        // What was installed already was not unpacked.
        let both = |place: &str| vec![root.join(place), Path::new("/").join(place)];
        let program = if is_ours { Some(root.join("usr/bin/podman")) } else { host::find_program("podman") };
        Ok(Parts {
            program: program.context("podman is not here")?,
            conmon: [both("usr/bin/conmon"), both("usr/libexec/podman/conmon")].concat(),
            helpers: [both("usr/lib/podman"), both("usr/libexec/podman")].concat(),
            seccomp: both("usr/share/containers/seccomp.json").into_iter().find(|file| file.is_file()),
            libraries: if is_ours { apt::library_path(root)? } else { OsString::new() },
        })
    }
}
