//! Takes TCP connections out of images, which then are closed sockets: the service sees its peers hang up, and its listeners
//! are as they were.
//!
//! * All of them, for restores that cannot be told how to treat them: what `criu dump --tcp-close` makes can only be restored with that
//!   option, and docker passes none.
//! * Those to the outside, in images that their service has outlived. By then it and its peers have said more to each other than the
//!   image knows of: brought back as it was, a connection would mix what was said before and after. If its peer has gone, it stays in the
//!   kernel for minutes when the service ends again, and nothing can be brought back in its place (`Can't connect inet socket back`).

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::entries::{Field, Value, edit, fields, message, number, read};
use crate::error::Result;

const INVENTORY: &str = "inventory.img";
const FILES: &str = "files.img";
/// `tcp_close` in CRIU's `inventory_entry`.
const TCP_CLOSE: u64 = 10;
/// `isk` in CRIU's `file_entry`.
const INET_SOCKET: u64 = 4;
/// In CRIU's `inet_sk_entry`.
const PROTOCOL: u64 = 5;
const STATE: u64 = 6;
const SOURCE_PORT: u64 = 7;
const TARGET_PORT: u64 = 8;
const SOURCE: u64 = 11;
const TARGET: u64 = 12;

const TCP: u64 = 6;
const CLOSED: u64 = 7;
const LISTENING: u64 = 10;

/// One end: its address's words and its port.
type End = (Vec<[u8; 4]>, u64);

/// Closes all TCP connections in a folder of CRIU's images.
pub fn close_connections(images: &Path) -> Result<()> {
    const WHAT: &str = "close the connections";
    edit(&images.join(INVENTORY), WHAT, |inventory| {
        let fields = fields(inventory)?;
        Some(message(fields.into_iter().filter(|field| field.number != TCP_CLOSE)))
    })?;
    close(images, WHAT, |_| true)
}

/// Closes those of which not both ends are in these folders of CRIU's images.
pub(crate) fn close_outer_connections(folders: &[PathBuf]) -> Result<()> {
    const WHAT: &str = "close the connections to the outside";
    let mut inside = HashSet::new();
    for folder in folders {
        for file in read(&folder.join(FILES), WHAT)? {
            let sockets = fields(&file).unwrap_or_default().into_iter().filter_map(|field| match field {
                Field { number: INET_SOCKET, value: Value::Bytes(socket) } => fields(&socket),
                _ => None,
            });
            inside.extend(sockets.filter(|socket| is_connected(socket)).map(|socket| ends(&socket)));
        }
    }
    for folder in folders {
        close(folder, WHAT, |socket| {
            let (here, there) = ends(socket);
            !inside.contains(&(there, here))
        })?;
    }
    Ok(())
}

fn close(images: &Path, what: &str, is_meant: impl Fn(&[Field]) -> bool) -> Result<()> {
    edit(&images.join(FILES), what, |file| {
        let fields = fields(file)?.into_iter().map(|field| match &field.value {
            Value::Bytes(socket) if field.number == INET_SOCKET => {
                let socket = fields(socket)?;
                let meant = is_connected(&socket) && is_meant(&socket);
                let socket = if meant { closed(socket) } else { socket };
                Some(Field { number: INET_SOCKET, value: Value::Bytes(message(socket)) })
            }
            _ => Some(field),
        });
        Some(message(fields.collect::<Option<Vec<_>>>()?))
    })
}

fn is_connected(socket: &[Field]) -> bool {
    number(socket, PROTOCOL) == Some(TCP) && !matches!(number(socket, STATE), Some(CLOSED | LISTENING) | None)
}

/// The socket as it is when its peer is gone.
fn closed(socket: Vec<Field>) -> Vec<Field> {
    let changed = socket.into_iter().map(|field| match field.number {
        STATE => Field { number: STATE, value: Value::Number(CLOSED) },
        // A port would be bound, or connected to, again.
        SOURCE_PORT | TARGET_PORT => Field { value: Value::Number(0), ..field },
        _ => field,
    });
    changed.collect()
}

/// Its own end and the other.
fn ends(socket: &[Field]) -> (End, End) {
    let end = |address, port| (words(socket, address), number(socket, port).unwrap_or_default());
    (end(SOURCE, SOURCE_PORT), end(TARGET, TARGET_PORT))
}

/// An address; one of IPv4 that is written as one of IPv6 is the same.
fn words(socket: &[Field], address: u64) -> Vec<[u8; 4]> {
    let words = socket.iter().filter_map(|field| match field.value {
        Value::Fixed32(word) if field.number == address => Some(word),
        Value::Number(word) if field.number == address => Some(u32::try_from(word).ok()?.to_le_bytes()),
        _ => None,
    });
    let words: Vec<_> = words.collect();
    match words.as_slice() {
        [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0xff, 0xff], last] => vec![*last],
        _ => words,
    }
}

