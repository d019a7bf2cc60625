//! A mount namespace in which `/run` is a tmpfs, so that criu keeps its feature cache there: the peer at its best.
//!
//! Held by a descriptor only: nothing of it is left when we are gone. Refuses to change the host's own mounts.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};

/// The namespace.
#[derive(Debug)]
pub(crate) struct Namespace {
    file: File,
}

/// Whether it makes a difference here.
pub(crate) fn is_needed() -> bool {
    statfs("/run").map_or(true, |run| run.filesystem_type() != TMPFS_MAGIC)
}

impl Namespace {
    /// Makes it, in a thread of its own that takes it along when it ends.
    pub(crate) fn make() -> Result<Self> {
        let made = std::thread::spawn(make_here).join();
        let file = made.unwrap_or_else(|_| Err(anyhow::anyhow!("the thread panicked")));
        Ok(Self { file: file.context("make a mount namespace with a tmpfs at /run")? })
    }

    /// Lets a command start in it.
    pub(crate) fn enter(&self, command: &mut Command) -> Result<()> {
        let file = self.file.try_clone().context("hold a mount namespace")?;
        // SAFETY: between fork and exec there is one system call on a descriptor that the closure owns, nothing else.
        unsafe {
            command.pre_exec(move || setns(&file, CloneFlags::CLONE_NEWNS).map_err(Into::into));
        }
        Ok(())
    }
}

fn make_here() -> Result<File> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_NEWNS).context("leave the host's")?;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).context("set its mounts apart")?;
    mount(Some("none"), "/run", Some("tmpfs"), MsFlags::empty(), Some("size=16m,mode=755"))
        .context("mount")?;
    File::open("/proc/thread-self/ns/mnt").context("open it")
}
