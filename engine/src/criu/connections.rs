//! Takes established TCP connections out of an image, for restores that cannot be told how to treat them.
//!
//! What `criu dump --tcp-close` makes can only be restored with that option, and docker passes none. Afterwards each
//! connected socket of the image is a closed one: the service sees its peers hang up, and its listeners are as they were.

use std::path::Path;

use super::entries::{Field, Value, edit, fields, message, number};
use crate::error::Result;

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

/// Closes all TCP connections in a folder of CRIU's images.
pub fn close_connections(images: &Path) -> Result<()> {
    const WHAT: &str = "close the connections";
    edit(&images.join("inventory.img"), WHAT, |inventory| {
        let fields = fields(inventory)?;
        Some(message(fields.into_iter().filter(|field| field.number != TCP_CLOSE)))
    })?;
    edit(&images.join("files.img"), WHAT, |file| {
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
    let state = number(&fields, STATE);
    if number(&fields, PROTOCOL) != Some(TCP) || matches!(state, Some(CLOSED | LISTENING) | None) {
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

#[cfg(test)]
mod tests {
    use super::super::entries::COMMON_MAGIC;
    use super::*;
    use crate::durable;

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
