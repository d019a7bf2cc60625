//! `[service.NAME.probe.PROBE]` and its kinds, and the same for a sidecar.

use policies::health::Role;

use super::service::TEXTS;
use super::{Key, Kind, Section, words};

const COUNT: Kind = Kind::Whole { min: 1, max: 1_000_000 };

const ROLE: Key = Key::default(
    "role",
    Kind::Choice(words::<Role>),
    "\"liveness\"",
    "`liveness`: failing means hung, and the service is recovered; `readiness`: failing is shown \
    only; `startup`: holds the others back until it passes.",
);
const INTERVAL: Key = Key::default("interval", Kind::Duration, "\"10s\"", "Time between two checks.");
const TIMEOUT: Key =
    Key::default("timeout", Kind::Duration, "\"1s\"", "How long one check may take; at most `interval`.");
const FAILURES: Key = Key::default("failure_threshold", COUNT, "3", "Failures in a row that mean unhealthy.");
const SUCCESSES: Key =
    Key::default("success_threshold", COUNT, "1", "Successes in a row that mean healthy again.");
const START_PERIOD: Key = Key::default(
    "start_period",
    Kind::DurationOrZero,
    "\"0s\"",
    "Time after a start or a restore in which failures do not count, until the first success.",
);

pub(super) static PROBE: Section = Section {
    title: "service.NAME.probe.PROBE",
    doc: "One health check of exactly one kind (`http`, `tcp`, `exec`, `grpc`, `heartbeat`, `notify` or `report`). PROBE is a name for people.",
    keys: &[
        Key::table("http", &HTTP),
        Key::table("tcp", &TCP),
        Key::table("exec", &EXEC),
        Key::table("grpc", &GRPC),
        Key::table("heartbeat", &HEARTBEAT),
        Key::table("report", &REPORT),
        Key::table("notify", &NOTIFY),
        ROLE,
        INTERVAL,
        TIMEOUT,
        FAILURES,
        SUCCESSES,
        START_PERIOD,
    ],
};

pub(super) static SIDECAR_PROBE: Section = Section {
    title: "sidecar.probe.PROBE",
    doc: "One check of the application beside it, with the kinds and keys of `[service.NAME.probe.PROBE]`. `readiness` decides `/readyz` \
    only; nothing is recovered by the sidecar itself.",
    keys: &[
        Key::table("http", &HTTP),
        Key::table("tcp", &TCP),
        Key::table("exec", &EXEC),
        Key::table("grpc", &GRPC),
        Key::table("heartbeat", &HEARTBEAT),
        Key::owned("report", "a sidecar probes by itself: use `http`, `tcp`, `exec`, `grpc` or `heartbeat`"),
        Key::owned("notify", "a sidecar probes by itself: use `http`, `tcp`, `exec`, `grpc` or `heartbeat`"),
        ROLE,
        INTERVAL,
        TIMEOUT,
        FAILURES,
        SUCCESSES,
        START_PERIOD,
    ],
};

