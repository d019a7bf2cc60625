//! What travels between two nodes of one hand-over; both are of a version that speaks it, and nothing of it is kept.
//!
//! ```text
//! 8       "SVHANDOV"
//! 4       version: 1
//! 4       length of the head, at most 16 MiB
//!         head: JSON; service, id, about (as in a manifest), base (id and identity, or null), criu and files (name and len each)
//!         each file, CRIU's first, in the order of the head:
//!           its blocks of 1 MiB, the last one shorter: records until the block is full
//!             1    form: 0 zeros, 1 bytes, 2 pages of the base
//!             4    length of what it stands for; full pages of 4 KiB, but at the end of the file
//!                  1: the bytes      2: 4 number of the base's file, 8 number of the first page in it
//!           32   BLAKE3 of the file
//! 32      BLAKE3 of the head
//! ```
//!
//! Numbers are little-endian. Nothing may follow.

use std::collections::BTreeSet;
use std::io::Read;

use policies::id::{ImageId, ServiceName};
use serde::{Deserialize, Serialize};

use super::super::manifest::{About, is_plain_name, text};
use super::super::{StageNeeds, block::BLOCK_LENGTH};
use super::PAGE;
use crate::error::{Error, Report, Result};

pub(super) const MAGIC: [u8; 8] = *b"SVHANDOV";
pub(super) const VERSION: u32 = 1;
/// Longest head: some ten thousand files.
const HEAD_MAX: u32 = 16 << 20;
const ZEROS: u8 = 0;
const BYTES: u8 = 1;
const PAGES: u8 = 2;

/// What comes first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    #[serde(with = "text")]
    pub(super) service: ServiceName,
    #[serde(with = "text")]
    pub(super) id: ImageId,
    pub(super) about: About,
    pub(super) base: Option<BaseName>,
    pub(super) criu: Vec<Named>,
    pub(super) files: Vec<Named>,
}

/// Which image pages are named of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BaseName {
    #[serde(with = "text")]
    pub(super) id: ImageId,
    pub(super) identity: String,
}

/// One file to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) len: u64,
}

/// A part of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Zeros,
    /// They follow.
    Bytes,
    /// They are in the base.
    Pages {
        file: u32,
        page: u64,
    },
}

/// A form, and how many bytes of the file it stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) form: Form,
    pub(super) len: u32,
}

impl Head {
    /// What it will take.
    pub(super) fn needs(&self) -> StageNeeds {
        let sum = |files: &[Named]| files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.len));
        StageNeeds { memory: sum(&self.criu), files: sum(&self.files) }
    }

    /// The head with what is before it.
    pub(super) fn encode(&self) -> Result<(Vec<u8>, blake3::Hash)> {
        let json = serde_json::to_vec(self)
            .map_err(|e| Error::Internal(Report::new("cannot write a head").because(e)))?;
        let length = u32::try_from(json.len()).unwrap_or(u32::MAX);
        if length > HEAD_MAX {
            return Err(Error::Refused(Report::new("an image has too many files to be handed over")));
        }
        let bytes = [&MAGIC[..], &VERSION.to_le_bytes(), &length.to_le_bytes(), &json].concat();
        Ok((bytes, blake3::hash(&json)))
    }

    /// Reads it and looks at all that others rely on.
    pub(super) fn read(from: &mut dyn Read) -> Result<(Self, blake3::Hash)> {
        if array::<8>(from)? != MAGIC || u32::from_le_bytes(array(from)?) != VERSION {
            return Err(invalid("what comes is no hand-over of this version".to_owned()));
        }
        let length = u32::from_le_bytes(array(from)?);
        if length > HEAD_MAX {
            return Err(invalid(format!("a head of {length} bytes is too long")));
        }
        let mut json = Vec::new();
        let read = from.take(u64::from(length)).read_to_end(&mut json).map_err(broken)?;
        if read as u64 != u64::from(length) {
            return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let head: Self = serde_json::from_slice(&json)
            .map_err(|e| Error::Invalid(Report::new("not the head of a hand-over").because(e)))?;
        head.check()?;
        Ok((head, blake3::hash(&json)))
    }

    fn check(&self) -> Result<()> {
        if self.criu.is_empty() || self.about.parent.is_some() {
            return Err(invalid("a head without CRIU's files, or with a parent".to_owned()));
        }
        for files in [&self.criu, &self.files] {
            let mut known = BTreeSet::new();
            let bad = files.iter().find(|file| !is_plain_name(&file.name) || !known.insert(&file.name));
            if let Some(bad) = bad {
                return Err(invalid(format!("a file may not be called {:?} here", bad.name)));
            }
        }
        Ok(())
    }
}

impl Record {
    pub(super) fn encode(&self, into: &mut Vec<u8>) {
        let form = match self.form {
            Form::Zeros => ZEROS,
            Form::Bytes => BYTES,
            Form::Pages { .. } => PAGES,
        };
        into.push(form);
        into.extend(self.len.to_le_bytes());
        if let Form::Pages { file, page } = self.form {
            into.extend(file.to_le_bytes());
            into.extend(page.to_le_bytes());
        }
    }

    /// The next one, which may stand for `left` bytes at most.
    pub(super) fn read(from: &mut dyn Read, left: usize) -> Result<Self> {
        let [form, length @ ..] = array::<5>(from)?;
        let len = u32::from_le_bytes(length);
        let form = match form {
            ZEROS => Form::Zeros,
            BYTES => Form::Bytes,
            PAGES => {
                let file = u32::from_le_bytes(array(from)?);
                Form::Pages { file, page: u64::from_le_bytes(array(from)?) }
            }
            other => return Err(invalid(format!("a record of the unknown form {other}"))),
        };
        let length = usize::try_from(len).unwrap_or(usize::MAX);
        let whole = length % PAGE == 0 || (length == left && !matches!(form, Form::Pages { .. }));
        if length == 0 || length > left || left > BLOCK_LENGTH || !whole {
            return Err(invalid(format!("a record of {len} bytes where {left} are left")));
        }
        Ok(Self { form, len })
    }
}

/// So many bytes, all of them.
pub(super) fn array<const N: usize>(from: &mut dyn Read) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    from.read_exact(&mut bytes).map_err(broken)?;
    Ok(bytes)
}

pub(super) fn broken(error: std::io::Error) -> Error {
    Error::Unavailable(Report::new("what comes of a hand-over broke off").because(error))
}

pub(super) fn invalid(text: String) -> Error {
    Error::Invalid(Report::new(text))
}
