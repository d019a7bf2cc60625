//! `depends_on`: known names, no cycles.

use std::collections::{BTreeMap, BTreeSet};

use policies::id::ServiceName;

use super::Rules;
use crate::error::Draft;
use crate::near::nearest;
use crate::raw::Raw;
use crate::read::listed;
use crate::settings::Service;

/// Where everything waits for everything there are more cycles than anybody would read.
const CYCLES_SHOWN: usize = 20;

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    for (name, service) in &raw.services {
        let place = raw.place(name);
        each(&place, service, rules, |at, dependency, rules| {
            if !raw.services.contains_key(dependency) {
                unknown(raw, at, dependency, rules);
            }
        });
    }
    for (name, member) in &raw.members {
        each(&format!("service/{name}"), &member.service, rules, |at, dependency, rules| {
            let of_the_same = raw.members.get(dependency).is_some_and(|other| other.group == member.group);
            if let (Some(group), false) = (&member.group, of_the_same) {
                let message = format!("`{dependency}` is no member of the group `{group}`");
                let hint = format!("what the whole group waits for stands in `[group.{group}]`");
                rules.error(at, &[], message, &hint);
            }
        });
    }
    let graph = Graph::of(raw);
    for cycle in graph.cycles() {
        graph.report(&cycle, rules);
    }
}

/// Each dependency once.
fn each(
    place: &str,
    service: &Service,
    rules: &mut Rules<'_>,
    mut check: impl FnMut(&str, &ServiceName, &mut Rules<'_>),
) {
    let mut seen = BTreeSet::new();
    for (position, dependency) in service.depends_on.iter().enumerate() {
        let at = format!("{place}/depends_on/{position}");
        if seen.insert(dependency) {
            check(&at, dependency, rules);
        } else {
            let message = format!("`{dependency}` is in the list already");
            rules.error(&at, &[], message, "leave one of them out");
        }
    }
}

/// Notes a name that no service bears.
pub(super) fn unknown(raw: &Raw, at: &str, dependency: &ServiceName, rules: &mut Rules<'_>) {
    if let Some(group) = raw.members.get(dependency).and_then(|member| member.group.as_ref()) {
        let message = format!("`{dependency}` is a member of the group `{group}`");
        return rules.error(at, &[], message, &format!("name the group: `{group}`"));
    }
    // A service whose table is wrong in itself is known all the same.
    if rules.places.written(&format!("service/{dependency}")).is_some() {
        return;
    }
    let names = || raw.services.keys().map(ServiceName::as_str);
    let hint = match nearest(dependency.as_str(), names()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", listed(names())),
    };
    rules.error(at, &[], format!("there is no service `{dependency}`"), &hint);
}

/// Who waits for whom: services and groups for each other, members of a group among themselves.
struct Graph<'a> {
    /// With where each is written.
    waits_for: BTreeMap<&'a ServiceName, (&'a [ServiceName], String)>,
}

impl<'a> Graph<'a> {
    fn of(raw: &'a Raw) -> Self {
        let members = raw.members.iter().map(|(name, member)| (name, &member.service));
        let all = raw.services.iter().chain(members);
        Self {
            waits_for: all.map(|(name, it)| (name, (it.depends_on.as_slice(), raw.place(name)))).collect(),
        }
    }

    fn of_one(&self, name: &ServiceName) -> &'a [ServiceName] {
        self.waits_for.get(name).map(|(waits_for, _)| *waits_for).unwrap_or_default()
    }

    /// One mistake for each cycle, at the dependency that closes it.
    fn report(&self, cycle: &[&ServiceName], rules: &mut Rules<'_>) {
        let [first, .., last] = cycle else {
            let [only] = cycle else { return };
            let at = self.place(only, only);
            let message = format!("`{only}` depends on itself");
            rules.drafts.push(Draft::error(rules.places.nearest(&at), message).hint("leave it out"));
            return;
        };
        let chain: Vec<_> = cycle.iter().chain([first]).map(|name| format!("`{name}`")).collect();
        let message = format!("services wait for each other: {}", chain.join(" -> "));
        let at = self.place(last, first);
        rules.drafts.push(Draft::error(rules.places.nearest(&at), message).hint("leave one of these out"));
    }

    fn place(&self, service: &ServiceName, dependency: &ServiceName) -> String {
        let (waits_for, place) = &self.waits_for[service];
        let position = waits_for.iter().position(|name| name == dependency);
        format!("{place}/depends_on/{}", position.unwrap_or_default())
    }

    /// The first cycles that a walk in depth meets, each once, beginning with the service by which it was entered. The walk
    /// keeps its own stack: a file may hold a chain longer than the thread's.
    fn cycles(&self) -> Vec<Vec<&'a ServiceName>> {
        let mut found = Vec::new();
        let mut finished = BTreeSet::new();
        for start in self.waits_for.keys() {
            let mut trail: Vec<(&ServiceName, usize)> = vec![(start, 0)];
            let mut on_trail = BTreeMap::from([(*start, 0)]);
            if finished.contains(start) {
                continue;
            }
            while let Some((service, next)) = trail.last_mut() {
                let dependency = self.of_one(service).get(*next);
                *next += 1;
                match dependency {
                    None => {
                        finished.insert(*service);
                        on_trail.remove(service);
                        trail.pop();
                    }
                    Some(name) if finished.contains(name) || !self.waits_for.contains_key(name) => {}
                    Some(name) => match on_trail.get(name) {
                        Some(_) if found.len() == CYCLES_SHOWN => {}
                        Some(depth) => found.push(trail[*depth..].iter().map(|(name, _)| *name).collect()),
                        None => {
                            on_trail.insert(name, trail.len());
                            trail.push((name, 0));
                        }
                    },
                }
            }
        }
        found
    }
}
