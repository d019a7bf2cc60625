//! What the measurements stand on: programs, folders on the disk and in memory, the workload's root folder.
//!
//! Refuses a "disk" that is memory and a "memory" that is a disk: the figures would be of something else.

use std::cell::Cell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tempfile::TempDir;

use crate::bundle;
use crate::namespace::{self, Namespace};
use crate::options::Options;
use crate::tool::Tool;

/// Where images that are timed to memory go, ours and the peers'.
const MEMORY: &str = "/dev/shm";
const PREFIX: &str = "supervisor-bench-";

/// Lasts as long as the measurements; takes its folders along when it goes.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) supervisor: PathBuf,
    pub(crate) memhog: PathBuf,
    pub(crate) criu: PathBuf,
    pub(crate) runc: Option<PathBuf>,
    /// Where criu finds its feature cache; nothing where it does so anyway.
    pub(crate) cached: Option<Namespace>,
    pub(crate) compression: String,
    disk: TempDir,
    memory: TempDir,
    folders: Cell<u32>,
}

/// One session's own folders; removed with it.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) disk: PathBuf,
    pub(crate) memory: PathBuf,
    /// Names what must be unique on this host.
    pub(crate) mark: String,
}

/// What the workload does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// Of each task.
    pub(crate) mebibytes: u64,
    pub(crate) children: u32,
    pub(crate) memory: Memory,
}

/// What the workload does with its memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Memory {
    /// Asks for it, no more.
    Mapped,
    /// Writes all of it.
    Dirtied,
}

impl Ground {
    /// Finds the programs and makes the folders.
    pub(crate) fn prepare(options: &Options) -> Result<Self> {
        let binaries = match &options.binaries {
            Some(folder) => folder.clone(),
            None => own_folder()?,
        };
        if is_memory(&options.disk)? {
            bail!("{} is in memory: name a folder on a disk by --disk", options.disk.display());
        }
        if !is_memory(Path::new(MEMORY))? {
            bail!("{MEMORY} is no tmpfs, so nothing can be timed to memory");
        }
        let folder = |parent: &Path| {
            let made = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent);
            made.with_context(|| format!("make a folder in {}", parent.display()))
        };
        let ground = Self {
            supervisor: built(&binaries, "supervisor")?,
            memhog: built(&binaries, "memhog")?,
            criu: criu()?,
            runc: find("runc"),
            cached: namespace::is_needed().then(Namespace::make).transpose()?,
            compression: options.compression.clone(),
            disk: folder(&options.disk)?,
            memory: folder(Path::new(MEMORY))?,
            folders: Cell::new(0),
        };
        bundle::make_root(&ground.memhog, &ground.root())?;
        ground.warm_up()?;
        Ok(ground)
    }

    /// The workload's root folder for containers.
    pub(crate) fn root(&self) -> PathBuf {
        self.disk.path().join("root")
    }

    /// New folders.
    pub(crate) fn folders(&self) -> Result<Folders> {
        let number = self.folders.get() + 1;
        self.folders.set(number);
        let mark = format!("bench-{}-{number}", std::process::id());
        let folders =
            Folders { disk: self.disk.path().join(&mark), memory: self.memory.path().join(&mark), mark };
        for folder in [&folders.disk, &folders.memory] {
            std::fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(folders)
    }

    /// A tool that finds criu in its PATH, as runc must.
    pub(crate) fn tool<'a>(
        &'a self,
        program: &Path,
        namespace: Option<&'a Namespace>,
        folders: &Folders,
    ) -> Result<Tool<'a>> {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let with_criu = self.criu.parent().map(Path::to_owned).into_iter().chain(std::env::split_paths(&own));
        let path: OsString = std::env::join_paths(with_criu).context("put criu's folder into PATH")?;
        Ok(Tool {
            program: program.to_owned(),
            arguments: Vec::new(),
            namespace,
            env: vec![("PATH".into(), path), ("SUPERVISOR_CRIU".into(), self.criu.clone().into())],
            logs: folders.disk.clone(),
            own_logs: Vec::new(),
        })
    }

    /// criu's check, once for each place where it keeps a feature cache; and what it reads is read once.
    fn warm_up(&self) -> Result<()> {
        let folders = self.folders()?;
        for namespace in [None, self.cached.as_ref()] {
            self.tool(&self.criu, namespace, &folders)?.run("check", ["check"])?;
        }
        Ok(())
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        unmount_below(&self.disk);
        for folder in [&self.disk, &self.memory] {
            // What is left goes with the ground's own folders.
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Load {
    /// The workload's command line.
    pub(crate) fn arguments(&self, address: std::net::SocketAddr) -> Vec<String> {
        let mode = match self.memory {
            Memory::Mapped => "mapped",
            Memory::Dirtied => "dirtied",
        };
        let values = [
            ("--listen", address.to_string()),
            ("--memory", format!("{}MiB", self.mebibytes)),
            ("--mode", mode.to_owned()),
            ("--children", self.children.to_string()),
        ];
        let words = values.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        words.chain(["--ticker".to_owned()]).collect()
    }
}

/// criu that was killed leaves the mounts that it made in its working folder.
fn unmount_below(folder: &Path) {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let targets =
        mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|t| Path::new(t).starts_with(folder));
    let targets: Vec<&str> = targets.collect();
    for target in targets.into_iter().rev() {
        if let Err(error) = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH) {
            eprintln!("bench: the mount {target} is left: {error}");
        }
    }
}

fn is_memory(folder: &Path) -> Result<bool> {
    let found = statfs(folder).with_context(|| format!("look at {}", folder.display()))?;
    Ok(found.filesystem_type() == TMPFS_MAGIC)
}

fn own_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find our own program")?;
    Ok(own.parent().context("a program is in a folder")?.to_owned())
}

fn built(folder: &Path, name: &str) -> Result<PathBuf> {
    let program = folder.join(name);
    if !program.is_file() {
        bail!("{} is missing: `cargo xtask bench` builds it", program.display());
    }
    program.canonicalize().with_context(|| format!("find {}", program.display()))
}

fn criu() -> Result<PathBuf> {
    match std::env::var("SUPERVISOR_CRIU").ok().filter(|named| !named.is_empty()) {
        Some(named) => {
            find(&named).with_context(|| format!("there is no {named}, which SUPERVISOR_CRIU names"))
        }
        None => find("criu").context("there is no criu in PATH: `cargo xtask bench` brings one"),
    }
}

/// As a shell would.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_the_workloads_command_line() {
        let load = Load { mebibytes: 56, children: 2, memory: Memory::Mapped };
        let address = "127.0.0.1:20001".parse().expect("an address");
        let line = load.arguments(address).join(" ");
        assert_eq!(line, "--listen 127.0.0.1:20001 --memory 56MiB --mode mapped --children 2 --ticker");
    }

    #[test]
    fn programs_are_found_as_a_shell_does() {
        assert!(find("sh").is_some_and(|program| program.is_absolute()));
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
