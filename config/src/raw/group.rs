//! `[group.NAME]`, and the services that name it, made one.

use std::collections::BTreeMap;

use policies::id::ServiceName;
use policies::service::Settings;

use super::service::Written;
use super::{checkpoint, hooks, restart};
use crate::read::Table;
use crate::settings::{Member, Probe, Runtime, Service, StartFrom};
use crate::values::{choice, duration, service_name};

/// A group without its members.
pub(super) fn group(table: Table<'_>) -> Service {
    let plan = checkpoint::checkpoint(table.table("checkpoint"));
    let recovery = restart::restart(table.table("restart"));
    let policy = Settings {
        backoff: recovery.backoff,
        cadence: plan.cadence,
        ladder: recovery.ladder,
        restart_policy: recovery.policy,
        // Whatever ends a member alone is a fault of the group.
        success_exit_codes: Vec::new(),
        start_timeout: table.get("start_timeout", duration).unwrap_or_default(),
        restore_timeout: table.get("restore_timeout", duration).unwrap_or_default(),
        trial_dump: plan.trial,
        ..Settings::default()
    };
    let group = Service {
        runtime: Runtime::Group(Vec::new()),
        policy,
        retention: plan.retention,
        probes: Vec::new(),
        checkpoint: plan.plan,
        stop_signal: 0,
        start_from: table.get("start_from", choice).unwrap_or(StartFrom::Scratch),
        depends_on: table.get("depends_on", |cell| cell.list(service_name)).unwrap_or_default(),
        failover: None,
        hooks: table.table_if_written("hooks").map(hooks::hooks),
    };
    table.done();
    group
}

/// Services that stand alone together with groups, whose members are in these; and the members as they are written. A service that names
/// a group that is not there is a member all the same: `check` says so.
pub(super) fn join(
    written: BTreeMap<ServiceName, Written>,
    mut groups: BTreeMap<ServiceName, Service>,
) -> (BTreeMap<ServiceName, Service>, BTreeMap<ServiceName, Written>) {
    let (members, alone): (BTreeMap<_, _>, BTreeMap<_, _>) =
        written.into_iter().partition(|(_, written)| written.group.is_some());
    for (name, group) in &mut groups {
        let own: Vec<_> = members.iter().filter(|(_, member)| member.group.as_ref() == Some(name)).collect();
        let own = in_order(own);
        group.probes = own.iter().flat_map(|(name, member)| probes(name, &member.service)).collect();
        group.policy.probes = group.probes.iter().map(|probe| probe.settings.clone()).collect();
        // For whoever waits for the whole group to stop.
        group.policy.stop_timeout = own.iter().map(|(_, member)| member.service.policy.stop_timeout).sum();
        group.runtime =
            Runtime::Group(own.into_iter().map(|(name, member)| joined(name, &member.service)).collect());
    }
    let mut services: BTreeMap<_, _> =
        alone.into_iter().map(|(name, written)| (name, written.service)).collect();
    for (name, group) in groups {
        services.entry(name).or_insert(group);
    }
    (services, members)
}

fn joined(name: &ServiceName, service: &Service) -> Member {
    Member {
        name: name.clone(),
        runtime: service.runtime.clone(),
        notify: service.notify(),
        stop_signal: service.stop_signal,
        stop_timeout: service.policy.stop_timeout,
    }
}

fn probes<'a>(name: &'a ServiceName, service: &'a Service) -> impl Iterator<Item = Probe> + 'a {
    service.probes.iter().map(|probe| Probe { member: Some(name.clone()), ..probe.clone() })
}

/// Each after those that it depends on. Members that wait for each other, which is a mistake of its own, come last.
fn in_order<'a>(mut left: Vec<(&'a ServiceName, &'a Written)>) -> Vec<(&'a ServiceName, &'a Written)> {
    let mut ordered = Vec::new();
    while !left.is_empty() {
        let waits = |member: &Written| left.iter().any(|(name, _)| member.service.depends_on.contains(name));
        let next = left.iter().position(|(_, member)| !waits(member)).unwrap_or_default();
        ordered.push(left.remove(next));
    }
    ordered
}
