//! Gauges, worked out of the published state at each scrape: a service that is gone leaves nothing behind.

use std::fmt;
use std::time::SystemTime;

use policies::health::Verdict;
use policies::service::StateName;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use super::table::{self, Metric};
use super::{Labels, StoreFacts};
use crate::status::{NewestImage, NodeStatus, ReplicaStatus, ServiceStatus};
use crate::tenure::NodeSeen;

/// The part that a node without the right to run a service plays; a service's task knows none of it.
const STANDBY: &str = "standby";
/// A node's part in who runs a service.
const ROLES: [&str; 3] = ["holder", STANDBY, "acquiring"];

/// Metrics with their values.
#[derive(Debug)]
pub(super) struct Published {
    families: Vec<(Metric, Vec<(Labels, f64)>)>,
}

/// The values of one metric, being gathered.
struct Values<'a> {
    services: &'a [ServiceStatus],
    families: Vec<(Metric, Vec<(Labels, f64)>)>,
}

impl Published {
    pub(super) fn new(node: &NodeStatus, nodes: &[NodeSeen], store: StoreFacts) -> Self {
        let mut values = Values { services: &node.services, families: Vec::new() };
        values.health();
        values.images();
        values.store(store);
        values.probes();
        values.replicas();
        values.leases();
        values.nodes(nodes);
        values.node(node);
        values.process();
        Self { families: values.families }
    }
}

impl Collector for Published {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for (metric, values) in self.families.iter().filter(|(_, values)| !values.is_empty()) {
            let is_counter = matches!(metric.kind, MetricType::Counter);
            let name = if is_counter { metric.name.trim_end_matches("_total") } else { metric.name };
            // Those that are registered get their full stop from the registry.
            let help = format!("{}.", metric.help);
            let mut family = encoder.encode_descriptor(name, &help, None, metric.kind)?;
            for (labels, value) in values {
                let one = family.encode_family(labels)?;
                match is_counter {
                    true => ConstCounter::new(*value).encode(one)?,
                    false => ConstGauge::new(*value).encode(one)?,
                }
            }
        }
        Ok(())
    }
}

