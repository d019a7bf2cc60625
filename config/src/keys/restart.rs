//! `[service.NAME.restart]`: recovery.

use policies::ladder::{OnExhausted, Rung};
use policies::service::RestartPolicy;

use super::{Key, Kind, Section, words};

const COUNT: Kind = Kind::Whole { min: 1, max: 1_000_000 };

pub(super) static RESTART: Section =
    Section { title: "service.NAME.restart", doc: "What happens after a crash or a hang.", keys: KEYS };

pub(super) static GROUP_RESTART: Section = Section {
    title: "group.NAME.restart",
    doc: "What happens after a crash or a hang of any member.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    Key::default(
        "policy",
        Kind::Choice(words::<RestartPolicy>),
        "\"always\"",
        "Which ends are recovered from: all; `on-failure`: not those with a success code; \
            `unless-stopped`: all but those asked for, also across restarts of the supervisor; `never`: \
            none.",
    ),
    Key::default(
        "ladder",
        Kind::List(&Kind::Choice(words::<Rung>)),
        "[\"restore-latest\", \"restore-older\", \"cold-start\", \"fail-over\"]",
        "The ways of recovery, in order. `fail-over` is passed over while no standby is ready.",
    ),
    Key::default(
        "backoff_initial",
        Kind::Duration,
        "\"100ms\"",
        "Pause before the second recovery in a row; the first has none.",
    ),
    Key::default("backoff_max", Kind::Duration, "\"1m\"", "The longest such pause."),
    Key::default(
        "backoff_factor",
        Kind::Number { min: 1.0, max: 100.0 },
        "2.0",
        "By how much the pause grows each time.",
    ),
    Key::default(
        "jitter",
        Kind::Number { min: 0.0, max: 1.0 },
        "0.1",
        "Part of the pause by which it varies.",
    ),
    Key::default(
        "stable_after",
        Kind::DurationOrZero,
        "\"10s\"",
        "A service that ran this long starts with a clean record; one that died sooner counts against \
            its image.",
    ),
    Key::default("attempts_per_image", COUNT, "2", "How often one image is tried within `window`."),
    Key::default(
        "max_attempts",
        COUNT,
        "5",
        "Recoveries within `window` after which the service is given up as `failed`.",
    ),
    Key::default("window", Kind::Duration, "\"10m\"", "The time over which attempts are counted."),
    Key::default(
        "on_exhausted",
        Kind::Choice(words::<OnExhausted>),
        "\"stop\"",
        "What then: `stop`, or `fail-over`, which needs a standby that is ready; else it stops.",
    ),
];
