//! One block: up to 1 MiB of a file, its zero pages left out, the rest compressed, with a checksum of what is stored.
//!
//! Blocks have a fixed place in their file (block n begins at n MiB), so that they can be decoded in any order and by several
//! threads at once. A header is believed only after its fields agree with each other, and bytes only after their
//! checksum was right: a decoder never sees bytes that the disk changed.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Report, Result};

/// Bytes of a file that a full block holds.
pub(super) const BLOCK_LENGTH: usize = 1 << 20;
/// Bytes of a block's header.
pub(super) const HEADER_LENGTH: usize = 64;

const PAGE_LENGTH: usize = 4096;
const BITMAP_LENGTH: usize = BLOCK_LENGTH / PAGE_LENGTH / 8;
static ZERO_PAGE: [u8; PAGE_LENGTH] = [0; PAGE_LENGTH];
/// What either codec may need for a block that it cannot make smaller (lz4: 1.1 times and 20 bytes; zstd: less). With less room than
/// that lz4 doesn't even begin.
const COMPRESSED_LENGTH_MAX: usize = BLOCK_LENGTH + BLOCK_LENGTH / 8;
/// More costs more time than it saves space (measured: level 1 is 5.2 to 1 at 570 MB/s, level 3 is 5.3 at 384).
const ZSTD_LEVEL: i32 = 1;

/// How the blocks of a segment are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// Not at all; zero pages are left out all the same.
    None,
    /// Fast to read back.
    Lz4,
    /// Small.
    #[default]
    Zstd,
}

/// How the bytes of one block are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Not at all: they are all zero.
    Zeros,
    /// As they are.
    Plain,
    /// By the segment's codec.
    Compressed,
}

/// The header of a block; its fields agree with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    raw_length: u32,
    stored_length: u32,
    form: Form,
    check: [u8; 16],
    /// Bit n: page n is stored (it isn't all zero).
    pages: [u8; BITMAP_LENGTH],
}

/// Makes blocks; its buffers are used again and again.
pub(super) struct Encoder {
    compressor: Compressor,
    gathered: Vec<u8>,
    compressed: Vec<u8>,
}

/// Reads blocks back; its buffers are used again and again.
pub(super) struct Decoder {
    codec: Codec,
    zstd: Option<zstd::bulk::Decompressor<'static>>,
    gathered: Vec<u8>,
    raw: Vec<u8>,
}

enum Compressor {
    None,
    Lz4,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Codec {
    /// The number that stands for it in a segment's header.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }
}

impl Header {
    /// Bytes that follow the header.
    pub(super) fn stored_length(&self) -> usize {
        self.stored_length as usize
    }

    /// Bytes of the file that this block stands for.
    pub(super) fn raw_length(&self) -> usize {
        self.raw_length as usize
    }

    /// As it stands in the segment.
    pub(super) fn encode(&self) -> [u8; HEADER_LENGTH] {
        let mut bytes = [0; HEADER_LENGTH];
        bytes[0..4].copy_from_slice(&self.raw_length.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.stored_length.to_le_bytes());
        bytes[8] = match self.form {
            Form::Zeros => 0,
            Form::Plain => 1,
            Form::Compressed => 2,
        };
        bytes[16..32].copy_from_slice(&self.check);
        bytes[32..].copy_from_slice(&self.pages);
        bytes
    }

    /// Reads a header and checks that its fields agree.
    pub(super) fn decode(bytes: &[u8; HEADER_LENGTH]) -> Result<Self> {
        let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let form = match bytes[8] {
            0 => Form::Zeros,
            1 => Form::Plain,
            2 => Form::Compressed,
            other => return Err(corrupt(format!("unknown form of block: {other}"))),
        };
        let header = Self {
            raw_length: number(0),
            stored_length: number(4),
            form,
            check: bytes[16..32].try_into().expect("sixteen bytes"),
            pages: bytes[32..].try_into().expect("the rest"),
        };
        if bytes[9..16] == [0; 7] && header.agrees() {
            Ok(header)
        } else {
            Err(corrupt("block header is damaged"))
        }
    }

    fn agrees(&self) -> bool {
        let raw_length = self.raw_length();
        if raw_length == 0 || raw_length > BLOCK_LENGTH {
            return false;
        }
        let pages = raw_length.div_ceil(PAGE_LENGTH);
        let beyond = (pages..BITMAP_LENGTH * 8).any(|page| self.has(page));
        let kept = self.kept_length();
        let stored = self.stored_length();
        let stored_agrees = match self.form {
            Form::Zeros => kept == 0 && stored == 0 && self.check == [0; 16],
            Form::Plain => kept > 0 && stored == kept,
            Form::Compressed => stored > 0 && stored < kept,
        };
        !beyond && stored_agrees
    }

    fn has(&self, page: usize) -> bool {
        self.pages[page / 8] & (1 << (page % 8)) != 0
    }

    /// Bytes of the pages that are stored, before compression.
    fn kept_length(&self) -> usize {
        let pages: usize = self.pages.iter().map(|byte| byte.count_ones() as usize).sum();
        let last = (self.raw_length() - 1) / PAGE_LENGTH;
        let short_by = if self.has(last) { (last + 1) * PAGE_LENGTH - self.raw_length() } else { 0 };
        pages * PAGE_LENGTH - short_by
    }
}

impl Encoder {
    pub(super) fn new(codec: Codec) -> Result<Self> {
        let compressor = match codec {
            Codec::None => Compressor::None,
            Codec::Lz4 => Compressor::Lz4,
            Codec::Zstd => Compressor::Zstd(Box::new(
                zstd::bulk::Compressor::new(ZSTD_LEVEL)
                    .map_err(|e| Error::Internal(Report::new("cannot set up zstd").because(e)))?,
            )),
        };
        Ok(Self {
            compressor,
            gathered: Vec::with_capacity(BLOCK_LENGTH),
            compressed: vec![0; COMPRESSED_LENGTH_MAX],
        })
    }

