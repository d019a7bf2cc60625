//! A folder as a place for objects: a mounted disk, best of another host. Files are private and synced, as in the store.
//!
//! A swap is made under a lock on a file of the kernel's, so that two supervisors that see the same disk exclude each other
//! (NFS 4 and cluster file systems pass such locks on). It refuses to follow symbolic links.

use std::fs;
use std::path::{Path, PathBuf};

use hyper::body::Bytes;

use super::{Found, Objects, Version, Versioned, Written};
use crate::durable::{self, FILE_MODE, atomic_write, failed, read_limited};
use crate::error::{Error, Report, Result};
use crate::lock::Lock;
use crate::replica::blocking;
use crate::runtime::Effect;

/// Longest object that is read whole.
const LENGTH_MAX: u64 = 64 << 20;

/// A folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// This one; it must be there, since an empty mount point is not the disk that was meant.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root.clone();
        blocking(move || {
            if !root.is_dir() {
                let report = Report::new(format!("there is no folder {}", root.display()));
                return Err(Error::Unavailable(report.remedy("mount it, or create it")));
            }
            work(&root)
        })
        .await
    }
}

impl Objects for Folder {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Effect<'a, ()> {
        let key = key.to_owned();
        Box::pin(self.work(move |root| write(root, &key, &bytes)))
    }

    fn swap<'a>(&'a self, key: &'a str, expected: Option<&'a Version>, bytes: Bytes) -> Effect<'a, Written> {
        let (key, expected) = (key.to_owned(), expected.cloned());
        Box::pin(self.work(move |root| {
            let path = root.join(&key);
            let parent = path.parent().unwrap_or(root);
            durable::create_dir_all(parent)?;
            let _alone = Lock::wait(parent)?;
            let there = read(&path)?.map(|found| found.version);
            if there != expected {
                return Ok(Written::Look);
            }
            write(root, &key, &bytes).map(|()| Written::Yes)
        }))
    }

    fn get<'a>(&'a self, key: &'a str) -> Effect<'a, Option<Versioned>> {
        let key = key.to_owned();
        Box::pin(self.work(move |root| read(&root.join(&key))))
    }

    fn list<'a>(&'a self, folder: &'a str) -> Effect<'a, Vec<Found>> {
        let folder = folder.to_owned();
        Box::pin(self.work(move |root| {
            let mut found = Vec::new();
            walk(root, &folder, &mut found)?;
            Ok(found)
        }))
    }

    fn folders(&self) -> Effect<'_, Vec<String>> {
        Box::pin(self.work(|root| {
            let folders = names(root)?.into_iter().filter(|name| root.join(name).is_dir());
            Ok(folders.collect())
        }))
    }

    fn delete<'a>(&'a self, key: &'a str) -> Effect<'a, ()> {
        let key = key.to_owned();
        Box::pin(self.work(move |root| {
            let path = root.join(&key);
            durable::remove_file(&path)?;
            // A folder without objects is none in a bucket either; what somebody who died was writing goes with it.
            let mut above = path.parent().filter(|folder| *folder != root);
            while let Some(folder) = above.filter(|folder| is_empty(folder)) {
                durable::remove_tree(folder)?;
                above = folder.parent().filter(|folder| *folder != root);
            }
            Ok(())
        }))
    }
}

fn write(root: &Path, key: &str, bytes: &[u8]) -> Result<()> {
    let path = root.join(key);
    durable::create_dir_all(path.parent().unwrap_or(root))?;
    atomic_write(&path, bytes, FILE_MODE)
}

fn read(path: &Path) -> Result<Option<Versioned>> {
    if fs::symlink_metadata(path).is_err_and(|e| e.kind() == std::io::ErrorKind::NotFound) {
        return Ok(None);
    }
    let bytes = read_limited(path, LENGTH_MAX)?;
    Ok(Some(Versioned { version: Version::Content(bytes.clone()), bytes }))
}

fn walk(root: &Path, folder: &str, found: &mut Vec<Found>) -> Result<()> {
    let path = root.join(folder);
    if !path.is_dir() {
        return Ok(());
    }
    for name in names(&path)? {
        let key = format!("{folder}/{name}");
        match fs::symlink_metadata(root.join(&key)) {
            Ok(entry) if entry.is_dir() => walk(root, &key, found)?,
            Ok(entry) if entry.is_file() => found.push(Found { key, length: entry.len() }),
            Ok(_) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed("look at", &root.join(&key), e)),
        }
    }
    Ok(())
}

/// Whether a folder holds no object and nobody's lock.
fn is_empty(folder: &Path) -> bool {
    !folder.join(".lock").exists() && names(folder).is_ok_and(|names| names.is_empty())
}

/// What is in a folder, without what is being written, and without locks.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(folder).map_err(|e| failed("list", folder, e))?;
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(|e| failed("list", folder, e))?.file_name();
        names.extend(name.into_string().ok().filter(|name| !name.starts_with('.')));
    }
    names.sort();
    Ok(names)
}
