//! The rows.

use super::Expected::{self, Absent, Loses, Refused, Works};
use super::client::Talk;
use super::program::Program::{self, Debian, Ours, Rooted, Stubborn};

/// One row: a service, or a feature that a service may use.
#[derive(Debug)]
pub struct Row {
    /// Its word, of which the cells' names are made.
    pub name: &'static str,
    /// For people.
    pub what: &'static str,
    pub(super) program: Program,
    pub(super) talk: Talk,
    /// Keys of its checkpoint section.
    pub(super) options: &'static [(&'static str, &'static str)],
    /// In the order of [`super::PLACES`].
    pub expected: [Expected; 4],
}

const EVERYWHERE: [Expected; 4] = [Works; 4];
const LOCKS: &[(&str, &str)] = &[("criu.file_locks", "true")];
const NO_OPTIONS: &[(&str, &str)] = &[];
const IO_URING: Expected = Refused(&["io_uring", "switch io_uring off"]);
const LOCKED: Expected = Refused(&["it holds file locks", "file_locks = true"]);
const LARGE: Expected = Refused(&["larger than ghost_limit", "raise criu.ghost_limit"]);
const UNWATCHED: Expected = Refused(&["inotify", "force_irmap = true"]);
const OUTSIDE: Expected = Refused(&["unix socket of a process outside", "ext_unix_sk"]);

const fn feature(name: &'static str, what: &'static str, program: Program, expected: [Expected; 4]) -> Row {
    Row { name, what, program, talk: Talk::Http, options: NO_OPTIONS, expected }
}

/// All of them: services first, then features that work, then what is refused.
pub const ROWS: &[Row] = &[
    Row {
        name: "redis",
        what: "redis 7, its data in memory only",
        program: Debian(&[
            "/usr/bin/redis-server",
            "--bind",
            "{host}",
            "--port",
            "{port}",
            "--save",
            "",
            "--protected-mode",
            "no",
        ]),
        talk: Talk::Redis,
        options: NO_OPTIONS,
        expected: EVERYWHERE,
    },
    Row {
        name: "nginx",
        what: "nginx 1.22, a master and two workers with counters in shared memory",
        program: Debian(&["/usr/sbin/nginx", "-p", "{data}", "-e", "stderr", "-c", "{srv}/nginx.conf"]),
        talk: Talk::Nginx,
        options: NO_OPTIONS,
        expected: EVERYWHERE,
    },
    feature(
        "python",
        "Python 3.11 with asyncio",
        Debian(&["/usr/bin/python3", "{srv}/server.py", "{listen}"]),
        EVERYWHERE,
    ),
    feature("node", "Node 18", Rooted(&["/usr/bin/node", "-e", "{server.js}", "{listen}"]), EVERYWHERE),
    feature("tokio", "a Rust server on tokio, five threads", Ours(&["tokio_server", "{listen}"]), EVERYWHERE),
    feature(
        "threads",
        "32 threads with storage of their own",
        Ours(&["features", "--listen", "{listen}", "threads"]),
        EVERYWHERE,
    ),
    feature(
        "processes",
        "24 children on pipes and a zombie",
        Ours(&["features", "--listen", "{listen}", "processes"]),
        EVERYWHERE,
    ),
    feature(
        "shared-memory",
        "memory shared between processes (anonymous, memfd, a removed file of `/dev/shm`) and a futex in it",
        Ours(&["features", "--listen", "{listen}", "shared-memory"]),
        EVERYWHERE,
    ),
    feature(
        "unix",
        "unix sockets: a pair, an unread message, listeners by path and by abstract name",
        Ours(&["features", "--listen", "{listen}", "unix", "{data}"]),
        EVERYWHERE,
    ),
    feature(
        "descriptors",
        "a pipe with bytes in it, eventfd, a timerfd that ticks every 10 ms, epoll",
        Ours(&["features", "--listen", "{listen}", "descriptors"]),
        EVERYWHERE,
    ),
    Row {
        options: &[("criu.force_irmap", "true"), ("criu.irmap_scan_paths", "[\"/data\"]")],
        ..feature(
            "inotify",
            "an inotify watch on a folder, with `criu = { force_irmap = true, irmap_scan_paths = [...] }`",
            Ours(&["features", "--listen", "{listen}", "inotify", "{data}"]),
            EVERYWHERE,
        )
    },
    feature(
        "inotify-plain",
        "the same without those options",
        Ours(&["features", "--listen", "{listen}", "inotify", "{data}"]),
        [Works, Works, UNWATCHED, UNWATCHED],
    ),
    feature(
        "files",
        "files of its own and of a volume, changed after the checkpoint",
        Ours(&["features", "--listen", "{listen}", "files", "{data}", "{volume}"]),
        EVERYWHERE,
    ),
    feature(
        "removed",
        "a removed file of 4 KiB that is still open",
        Ours(&["features", "--listen", "{listen}", "removed", "{data}"]),
        EVERYWHERE,
    ),
    feature(
        "loopback",
        "a TCP connection with both ends in the service",
        Ours(&["features", "--listen", "{listen}", "loopback"]),
        [
            Works,
            Works,
            Loses("Broken pipe", "docker has no option to keep connections: they come back closed"),
            Works,
        ],
    ),
    Row {
        options: LOCKS,
        ..feature(
            "locks",
            "file locks (flock, fcntl, open file descriptions), with `criu = { file_locks = true }`",
            Ours(&["features", "--listen", "{listen}", "locks", "{data}"]),
            [Works, Works, Refused(&["would not bring locks back", "`file-locks`"]), Works],
        )
    },
    feature(
        "locks-refused",
        "file locks without that option",
        Stubborn(&["lock", "{data}/locked"]),
        [LOCKED, LOCKED, LOCKED, LOCKED],
    ),
    feature(
        "sysv",
        "shared memory and a semaphore of System V",
        Ours(&["features", "--listen", "{listen}", "sysv"]),
        [Refused(&["SysV", "run it in a container"]), Works, Works, Works],
    ),
    feature(
        "removed-large",
        "a removed file of 2 MiB that is still open",
        Ours(&["features", "--listen", "{listen}", "removed", "{data}", "2097152"]),
        [LARGE, LARGE, LARGE, LARGE],
    ),
    Row {
        options: &[("criu.ghost_limit", "\"4MiB\"")],
        ..feature(
            "removed-large-allowed",
            "the same with `criu = { ghost_limit = \"4MiB\" }`",
            Ours(&["features", "--listen", "{listen}", "removed", "{data}", "2097152"]),
            EVERYWHERE,
        )
    },
    feature(
        "io-uring",
        "an io_uring",
        Stubborn(&["io-uring"]),
        [IO_URING, IO_URING, IO_URING, Absent("podman's seccomp profile does not allow one")],
    ),
    feature(
        "unix-outside",
        "a connection to a unix socket of a process outside",
        Stubborn(&["unix", "{outside}/socket"]),
        [OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE],
    ),
    feature(
        "terminal",
        "a terminal of the outside",
        Stubborn(&["terminal", "{terminal}"]),
        [
            Refused(&["terminal of the outside", "without a terminal"]),
            Absent("a bundle that wants a terminal is refused at the start"),
            Absent("`--tty` is refused in `create_args`"),
            Absent("`--tty` is refused in `create_args`"),
        ],
    ),
];

/// The row of that name.
///
/// # Panics
/// If there is none.
pub(super) fn row(name: &str) -> &'static Row {
    ROWS.iter().find(|row| row.name == name).unwrap_or_else(|| panic!("no row {name}"))
}
