//! The namespaces that a shim puts itself and its service into.

use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// How far a plain process is set apart from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// An own pid namespace, with a `/proc` that shows it: a restore never finds its pids taken.
    Pid,
    /// None: the service sees the host's processes, and a restore may find its pids taken.
    None,
}

/// The pid that was given out last in the writer's namespace.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// What a service may have forked between the start of a worker and its own freeze.
const PIDS_MEANWHILE: i32 = 64;

/// Where CRIU looks for what it knows of the kernel.
pub(super) const FEATURE_CACHE: &str = "/run/criu.kdat";

/// Leaves the host's pid and mount namespaces; the next child is pid 1 of the new ones.
pub(super) fn leave() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS)
}

/// To be called by that child: mounts of the host still arrive, ours never leave, `/proc` shows our pids.
pub(super) fn furnish() -> nix::Result<()> {
    keep_mounts_to_ourselves()?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, None::<&str>)
}

/// A mount namespace for one helper, so that what is mounted for it is gone with it.
pub(super) fn own_mounts() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    keep_mounts_to_ourselves()
}

/// Shows CRIU its feature cache at the only place it looks, where `/run` is not a tmpfs and it would otherwise
/// probe the kernel for 50 ms at every dump and restore. The mount point is CRIU's own file name on the
/// host; an empty one is what CRIU itself discards as stale.
pub(super) fn show_feature_cache(cache: &Path) -> std::io::Result<()> {
    let target = Path::new(FEATURE_CACHE);
    if std::fs::metadata(target).is_ok_and(|m| m.len() > 0) {
        return Ok(());
    }
    #[expect(clippy::disallowed_methods, reason = "a mount point, empty, of the name that CRIU itself uses")]
    std::fs::OpenOptions::new().create(true).append(true).open(target)?;
    mount(Some(cache), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    Ok(())
}

/// The next pid of this namespace is above this one.
pub(crate) fn raise_pids(above: i32) -> std::io::Result<()> {
    let last = std::fs::read_to_string(LAST_PID)?;
    if last.trim().parse().is_ok_and(|last: i32| last < above) {
        #[expect(clippy::disallowed_methods, reason = "a setting of the kernel, not a file of ours")]
        std::fs::write(LAST_PID, (above + PIDS_MEANWHILE).to_string())?;
    }
    Ok(())
}

fn keep_mounts_to_ourselves() -> nix::Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_SLAVE | MsFlags::MS_REC, None::<&str>)
}
