//! The only writer of files in this crate: what it says is written survives a power cut, or it says so.
//!
//! Whole small files are replaced by [`atomic_write`] (written beside, synced, renamed, folder synced); big ones grow through a
//! [`NewFile`]; the journal is a [`Log`]. Folders are 0700 and files 0600. It refuses to follow a symbolic link at the
//! last step of a path, to overwrite a file that it did not expect, and to guess: every error says which path it was.

#![expect(clippy::disallowed_methods, reason = "this is the module that writes files")]

mod log;
mod new_file;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

pub use log::{Log, RECORD_LENGTH_MAX, Replay};
pub use new_file::{Copied, NewFile, clone_or_copy, copy_range};

pub use crate::failpoint::fail_point;

use zeroize::Zeroizing;

use crate::error::{Error, Report, Result};

/// The mode of every file that holds a service's memory, or anything about it.
pub const FILE_MODE: u32 = 0o600;
/// The mode of every folder of ours.
pub const FOLDER_MODE: u32 = 0o700;
/// What the names of half-written files of [`atomic_write`] begin with; a start may remove them.
pub const TEMPORARY_PREFIX: &str = ".tmp-";

/// Replaces `path` by `bytes` in one step: a reader, or the next start after a power cut, finds the old content or
/// the new one, whole.
///
/// # Errors
/// `Unavailable` when the disk is full, `Refused` when the path cannot be written to at all.
pub fn atomic_write(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, mode, Sync::Yes).and_then(|()| rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// The same for a file on tmpfs, or one that is worthless after a reboot: one step, but not synced.
///
/// # Errors
/// As [`atomic_write`].
pub fn atomic_write_volatile(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = temporary_beside(path);
    let written = write_new(&temporary, bytes, mode, Sync::No)
        .and_then(|()| fs::rename(&temporary, path).map_err(|e| failed("replace", path, e)));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Creates a folder (0700) whose parent exists, and syncs the parent. One that is there already is left as it is,
/// unless it isn't a folder.
///
/// # Errors
/// `Refused` when the path is something else, or cannot be created.
pub fn create_dir(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(FOLDER_MODE).create(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => real_folder(path),
        Err(e) => Err(failed("create folder", path, e)),
    }
}

/// Creates a folder and the missing ones above it.
///
/// # Errors
/// As [`create_dir`].
pub fn create_dir_all(path: &Path) -> Result<()> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
        create_dir_all(parent)?;
    }
    create_dir(path)
}

/// Lets everybody pass through a folder of ours to what lies in it, by name; nobody else sees what that is.
///
/// # Errors
/// As [`create_dir`].
pub fn let_through(path: &Path) -> Result<()> {
    real_folder(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(FOLDER_MODE | 0o011))
        .map_err(|e| failed("set the mode of", path, e))
}

/// Creates a folder that must not be there yet; not synced, for what is worthless after a reboot or synced later.
///
/// # Errors
/// `Refused` when something is there already.
pub fn create_new_dir(path: &Path) -> Result<()> {
    DirBuilder::new().mode(FOLDER_MODE).create(path).map_err(|e| failed("create folder", path, e))
}

/// Makes the entries of a folder durable: names created, renamed or removed in it.
///
/// # Errors
/// `Unavailable` or `Refused`, by what the kernel says.
pub fn sync_dir(path: &Path) -> Result<()> {
    let folder = OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(path);
    folder.and_then(|f| f.sync_all()).map_err(|e| failed("sync folder", path, e))
}

/// Renames within one file system and syncs both folders.
///
/// # Errors
/// As [`atomic_write`].
pub fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|e| failed("rename", to, e))?;
    let (left, entered) = (from.parent(), to.parent());
    entered.map_or(Ok(()), sync_dir)?;
    if left != entered { left.map_or(Ok(()), sync_dir) } else { Ok(()) }
}

/// Removes one file, if it is there, and syncs its folder.
///
/// # Errors
/// As [`atomic_write`].
pub fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Ok(()) => path.parent().map_or(Ok(()), sync_dir),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("remove", path, e)),
    }
}

/// Removes a folder and all in it, if it is there. Symbolic links in it are removed, never followed: the standard
/// library walks by `openat` with `O_NOFOLLOW`, so that nobody can swap a folder for a link underneath.
///
/// # Errors
/// As [`atomic_write`].
pub fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(failed("remove folder", path, e)),
    }
}