#[cfg(test)]
mod tests {
    use super::super::entries::COMMON_MAGIC;
    use super::*;
    use crate::durable;

    const HERE: [u8; 4] = [127, 0, 0, 1];

    fn numeral(number: u64, value: u64) -> Field {
        Field { number, value: Value::Number(value) }
    }

    /// From a port to one, both of this host; the address is written as IPv6's where that is asked for.
    fn socket(protocol: u64, state: u64, (from, to): (u64, u64), mapped: bool) -> Vec<u8> {
        let address = |number| {
            let words = if mapped { vec![[0; 4], [0; 4], [0, 0, 0xff, 0xff], HERE] } else { vec![HERE] };
            words.into_iter().map(move |word| Field { number, value: Value::Fixed32(word) })
        };
        let fields = [
            numeral(1, 77),
            numeral(PROTOCOL, protocol),
            numeral(STATE, state),
            numeral(SOURCE_PORT, from),
            numeral(TARGET_PORT, to),
        ];
        message(fields.into_iter().chain(address(SOURCE)).chain(address(TARGET)))
    }

    fn connected(ports: (u64, u64)) -> Vec<u8> {
        socket(TCP, 1, ports, false)
    }

    fn shut(socket: &[u8]) -> Vec<u8> {
        message(closed(fields(socket).expect("a message")))
    }

    fn file(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = COMMON_MAGIC.to_le_bytes().to_vec();
        bytes.extend([1, 2, 3, 4]);
        for entry in entries {
            bytes.extend(u32::try_from(entry.len()).expect("short").to_le_bytes());
            bytes.extend(entry);
        }
        bytes
    }

    fn sockets(sockets: &[Vec<u8>]) -> Vec<u8> {
        let entry =
            |socket: &Vec<u8>| message([Field { number: INET_SOCKET, value: Value::Bytes(socket.clone()) }]);
        file(&sockets.iter().map(entry).collect::<Vec<_>>())
    }

    fn write(folder: &Path, name: &str, bytes: &[u8]) {
        durable::create_dir_all(folder).expect("made");
        durable::atomic_write_volatile(&folder.join(name), bytes, 0o600).expect("written");
    }

    fn read(folder: &Path, name: &str) -> Vec<u8> {
        std::fs::read(folder.join(name)).expect("read")
    }

    #[test]
    fn what_is_closed_has_no_port() {
        let numbers: Vec<_> = fields(&shut(&connected((8080, 5000))))
            .expect("a message")
            .into_iter()
            .filter_map(|field| if let Value::Number(number) = field.value { Some(number) } else { None })
            .collect();
        assert_eq!(numbers, [77, TCP, CLOSED, 0, 0]);
    }

    #[test]
    fn a_folder_of_images_is_edited_and_stays_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let untouched = [LISTENING, CLOSED].map(|state| socket(TCP, state, (8080, 0), false));
        let udp = socket(17, 1, (8080, 5000), false);
        let [listener, idle] = untouched;
        write(folder, INVENTORY, &file(&[message([numeral(1, 2), numeral(TCP_CLOSE, 1)])]));
        let open = connected((8080, 5000));
        write(folder, FILES, &sockets(&[open.clone(), listener.clone(), idle.clone(), udp.clone()]));
        close_connections(folder).expect("understood");
        assert_eq!(read(folder, INVENTORY), file(&[message([numeral(1, 2)])]));
        assert_eq!(read(folder, FILES), sockets(&[shut(&open), listener, idle, udp]));
        write(folder, FILES, b"short");
        assert!(close_connections(folder).is_err());
        assert!(close_outer_connections(&[folder.to_owned()]).is_err());
    }

    #[test]
    fn connections_of_which_both_ends_are_there_stay() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        let (inner, outer) = (connected((8080, 5000)), connected((8080, 5001)));
        // Its other end may be in another folder, and written in another way.
        let end = socket(TCP, 1, (5000, 8080), true);
        write(&one, FILES, &sockets(&[inner.clone(), outer.clone()]));
        write(&other, FILES, &sockets(std::slice::from_ref(&end)));
        close_outer_connections(&[one.clone(), other.clone()]).expect("understood");
        assert_eq!(read(&one, FILES), sockets(&[inner.clone(), shut(&outer)]));
        assert_eq!(read(&other, FILES), sockets(&[end]));
        close_outer_connections(std::slice::from_ref(&one)).expect("understood");
        assert_eq!(read(&one, FILES), sockets(&[shut(&inner), shut(&outer)]));
    }
}
