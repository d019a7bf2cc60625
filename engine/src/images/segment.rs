//! A segment: a short header, then blocks, file after file. Written and read from front to end.
//!
//! The header: `SVSEGMNT`, version (u16), codec (u8), flags (u8, 0), four zero bytes. The checksum of a segment covers this header and all
//! block headers; those hold the checksums of everything else, so each byte is hashed once and still none can change unnoticed.
//! In an encrypted segment (version 2) a block is encrypted with its header; what stands before it is its length and its tag.
//! A reader refuses a segment that is shorter or longer than its manifest says before it looks into it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::block::{self, BLOCK_LENGTH, Codec, Encoder, Header};
use super::cipher::{BlockCipher, BlockPlace, TAG_LENGTH};
use super::manifest::SegmentEntry;
use crate::durable::{NewFile, failed, open_regular};
use crate::error::{Error, Report, Result};

/// Bytes before the first block.
pub(super) const HEADER_LENGTH: usize = 16;
const MAGIC: &[u8; 8] = b"SVSEGMNT";
const VERSION: u16 = 1;
const SEALED_VERSION: u16 = 2;
/// What stands before an encrypted block: its length (u32), four zero bytes, its tag.
const PREFIX_LENGTH: usize = 8 + TAG_LENGTH;

/// A segment that is being written.
pub(super) struct SegmentWriter {
    file: NewFile,
    encoder: Encoder,
    sealing: Option<Sealing>,
    headers: blake3::Hasher,
    length: u64,
}

/// How the blocks of a segment are encrypted.
pub(super) struct Sealing {
    cipher: BlockCipher,
    next: BlockPlace,
    buffer: Vec<u8>,
}

/// How blocks lie in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lying {
    /// Each behind its header.
    Plain,
    /// Each encrypted with its header.
    Sealed,
}

/// A block as it was read; nothing of it was checked yet but lengths.
#[derive(Debug)]
pub(super) enum Block {
    /// What was read are the stored bytes of this header.
    Plain(Header),
    /// What was read is encrypted, and has this tag.
    Sealed([u8; TAG_LENGTH]),
}

/// A segment that is being read.
pub(super) struct SegmentReader {
    file: File,
    path: PathBuf,
    headers: blake3::Hasher,
    lying: Lying,
    position: u64,
    length: u64,
}

impl Sealing {
    /// For segment number `segment`, from its first block on.
    pub(super) fn new(cipher: BlockCipher, segment: u64) -> Self {
        Self { cipher, next: BlockPlace { segment, block: 0 }, buffer: Vec::new() }
    }

    /// The prefix and the encrypted block, which lies in `buffer` then.
    fn seal(&mut self, header: &[u8], stored: &[u8]) -> Result<[u8; PREFIX_LENGTH]> {
        self.buffer.clear();
        self.buffer.extend_from_slice(header);
        self.buffer.extend_from_slice(stored);
        let tag = self.cipher.seal(self.next, &mut self.buffer)?;
        self.next.block += 1;
        let mut prefix = [0; PREFIX_LENGTH];
        let length = u32::try_from(self.buffer.len()).expect("a block is a little more than 1 MiB at most");
        prefix[..4].copy_from_slice(&length.to_le_bytes());
        prefix[8..].copy_from_slice(&tag);
        Ok(prefix)
    }
}

impl SegmentWriter {
    pub(super) fn create(path: &Path, codec: Codec, sealing: Option<Sealing>) -> Result<Self> {
        let mut file = NewFile::create(path)?;
        let lying = if sealing.is_some() { Lying::Sealed } else { Lying::Plain };
        let header = file_header(codec, lying);
        file.write(&header)?;
        let mut headers = blake3::Hasher::new();
        headers.update(&header);
        Ok(Self { file, encoder: Encoder::new(codec)?, sealing, headers, length: HEADER_LENGTH as u64 })
    }

    /// Appends one block of 1 byte to 1 MiB.
    pub(super) fn write(&mut self, raw: &[u8]) -> Result<()> {
        let (header, stored) = self.encoder.encode(raw);
        let bytes = header.encode();
        match &mut self.sealing {
            None => append(&mut self.file, &mut self.headers, &mut self.length, &bytes, stored),
            Some(sealing) => {
                let prefix = sealing.seal(&bytes, stored)?;
                append(&mut self.file, &mut self.headers, &mut self.length, &prefix, &sealing.buffer)
            }
        }
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
    pub(super) fn open(folder: &Path, entry: &SegmentEntry, lying: Lying) -> Result<Self> {
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
        let mut reader = Self { file, path, headers: blake3::Hasher::new(), lying, position: 0, length };
        let mut header = [0; HEADER_LENGTH];
        reader.read_exact(&mut header)?;
        if header != file_header(entry.codec, lying) {
            return Err(reader.damaged("header"));
        }
        reader.headers.update(&header);
        Ok(reader)
    }

    /// Where the next block's header begins.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Reads the next block: what tells how to read it, and what is stored of it into `stored`. Neither was compared with a checksum or
    /// tag yet: the decoder does that with the bytes, [`SegmentReader::finish`] with what stands before them.
    pub(super) fn next(&mut self, stored: &mut Vec<u8>) -> Result<Block> {
        let (block, length) = match self.lying {
            Lying::Plain => {
                let mut bytes = [0; block::HEADER_LENGTH];
                self.read_exact(&mut bytes)?;
                self.headers.update(&bytes);
                let header = Header::decode(&bytes).map_err(|_| self.damaged("block header"))?;
                let length = header.stored_length();
                (Block::Plain(header), length)
            }
            Lying::Sealed => {
                let mut bytes = [0; PREFIX_LENGTH];
                self.read_exact(&mut bytes)?;
                self.headers.update(&bytes);
                let (length, tag) = prefix(&bytes).ok_or_else(|| self.damaged("length of a block"))?;
                (Block::Sealed(tag), length)
            }
        };
        // A little more than 1 MiB at most: lengths were checked.
        stored.resize(length, 0);
        self.read_exact(stored)?;
        Ok(block)
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

fn append(
    file: &mut NewFile,
    headers: &mut blake3::Hasher,
    length: &mut u64,
    header: &[u8],
    stored: &[u8],
) -> Result<()> {
    headers.update(header);
    file.write(header)?;
    file.write(stored)?;
    *length += (header.len() + stored.len()) as u64;
    Ok(())
}

/// The length of an encrypted block and its tag.
fn prefix(bytes: &[u8; PREFIX_LENGTH]) -> Option<(usize, [u8; TAG_LENGTH])> {
    let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let possible = block::HEADER_LENGTH..=block::HEADER_LENGTH + BLOCK_LENGTH;
    let sound = possible.contains(&length) && bytes[4..8] == [0; 4];
    sound.then(|| (length, bytes[8..].try_into().expect("the rest")))
}

fn file_header(codec: Codec, lying: Lying) -> [u8; HEADER_LENGTH] {
    let version = match lying {
        Lying::Plain => VERSION,
        Lying::Sealed => SEALED_VERSION,
    };
    let mut bytes = [0; HEADER_LENGTH];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..10].copy_from_slice(&version.to_le_bytes());
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
