//! CRIU's image files, edited: a magic, then protocol-buffer messages, each with its length before it. Only the fields that
//! somebody changes are touched, and what this does not understand is refused.

use std::path::Path;

use crate::durable;
use crate::error::{Error, Report, Result};

/// Of the files that say so, those with two magics.
pub(super) const COMMON_MAGIC: u32 = 0x5456_4319;

/// Replaces each message of a file; `what` that is for stands in an error.
pub(super) fn edit(path: &Path, what: &str, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<()> {
    let bytes = bytes(path)?;
    let edited = edited(&bytes, change).ok_or_else(|| not_understood(path, what))?;
    if edited == bytes {
        return Ok(());
    }
    durable::atomic_write_volatile(path, &edited, 0o600)
}

/// Each message of a file.
pub(super) fn read(path: &Path, what: &str) -> Result<Vec<Vec<u8>>> {
    let bytes = bytes(path)?;
    let (_, entries) = entries(&bytes).ok_or_else(|| not_understood(path, what))?;
    Ok(entries.into_iter().map(<[u8]>::to_vec).collect())
}

fn bytes(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|e| Error::Unavailable(Report::new(format!("read {}", path.display())).because(e)))
}

fn not_understood(path: &Path, what: &str) -> Error {
    Error::Refused(Report::new(format!("{what} in {}: it is not as CRIU 4 writes it", path.display())))
}

fn edited(bytes: &[u8], change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let (magic, entries) = entries(bytes)?;
    let mut out = magic.to_vec();
    for entry in entries {
        let entry = change(entry)?;
        out.extend_from_slice(&u32::try_from(entry.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&entry);
    }
    Some(out)
}

/// A file's magic and its messages.
fn entries(bytes: &[u8]) -> Option<(&[u8], Vec<&[u8]>)> {
    let first = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let (magic, mut rest) = bytes.split_at_checked(if first == COMMON_MAGIC { 8 } else { 4 })?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (entry, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        found.push(entry);
        rest = behind;
    }
    Some((magic, found))
}

/// One field of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) value: Value,
}

/// Its value, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
}

/// The fields of a message, in their order; `None` if it is none.
pub(super) fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = prost::encoding::decode_varint(&mut bytes).ok()?;
        let value = match key & 7 {
            0 => Value::Number(prost::encoding::decode_varint(&mut bytes).ok()?),
            1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = prost::encoding::decode_varint(&mut bytes).ok()?;
                Value::Bytes(take(&mut bytes, usize::try_from(length).ok()?)?.to_vec())
            }
            5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        found.push(Field { number: key >> 3, value });
    }
    Some(found)
}

/// The first number of a field.
pub(super) fn number(fields: &[Field], wanted: u64) -> Option<u64> {
    fields.iter().find_map(|field| match field.value {
        Value::Number(number) if field.number == wanted => Some(number),
        _ => None,
    })
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

/// A message of these fields.
pub(super) fn message(fields: impl IntoIterator<Item = Field>) -> Vec<u8> {
    let mut out = Vec::new();
    for Field { number, value } in fields {
        let kind = match value {
            Value::Number(_) => 0,
            Value::Fixed64(_) => 1,
            Value::Bytes(_) => 2,
            Value::Fixed32(_) => 5,
        };
        prost::encoding::encode_varint(number << 3 | kind, &mut out);
        match value {
            Value::Number(number) => prost::encoding::encode_varint(number, &mut out),
            Value::Fixed64(bytes) => out.extend_from_slice(&bytes),
            Value::Fixed32(bytes) => out.extend_from_slice(&bytes),
            Value::Bytes(bytes) => {
                prost::encoding::encode_varint(bytes.len() as u64, &mut out);
                out.extend_from_slice(&bytes);
            }
        }
    }
    out
}
