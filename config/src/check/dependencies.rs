//! `depends_on`: known names, no cycles.

use std::collections::{BTreeMap, BTreeSet};

use policies::id::ServiceName;

use super::Rules;
use crate::error::Draft;
use crate::near::nearest;
use crate::raw::Raw;
use crate::read::listed;

/// Where everything waits for everything there are more cycles than anybody would read.
const CYCLES_SHOWN: usize = 20;

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    for (name, service) in &raw.services {
        let mut seen = BTreeSet::new();
        for (position, dependency) in service.depends_on.iter().enumerate() {
            let at = format!("service/{name}/depends_on/{position}");
            if !raw.services.contains_key(dependency) {
                unknown(raw, &at, dependency, rules);
            } else if !seen.insert(dependency) {
                let message = format!("`{dependency}` is in the list already");
                rules.error(&at, &[], message, "leave one of them out");
            }
        }
    }
    for cycle in cycles(raw) {
        report(&cycle, raw, rules);
    }
}

/// Notes a name that no service bears.
pub(super) fn unknown(raw: &Raw, at: &str, dependency: &ServiceName, rules: &mut Rules<'_>) {
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

/// One mistake for each cycle, at the dependency that closes it.
fn report(cycle: &[&ServiceName], raw: &Raw, rules: &mut Rules<'_>) {
    let [first, .., last] = cycle else {
        let [only] = cycle else { return };
        let at = place(raw, only, only);
        let message = format!("`{only}` depends on itself");
        rules.drafts.push(Draft::error(rules.places.nearest(&at), message).hint("leave it out"));
        return;
    };
    let chain: Vec<_> = cycle.iter().chain([first]).map(|name| format!("`{name}`")).collect();
    let message = format!("services wait for each other: {}", chain.join(" -> "));
    let at = place(raw, last, first);
    rules.drafts.push(Draft::error(rules.places.nearest(&at), message).hint("leave one of these out"));
}

fn place(raw: &Raw, service: &ServiceName, dependency: &ServiceName) -> String {
    let position = raw.services[service].depends_on.iter().position(|name| name == dependency);
    format!("service/{service}/depends_on/{}", position.unwrap_or_default())
}

/// The first cycles that a walk in depth meets, each once, beginning with the service by which it was entered. The walk
/// keeps its own stack: a file may hold a chain longer than the thread's.
fn cycles(raw: &Raw) -> Vec<Vec<&ServiceName>> {
    let mut found = Vec::new();
    let mut finished = BTreeSet::new();
    for start in raw.services.keys() {
        let mut trail: Vec<(&ServiceName, usize)> = vec![(start, 0)];
        let mut on_trail = BTreeMap::from([(start, 0)]);
        if finished.contains(start) {
            continue;
        }
        while let Some((service, next)) = trail.last_mut() {
            let dependency = raw.services[*service].depends_on.get(*next);
            *next += 1;
            match dependency {
                None => {
                    finished.insert(*service);
                    on_trail.remove(service);
                    trail.pop();
                }
                Some(name) if finished.contains(name) || !raw.services.contains_key(name) => {}
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
