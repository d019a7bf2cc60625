//! Folders: `/run` and `/dev/shm` in memory, and the disk of the images.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use super::{Fact, Places};
use crate::durable::{Copied, clone_or_copy, free_space};

/// A store with less than that holds few images.
const STORE_FREE_MIN: u64 = 1 << 30;

/// Looks.
pub(super) fn examine(places: &Places) -> Vec<Fact> {
    vec![run(&places.run_dir), shared_memory(), store(&places.store)]
}

fn is_tmpfs(path: &Path) -> nix::Result<bool> {
    statfs(path).map(|found| found.filesystem_type() == TMPFS_MAGIC)
}

fn run(run_dir: &Path) -> Fact {
    const TOPIC: &str = "/run";
    match is_tmpfs(Path::new("/run")) {
        Ok(true) => Fact::ok(TOPIC, "is on tmpfs: CRIU keeps its feature cache there"),
        Ok(false) => Fact::note(
            TOPIC,
            format!("is not on tmpfs: CRIU's feature cache is kept in {} instead", run_dir.display()),
        ),
        Err(why) => Fact::lack(TOPIC, format!("cannot be looked at: {why}"), "mount a tmpfs at /run"),
    }
}

fn shared_memory() -> Fact {
    const TOPIC: &str = "/dev/shm";
    let path = Path::new(TOPIC);
    let mount = "mount a tmpfs at /dev/shm (a container: give it a larger --shm-size)";
    match (is_tmpfs(path), free_space(path)) {
        (Ok(true), Ok(free)) => {
            Fact::ok(TOPIC, format!("tmpfs with {} free: hot images lie in memory", gib(free)))
        }
        (Ok(false), _) => {
            Fact::note(TOPIC, "is not a tmpfs: hot images lie on disk, restores are slower").remedy(mount)
        }
        (Err(why), _) => {
            Fact::note(TOPIC, format!("cannot be used ({why}): hot images lie on disk")).remedy(mount)
        }
        (_, Err(error)) => Fact::note(TOPIC, error.to_string()).remedy(mount),
    }
}

fn store(store: &Path) -> Fact {
    const TOPIC: &str = "store";
    let Some(there) = existing(store) else {
        return Fact::lack(
            TOPIC,
            format!("no such folder: {}", store.display()),
            "choose another store.path",
        );
    };
    let shown = store.display();
    if let Err(why) = access(&there, AccessFlags::W_OK | AccessFlags::X_OK) {
        let text = format!("{shown}: {} cannot be written to: {why}", there.display());
        return Fact::lack(TOPIC, text, "run as root, remount it writable, or choose another store.path");
    }
    let free = match free_space(&there) {
        Ok(free) => free,
        Err(error) => return Fact::lack(TOPIC, error.to_string(), "choose another store.path"),
    };
    let sharing = match shares_blocks(&there) {
        Some(true) => "copies share blocks (reflink)",
        Some(false) => "copies take time and space (no reflink)",
        None => "whether copies share blocks is not known",
    };
    let text = format!("{shown}: {} free, {sharing}", gib(free));
    if free < STORE_FREE_MIN {
        return Fact::note(TOPIC, text).remedy("free space on this disk, or choose another store.path");
    }
    Fact::ok(TOPIC, text)
}

/// The folder, or the nearest above it that is there.
fn existing(path: &Path) -> Option<PathBuf> {
    path.ancestors().find(|folder| folder.is_dir()).map(Path::to_owned)
}

/// Tried with two small files that never have a name, so that nothing can be left of them.
fn shares_blocks(folder: &Path) -> Option<bool> {
    let nameless = || {
        let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
        open(folder, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(File::from).ok()
    };
    let (mut from, to) = (nameless()?, nameless()?);
    from.write_all(&[1; 4096]).ok()?;
    clone_or_copy(&from, &to, folder).ok().map(|copied| copied == Copied::Shared)
}

fn gib(bytes: u64) -> String {
    // Exact enough: one digit is shown.
    format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Standing;

    #[test]
    fn a_store_that_is_not_there_yet_is_judged_by_its_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let fact = store(&folder.path().join("a/b"));
        assert!(fact.standing != Standing::Lack && fact.text.contains("GiB free"), "{fact:?}");
        assert!(!fact.text.contains("not known"), "{fact:?}");
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
        assert_eq!(store(Path::new("relative/and/absent")).standing, Standing::Lack);
        assert_ne!(store(Path::new("/proc/nothing")).standing, Standing::Ok, "no room at all");
    }

    #[test]
    fn memory_is_told_from_disk() {
        assert_eq!(is_tmpfs(Path::new("/proc")), Ok(false));
        assert!(is_tmpfs(Path::new("/nonexistent")).is_err());
    }
}
