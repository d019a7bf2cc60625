//! What an archive is, told by its first bytes, and its bytes unpacked.

use std::cell::RefCell;
use std::io::{self, Read};

use crate::error::{Error, Report, Result};

/// So many first bytes tell what an archive is.
pub const RECOGNIZED_BY: usize = 512;
const NATIVE: &[u8] = b"SVARCHIV";
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Where a tar header says that it is one.
const TAR: (usize, &[u8]) = (257, b"ustar");
/// Between two looks at the free space.
const STRIDE: u64 = 64 << 20;

/// What an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Our own.
    Native,
    /// podman's, in this form.
    Podman(Form),
}

/// How a tar archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Not at all.
    Plain,
    /// By gzip.
    Gzip,
    /// By zstd, as podman does it by itself.
    Zstd,
}

/// By its first bytes; `None` if it is nothing that can be imported.
pub fn recognize(first: &[u8]) -> Option<Kind> {
    if first.starts_with(NATIVE) {
        return Some(Kind::Native);
    }
    let forms = [(first.starts_with(GZIP), Form::Gzip), (first.starts_with(ZSTD), Form::Zstd)];
    let compressed = forms.into_iter().find(|(is, _)| *is).map(|(_, form)| form);
    let plain = first.get(TAR.0..).is_some_and(|rest| rest.starts_with(TAR.1)).then_some(Form::Plain);
    compressed.or(plain).map(Kind::Podman)
}

impl Form {
    pub(super) fn unpacked<'a>(self, from: &'a mut dyn Read) -> Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Plain => Box::new(from),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(from)),
            Self::Zstd => {
                let decoder = zstd::stream::Decoder::new(from);
                Box::new(decoder.map_err(|e| Error::Internal(Report::new("begin to decompress").because(e)))?)
            }
        })
    }
}

/// A stream that ends early when there is no more room for what it brings.
pub(super) struct Measured<'a> {
    from: Box<dyn Read + 'a>,
    room: &'a dyn Fn() -> Result<()>,
    since: u64,
    full: &'a Full,
}

/// Why it ended early: an error of the system's has no place for one of ours.
#[derive(Debug, Default)]
pub(super) struct Full(RefCell<Option<Error>>);

impl<'a> Measured<'a> {
    pub(super) fn new(from: Box<dyn Read + 'a>, room: &'a dyn Fn() -> Result<()>, full: &'a Full) -> Self {
        Self { from, room, since: 0, full }
    }
}

impl Full {
    /// What made a reading fail.
    pub(super) fn because_of(&self, error: Error) -> Error {
        self.0.take().unwrap_or(error)
    }
}

impl Read for Measured<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.since += read as u64;
        if self.since >= STRIDE {
            self.since = 0;
            if let Err(error) = (self.room)() {
                self.full.0.replace(Some(error));
                return Err(io::ErrorKind::StorageFull.into());
            }
        }
        Ok(read)
    }
}
