//! What a reload changes.
//!
//! Services that are the same in both files do not appear, so nobody can touch them. It refuses to decide
//! what is done about a change; it only says whether a running service can take it over as it runs.

use std::collections::{BTreeMap, BTreeSet};

use policies::id::ServiceName;

use crate::Config;
use crate::settings::{Hooks, Service};

/// The difference between two configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diff {
    /// Services only in the new one.
    pub added: BTreeSet<ServiceName>,
    /// Services only in the old one.
    pub removed: BTreeSet<ServiceName>,
    /// Services in both that are not the same.
    pub changed: BTreeMap<ServiceName, Change>,
    /// Settings of the node that take effect only when the supervisor itself is started again, as people
    /// write them (`node.state_dir`).
    pub node_changes_needing_restart: Vec<&'static str>,
    /// Who is told of events changed.
    pub hooks_changed: bool,
    /// Where measurements and traces are sent changed.
    pub telemetry_changed: bool,
    /// The store's limits or codec changed; they hold from the next image on.
    pub store_changed: bool,
}

/// What is different about one service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Never empty.
    pub parts: BTreeSet<Part>,
}

/// A part of a service's configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// What runs it and how: only a new start makes it true.
    Runtime,
    /// Its probes.
    Probes,
    /// When and how checkpoints are taken.
    Checkpoint,
    /// Which images are kept.
    Retention,
    /// How it is recovered.
    Restart,
    /// How it is started and stopped: signal, time limits, success codes.
    Stopping,
    /// What it waits for.
    Dependencies,
    /// Who may take it over, and what moves with it.
    Failover,
}

impl Change {
    /// Whether the running service must be started again for the change to be true.
    pub fn needs_restart(&self) -> bool {
        self.parts.contains(&Part::Runtime)
    }
}

impl Diff {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What must change to get from `old` to `new`.
pub fn diff(old: &Config, new: &Config) -> Diff {
    let missing = |from: &Config, other: &Config| -> BTreeSet<ServiceName> {
        from.services.keys().filter(|name| !other.services.contains_key(*name)).cloned().collect()
    };
    let changed = |(name, service): (&ServiceName, &Service)| {
        let parts = parts(old.services.get(name)?, service);
        (!parts.is_empty()).then(|| (name.clone(), Change { parts }))
    };
    Diff {
        added: missing(new, old),
        removed: missing(old, new),
        changed: new.services.iter().filter_map(changed).collect(),
        node_changes_needing_restart: node_changes(old, new),
        hooks_changed: hooks(old) != hooks(new),
        telemetry_changed: old.otlp != new.otlp,
        store_changed: store_changed(old, new),
    }
}

fn parts(old: &Service, new: &Service) -> BTreeSet<Part> {
    let (was, is) = (&old.policy, &new.policy);
    let how_it_stops = |service: &Service| {
        let policy = &service.policy;
        let limits = (policy.stop_timeout, policy.start_timeout, policy.restore_timeout);
        (service.stop_signal, limits, policy.success_exit_codes.clone())
    };
    let checkpoint_differs =
        was.cadence != is.cadence || was.trial_dump != is.trial_dump || old.checkpoint != new.checkpoint;
    let restart_differs =
        was.backoff != is.backoff || was.ladder != is.ladder || was.restart_policy != is.restart_policy;
    let all = [
        // What a service is told of its probe is part of its environment.
        (Part::Runtime, old.runtime != new.runtime || old.notify() != new.notify()),
        (Part::Probes, old.probes != new.probes),
        (Part::Checkpoint, checkpoint_differs),
        (Part::Retention, old.retention != new.retention),
        (Part::Restart, restart_differs),
        (Part::Stopping, how_it_stops(old) != how_it_stops(new)),
        (Part::Dependencies, old.depends_on != new.depends_on),
        (Part::Failover, old.failover != new.failover),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(part, _)| part).collect()
}

fn node_changes(old: &Config, new: &Config) -> Vec<&'static str> {
    let all = [
        ("node.name", old.node.name != new.node.name),
        ("node.state_dir", old.node.state_dir != new.node.state_dir),
        ("node.run_dir", old.node.run_dir != new.node.run_dir),
        ("node.on_host_shutdown", old.node.on_host_shutdown != new.node.on_host_shutdown),
        ("store.path", old.store.path != new.store.path),
        ("store.hot", old.store.hot != new.store.hot),
        ("store.encryption", old.store.encryption != new.store.encryption),
        ("store.encryption_old", old.store.old_keys != new.store.old_keys),
        ("cluster", old.cluster != new.cluster),
        ("store.replica", old.store.replicas != new.store.replicas),
        ("api.socket", old.api.socket != new.api.socket),
        ("api.listen", old.api.listen != new.api.listen),
        ("api.tls", old.api.tls != new.api.tls),
        ("api.https", old.api.https != new.api.https),
    ];
    all.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
}

fn hooks(config: &Config) -> Vec<(Option<&ServiceName>, &Hooks)> {
    let own =
        config.services.iter().filter_map(|(name, service)| Some((Some(name), service.hooks.as_ref()?)));
    config.hooks.iter().map(|hooks| (None, hooks)).chain(own).collect()
}

fn store_changed(old: &Config, new: &Config) -> bool {
    let live = |config: &Config| {
        let store = &config.store;
        (store.compression, store.min_free, store.max_total_size, store.hot_max_size)
    };
    live(old) != live(new)
}
