//! Recoveries and checkpoints as traces, made of events.
//!
//! ```text
//! recovery      noticed ──────────────────────────────────> recovered | gave-up, stopped, ...
//!   rung          rung-taken ──> rung-failed | it runs
//!   first-answer                               it runs ──> recovered
//! checkpoint    admitted ──> hot
//!   pause         stands still ──> thawed
//!   seal                           thawed ──> hot
//!   commit                                    on its way ──> durable
//!   replicate                                    on its way ──> acknowledged
//! ```
//!
//! A checkpoint's ids are made of its image's name, so that what happens to the image later, on whichever node and under whichever
//! supervisor, belongs to the same trace. It refuses to keep anything but the recoveries that are under way, one a service.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{attribute, text};
use crate::events::Events;
use crate::status::EventRecord;

/// Makes spans of events.
pub(super) struct Tracer {
    node: String,
    queue: mpsc::Sender<Span>,
    dropped: Counter,
    recoveries: BTreeMap<String, Recovery>,
}

/// A recovery under way.
struct Recovery {
    /// It and its event's number name it for ever.
    noticed: EventRecord,
    begun: SystemTime,
    rung: Option<(EventRecord, SystemTime)>,
}

/// A span's place in its trace: of texts that name it for ever.
#[derive(Clone, Copy)]
struct Ids {
    trace: [u8; 16],
    span: [u8; 8],
}

impl Tracer {
    pub(super) fn new(node: String, queue: mpsc::Sender<Span>, dropped: Counter) -> Self {
        Self { node, queue, dropped, recoveries: BTreeMap::new() }
    }

    /// Until stopped; the queue ends with it. Where to begin is known before this is first polled.
    pub(super) fn follow(mut self, events: Events, stop: CancellationToken) -> impl Future<Output = ()> {
        let (last, live) = events.follow_from_now();
        async move {
            events.hand_on_until(&stop, live, last, |record| self.hear(record)).await;
        }
    }

    pub(super) fn hear(&mut self, record: &EventRecord) {
        let Some(at) = when(record) else { return };
        let Some(service) = record.service.clone() else { return };
        match record.kind.as_str() {
            "noticed" => {
                self.unfinished(&service, record, at);
                self.recoveries.insert(service, Recovery { noticed: record.clone(), begun: at, rung: None });
            }
            "rung-taken" => {
                if let Some(recovery) = self.recoveries.get_mut(&service) {
                    recovery.rung = Some((record.clone(), at));
                }
            }
            "rung-failed" => self.rung_failed(&service, record, at),
            "recovered" => self.recovered(&service, record, at),
            "gave-up" | "stopped" | "suspended" | "fenced" | "lease-lost" | "handed-over" | "removed" => {
                self.unfinished(&service, record, at);
            }
            "checkpoint-taken" => self.checkpoint(record, at),
            "image-durable" => self.afterwards("commit", record, at),
            "image-replicated" => self.afterwards("replicate", record, at),
            _ => {}
        }
    }

    fn rung_failed(&mut self, service: &str, record: &EventRecord, at: SystemTime) {
        let Some(recovery) = self.recoveries.get_mut(service) else { return };
        let Some((rung, begun)) = recovery.rung.take() else { return };
        let ids = self.ids_of(&self.recoveries[service]);
        let span = Span {
            status: Some(Status { code: StatusCode::Error.into(), message: record.text.clone() }),
            ..span("rung", ids.child(&rung.seq.to_string()), Some(ids), (begun, at), facts(&rung))
        };
        self.hand_over(span);
    }

    fn recovered(&mut self, service: &str, record: &EventRecord, at: SystemTime) {
        let Some(recovery) = self.recoveries.remove(service) else { return };
        let ids = self.ids_of(&recovery);
        // The event's own times are exact; its date has milliseconds only.
        let end = record.took_ms.map_or(at, |took| later(recovery.begun, took));
        let ran = record.ran_after_ms.map_or(end, |after| later(recovery.begun, after).min(end));
        if let Some((rung, begun)) = &recovery.rung {
            let own = ids.child(&rung.seq.to_string());
            self.hand_over(span("rung", own, Some(ids), (*begun, ran), facts(rung)));
        }
        self.hand_over(span("first-answer", ids.child("first-answer"), Some(ids), (ran, end), facts(record)));
        self.hand_over(span("recovery", ids, None, (recovery.begun, end), facts(record)));
    }

