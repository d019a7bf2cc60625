//! Containers and units: none belongs to two services, which would end, restore and checkpoint it against each other.

use std::collections::BTreeMap;
use std::path::Path;

use super::Rules;
use crate::error::Draft;
use crate::raw::Raw;
use crate::settings::{Runtime, Service};

/// What makes a container, or a unit, the same one.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Identity<'a> {
    Docker(&'a Path, &'a str),
    /// Options may name another root, with containers of its own.
    Podman(&'a [String], &'a str),
    Unit(&'a str),
}

impl Identity<'_> {
    fn word(&self) -> &'static str {
        match self {
            Self::Docker(..) | Self::Podman(..) => "container",
            Self::Unit(_) => "unit",
        }
    }
}

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    let mut known: BTreeMap<Identity<'_>, (&str, String)> = BTreeMap::new();
    let members = raw.members.iter().map(|(name, member)| (name, &member.service));
    for (name, service) in raw.services.iter().chain(members) {
        let Some((identity, place)) = identity(name.as_str(), service, rules) else { continue };
        if let Some((other, first)) = known.get(&identity) {
            let draft = shared(identity.word(), [other, name.as_str()], [first, &place], rules);
            rules.drafts.push(draft);
        } else {
            known.insert(identity, (name.as_str(), place));
        }
    }
}

/// The container with its place, unless something about it is already known to be wrong.
fn identity<'a>(name: &str, service: &'a Service, rules: &Rules<'_>) -> Option<(Identity<'a>, String)> {
    let (identity, runtime, [key, scope]) = match &service.runtime {
        Runtime::Docker(docker) => {
            (Identity::Docker(&docker.socket, &docker.container), "docker", ["container", "socket"])
        }
        Runtime::Podman(podman) => {
            (Identity::Podman(&podman.options, &podman.container), "podman", ["container", "options"])
        }
        Runtime::Systemd(systemd) => (Identity::Unit(&systemd.unit), "systemd", ["unit", "unit"]),
        Runtime::Process(_) | Runtime::Runc(_) | Runtime::Group(_) => return None,
    };
    let place = format!("service/{name}/{runtime}/{key}");
    let scope = format!("service/{name}/{runtime}/{scope}");
    rules.places.sound(&[&place, &scope]).then_some((identity, place))
}

fn shared(what: &str, services: [&str; 2], places: [&str; 2], rules: &Rules<'_>) -> Draft {
    let [one, other] = places.map(|place| rules.places.nearest(place));
    let (first, second) = if one.start <= other.start { (one, other) } else { (other, one) };
    let message = format!("the services `{}` and `{}` are the same {what}", services[0], services[1]);
    let draft = Draft::error(second, message).also(first, "the first one");
    draft.hint(format!("give each service its own {what}"))
}
