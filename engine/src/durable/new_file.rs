//! A file that grows, and copies made by the kernel.
//!
//! What it refuses: to replace a file that exists, and to leave written pages in the cache that a service could use.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::{FILE_MODE, failed};
use crate::error::{Error, Report, Result};

/// A new file (0600), written from its beginning or at any offset, then finished one of two ways.
#[derive(Debug)]
pub struct NewFile {
    file: File,
    path: PathBuf,
}

impl NewFile {
    /// Creates it; it must not exist.
    ///
    /// # Errors
    /// `Refused` when something is there already; `Unavailable` when the disk is full.
    pub fn create(path: &Path) -> Result<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let file =
            OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).custom_flags(flags).open(path);
        Ok(Self { file: file.map_err(|e| failed("create", path, e))?, path: path.to_owned() })
    }

    /// Opens a file of ours that was begun earlier, to write on at its end; it is created if it is not there. Returns its length
    /// too: what was written before a power cut may not be what it was meant to be, so the whole has to be checked afterwards.
    ///
    /// # Errors
    /// `Refused` when something else than a regular file is there; `Unavailable` when the disk is full.
    pub fn resume(path: &Path) -> Result<(Self, u64)> {
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let mut options = OpenOptions::new();
        let file = options.append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path);
        let file = file.map_err(|e| failed("write on", path, e))?;
        let found = file.metadata().map_err(|e| failed("look at", path, e))?;
        if !found.is_file() {
            return Err(Error::Refused(Report::new(format!("not a regular file: {}", path.display()))));
        }
        Ok((Self { file, path: path.to_owned() }, found.len()))
    }

    /// Opens a file of ours that is there and may be changed anywhere.
    ///
    /// # Errors
    /// `Refused` when something else than a regular file is there; `Invalid` when nothing is.
    pub fn reopen(path: &Path) -> Result<Self> {
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC | libc::O_NONBLOCK;
        let file = OpenOptions::new().write(true).custom_flags(flags).open(path);
        let file = file.map_err(|e| failed("open", path, e))?;
        let found = file.metadata().map_err(|e| failed("look at", path, e))?;
        if !found.is_file() {
            return Err(Error::Refused(Report::new(format!("not a regular file: {}", path.display()))));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// Appends.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed("write", &self.path, e))
    }

    /// Writes at an offset; several threads may do so at once.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| failed("write", &self.path, e))
    }

    /// Makes it `length` bytes long; what is not written reads as zeros and takes no space.
    ///
    /// # Errors
    /// `Unavailable` when the file system can't hold a file that long.
    pub fn set_length(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(|e| failed("size", &self.path, e))
    }

    /// Puts what was written so far on the disk and lets the kernel forget its pages: keeps a long file from filling the cache
    /// and from making one long sync at the end.
    ///
    /// # Errors
    /// As [`NewFile::finish`].
    pub fn sync_so_far(&self) -> Result<()> {
        self.file.sync_data().map_err(|e| failed("sync", &self.path, e))?;
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        Ok(())
    }

    /// Syncs it to the disk and lets the kernel forget its pages. Its name is durable after
    /// [`sync_dir`](super::sync_dir) of the folder.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or broken: then nothing of this file can be counted on.
    pub fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|e| failed("sync", &self.path, e))?;
        // Advice: nothing is lost if the kernel doesn't take it.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        Ok(())
    }

    /// Closes it without a sync: for tmpfs, or for what is worthless after a reboot.
    pub fn finish_volatile(self) {}
}

/// How the kernel copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copied {
    /// The copy shares the blocks of the original: no time, no space.
    Shared,
    /// The bytes were copied.
    Bytes,
}

/// Makes `to` (empty) a copy of the whole of `from`, sharing blocks where the file system can.
///
/// # Errors
/// `Unavailable` when the disk is full.
pub fn clone_or_copy(from: &File, to: &File, shown: &Path) -> Result<Copied> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(Copied::Shared);
    }
    let length = from.metadata().map_err(|e| failed("look at", shown, e))?.len();
    copy_range(from, 0, to, 0, length, shown).map(|_| Copied::Bytes)
}

/// Copies up to `length` bytes inside the kernel; returns how many there were.
///
/// # Errors
/// `Unavailable` when the disk is full.
pub fn copy_range(
    from: &File,
    mut from_offset: u64,
    to: &File,
    mut to_offset: u64,
    length: u64,
    shown: &Path,
) -> Result<u64> {
    let mut left = length;
    while left > 0 {
        let wanted = usize::try_from(left.min(1 << 30)).expect("at most 1 GiB");
        match rustix::fs::copy_file_range(from, Some(&mut from_offset), to, Some(&mut to_offset), wanted) {
            Ok(0) => break,
            Ok(n) => left -= n as u64,
            Err(e) if e == rustix::io::Errno::INTR => {}
            Err(e) if copies_not_here(e) => {
                left -= copy_by_hand(from, from_offset, to, to_offset, left, shown)?;
                break;
            }
            Err(e) => return Err(failed("copy to", shown, e.into())),
        }
    }
    Ok(length - left)
}

/// Across file systems, from /proc and the like, or on old kernels: the copy must then be ours.
fn copies_not_here(error: rustix::io::Errno) -> bool {
    use rustix::io::Errno;
    [Errno::XDEV, Errno::INVAL, Errno::NOSYS, Errno::OPNOTSUPP, Errno::BADF, Errno::PERM].contains(&error)
}

fn copy_by_hand(
    mut from: &File,
    start: u64,
    to: &File,
    to_start: u64,
    length: u64,
    shown: &Path,
) -> Result<u64> {
    from.seek(SeekFrom::Start(start)).map_err(|e| failed("read", shown, e))?;
    let mut buffer = vec![0; 256 * 1024];
    let mut copied = 0;
    while copied < length {
        let wanted = usize::try_from((length - copied).min(buffer.len() as u64)).expect("at most the buffer");
        let n = match from.read(&mut buffer[..wanted]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(failed("read", shown, e)),
        };
        to.write_all_at(&buffer[..n], to_start + copied).map_err(|e| failed("write", shown, e))?;
        copied += n as u64;
    }
    Ok(copied)
}
