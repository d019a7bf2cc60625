//! Takes established TCP connections out of an image, for restores that cannot be told how to treat them.
//!
//! What `criu dump --tcp-close` makes can only be restored with that option, and docker passes none. Afterwards each
//! connected socket of the image is a closed one: the service sees its peers hang up, and its listeners are as they were.
//! CRIU's files are a magic, then protocol-buffer messages, each with its length before it; only the fields concerned
//! are touched, and what this does not understand is refused.

use std::path::Path;

use crate::durable;
use crate::error::{Error, Report, Result};

/// `tcp_close` in CRIU's `inventory_entry`.
const TCP_CLOSE: u64 = 10;
/// `isk` in CRIU's `file_entry`.
const INET_SOCKET: u64 = 4;
/// In CRIU's `inet_sk_entry`.
const PROTOCOL: u64 = 5;
const STATE: u64 = 6;
const SOURCE_PORT: u64 = 7;
const TARGET_PORT: u64 = 8;

const TCP: u64 = 6;
const CLOSED: u64 = 7;
const LISTENING: u64 = 10;

/// Of the files that say so, those with two magics.
const COMMON_MAGIC: u32 = 0x5456_4319;

/// Closes all TCP connections in a folder of CRIU's images.
pub fn close_connections(images: &Path) -> Result<()> {
    edit(&images.join("inventory.img"), |inventory| {
        let fields = fields(inventory)?;
        Some(message(fields.into_iter().filter(|field| field.number != TCP_CLOSE)))
    })?;
    edit(&images.join("files.img"), |file| {
        let fields = fields(file)?.into_iter().map(|field| match &field.value {
            Value::Bytes(socket) if field.number == INET_SOCKET => {
                Some(Field { number: INET_SOCKET, value: Value::Bytes(closed(socket)?) })
            }
            _ => Some(field),
        });
        Some(message(fields.collect::<Option<Vec<_>>>()?))
    })
}

/// The socket as it is when its peer is gone; one that is not connected stays as it is.
fn closed(socket: &[u8]) -> Option<Vec<u8>> {
    let fields = fields(socket)?;
    let number = |wanted| {
        fields.iter().find_map(|field| match field.value {
            Value::Number(number) if field.number == wanted => Some(number),
            _ => None,
        })
    };
    if number(PROTOCOL) != Some(TCP) || matches!(number(STATE), Some(CLOSED | LISTENING) | None) {
        return Some(socket.to_vec());
    }
    let changed = fields.into_iter().map(|field| match field.number {
        STATE => Field { number: STATE, value: Value::Number(CLOSED) },
        // A port would be bound, or connected to, again.
        SOURCE_PORT | TARGET_PORT => Field { value: Value::Number(0), ..field },
        _ => field,
    });
    Some(message(changed))
}

/// Replaces each message of a file.
fn edit(path: &Path, change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Result<()> {
    let bytes = std::fs::read(path)
        .map_err(|e| Error::Unavailable(Report::new(format!("read {}", path.display())).because(e)))?;
    let edited = edited(&bytes, change).ok_or_else(|| {
        Error::Refused(Report::new(format!(
            "close the connections in {}: it is not as CRIU 4 writes it",
            path.display()
        )))
    })?;
    if edited == bytes {
        return Ok(());
    }
    durable::atomic_write_volatile(path, &edited, 0o600)
}

fn edited(bytes: &[u8], change: impl Fn(&[u8]) -> Option<Vec<u8>>) -> Option<Vec<u8>> {
    let first = u32::from_le_bytes(bytes.get(..4)?.try_into().ok()?);
    let (magic, mut rest) = bytes.split_at_checked(if first == COMMON_MAGIC { 8 } else { 4 })?;
    let mut out = magic.to_vec();
    while !rest.is_empty() {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        let (entry, behind) = behind.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        let entry = change(entry)?;
        out.extend_from_slice(&u32::try_from(entry.len()).ok()?.to_le_bytes());
        out.extend_from_slice(&entry);
        rest = behind;
    }
    Some(out)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    number: u64,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
    Fixed64([u8; 8]),
}

fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
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

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn message(fields: impl IntoIterator<Item = Field>) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(protocol: u64, state: u64) -> Vec<u8> {
        let number = |number, value| Field { number, value: Value::Number(value) };
        let fields = [
            number(1, 77),
            number(PROTOCOL, protocol),
            number(STATE, state),
            number(SOURCE_PORT, 8080),
            number(TARGET_PORT, 5000),
        ];
        message(fields.into_iter().chain([Field { number: 14, value: Value::Bytes(vec![8, 1]) }]))
    }

    fn numbers(socket: &[u8]) -> Vec<u64> {
        let number = |field: Field| match field.value {
            Value::Number(number) => Some(number),
            _ => None,
        };
        fields(socket).expect("a message").into_iter().filter_map(number).collect()
    }

    #[test]
    fn only_what_is_connected_is_closed() {
        assert_eq!(numbers(&closed(&socket(TCP, 1)).expect("understood")), [77, TCP, CLOSED, 0, 0]);
        for untouched in [socket(TCP, LISTENING), socket(TCP, CLOSED), socket(17, 1)] {
            assert_eq!(closed(&untouched), Some(untouched.clone()));
        }
    }

    #[test]
    fn a_folder_of_images_is_edited_and_stays_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |entries: &[Vec<u8>]| {
            let mut bytes = COMMON_MAGIC.to_le_bytes().to_vec();
            bytes.extend([1, 2, 3, 4]);
            for entry in entries {
                bytes.extend(u32::try_from(entry.len()).expect("short").to_le_bytes());
                bytes.extend(entry);
            }
            bytes
        };
        let entry = |socket: Vec<u8>| message([Field { number: INET_SOCKET, value: Value::Bytes(socket) }]);
        let inventory = |closes: bool| {
            let fields = [(1, 2, true), (TCP_CLOSE, 1, closes)].into_iter().filter(|field| field.2);
            message(fields.map(|(number, value, _)| Field { number, value: Value::Number(value) }))
        };
        let write = |name: &str, bytes: Vec<u8>| {
            durable::atomic_write_volatile(&folder.path().join(name), &bytes, 0o600).expect("written");
        };
        write("inventory.img", file(&[inventory(true)]));
        write("files.img", file(&[entry(socket(TCP, 1)), entry(socket(TCP, LISTENING))]));
        close_connections(folder.path()).expect("understood");
        let read = |name: &str| std::fs::read(folder.path().join(name)).expect("read");
        assert_eq!(read("inventory.img"), file(&[inventory(false)]));
        let expected = [entry(closed(&socket(TCP, 1)).expect("understood")), entry(socket(TCP, LISTENING))];
        assert_eq!(read("files.img"), file(&expected));
        write("files.img", b"short".to_vec());
        assert!(close_connections(folder.path()).is_err());
    }
}
