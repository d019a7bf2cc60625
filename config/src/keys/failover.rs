//! `[service.NAME.failover]`: other hosts that may take a service over.

use super::service::TEXTS;
use super::{Key, Kind, Section, words};
use crate::settings::Failback;
use policies::failover::Preference;

pub(super) static FAILOVER: Section = Section {
    title: "service.NAME.failover",
    doc: "Which other nodes may take the service over, and what moves with it. See docs/failover.md.",
    keys: &[
        Key::required(
            "standby",
            Kind::List(&Kind::Text),
            "[\"beta\"]",
            "The names of the nodes that may take it over, the preferred one first.",
        ),
        Key::optional(
            "address",
            Kind::Text,
            "no address moves",
            "\"10.0.0.10/24\"",
            "An IP address with its prefix length that is wherever the service is.",
        ),
        Key::optional(
            "device",
            Kind::Text,
            "the device in the address's network",
            "\"eth0\"",
            "The network device that gets the address.",
        ),
        Key::default(
            "failback",
            Kind::Choice(words::<Failback>),
            "\"never\"",
            "Whether the service goes back by itself when its first node returns: it does not.",
        ),
        Key::optional(
            "on_take_over",
            TEXTS,
            "nothing",
            "[\"/usr/local/bin/move-dns\", \"redis\"]",
            "A command that is run once the service runs here, for DNS or load balancers.",
        ),
        Key::optional(
            "fence",
            TEXTS,
            "nodes fence themselves",
            "[\"/usr/local/bin/power-off\"]",
            "A command that makes sure that the former node is off, named by `SUPERVISOR_FENCE_NODE`; a take-over waits \
            until it exits with 0.",
        ),
        Key::default("fence_timeout", Kind::Duration, "\"1m\"", "How long the fence command may take."),
        Key::default(
            "prefer",
            Kind::Choice(words::<Preference>),
            "\"order\"",
            "Which of several standbys that are ready gets the service: the first in the order, or the least loaded.",
        ),
        Key::optional(
            "apart",
            TEXTS,
            "services need not be kept apart",
            "[\"other\"]",
            "Services that are not to run on the same node as this one, if there is another that is ready.",
        ),
        Key::optional(
            "migration_threshold",
            Kind::Whole { min: 1, max: 1_000_000 },
            "never",
            "3",
            "Recoveries within `restart.window` that did not lead to a stable run, after which a standby that is ready \
            gets the service though this host is well.",
        ),
    ],
};