impl Values<'_> {
    fn health(&mut self) {
        let states: Vec<&str> = StateName::ALL.iter().map(|state| state.name()).chain([STANDBY]).collect();
        self.each(table::STATE, |service| one_of("state", &states, &service.state));
        self.each(table::VERDICT, |service| {
            one_of("verdict", &verdicts(), service.verdict.as_deref().unwrap_or_default())
        });
        self.each(table::READY, |service| alone(flag(service.ready)));
        self.each(table::PAUSED, |service| alone(flag(service.paused)));
        self.each(table::DEGRADED, |service| alone(flag(service.degraded.is_some())));
    }

    fn images(&mut self) {
        let now = engine::clock::wall();
        self.each(table::RECOVERY_POINT, |service| {
            let newest = |image: &Option<NewestImage>| age(image.as_ref().map(|i| i.taken_at.as_str()), now);
            let replicas = service.replicas.iter().filter_map(|replica| replica_age(replica, now));
            let ages = [
                ("hot", newest(&service.checkpoint.newest_hot)),
                ("durable", newest(&service.checkpoint.newest_durable)),
                ("replicated", replicas.reduce(f64::min)),
            ];
            let known = ages.into_iter().filter_map(|(kind, age)| Some((kind, age?)));
            known.map(|(kind, age)| (vec![("kind", kind.to_owned())], age)).collect()
        });
        self.each(table::IMAGES, |service| alone(service.checkpoint.images as f64));
        self.each(table::STORED, |service| alone(service.checkpoint.stored_bytes as f64));
    }

    fn store(&mut self, store: StoreFacts) {
        self.push(table::STORE_FREE, alone(store.free as f64));
        self.push(table::STORE_MIN_FREE, alone(store.min_free as f64));
        self.push(table::STORE_MAX, store.max.map_or_else(Vec::new, |max| alone(max as f64)));
    }

    fn probes(&mut self) {
        self.each(table::PROBES, |service| {
            let results = |probe: &crate::status::ProbeStatus| {
                [("passed", probe.passed), ("failed", probe.failed)].map(|(result, count)| {
                    (vec![("probe", probe.name.clone()), ("result", result.to_owned())], count as f64)
                })
            };
            service.probes.iter().flat_map(results).collect()
        });
        self.each(table::PROBE_VERDICT, |service| {
            let verdict = |probe: &crate::status::ProbeStatus| {
                let name = probe.name.clone();
                with(("probe", name), one_of("verdict", &verdicts(), &probe.verdict))
            };
            service.probes.iter().flat_map(verdict).collect()
        });
    }

    fn replicas(&mut self) {
        let now = engine::clock::wall();
        self.each_replica(table::REPLICA_POINT, |replica| replica_age(replica, now));
        self.each_replica(table::REPLICA_BEHIND, |replica| Some(replica.behind as f64));
        self.each_replica(table::REPLICA_FAILING, |replica| Some(flag(replica.last_error.is_some())));
    }

    fn each_replica(&mut self, metric: Metric, value: impl Fn(&ReplicaStatus) -> Option<f64>) {
        self.each(metric, |service| {
            let known = service.replicas.iter().filter_map(|replica| Some((replica, value(replica)?)));
            known.map(|(replica, value)| (vec![("replica", replica.url.clone())], value)).collect()
        });
    }

    fn leases(&mut self) {
        self.each(table::LEASE_ROLE, |service| {
            service.lease.as_ref().map_or_else(Vec::new, |lease| one_of("role", &ROLES, &lease.role))
        });
        self.each(table::LEASE_EPOCH, |service| {
            service.lease.as_ref().map_or_else(Vec::new, |lease| alone(lease.epoch as f64))
        });
    }

    /// As this node sees them; what a silent one has said of its services says nothing.
    fn nodes(&mut self, nodes: &[NodeSeen]) {
        let each = |value: fn(&NodeSeen) -> f64| -> Vec<(Labels, f64)> {
            nodes.iter().map(|seen| (vec![("node", seen.node.clone())], value(seen))).collect()
        };
        self.push(table::NODE_THERE, each(|seen| flag(seen.there)));
        self.push(table::NODE_DRAINING, each(|seen| flag(seen.said.draining)));
        let standbys = nodes.iter().filter(|seen| seen.there).flat_map(|seen| {
            let standbys = seen.said.services.iter().filter(|(_, said)| said.role == STANDBY);
            standbys.map(|(service, said)| {
                let ready = said.not_ready.is_none() && said.prepared.is_some() && !seen.said.draining;
                (vec![("node", seen.node.clone()), ("service", service.clone())], flag(ready))
            })
        });
        self.push(table::STANDBY_READY, standbys.collect());
    }

    fn node(&mut self, node: &NodeStatus) {
        self.push(table::CONFIG_GOOD, alone(flag(node.config_error.is_none())));
        let (version, name, criu) = (node.version.clone(), node.node.clone(), node.criu.clone());
        self.push(table::BUILD, vec![(vec![("version", version), ("node", name), ("criu", criu)], 1.0)]);
    }

    /// What the kernel does not say is left out.
    fn process(&mut self) {
        let Ok(own) = procfs::process::Process::myself() else { return };
        if let Ok(stat) = own.stat() {
            let ticks = procfs::ticks_per_second() as f64;
            self.push(table::CPU, alone((stat.utime + stat.stime) as f64 / ticks));
            self.push(table::RESIDENT, alone((stat.rss * procfs::page_size()) as f64));
            self.push(table::VIRTUAL, alone(stat.vsize as f64));
            if let Ok(booted) = procfs::boot_time_secs() {
                self.push(table::STARTED, alone(booted as f64 + stat.starttime as f64 / ticks));
            }
        }
        if let Ok(count) = own.fd_count() {
            self.push(table::FDS, alone(count as f64));
        }
        let limits = own.limits().map(|limits| limits.max_open_files.soft_limit);
        if let Ok(procfs::process::LimitValue::Value(most)) = limits {
            self.push(table::FDS_MAX, alone(most as f64));
        }
    }

    /// Values of every service, each with the service's name in front.
    fn each(&mut self, metric: Metric, of: impl Fn(&ServiceStatus) -> Vec<(Labels, f64)>) {
        let values =
            self.services.iter().flat_map(|service| with(("service", service.name.clone()), of(service)));
        let values = values.collect();
        self.push(metric, values);
    }

    fn push(&mut self, metric: Metric, values: Vec<(Labels, f64)>) {
        self.families.push((metric, values));
    }
}

fn with(first: (&'static str, String), values: Vec<(Labels, f64)>) -> Vec<(Labels, f64)> {
    let add = |(labels, value): (Labels, f64)| {
        (std::iter::once(first.clone()).chain(labels).collect::<Labels>(), value)
    };
    values.into_iter().map(add).collect()
}

fn alone(value: f64) -> Vec<(Labels, f64)> {
    vec![(Labels::new(), value)]
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// 1 for the word that holds, 0 for the others.
fn one_of(label: &'static str, words: &[&str], holds: &str) -> Vec<(Labels, f64)> {
    words.iter().map(|word| (vec![(label, (*word).to_owned())], flag(*word == holds))).collect()
}

fn verdicts() -> Vec<&'static str> {
    Verdict::ALL.iter().map(|verdict| verdict.name()).collect()
}

fn replica_age(replica: &ReplicaStatus, now: SystemTime) -> Option<f64> {
    age(replica.taken_at.as_deref(), now)
}

/// Published ages are as old as the state that they were published with, so they are worked out anew. A clock that was set back makes none.
fn age(taken_at: Option<&str>, now: SystemTime) -> Option<f64> {
    let taken_at = humantime::parse_rfc3339_weak(taken_at?).ok()?;
    Some(now.duration_since(taken_at).unwrap_or_default().as_secs_f64())
}
