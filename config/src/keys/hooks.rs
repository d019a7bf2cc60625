//! `[hooks]` and `[service.NAME.hooks]`: who is told what happens.

use super::service::TEXTS;
use super::{Key, Kind, Section};

pub(super) static HOOKS: Section = Section {
    title: "hooks",
    doc: "A command and a webhook that are told of events: those of all services and of the node. See docs/operations.md.",
    keys: KEYS,
};

pub(super) static SERVICE_HOOKS: Section = Section {
    title: "service.NAME.hooks",
    doc: "The same for the events of this service only, beside those of `[hooks]`.",
    keys: KEYS,
};

pub(super) static GROUP_HOOKS: Section = Section {
    title: "group.NAME.hooks",
    doc: "The same for the events of this group only, beside those of `[hooks]`.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::optional(
        "on_event",
        TEXTS,
        "no command is run",
        "[\"/usr/local/bin/tell-operator\"]",
        "A command that is run for each event, with the event as JSON on its standard input and in `SUPERVISOR_EVENT_...`.",
    ),
    Key::optional(
        "webhook",
        Kind::Url,
        "nothing is posted",
        "\"https://hooks.example.org/supervisor\"",
        "Where each event is posted as JSON, by `http` or `https`.",
    ),
    Key::default(
        "webhook_headers",
        Kind::TextByName,
        "{}",
        "Further headers of these requests, as `Authorization = \"Bearer ${TOKEN}\"`.",
    ),
    Key::optional(
        "webhook_ca",
        Kind::Path,
        "the host's authorities",
        "\"/etc/supervisor/tls/hooks.crt\"",
        "The certificate authority that the receiver's certificate is signed by (PEM), instead of the host's.",
    ),
    Key::default(
        "kinds",
        Kind::List(&Kind::Event),
        "[]",
        "Which kinds of events; empty: every one but `hook-failed`.",
    ),
    Key::default(
        "timeout",
        Kind::Duration,
        "\"10s\"",
        "How long the command, or one attempt to post, may take. A command that takes longer is killed with all it has started.",
    ),
    Key::default(
        "webhook_attempts",
        Kind::Whole { min: 1, max: 100 },
        "5",
        "How often an event is posted if the receiver is away or answers 408, 429 or 5xx, with growing pauses.",
    ),
];
