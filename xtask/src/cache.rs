//! The cache folder outside the checkout: what set-up built or unpacked, kept between runs.
//!
//! Layout: `bin/` finished programs, `unpacked/` contents of packages, `log/` of what was built last, `lock`,
//! and `tmp/` for work under way. A thing appears under its final name by one rename, so an interrupted set-up
//! leaves nothing but a folder in `tmp/`, which the next one sweeps. Refuses two set-ups at once.

use std::ffi::OsString;
use std::fs::{self, File};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// The cache folder, held by this process alone while it lives.
pub(crate) struct Cache {
    root: PathBuf,
    _lock: Flock<File>,
}

impl Cache {
    /// Makes the folder if need be, waits for another set-up to end, sweeps what a dead one left.
    pub(crate) fn open() -> Result<Cache> {
        Cache::open_at(folder()?)
    }

    fn open_at(root: PathBuf) -> Result<Cache> {
        for part in ["bin", "log", "unpacked", "tmp"] {
            make_folder(&root.join(part))?;
        }
        let lock = lock(&root.join("lock"))?;
        let cache = Cache { root, _lock: lock };
        sweep(&cache.root.join("tmp"))?;
        Ok(cache)
    }

    /// Where finished programs are; goes in front of `PATH`.
    pub(crate) fn bin(&self) -> PathBuf {
        self.root.join("bin")
    }

    /// A fresh folder for work under way, removed when dropped.
    pub(crate) fn work(&self, name: &str) -> Result<Work> {
        let folder = self.root.join("tmp").join(format!("{name}-{}", std::process::id()));
        if folder.exists() {
            remove_all(&folder)?;
        }
        make_folder(&folder)?;
        Ok(Work(folder))
    }

    /// An empty log file for a long command.
    pub(crate) fn log(&self, name: &str) -> Result<PathBuf> {
        let log = self.root.join("log").join(format!("{name}.log"));
        File::create(&log).with_context(|| format!("can't write log {}", log.display()))?;
        Ok(log)
    }

    /// Puts a finished program into `bin/` under `name`, all of it or nothing.
    pub(crate) fn install(&self, program: &Path, name: &str) -> Result<PathBuf> {
        let new = self.root.join("tmp").join(format!("{name}.new"));
        let target = self.bin().join(name);
        fs::copy(program, &new)
            .and_then(|_| File::open(&new)?.sync_all())
            .and_then(|()| fs::rename(&new, &target))
            .with_context(|| format!("can't install {} as {}", program.display(), target.display()))?;
        Ok(target)
    }

    /// Where [`Self::keep`] puts a folder of that name.
    pub(crate) fn unpacked(&self, name: &str) -> PathBuf {
        self.root.join("unpacked").join(name)
    }

    /// Moves a finished folder to `unpacked/name`, in place of a former one.
    pub(crate) fn keep(&self, folder: &Path, name: &str) -> Result<PathBuf> {
        let target = self.unpacked(name);
        if target.exists() {
            remove_all(&target)?;
        }
        fs::rename(folder, &target)
            .with_context(|| format!("can't move {} to {}", folder.display(), target.display()))?;
        Ok(target)
    }
}

/// A folder for work under way; what is to stay is moved out of it before it is dropped.
pub(crate) struct Work(PathBuf);

impl Deref for Work {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // What can't be removed now, the next set-up sweeps; and it may have been moved as a whole.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `SUPERVISOR_CACHE_DIR`; else root's own place; else the user's cache folder.
pub(crate) fn folder() -> Result<PathBuf> {
    choose(nix::unistd::geteuid().is_root(), |name| std::env::var_os(name))
}

fn choose(root: bool, variable: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let folder = match set("SUPERVISOR_CACHE_DIR") {
        Some(folder) => folder,
        None if root => PathBuf::from("/var/cache/supervisor-dev"),
        None => set("XDG_CACHE_HOME")
            .or_else(|| set("HOME").map(|home| home.join(".cache")))
            .context("no cache folder: set SUPERVISOR_CACHE_DIR")?
            .join("supervisor-dev"),
    };
    if !folder.is_absolute() {
        bail!("the cache folder must be an absolute path, not {}", folder.display());
    }
    Ok(folder)
}

fn make_folder(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| {
        format!("can't make {} (SUPERVISOR_CACHE_DIR names another place)", folder.display())
    })
}

fn lock(path: &Path) -> Result<Flock<File>> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("can't open lock {}", path.display()))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((file, nix::errno::Errno::EWOULDBLOCK)) => {
            println!("setup: another one is at work, waiting for it ({})", path.display());
            Flock::lock(file, FlockArg::LockExclusive)
                .map_err(|(_, error)| anyhow::anyhow!("can't lock {}: {error}", path.display()))
        }
        Err((_, error)) => bail!("can't lock {}: {error}", path.display()),
    }
}

/// Safe under the lock only: whatever lies here belongs to a set-up that is dead.
fn sweep(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        let swept = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        if let Err(error) = swept {
            // A compiler that outlived its set-up may still be writing there; it is in nobody's way.
            println!("setup: left {} for the next sweep: {error}", path.display());
        }
    }
    Ok(())
}

fn remove_all(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).with_context(|| format!("can't remove {}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_follows_the_variable_then_root_then_the_user() {
        let none = |_: &str| None;
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/home/ada"));
        let both = |name: &str| match name {
            "SUPERVISOR_CACHE_DIR" => Some(OsString::from("/elsewhere")),
            _ => Some(OsString::from("/xdg")),
        };
        assert_eq!(choose(true, none).expect("root has one"), Path::new("/var/cache/supervisor-dev"));
        assert_eq!(choose(false, home).expect("from home"), Path::new("/home/ada/.cache/supervisor-dev"));
        assert_eq!(choose(true, both).expect("as told"), Path::new("/elsewhere"));
        assert!(choose(false, none).is_err());
        assert!(choose(true, |_| Some(OsString::from("relative"))).is_err());
    }

    #[test]
    fn interrupted_work_is_swept_and_finished_work_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open_at(folder.path().to_owned()).expect("the cache opens");
        let work = cache.work("build").expect("a work folder");
        fs::write(work.join("program"), "whole").expect("a program is written");
        cache.install(&work.join("program"), "program").expect("it is installed");
        let abandoned = work.to_path_buf();
        std::mem::forget(work); // as a killed set-up does
        drop(cache);
        assert!(abandoned.exists());

        let cache = Cache::open_at(folder.path().to_owned()).expect("the cache opens again");
        assert!(!abandoned.exists());
        assert_eq!(fs::read_to_string(cache.bin().join("program")).expect("still there"), "whole");
    }

    #[test]
    fn kept_folder_replaces_the_former_one() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open_at(folder.path().to_owned()).expect("the cache opens");
        for text in ["old", "new"] {
            let work = cache.work("package").expect("a work folder");
            fs::write(work.join("file"), text).expect("a file is written");
            let kept = cache.keep(&work, "package").expect("it is kept");
            assert_eq!(fs::read_to_string(kept.join("file")).expect("there"), text);
        }
    }

    #[test]
    fn second_holder_finds_it_locked() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open_at(folder.path().to_owned()).expect("the cache opens");
        let path = folder.path().join("lock");
        let open = || File::options().write(true).open(&path).expect("the lock file");
        let (_, error) = Flock::lock(open(), FlockArg::LockExclusiveNonblock).expect_err("it is held");
        assert_eq!(error, nix::errno::Errno::EWOULDBLOCK);
        drop(cache);
        assert!(Flock::lock(open(), FlockArg::LockExclusiveNonblock).is_ok());
    }
}
