//! The contents of all files of an image, one behind the other.
//!
//! Written inside the kernel, sharing blocks where the file system can; read back with a checksum. It refuses to
//! write or compare holes: a terabyte of them costs nothing.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, Mode, OFlags, SeekFrom};
use rustix::io::Errno;

use super::index::{Checksum, Extent};
use crate::durable::{copy_range, failed};
use crate::error::{Error, Result};

/// Blocks are shared only if they begin at a multiple of this.
const BLOCK: u64 = 4096;
/// Smaller contents are packed closely: sharing them would gain nothing.
const ALIGNED_FROM: u64 = 64 * 1024;
const BUFFER: usize = 1024 * 1024;
/// How much of a stream is looked at for zeros at once.
const STREAMED: u64 = 64 * 1024;

/// A pack being written.
#[derive(Debug)]
pub(super) struct Pack {
    file: File,
    path: PathBuf,
    end: u64,
}

impl Pack {
    /// Creates it; it must not exist.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR);
        let file = opened.map_err(|e| failed("create", path, e.into()))?.into();
        Ok(Self { file, path: path.to_owned(), end: 0 })
    }

    /// Appends these ranges (places in `from` by `at`); returns them with their places here, and how many bytes were
    /// there to be copied. What was not reads as zeros.
    pub(super) fn append(&mut self, from: &File, ranges: &[Extent]) -> Result<(Vec<Extent>, u64)> {
        let mut copied = 0;
        let mut extents = Vec::with_capacity(ranges.len());
        for range in ranges {
            if range.length >= ALIGNED_FROM {
                self.end = self.end.next_multiple_of(BLOCK);
            }
            let at = self.end;
            self.end += range.length;
            copied += copy_range(from, range.at, &self.file, at, range.length, &self.path)?;
            extents.push(Extent { at, ..*range });
        }
        Ok((extents, copied))
    }

    /// Appends a stream of `length` bytes. Long runs of zeros become holes. What `from` fails with is `cannot_read`'s to say.
    pub(super) fn append_stream(
        &mut self,
        from: &mut dyn Read,
        length: u64,
        cannot_read: &dyn Fn(io::Error) -> Error,
    ) -> Result<(Vec<Extent>, Checksum)> {
        if length >= ALIGNED_FROM {
            self.end = self.end.next_multiple_of(BLOCK);
        }
        let mut hasher = blake3::Hasher::new();
        let mut extents: Vec<Extent> = Vec::new();
        let mut buffer = vec![0; usize::try_from(length.min(STREAMED)).expect("at most the buffer")];
        let mut start = 0;
        while start < length {
            let wanted = usize::try_from((length - start).min(STREAMED)).expect("at most the buffer");
            let piece = &mut buffer[..wanted];
            from.read_exact(piece).map_err(cannot_read)?;
            if wanted as u64 != STREAMED || piece.iter().any(|byte| *byte != 0) {
                hasher.update(piece);
                self.file.write_all_at(piece, self.end).map_err(|e| failed("write", &self.path, e))?;
                match extents.last_mut().filter(|last| last.start + last.length == start) {
                    Some(last) => last.length += wanted as u64,
                    None => extents.push(Extent { start, length: wanted as u64, at: self.end }),
                }
                self.end += wanted as u64;
            }
            start += wanted as u64;
        }
        Ok((extents, Checksum(*hasher.finalize().as_bytes())))
    }

    /// Gives it its length; returns it.
    pub(super) fn close_gap(&self) -> Result<u64> {
        self.file.set_len(self.end).map_err(|e| failed("write", &self.path, e))?;
        Ok(self.end)
    }

    pub(super) fn checksum(&self, extents: &[Extent]) -> Result<Checksum> {
        checksum(&self.file, extents).map_err(|e| failed("read", &self.path, e))
    }

    /// Gives back the space of whatever none of `used` covers.
    pub(super) fn punch_unused(&self, mut used: Vec<Extent>) {
        used.sort_unstable_by_key(|extent| extent.at);
        let mut begin = 0;
        for (at, length) in used.iter().map(|e| (e.at, e.length)).chain([(self.end, 0)]) {
            if at > begin {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                // Only space is lost where the file system can't.
                let _ = rustix::fs::fallocate(&self.file, flags, begin, at - begin);
            }
            begin = begin.max(at + length);
        }
    }
}

