//! Cells in a folder: one file each, compared and swapped under a lock of the folder, replaced whole by a rename.
//!
//! Several processes may share it, and several hosts as far as their file system's `flock` holds between them (local
//! disks, NFS 4). It refuses to wait for the lock longer than its limit.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use super::document::LENGTH_MAX;
use super::swap::{Cell, Cells, Swap};
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::runtime::Effect;

/// How often the lock is tried while somebody else has it: a swap takes about a millisecond.
const TRY_EVERY: Duration = Duration::from_millis(1);
const ENDING: &str = ".lease";

/// A folder of cells.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    path: PathBuf,
    limit: Duration,
}

impl Folder {
    /// The folder is made if it is not there.
    pub(super) fn open(path: PathBuf, limit: Duration) -> Result<Self> {
        durable::create_dir_all(&path)?;
        Ok(Self { path, limit })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}{ENDING}"))
    }

    fn load_now(&self, name: &str) -> Result<Option<Cell>> {
        match durable::read_limited(&self.file(name), LENGTH_MAX) {
            Ok(bytes) => Ok(Some(Cell { bytes, tag: None })),
            Err(Error::Invalid(_)) => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn swap_now(&self, name: &str, expected: Option<&Cell>, bytes: &[u8]) -> Result<Swap> {
        let _lock = self.lock()?;
        let found = self.load_now(name)?;
        if found.as_ref().map(|cell| &cell.bytes) != expected.map(|cell| &cell.bytes) {
            return Ok(Swap::Changed);
        }
        durable::atomic_write(&self.file(name), bytes, durable::FILE_MODE)?;
        Ok(Swap::Done)
    }

    fn remove_now(&self, name: &str) -> Result<()> {
        let _lock = self.lock()?;
        durable::remove_file(&self.file(name))
    }

    fn names_now(&self, beginning: &str) -> Result<Vec<String>> {
        let failed = |e| durable::failed("list", &self.path, e);
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let stem = name.to_str().and_then(|name| name.strip_suffix(ENDING));
            names.extend(stem.filter(|stem| stem.starts_with(beginning)).map(str::to_owned));
        }
        Ok(names)
    }

    fn lock(&self) -> Result<Flock<File>> {
        let path = self.path.join(".lock");
        let begun = Instant::now();
        let mut file = open_lock(&path)?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(lock),
                Err((back, nix::errno::Errno::EWOULDBLOCK)) if begun.elapsed() < self.limit => file = back,
                Err((_, error)) => {
                    let text = format!("lock the leases in {}", self.path.display());
                    return Err(Error::Unavailable(Report::new(text).because(error)));
                }
            }
            std::thread::sleep(TRY_EVERY);
        }
    }

    /// Files block; a disk that hangs must not hold the runtime.
    async fn apart<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&folder)).await;
        done.map_err(|e| Error::Internal(Report::new("look at leases in a folder").because(e)))?
    }
}

impl Cells for Folder {
    fn load<'a>(&'a self, name: &'a str) -> Effect<'a, Option<Cell>> {
        let name = name.to_owned();
        Box::pin(self.apart(move |folder| folder.load_now(&name)))
    }

    fn swap<'a>(&'a self, name: &'a str, expected: Option<&'a Cell>, bytes: Vec<u8>) -> Effect<'a, Swap> {
        let (name, expected) = (name.to_owned(), expected.cloned());
        Box::pin(self.apart(move |folder| folder.swap_now(&name, expected.as_ref(), &bytes)))
    }

    fn remove<'a>(&'a self, name: &'a str) -> Effect<'a, ()> {
        let name = name.to_owned();
        Box::pin(self.apart(move |folder| folder.remove_now(&name)))
    }

    fn names<'a>(&'a self, beginning: &'a str) -> Effect<'a, Vec<String>> {
        let beginning = beginning.to_owned();
        Box::pin(self.apart(move |folder| folder.names_now(&beginning)))
    }

    fn check(&self) -> Effect<'_, ()> {
        Box::pin(self.apart(|folder| folder.lock().map(drop)))
    }

    fn place(&self, name: &str) -> String {
        self.file(name).display().to_string()
    }
}

#[expect(clippy::disallowed_methods, reason = "a lock holds no data that could be torn")]
fn open_lock(path: &Path) -> Result<File> {
    let file = File::options().create(true).write(true).truncate(false).mode(durable::FILE_MODE).open(path);
    file.map_err(|e| durable::failed("open", path, e))
}