    /// It ends without the service being back.
    fn unfinished(&mut self, service: &str, record: &EventRecord, at: SystemTime) {
        let Some(recovery) = self.recoveries.remove(service) else { return };
        let ids = self.ids_of(&recovery);
        let span = Span {
            status: Some(Status { code: StatusCode::Error.into(), message: record.text.clone() }),
            ..span("recovery", ids, None, (recovery.begun, at), facts(&recovery.noticed))
        };
        self.hand_over(span);
    }

    fn checkpoint(&self, record: &EventRecord, at: SystemTime) {
        let Some(ids) = Ids::of_image(record) else { return };
        let begun = earlier(at, record.took_ms.unwrap_or_default());
        if let (Some(pause), Some(after)) = (record.pause_ms, record.ran_after_ms) {
            let thawed = later(begun, after).min(at);
            let still = earlier(thawed, pause).max(begun);
            self.hand_over(span("pause", ids.child("pause"), Some(ids), (still, thawed), facts(record)));
            self.hand_over(span("seal", ids.child("seal"), Some(ids), (thawed, at), facts(record)));
        }
        self.hand_over(span("checkpoint", ids, None, (begun, at), facts(record)));
    }

    /// What happened to its image then.
    fn afterwards(&self, name: &str, record: &EventRecord, at: SystemTime) {
        let Some(ids) = Ids::of_image(record) else { return };
        let begun = earlier(at, record.took_ms.unwrap_or_default());
        let own = ids.child(&format!("{name} {}", record.replica.as_deref().unwrap_or_default()));
        self.hand_over(span(name, own, Some(ids), (begun, at), facts(record)));
    }

    fn ids_of(&self, recovery: &Recovery) -> Ids {
        Ids::of(&format!("recovery {} {} {}", self.node, recovery.noticed.seq, recovery.noticed.at))
    }

    /// Nothing waits for whoever sends it.
    fn hand_over(&self, span: Span) {
        if self.queue.try_send(span).is_err() {
            self.dropped.inc();
        }
    }
}

impl Ids {
    fn of(name: &str) -> Self {
        let hash = blake3::hash(name.as_bytes());
        let (mut trace, mut span) = ([0; 16], [0; 8]);
        trace.copy_from_slice(&hash.as_bytes()[..16]);
        span.copy_from_slice(&hash.as_bytes()[16..24]);
        Self { trace, span }
    }

    fn of_image(record: &EventRecord) -> Option<Self> {
        record.image.as_ref().map(|image| Self::of(&format!("checkpoint {image}")))
    }

    fn child(self, name: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.trace).update(&self.span).update(name.as_bytes());
        let mut span = [0; 8];
        span.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self { span, ..self }
    }
}

fn span(
    name: &str,
    own: Ids,
    parent: Option<Ids>,
    (begun, ended): (SystemTime, SystemTime),
    attributes: Vec<KeyValue>,
) -> Span {
    Span {
        trace_id: own.trace.to_vec(),
        span_id: own.span.to_vec(),
        parent_span_id: parent.map_or_else(Vec::new, |parent| parent.span.to_vec()),
        name: name.to_owned(),
        kind: SpanKind::Internal.into(),
        start_time_unix_nano: nanos(begun),
        end_time_unix_nano: nanos(ended.max(begun)),
        attributes,
        ..Span::default()
    }
}

/// What the event says for programs.
fn facts(record: &EventRecord) -> Vec<KeyValue> {
    let words = [
        ("service", &record.service),
        ("image", &record.image),
        ("cause", &record.cause),
        ("rung", &record.rung),
        ("reason", &record.reason),
        ("replica", &record.replica),
    ];
    let words = words.into_iter().filter_map(|(key, word)| Some(text(&named(key), word.clone()?)));
    let sizes = [("size_bytes", record.size_bytes), ("stored_bytes", record.stored_bytes)];
    let sizes = sizes.into_iter().filter_map(|(key, size)| {
        Some(attribute(&named(key), Value::IntValue(i64::try_from(size?).unwrap_or(i64::MAX))))
    });
    words.chain(sizes).collect()
}

fn named(key: &str) -> String {
    format!("supervisor.{key}")
}

fn when(record: &EventRecord) -> Option<SystemTime> {
    humantime::parse_rfc3339(&record.at).ok()
}

fn later(time: SystemTime, milliseconds: f64) -> SystemTime {
    time + span_of(milliseconds)
}

fn earlier(time: SystemTime, milliseconds: f64) -> SystemTime {
    time.checked_sub(span_of(milliseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

fn span_of(milliseconds: f64) -> Duration {
    Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default()
}

/// As OTLP has times.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
