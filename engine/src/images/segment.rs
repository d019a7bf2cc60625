//! A segment: a short header, then blocks, file after file. Written and read from front to end.
//!
//! The header: `SVSEGMNT`, version (u16), codec (u8), flags (u8, 0), four zero bytes. The checksum of a segment covers this header and all
//! block headers; those hold the checksums of everything else, so each byte is hashed once and still none can change unnoticed.
//! A reader refuses a segment that is shorter or longer than its manifest says before it looks into it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::block::{self, Codec, Encoder, Header};
use super::manifest::SegmentEntry;
use crate::durable::{NewFile, failed, open_regular};
use crate::error::{Error, Report, Result};

/// Bytes before the first block.
pub(super) const HEADER_LENGTH: usize = 16;
const MAGIC: &[u8; 8] = b"SVSEGMNT";
const VERSION: u16 = 1;

/// A segment that is being written.
pub(super) struct SegmentWriter {
    file: NewFile,
    encoder: Encoder,
    headers: blake3::Hasher,
    length: u64,
}

/// A segment that is being read.
pub(super) struct SegmentReader {
    file: File,
    path: PathBuf,
    headers: blake3::Hasher,
    position: u64,
    length: u64,
}

impl SegmentWriter {
    pub(super) fn create(path: &Path, codec: Codec) -> Result<Self> {
        let mut file = NewFile::create(path)?;
        let header = file_header(codec);
        file.write(&header)?;
        let mut headers = blake3::Hasher::new();
        headers.update(&header);
        Ok(Self { file, encoder: Encoder::new(codec)?, headers, length: HEADER_LENGTH as u64 })
    }

    /// Appends one block of 1 byte to 1 MiB.
    pub(super) fn write(&mut self, raw: &[u8]) -> Result<()> {
        let (header, stored) = self.encoder.encode(raw);
        let bytes = header.encode();
        self.headers.update(&bytes);
        self.file.write(&bytes)?;
        self.file.write(stored)?;
        self.length += (bytes.len() + stored.len()) as u64;
        Ok(())
    }

    /// Where the next block's header will begin.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Puts on the disk what is there so far, so that the last sync is short and the cache stays small.
    pub(super) fn sync_so_far(&self) -> Result<()> {
        self.file.sync_so_far()
    }

    /// Syncs and closes it; its length and checksum.
    pub(super) fn finish(self) -> Result<(u64, String)> {
        self.file.finish()?;
        Ok((self.length, self.headers.finalize().to_hex().to_string()))
    }
}

impl SegmentReader {
    /// Opens a segment in the folder of its image and checks length and header.
    pub(super) fn open(folder: &Path, entry: &SegmentEntry) -> Result<Self> {
        let path = folder.join(&entry.name);
        let file = open_regular(&path).map_err(missing_is_corrupt)?;
        let length = file.metadata().map_err(|e| failed("look at", &path, e))?.len();
        if length != entry.stored_len {
            let text =
                format!("segment has {length} bytes instead of {}: {}", entry.stored_len, path.display());
            return Err(Error::Corrupt(Report::new(text)));
        }
        // Advice: nothing is lost if the kernel doesn't take it.
        let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_SEQUENTIAL);
        let mut reader = Self { file, path, headers: blake3::Hasher::new(), position: 0, length };
        let mut header = [0; HEADER_LENGTH];
        reader.read_exact(&mut header)?;
        if header != file_header(entry.codec) {
            return Err(reader.damaged("header"));
        }
        reader.headers.update(&header);
        Ok(reader)
    }

    /// Where the next block's header begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next block's header, and what is stored of it into `stored`. Neither was compared with a checksum yet: the decoder
    /// does that with the bytes, [`SegmentReader::finish`] with the headers.
    pub(super) fn next(&mut self, stored: &mut Vec<u8>) -> Result<Header> {
        let mut bytes = [0; block::HEADER_LENGTH];
        self.read_exact(&mut bytes)?;
        let header = Header::decode(&bytes).map_err(|_| self.damaged("block header"))?;
        self.headers.update(&bytes);
        // At most 1 MiB: the header was checked.
        stored.resize(header.stored_length(), 0);
        self.read_exact(stored)?;
        Ok(header)
    }

    /// Checks that the segment ends here and that its headers are those that were written.
    pub(super) fn finish(self, entry: &SegmentEntry) -> Result<()> {
        if self.position != self.length || *self.headers.finalize().to_hex() != *entry.blake3 {
            return Err(self.damaged("list of blocks"));
        }
        // Read once: a service can use the memory better than the cache can.
        let _ = posix_fadvise(&self.file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        Ok(())
    }

    /// The error for something in this segment that isn't as it was written.
    pub(super) fn damaged(&self, what: &str) -> Error {
        let text = format!("{what} is damaged at byte {}: {}", self.position, self.path.display());
        Error::Corrupt(Report::new(text))
    }

    fn read_exact(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact(bytes).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("end"),
            _ => unreadable(&self.path, e),
        })?;
        self.position += bytes.len() as u64;
        Ok(())
    }
}

fn file_header(codec: Codec) -> [u8; HEADER_LENGTH] {
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[10] = codec.number();
    bytes
}

/// What a disk can no longer read is as lost as what it read wrongly.
fn unreadable(path: &Path, error: io::Error) -> Error {
    let lost = error.raw_os_error() == Some(libc::EIO);
    let error = failed("read", path, error);
    if lost { Error::Corrupt(error.report().clone()) } else { error }
}

fn missing_is_corrupt(error: Error) -> Error {
    match error {
        Error::Invalid(report) | Error::Refused(report) => Error::Corrupt(report),
        other => other,
    }
}
