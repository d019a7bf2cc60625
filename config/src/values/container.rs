//! What names a container, its image and its runtime.
//!
//! It refuses only what no version of docker or podman would take: images have many ways to be named.

use std::path::PathBuf;

use super::{path, text, word};
use crate::read::Cell;

/// The longest path a unix socket can have on Linux, its closing zero byte not counted.
pub(crate) const LONGEST_SOCKET: usize = 107;

/// Who keeps a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ContainerRuntime {
    Docker,
    Podman,
}

/// The name of a container. docker wants two characters at least, podman one.
pub(crate) fn container(cell: &Cell<'_>, runtime: ContainerRuntime) -> Option<String> {
    let name = text(cell)?;
    let (shortest, hint) = match runtime {
        ContainerRuntime::Docker => {
            (2, "use `A-Z a-z 0-9 _ . -`, a letter or digit first, and at least two characters")
        }
        ContainerRuntime::Podman => (1, "use `A-Z a-z 0-9 _ . -`, a letter or digit first"),
    };
    let right = name.len() >= shortest
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    if right { Some(name) } else { cell.fault("this cannot be the name of a container", hint) }
}

/// The name or id of an image.
pub(crate) fn image(cell: &Cell<'_>) -> Option<String> {
    let image = word(cell)?;
    // One that begins with `-` would be taken for an option.
    if image.starts_with('-') || image.contains(char::is_whitespace) {
        let hint = "write its name, as `\"redis:7\"` or `\"registry.example.org/team/redis:7\"`, or its id";
        return cell.fault("this is not an image", hint);
    }
    Some(image)
}

/// The socket of docker's daemon.
pub(crate) fn socket(cell: &Cell<'_>) -> Option<PathBuf> {
    if text(cell)?.contains("://") {
        let hint =
            "write the socket's path alone, as `\"/var/run/docker.sock\"`; the daemon must run on this host";
        return cell.fault("this is an address, not a path", hint);
    }
    let socket = path(cell)?;
    let length = socket.as_os_str().len();
    if length > LONGEST_SOCKET {
        let message = format!("the path of the socket has {length} bytes, {LONGEST_SOCKET} are possible");
        return cell.fault(message, "use a shorter path, as that of a link");
    }
    Some(socket)
}