/// Where a file has data, in order. `blocks` as `stat` tells them.
pub(super) fn data_ranges(file: &File, size: u64, blocks: u64) -> rustix::io::Result<Vec<Extent>> {
    let range = |start: u64, end: u64| Extent { start, length: end - start, at: start };
    if size == 0 {
        return Ok(Vec::new());
    }
    if blocks.saturating_mul(512) >= size {
        return Ok(vec![range(0, size)]);
    }
    let mut ranges = Vec::new();
    let mut position = 0;
    while position < size {
        let start = match rustix::fs::seek(file, SeekFrom::Data(position)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            // A file system that knows no holes.
            Err(Errno::INVAL | Errno::OPNOTSUPP) => position,
            Err(e) => return Err(e),
        };
        let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
        if start >= end {
            break;
        }
        ranges.push(range(start, end));
        position = end;
    }
    Ok(ranges)
}

/// The BLAKE3 over the bytes at the extents' places.
pub(super) fn checksum(file: &File, extents: &[Extent]) -> io::Result<Checksum> {
    let mut hasher = blake3::Hasher::new();
    each_piece(file, extents.iter().map(|e| (e.at, e.length)), |_, piece| {
        hasher.update(piece);
        Ok(true)
    })?;
    Ok(Checksum(*hasher.finalize().as_bytes()))
}

/// Copies the extents to their places in `to` and says what the checksum of the copied bytes is.
pub(super) fn copy_out(pack: &File, extents: &[Extent], to: &File) -> io::Result<Checksum> {
    let mut hasher = blake3::Hasher::new();
    for extent in extents {
        each_piece(pack, [(extent.at, extent.length)], |at, piece| {
            hasher.update(piece);
            to.write_all_at(piece, extent.start + (at - extent.at)).map(|()| true)
        })?;
    }
    Ok(Checksum(*hasher.finalize().as_bytes()))
}

/// Whether a file of the right length has this content: these bytes at the extents, and zeros elsewhere.
pub(super) fn has_content(
    file: &File,
    size: u64,
    blocks: u64,
    extents: &[Extent],
    wanted: Checksum,
) -> io::Result<bool> {
    let places: Vec<Extent> = extents.iter().map(|e| Extent { at: e.start, ..*e }).collect();
    let data = data_ranges(file, size, blocks)?;
    let mut zeros = true;
    let elsewhere = without(&data, extents);
    each_piece(file, elsewhere, |_, piece| {
        zeros = piece.iter().all(|b| *b == 0);
        Ok(zeros)
    })?;
    Ok(zeros && checksum(file, &places)? == wanted)
}

/// The parts (start, length) of `data` that no extent covers; both are in order.
fn without(data: &[Extent], extents: &[Extent]) -> Vec<(u64, u64)> {
    let mut left = Vec::new();
    let mut next = extents.iter().peekable();
    for range in data {
        let (mut start, end) = (range.start, range.start + range.length);
        while let Some(extent) = next.peek() {
            let covered_to = extent.start + extent.length;
            if extent.start >= end {
                break;
            }
            if extent.start > start {
                left.push((start, extent.start - start));
            }
            start = start.max(covered_to);
            if covered_to > end {
                break;
            }
            next.next();
        }
        if start < end {
            left.push((start, end - start));
        }
    }
    left
}

/// Reads ranges (start, length) piece by piece until `take` says it has enough. A range beyond the end is an error.
fn each_piece(
    file: &File,
    ranges: impl IntoIterator<Item = (u64, u64)>,
    mut take: impl FnMut(u64, &[u8]) -> io::Result<bool>,
) -> io::Result<()> {
    let mut buffer = Vec::new();
    for (start, length) in ranges {
        let mut done = 0;
        while done < length {
            let wanted = usize::try_from((length - done).min(BUFFER as u64)).unwrap_or(BUFFER);
            if buffer.len() < wanted {
                buffer.resize(wanted, 0);
            }
            file.read_exact_at(&mut buffer[..wanted], start + done)?;
            if !take(start + done, &buffer[..wanted])? {
                return Ok(());
            }
            done += wanted as u64;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Extent, without};

    fn at(start: u64, length: u64) -> Extent {
        Extent { start, length, at: 0 }
    }

    #[test]
    fn what_extents_leave_uncovered() {
        assert_eq!(without(&[at(0, 10)], &[]), [(0, 10)]);
        assert_eq!(without(&[at(0, 10)], &[at(0, 10)]), []);
        assert_eq!(without(&[at(0, 10)], &[at(2, 3), at(7, 1)]), [(0, 2), (5, 2), (8, 2)]);
        assert_eq!(without(&[at(0, 4), at(8, 4)], &[at(2, 8)]), [(0, 2), (10, 2)]);
        assert_eq!(without(&[at(5, 5)], &[at(0, 2), at(20, 5)]), [(5, 5)]);
    }
}
