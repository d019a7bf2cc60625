//! Counters and histograms, fed by the stream of events.
//!
//! A follower that fell behind reads what it missed from the journal, so that nothing is counted twice or left out. Services that are
//! known are there with zeros before anything happens to them: a rate over a counter that only then appears would miss the first.

use std::sync::atomic::AtomicU64;

use policies::service::{CauseKind, CheckpointReason};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric as Countable, Registry};

use super::Labels;
use super::table::{self, Metric};
use crate::status::EventRecord;

type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge<u64, AtomicU64>>;
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// What is counted.
#[derive(Debug)]
pub(super) struct Tally {
    faults: Counters,
    recoveries: Counters,
    rungs_failed: Counters,
    given_up: Counters,
    recovery: Histograms,
    checkpoints: Counters,
    checkpoints_failed: Counters,
    pause: Histograms,
    checkpoint: Histograms,
    commit: Histograms,
    image_size: Gauges,
    image_stored: Gauges,
    replication: Histograms,
    errors: Counters,
    events: Counters,
    pub(super) spans_dropped: Counter,
}

impl Tally {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let quick = || Family::new_with_constructor(quick as fn() -> Histogram);
        let slow = || Family::new_with_constructor(slow as fn() -> Histogram);
        Self {
            faults: add(registry, &table::FAULTS, Family::default()),
            recoveries: add(registry, &table::RECOVERIES, Family::default()),
            rungs_failed: add(registry, &table::RUNGS_FAILED, Family::default()),
            given_up: add(registry, &table::GIVEN_UP, Family::default()),
            recovery: add(registry, &table::RECOVERY_SECONDS, slow()),
            checkpoints: add(registry, &table::CHECKPOINTS, Family::default()),
            checkpoints_failed: add(registry, &table::CHECKPOINTS_FAILED, Family::default()),
            pause: add(registry, &table::PAUSE_SECONDS, quick()),
            checkpoint: add(registry, &table::CHECKPOINT_SECONDS, slow()),
            commit: add(registry, &table::COMMIT_SECONDS, slow()),
            image_size: add(registry, &table::IMAGE_SIZE, Family::default()),
            image_stored: add(registry, &table::IMAGE_STORED, Family::default()),
            replication: add(registry, &table::REPLICATION_SECONDS, slow()),
            errors: add(registry, &table::ERRORS, Family::default()),
            events: add(registry, &table::EVENTS, Family::default()),
            spans_dropped: add(registry, &table::SPANS_DROPPED, Counter::default()),
        }
    }

    /// A service that nothing has happened to yet.
    pub(super) fn introduce(&self, service: &str) {
        for cause in CauseKind::ALL.iter().filter(|cause| cause.is_fault()) {
            drop(self.faults.get_or_create(&labels(service, [("cause", cause.name())])));
        }
        for reason in CheckpointReason::ALL {
            let reason = labels(service, [("reason", reason.name())]);
            drop(self.checkpoints.get_or_create(&reason));
            drop(self.checkpoints_failed.get_or_create(&reason));
        }
        let alone = labels(service, []);
        drop(self.given_up.get_or_create(&alone));
        for histograms in [&self.pause, &self.checkpoint, &self.commit] {
            drop(histograms.get_or_create(&alone));
        }
    }

    pub(super) fn count(&self, record: &EventRecord) {
        let kind = record.kind.as_str();
        self.events.get_or_create(&vec![("event", kind.to_owned())]).inc();
        let Some(service) = record.service.as_deref() else { return self.count_error(record, "") };
        let alone = labels(service, []);
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        match kind {
            "noticed" => increase(&self.faults, service, [("cause", &word(&record.cause))]),
            "recovered" => self.count_recovery(service, record),
            "rung-failed" => increase(&self.rungs_failed, service, [("rung", &word(&record.rung))]),
            "gave-up" => increase(&self.given_up, service, []),
            "checkpoint-taken" => {
                increase(&self.checkpoints, service, [("reason", &word(&record.reason))]);
                observe(&self.pause, &alone, record.pause_ms);
                observe(&self.checkpoint, &alone, record.took_ms);
            }
            "checkpoint-failed" => {
                increase(&self.checkpoints_failed, service, [("reason", &word(&record.reason))]);
            }
            "image-durable" => {
                observe(&self.commit, &alone, record.took_ms);
                self.image_size.get_or_create(&alone).set(record.size_bytes.unwrap_or(0));
                self.image_stored.get_or_create(&alone).set(record.stored_bytes.unwrap_or(0));
            }
            "image-replicated" => {
                let replica = labels(service, [("replica", &word(&record.replica))]);
                observe(&self.replication, &replica, record.took_ms);
            }
            _ => {}
        }
        self.count_error(record, service);
    }

    /// How many events of a kind.
    #[cfg(test)]
    pub(super) fn counted(&self, kind: &str) -> u64 {
        self.events.get_or_create(&vec![("event", kind.to_owned())]).get()
    }

    fn count_recovery(&self, service: &str, record: &EventRecord) {
        let (Some(cause), Some(rung)) = (&record.cause, &record.rung) else { return };
        increase(&self.recoveries, service, [("cause", cause), ("rung", rung)]);
        if cause.parse().is_ok_and(CauseKind::is_fault) {
            observe(&self.recovery, &labels(service, [("rung", rung)]), record.took_ms);
        }
    }

    fn count_error(&self, record: &EventRecord, service: &str) {
        let is_error = record.failure.is_some() || record.kind == "hook-failed";
        if is_error {
            let kind = record.failure.as_deref().unwrap_or("unknown");
            increase(&self.errors, service, [("event", &record.kind), ("kind", kind)]);
        }
    }
}

fn labels<const N: usize>(service: &str, more: [(&'static str, &str); N]) -> Labels {
    let more = more.into_iter().map(|(name, value)| (name, value.to_owned()));
    std::iter::once(("service", service.to_owned())).chain(more).collect()
}

fn increase<const N: usize>(counters: &Counters, service: &str, more: [(&'static str, &str); N]) {
    counters.get_or_create(&labels(service, more)).inc();
}

fn observe(histograms: &Histograms, labels: &Labels, milliseconds: Option<f64>) {
    if let Some(milliseconds) = milliseconds {
        histograms.get_or_create(labels).observe(milliseconds / 1e3);
    }
}

/// The encoder gives a counter its `_total`.
fn add<M: Countable + Clone>(registry: &mut Registry, metric: &Metric, family: M) -> M {
    let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
    registry.register(name, metric.help, family.clone());
    family
}

/// For pauses: 1 ms to 10 s.
fn quick() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

/// For what may take a disk or another host: 10 ms to 5 minutes.
fn slow() -> Histogram {
    Histogram::new([0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0])
}