/// Opens for reading; a symbolic link, or anything but a regular file, is refused.
///
/// # Errors
/// `Refused` for what isn't a regular file; `NotFound` becomes `Invalid`.
pub fn open_regular(path: &Path) -> Result<File> {
    // O_NONBLOCK: a FIFO that somebody put there must not hold us; it means nothing for a regular file.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path);
    let file = file.map_err(|e| failed("open", path, e))?;
    match file.metadata() {
        Ok(found) if found.is_file() => Ok(file),
        Ok(_) => Err(Error::Refused(Report::new(format!("not a regular file: {}", path.display())))),
        Err(e) => Err(failed("look at", path, e)),
    }
}

/// Reads a whole small file; one that is longer than `length_max` is refused before anything is allocated for it.
///
/// # Errors
/// `Corrupt` when it is too long; otherwise as [`open_regular`].
pub fn read_limited(path: &Path, length_max: u64) -> Result<Vec<u8>> {
    let file = open_regular(path)?;
    let mut bytes = Vec::new();
    file.take(length_max + 1).read_to_end(&mut bytes).map_err(|e| failed("read", path, e))?;
    if bytes.len() as u64 > length_max {
        let text = format!("file is longer than {length_max} bytes: {}", path.display());
        return Err(Error::Corrupt(Report::new(text)));
    }
    Ok(bytes)
}

/// Reads a secret: a file that belongs to us or root, and that nobody else may read. A little more than `length_max` is read to notice
/// more. `what` is how it is called in errors.
///
/// # Errors
/// `Refused` for a file that others may read, write or own; `Invalid` when there is none.
pub fn read_private(what: &str, path: &Path, length_max: usize) -> Result<Zeroizing<Vec<u8>>> {
    let file = open_regular(path)?;
    let found = file.metadata().map_err(|e| failed("look at", path, e))?;
    let (mode, owner, shown) = (found.mode() & 0o7777, found.uid(), path.display());
    if mode & 0o077 != 0 {
        let text = format!("{what} can be read or written by others, mode {mode:04o}: {shown}");
        return Err(Error::Refused(Report::new(text).remedy(format!("chmod 600 {shown}"))));
    }
    if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
        let text = format!("{what} belongs to another user, uid {owner}: {shown}");
        return Err(Error::Refused(Report::new(text).remedy(format!("chown root {shown}"))));
    }
    // As long as may be from the beginning: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length_max + 3));
    file.take(length_max as u64 + 3).read_to_end(&mut bytes).map_err(|e| failed("read", path, e))?;
    Ok(bytes)
}

/// Bytes that may still be written to the file system that holds `path` (by us, reserved blocks not counted).
///
/// # Errors
/// `Unavailable` or `Refused`, by what the kernel says.
pub fn free_space(path: &Path) -> Result<u64> {
    let found =
        nix::sys::statvfs::statvfs(path).map_err(|e| failed("ask for free space of", path, e.into()))?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// An error of the operating system, sorted by what can be done about it. `tried` is a verb.
pub fn failed(tried: &str, path: &Path, error: io::Error) -> Error {
    let report = Report::new(format!("cannot {tried} {}", path.display())).because(&error);
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            Error::Unavailable(report.remedy("free space on this disk, or keep fewer images"))
        }
        Some(libc::EROFS) => Error::Refused(report.remedy("remount it writable, or choose another folder")),
        Some(libc::EACCES | libc::EPERM) => {
            Error::Refused(report.remedy("run as root, or correct its owner"))
        }
        Some(libc::ELOOP | libc::ENOTDIR | libc::EEXIST | libc::EISDIR) => Error::Refused(report),
        Some(libc::ENOENT) => Error::Invalid(report),
        _ => Error::Unavailable(report),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Sync {
    Yes,
    No,
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, sync: Sync) -> Result<()> {
    let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
    let file = OpenOptions::new().write(true).create_new(true).mode(mode).custom_flags(flags).open(path);
    let mut file = file.map_err(|e| failed("create", path, e))?;
    file.write_all(bytes).map_err(|e| failed("write", path, e))?;
    if sync == Sync::Yes { file.sync_all().map_err(|e| failed("sync", path, e)) } else { Ok(()) }
}

/// A name in the same folder that nobody else uses: pid and a counter of this process.
fn temporary_beside(path: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()))
}

fn real_folder(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(Error::Refused(Report::new(format!("not a folder: {}", path.display())))),
        Err(e) => Err(failed("look at", path, e)),
    }
}

#[cfg(test)]
mod tests;
