//! Sending to one collector, in turns.
//!
//! Spans that could not be sent wait, the newest of them; measurements do not: the next are as good. What a collector will not have is
//! dropped, for it will not have it later either.

use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use engine::recipient::Recipient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, ScopeMetrics};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{SPANS_MAX, measured, scope};
use crate::control::Control;
use crate::events::{failed, plain};
use crate::metrics::{Format, StoreFacts};
use crate::tenure::Nodes;

/// How many spans go with one request.
const BATCH: usize = 512;

/// One collector, and what it is to get.
pub(super) struct Sending {
    control: Control,
    resource: Resource,
    traces: Recipient,
    metrics: Recipient,
    spans: mpsc::Receiver<Span>,
    waiting: VecDeque<Span>,
    since: SystemTime,
    is_away: bool,
}

impl Sending {
    pub(super) fn new(
        control: Control,
        resource: Resource,
        (traces, metrics): (Recipient, Recipient),
        spans: mpsc::Receiver<Span>,
    ) -> Self {
        let (waiting, since) = (VecDeque::new(), engine::clock::wall());
        Self { control, resource, traces, metrics, spans, waiting, since, is_away: false }
    }

    /// Until stopped; what had happened by then is sent, once.
    pub(super) async fn send_on(mut self, interval: Duration, stop: CancellationToken) {
        let mut turns = tokio::time::interval(interval);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once, when there is nothing to tell.
        turns.tick().await;
        loop {
            let stopped = stop.run_until_cancelled(turns.tick()).await.is_none();
            if stopped {
                // Whoever makes spans has been stopped too, and ends the queue.
                while let Some(span) = self.spans.recv().await {
                    self.keep(span);
                }
            }
            let sent = match self.send_traces().await {
                Ok(()) => self.send_metrics().await,
                Err(error) => Err(error),
            };
            if stopped {
                return;
            }
            self.tell(sent);
        }
    }

    async fn send_traces(&mut self) -> engine::Result<()> {
        while let Ok(span) = self.spans.try_recv() {
            self.keep(span);
        }
        while !self.waiting.is_empty() {
            let batch: Vec<Span> = self.waiting.iter().take(BATCH).cloned().collect();
            let count = batch.len();
            let message = self.message_of(batch).encode_to_vec();
            match self.traces.tell(message.into()).await {
                Ok(()) => {}
                // It would be the same the next time.
                Err(error @ engine::Error::Refused(_)) => {
                    self.drop_first(count);
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
            self.waiting.drain(..count);
        }
        Ok(())
    }

    /// What has waited longest makes way.
    fn keep(&mut self, span: Span) {
        if self.waiting.len() == SPANS_MAX {
            self.drop_first(1);
        }
        self.waiting.push_back(span);
    }

    fn drop_first(&mut self, count: usize) {
        self.waiting.drain(..count);
        self.control.metrics().spans_dropped().inc_by(count as u64);
    }

    fn message_of(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let spans = ScopeSpans { scope: Some(scope()), spans, ..ScopeSpans::default() };
        let resource = Some(self.resource.clone());
        let spans = ResourceSpans { resource, scope_spans: vec![spans], ..ResourceSpans::default() };
        ExportTraceServiceRequest { resource_spans: vec![spans] }
    }

    async fn send_metrics(&self) -> engine::Result<()> {
        let Some(message) = self.measurements().await else { return Ok(()) };
        self.metrics.tell(message.encode_to_vec().into()).await
    }

    async fn measurements(&self) -> Option<ExportMetricsServiceRequest> {
        let store = self.control.store().clone();
        let store = tokio::task::spawn_blocking(move || StoreFacts::of(&store)).await.ok()?;
        let status = self.control.status().await;
        let nodes = self.control.nodes().map(Nodes::seen).unwrap_or_default();
        let scraped = self.control.metrics().encode(&status, &nodes, store, Format::Prometheus).ok()?;
        let metrics = measured::of(&scraped, self.since, engine::clock::wall());
        let metrics = ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() };
        let resource = Some(self.resource.clone());
        let metrics =
            ResourceMetrics { resource, scope_metrics: vec![metrics], ..ResourceMetrics::default() };
        Some(ExportMetricsServiceRequest { resource_metrics: vec![metrics] })
    }

    /// Said once an outage.
    fn tell(&mut self, sent: engine::Result<()>) {
        let events = self.control.events();
        match (sent, self.is_away) {
            (Err(error), false) => {
                self.is_away = true;
                events.record(failed(None, "telemetry-failed", &error));
            }
            (Ok(()), true) => {
                self.is_away = false;
                let text = format!("telemetry is sent to {} again", self.traces.place());
                events.record(plain(None, "telemetry-mended", text));
            }
            (Err(_), true) | (Ok(()), false) => {}
        }
    }
}
