//! `[service.NAME]` and its runtimes.

use super::checkpoint::CHECKPOINT;
use super::container::{DOCKER, PODMAN};
use super::failover::FAILOVER;
use super::hooks::SERVICE_HOOKS;
use super::probe::PROBE;
use super::restart::RESTART;
use super::{Key, Kind, Section, words};
use crate::settings::{Isolation, StartFrom};

/// Text lists: commands, options.
pub(super) const TEXTS: Kind = Kind::List(&Kind::Text);
pub(super) const PATHS: Kind = Kind::List(&Kind::Path);
/// Names of services.
pub(super) const NAMES: Kind = Kind::List(&Kind::ServiceName);

pub(super) const fn start_timeout() -> Key {
    Key::default(
        "start_timeout",
        Kind::Duration,
        "\"1m\"",
        "How long a cold start may take until the service runs; its probes have their own \
        `start_period`.",
    )
}

pub(super) const fn start_from() -> Key {
    Key::default(
        "start_from",
        Kind::Choice(words::<StartFrom>),
        "\"scratch\"",
        "What the service begins from where the supervisor finds no word of it in `state_dir`: `scratch`, or the newest \
        `image` of the store that can be trusted, and `scratch` if there is none. Where there is word of it, that counts: what \
        ran comes back from its newest image.",
    )
}

pub(super) const fn restore_timeout() -> Key {
    Key::default(
        "restore_timeout",
        Kind::Duration,
        "\"1m\"",
        "How long the restore of one image may take before the next rung is tried.",
    )
}

pub(super) static SERVICE: Section = Section {
    title: "service.NAME",
    doc: "One service: exactly one runtime (`process`, `runc`, `docker`, `podman` or `systemd`), and its policies. NAME \
    is made of `a-z`, `0-9`, `_`, `.` and `-`, and begins with a letter or digit.",
    keys: &[
        Key::table("process", &PROCESS),
        Key::table("runc", &RUNC),
        Key::table("docker", &DOCKER),
        Key::table("podman", &PODMAN),
        Key::table("systemd", &SYSTEMD),
        Key::default(
            "stop_signal",
            Kind::Signal,
            "\"TERM\"",
            "The signal that asks the service to end: a name with or without `SIG`, or a number.",
        ),
        Key::default(
            "stop_timeout",
            Kind::Duration,
            "\"10s\"",
            "How long the service may take to end before it is killed.",
        ),
        start_timeout(),
        start_from(),
        restore_timeout(),
        Key::default(
            "success_exit_codes",
            Kind::List(&Kind::Whole { min: 0, max: 255 }),
            "[0]",
            "Exit codes that mean that the service has done its work.",
        ),
        Key::default(
            "depends_on",
            NAMES,
            "[]",
            "Services that must be healthy before this one is started; in a group, members of it that are started before.",
        ),
        Key::optional(
            "group",
            Kind::ServiceName,
            "it stands alone",
            "\"shop\"",
            "The group that it is a member of. Images, recovery and hooks are the group's then: there is no `checkpoint`, `restart`, \
            `failover` or `hooks` here, and no `start_timeout`, `start_from`, `restore_timeout` or `success_exit_codes`.",
        ),
        Key::table("checkpoint", &CHECKPOINT),
        Key { kind: Kind::Tables("probe", &PROBE), ..Key::table("probe", &PROBE) },
        Key::table("restart", &RESTART),
        Key::table("failover", &FAILOVER),
        Key::table("hooks", &SERVICE_HOOKS),
    ],
};

static PROCESS: Section = Section {
    title: "service.NAME.process",
    doc: "A plain process that the supervisor starts.",
    keys: &[
        Key::required(
            "command",
            TEXTS,
            "[\"/usr/bin/redis-server\", \"--port\", \"6379\"]",
            "Program and arguments. The program is an absolute path or a name to be found in `PATH`; no \
            shell is involved.",
        ),
        Key::default(
            "env",
            Kind::TextByName,
            "{}",
            "The environment. Nothing of the supervisor's own is inherited but `PATH`.",
        ),
        Key::default("cwd", Kind::Path, "\"/\"", "The working folder."),
        Key::optional(
            "user",
            Kind::User,
            "the supervisor's own",
            "\"redis\"",
            "Who runs it: `name`, `uid` or `uid:gid`.",
        ),
        Key::default(
            "isolation",
            Kind::Choice(words::<Isolation>),
            "\"pid\"",
            "`pid` gives it a pid namespace of its own, so that its PIDs are free whenever it is \
            restored; `none` does not.",
        ),
        Key::optional(
            "stdout",
            Kind::Output,
            "`<state_dir>/logs/NAME.log`",
            "\"/var/log/redis.log\"",
            "Where its standard output goes: a file to be appended to, or `journal`.",
        ),
        Key::optional(
            "stderr",
            Kind::Output,
            "`<state_dir>/logs/NAME.log`",
            "\"journal\"",
            "Where its standard error goes: a file to be appended to, or `journal`.",
        ),
    ],
};

static SYSTEMD: Section = Section {
    title: "service.NAME.systemd",
    doc: "A unit of systemd's that exists. See docs/systemd.md.",
    keys: &[Key::required(
        "unit",
        Kind::Text,
        "\"redis.service\"",
        "The unit's whole name, which ends in `.service`; no two services share one.",
    )],
};

static RUNC: Section = Section {
    title: "service.NAME.runc",
    doc: "An OCI bundle run by runc.",
    keys: &[Key::required(
        "bundle",
        Kind::Path,
        "\"/srv/bundles/redis\"",
        "The bundle: a folder with `config.json` and the root file system.",
    )],
};
