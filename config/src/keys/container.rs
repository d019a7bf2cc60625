//! `[service.NAME.docker]` and `[service.NAME.podman]`.

use super::service::TEXTS;
use super::{Key, Kind, Section};

pub(super) static DOCKER: Section = Section {
    title: "service.NAME.docker",
    doc: "A container of docker's: one that exists, or one to be created of `image`.",
    keys: &[
        CONTAINER,
        IMAGE,
        CREATE_ARGS,
        COMMAND,
        Key::default(
            "socket",
            Kind::Path,
            "\"/var/run/docker.sock\"",
            "The socket of docker's daemon, which must run on this host.",
        ),
    ],
};

pub(super) static PODMAN: Section = Section {
    title: "service.NAME.podman",
    doc: "A container of podman's: one that exists, or one to be created of `image`.",
    keys: &[
        CONTAINER,
        IMAGE,
        CREATE_ARGS,
        COMMAND,
        Key::default(
            "program",
            Kind::Text,
            "\"podman\"",
            "podman itself: an absolute path or a name to be found in `PATH`.",
        ),
        Key {
            example: "[\"--root\", \"/srv/containers\"]",
            ..Key::default("options", TEXTS, "[]", "podman's global options, which stand before its command.")
        },
    ],
};

const CONTAINER: Key =
    Key::required("container", Kind::Text, "\"redis\"", "The container's name; no two services share one.");

const IMAGE: Key = Key::optional(
    "image",
    Kind::Text,
    "the container must exist",
    "\"docker.io/library/redis:7\"",
    "What the container is created of if it does not exist.",
);

const CREATE_ARGS: Key = Key {
    example: "[\"--publish\", \"6379:6379\", \"--volume\", \"redis:/data\"]",
    ..Key::default(
        "create_args",
        TEXTS,
        "[]",
        "Options of `create` for it. Not possible are `--name`, `--rm`, `--tty`, `--detach`, docker's \
        `--init` and any `--restart` but `no`, since the supervisor names and restarts the container and has \
        to find it again after its end.",
    )
};

const COMMAND: Key = Key {
    example: "[\"redis-server\", \"--save\", \"\"]",
    ..Key::default("command", TEXTS, "[]", "What runs in it instead of the image's own command.")
};
