//! The file's top level, `[node]`, `[store]`, `[api]`.

use super::cluster::CLUSTER;
use super::group::GROUP;
use super::hooks::HOOKS;
use super::replica::{API_TLS, REPLICA};
use super::service::SERVICE;
use super::sidecar::SIDECAR;
use super::telemetry::TELEMETRY;
use super::{Key, Kind, Section, words};
use crate::settings::{Compression, HostShutdown, Hot, OnStop};

pub(crate) static ROOT: Section = Section {
    title: "",
    doc: "The whole file.",
    keys: &[
        Key::table("node", &NODE),
        Key::table("store", &STORE),
        Key::table("api", &API),
        Key { kind: Kind::Tables("service", &SERVICE), ..Key::table("service", &SERVICE) },
        Key { kind: Kind::Tables("group", &GROUP), ..Key::table("group", &GROUP) },
        Key::table("cluster", &CLUSTER),
        Key::table("hooks", &HOOKS),
        Key::table("sidecar", &SIDECAR),
        Key::table("telemetry", &TELEMETRY),
    ],
};

static NODE: Section = Section {
    title: "node",
    doc: "This host's supervisor.",
    keys: &[
        Key::optional(
            "name",
            Kind::Text,
            "the host's name",
            "\"alpha\"",
            "How the node calls itself in events, metrics and images.",
        ),
        Key::default(
            "state_dir",
            Kind::Path,
            "\"/var/lib/supervisor\"",
            "What must survive a reboot: the journal, logs and, unless `store.path` says otherwise, the \
            images.",
        ),
        Key::default(
            "run_dir",
            Kind::Path,
            "\"/run/supervisor\"",
            "What must not survive a reboot: sockets, locks, work folders. Best on a tmpfs.",
        ),
        Key::optional(
            "on_stop",
            Kind::Choice(words::<OnStop>),
            "`leave`; `stop` where the supervisor is process 1 of a container, which ends with it",
            "\"suspend\"",
            "What becomes of the services when the supervisor is asked to stop: `leave` them running; `stop` them, after a last \
            checkpoint of those with `shutdown` in `checkpoint.on`; `suspend` them into an image of their last moment (those that \
            cannot be are stopped). What was stopped or suspended so comes back at the next start, from its newest image.",
        ),
        Key::default(
            "on_host_shutdown",
            Kind::Choice(words::<HostShutdown>),
            "\"leave\"",
            "What is done when systemd-logind says that the host is about to stop, which waits for it for \
            `InhibitDelayMaxSec`: `checkpoint`: services whose `checkpoint.on` has `shutdown` get an image on disk; `drain`: \
            services that other nodes may run go there, and of the others those whose `checkpoint.on` has `shutdown` or `drain` get \
            an image; `leave`: nothing. See docs/systemd.md.",
        ),
    ],
};

static STORE: Section = Section {
    title: "store",
    doc: "Where images are kept.",
    keys: &[
        Key::optional(
            "path",
            Kind::Path,
            "`<state_dir>/images`",
            "\"/srv/images\"",
            "The store's folder. Nothing else may write there.",
        ),
        Key::default(
            "compression",
            Kind::Choice(words::<Compression>),
            "\"zstd\"",
            "How durable images are compressed: `zstd` is smallest, `lz4` is read back fastest.",
        ),
        Key::default(
            "min_free",
            Kind::Size,
            "\"256MiB\"",
            "Space on the store's disk that images never take: older ones go first, then no new one is \
            taken.",
        ),
        Key::optional(
            "max_total_size",
            Kind::Size,
            "what `min_free` leaves",
            "\"50GB\"",
            "Space that all images of all services may take together.",
        ),
        Key::default(
            "hot",
            Kind::Choice(words::<Hot>),
            "\"memory\"",
            "Where the newest image of each service is kept ready: uncompressed in memory, to be restored \
            soonest, or on disk only.",
        ),
        Key::optional(
            "hot_max_size",
            Kind::Size,
            "a part of the host's memory",
            "\"2GiB\"",
            "Memory that hot images may take together; an image that does not fit stays on disk only.",
        ),
        Key { kind: Kind::TableList(&REPLICA), ..Key::table("replica", &REPLICA) },
        Key::optional(
            "encryption_key_file",
            Kind::Path,
            "images are not encrypted",
            "\"/etc/supervisor/images.key\"",
            "Encrypt durable images under the key in this file: 32 random bytes, mode 0600. Needs `hot = \"memory\"`.",
        ),
        Key::optional(
            "encryption_passphrase_file",
            Kind::Path,
            "no passphrase",
            "\"/etc/supervisor/images.passphrase\"",
            "The same with a passphrase of at least 12 bytes (Argon2id) instead of a key file.",
        ),
        Key::default(
            "encryption_old_key_files",
            Kind::List(&Kind::Path),
            "[]",
            "Former key files, until `supervisor rekey` has wrapped every image under the present one.",
        ),
        Key::default(
            "encryption_old_passphrase_files",
            Kind::List(&Kind::Path),
            "[]",
            "The same for former passphrases.",
        ),
    ],
};

static API: Section = Section {
    title: "api",
    doc: "How commands reach the running supervisor.",
    keys: &[
        Key::optional(
            "socket",
            Kind::Path,
            "`<run_dir>/api.sock`",
            "\"/run/supervisor/api.sock\"",
            "The control socket, for its owner only (mode 0600); at most 107 bytes long.",
        ),
        Key::optional(
            "listen",
            Kind::Address,
            "no peer is let in",
            "\"0.0.0.0:7443\"",
            "Where peers bring images of their services and fetch them back, over mutual TLS; commands come by the \
            socket, or by `[api.https]`.",
        ),
        Key::table("tls", &API_TLS),
        Key::table("https", &HTTPS),
        Key::unsupported("token_file", "write it in `[api.https]`, with `listen`, `cert` and `key`"),
    ],
};

static HTTPS: Section = Section {
    title: "api.https",
    doc: "The API, its status page and metrics over HTTPS too, for whoever has the token. Without this table they are on the \
    socket only.",
    keys: &[
        Key::required(
            "listen",
            Kind::Address,
            "\"0.0.0.0:7444\"",
            "Where operators and Prometheus are let in; another port than that of the peers.",
        ),
        Key::required(
            "token_file",
            Kind::Path,
            "\"/etc/supervisor/api.token\"",
            "What they have to show: 32 to 4096 printable characters in a file of mode 0600. Read anew for each request, so that a \
            new token holds at once.",
        ),
        Key::required(
            "cert",
            Kind::Path,
            "\"/etc/supervisor/tls/alpha.crt\"",
            "The certificate that is shown (PEM), with those between it and its authority; read anew for each connection.",
        ),
        Key::required(
            "key",
            Kind::Path,
            "\"/etc/supervisor/tls/alpha.key\"",
            "Its key (PEM), for its owner only.",
        ),
    ],
};