    /// The header of a block (1 byte to 1 MiB) and the bytes to store after it.
    pub(super) fn encode<'a>(&'a mut self, raw: &'a [u8]) -> (Header, &'a [u8]) {
        let raw_length = u32::try_from(raw.len()).expect("a block is at most 1 MiB");
        let pages = pages_with_data(raw);
        let mut header = Header { raw_length, stored_length: 0, form: Form::Zeros, check: [0; 16], pages };
        let kept_length = header.kept_length();
        if kept_length == 0 {
            return (header, &[]);
        }
        let kept = if kept_length == raw.len() { raw } else { gather(&mut self.gathered, raw, &header) };
        let compressed = self.compressor.compress(kept, &mut self.compressed);
        let stored = match compressed {
            Some(length) => &self.compressed[..length],
            None => kept,
        };
        header.form = if compressed.is_some() { Form::Compressed } else { Form::Plain };
        header.stored_length = u32::try_from(stored.len()).expect("a block is at most 1 MiB");
        header.check = check(stored);
        (header, stored)
    }
}

impl Compressor {
    /// The length of the compressed bytes in `out`, if they are fewer.
    fn compress(&mut self, kept: &[u8], out: &mut [u8]) -> Option<usize> {
        match self {
            Self::None => None,
            Self::Lz4 => lz4_flex::block::compress_into(kept, out).ok(),
            Self::Zstd(zstd) => zstd.compress_to_buffer(kept, out).ok(),
        }
        .filter(|length| (1..kept.len()).contains(length))
    }
}

impl Decoder {
    pub(super) fn new(codec: Codec) -> Result<Self> {
        let zstd = match codec {
            Codec::None | Codec::Lz4 => None,
            Codec::Zstd => Some(
                zstd::bulk::Decompressor::new()
                    .map_err(|e| Error::Internal(Report::new("cannot set up zstd").because(e)))?,
            ),
        };
        Ok(Self { codec, zstd, gathered: vec![0; BLOCK_LENGTH], raw: vec![0; BLOCK_LENGTH] })
    }

    /// The bytes that the block stands for; `stored` is looked into only after its checksum was right.
    pub(super) fn decode(&mut self, header: &Header, stored: &[u8]) -> Result<&[u8]> {
        if stored.len() != header.stored_length() {
            return Err(corrupt("block is cut off"));
        }
        if header.form == Form::Zeros {
            let raw = &mut self.raw[..header.raw_length()];
            raw.fill(0);
            return Ok(raw);
        }
        if check(stored) != header.check {
            return Err(corrupt("checksum of a block is wrong"));
        }
        let kept_length = header.kept_length();
        let whole = kept_length == header.raw_length();
        let kept = if whole { &mut self.raw[..kept_length] } else { &mut self.gathered[..kept_length] };
        match header.form {
            Form::Plain | Form::Zeros => kept.copy_from_slice(stored),
            Form::Compressed => decompress(self.codec, self.zstd.as_mut(), stored, kept)?,
        }
        if !whole {
            scatter(&self.gathered[..kept_length], header, &mut self.raw);
        }
        Ok(&self.raw[..header.raw_length()])
    }
}

/// Whether a block is all zeros, so that nothing needs to be written for it into a new file.
pub(super) fn is_zeros(header: &Header) -> bool {
    header.form == Form::Zeros
}

fn decompress(
    codec: Codec,
    zstd: Option<&mut zstd::bulk::Decompressor<'static>>,
    stored: &[u8],
    kept: &mut [u8],
) -> Result<()> {
    let expected = kept.len();
    let length = match (codec, zstd) {
        (Codec::Lz4, _) => lz4_flex::block::decompress_into(stored, kept).ok(),
        (Codec::Zstd, Some(zstd)) => zstd.decompress_to_buffer(stored, kept).ok(),
        (Codec::Zstd, None) | (Codec::None, _) => None,
    };
    if length == Some(expected) { Ok(()) } else { Err(corrupt("block does not decompress to its length")) }
}

fn check(stored: &[u8]) -> [u8; 16] {
    blake3::hash(stored).as_bytes()[..16].try_into().expect("the first half")
}

fn pages_with_data(raw: &[u8]) -> [u8; BITMAP_LENGTH] {
    let mut pages = [0; BITMAP_LENGTH];
    for (number, page) in raw.chunks(PAGE_LENGTH).enumerate() {
        if page != &ZERO_PAGE[..page.len()] {
            pages[number / 8] |= 1 << (number % 8);
        }
    }
    pages
}

fn gather<'a>(gathered: &'a mut Vec<u8>, raw: &[u8], header: &Header) -> &'a [u8] {
    gathered.clear();
    for (_, page) in raw.chunks(PAGE_LENGTH).enumerate().filter(|(number, _)| header.has(*number)) {
        gathered.extend_from_slice(page);
    }
    gathered
}

fn scatter(kept: &[u8], header: &Header, raw: &mut [u8]) {
    let mut rest = kept;
    for (number, page) in raw[..header.raw_length()].chunks_mut(PAGE_LENGTH).enumerate() {
        if header.has(number) {
            let (here, after) = rest.split_at(page.len());
            page.copy_from_slice(here);
            rest = after;
        } else {
            page.fill(0);
        }
    }
}

fn corrupt(text: impl Into<String>) -> Error {
    Error::Corrupt(Report::new(text))
}

#[cfg(test)]
mod tests;