static HTTP: Section = Section {
    title: "service.NAME.probe.PROBE.http",
    doc: "Asks by HTTP/1.1 `GET`: either `url`, or `address` or `socket` with `path`.",
    keys: &[
        Key::optional(
            "url",
            Kind::Url,
            "`address` or `socket` is needed",
            "\"http://127.0.0.1:8080/healthz\"",
            "Where to ask, by `http` or `https`.",
        ),
        Key::optional(
            "address",
            Kind::Address,
            "taken from `url`",
            "\"127.0.0.1:8080\"",
            "Where to connect, `host:port`.",
        ),
        Key::optional(
            "socket",
            Kind::Path,
            "connects over TCP",
            "\"/run/shop/api.sock\"",
            "The unix socket to connect to, as the supervisor sees it.",
        ),
        Key::optional("path", Kind::Text, "taken from `url`, or `/`", "\"/healthz\"", "What to ask for."),
        Key::optional(
            "host",
            Kind::Text,
            "the host connected to, `localhost` with `socket`",
            "\"shop.example.org\"",
            "The `Host` header.",
        ),
        Key::default("headers", Kind::TextByName, "{}", "Further headers."),
        Key::default("tls", Kind::Flag, "false", "Ask by TLS; an `https` URL says so already."),
        Key::optional(
            "ca",
            Kind::Path,
            "the host's authorities",
            "\"/etc/shop/ca.crt\"",
            "The authority that has signed the service's certificate (PEM), which must be for `host`.",
        ),
        Key::default(
            "verify",
            Kind::Flag,
            "true",
            "Whether the service's certificate must be a right one; `false` takes any.",
        ),
        Key::default(
            "status",
            Kind::List(&Kind::StatusRange),
            "[\"200-399\"]",
            "Status codes, or ranges of them, that mean passed. Redirections are not followed.",
        ),
        Key::optional(
            "body",
            Kind::Text,
            "any body passes",
            "\"\\\"status\\\":\\\"ok\\\"\"",
            "A text that the first 64 KiB of the body must contain, letter by letter.",
        ),
    ],
};

static TCP: Section = Section {
    title: "service.NAME.probe.PROBE.tcp",
    doc: "Passes if a connection can be opened.",
    keys: &[Key::required("address", Kind::Address, "\"127.0.0.1:6379\"", "Where to connect, `host:port`.")],
};

static EXEC: Section = Section {
    title: "service.NAME.probe.PROBE.exec",
    doc: "Passes if a command exits with 0.",
    keys: &[
        Key::required(
            "command",
            TEXTS,
            "[\"/usr/bin/redis-cli\", \"ping\"]",
            "Program and arguments; no shell is involved.",
        ),
        Key::default(
            "inside",
            Kind::Flag,
            "false",
            "Run it in the service's namespaces (files, processes, network), as root and with the supervisor's \
            environment; needs `nsenter` on the host.",
        ),
    ],
};

static GRPC: Section = Section {
    title: "service.NAME.probe.PROBE.grpc",
    doc: "Asks gRPC's standard health service (`grpc.health.v1.Health/Check`), without TLS; passes if it says `SERVING`.",
    keys: &[
        Key::required("address", Kind::Address, "\"127.0.0.1:50051\"", "Where to connect, `host:port`."),
        Key::default(
            "service",
            Kind::Text,
            "\"\"",
            "The name of the service asked about; empty: the whole server.",
        ),
    ],
};

static HEARTBEAT: Section = Section {
    title: "service.NAME.probe.PROBE.heartbeat",
    doc: "Passes as soon as the service touches a file: writes to it, replaces it, or sets its times. It must do so at least \
    once in every `timeout` of the probe.",
    keys: &[Key::required(
        "file",
        Kind::Path,
        "\"/run/shop/alive\"",
        "The file, as the supervisor sees it. Its folder must exist; the file need not.",
    )],
};

static NOTIFY: Section = Section {
    title: "service.NAME.probe.PROBE.notify",
    doc: "Listens to what the service says of itself by sd_notify(3), as it would under systemd; for services of `process`, which find \
    `NOTIFY_SOCKET` in their environment. With the roles `startup` and `readiness` it passes once `READY=1` was said. With the role `liveness` \
    it passes if `WATCHDOG=1` (or `READY=1`) was said since the check before, or is said within `timeout`; the service finds `interval` as \
    `WATCHDOG_USEC`. It is written as `notify = {}`.",
    keys: &[],
};

static REPORT: Section = Section {
    title: "service.NAME.probe.PROBE.report",
    doc: "Takes what a sidecar reports (`POST /v1/services/NAME/report`): each report is one result. Without reports it has no say: it neither keeps \
    the service healthy nor makes it sick, as if it were not configured. `interval` and `timeout` do nothing.",
    keys: &[Key::default(
        "max_age",
        Kind::Duration,
        "\"30s\"",
        "How long a report counts at most, whatever the sidecar says itself.",
    )],
};
