//! Metrics: what can be counted and measured of the node and its services, in the words of Prometheus.
//!
//! ```text
//! the stream of events -> tally (counters, histograms)  \
//! published state, at each scrape -> gauges              > GET /metrics
//! our own process                                       /
//! ```
//!
//! It sees published state and the stream of events only, so that it can never delay a service; it keeps nothing on disk: counters
//! begin anew with the supervisor.

mod published;
mod table;
mod tally;

use std::fmt;
use std::sync::Arc;

use engine::images::Store;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use crate::events::Events;
use crate::status::NodeStatus;
use crate::tenure::NodeSeen;
use published::Published;
use tally::Tally;

/// What a metric is told apart by.
type Labels = Vec<(&'static str, String)>;

/// In which of the two formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' own, 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0.
    OpenMetrics,
}

/// What is known of the store, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreFacts {
    /// Free space of its disk.
    pub(crate) free: u64,
    /// What images never take.
    pub(crate) min_free: u64,
    /// What they may take.
    pub(crate) max: Option<u64>,
}

impl StoreFacts {
    /// Blocks for a moment.
    pub(crate) fn of(store: &Store) -> Self {
        let settings = store.settings();
        // A disk that cannot be asked has no room that is known of.
        let free = store.free_space().unwrap_or(0);
        Self { free, min_free: settings.min_free, max: settings.max_total_size }
    }
}

/// All that is counted since the supervisor started. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Metrics {
    counted: Arc<Counted>,
}

#[derive(Debug)]
struct Counted {
    tally: Tally,
    registry: Registry,
}

impl Format {
    /// What a scraper says that it takes; whoever says nothing gets Prometheus' own.
    pub(crate) fn accepted(accept: &str) -> Self {
        if accept.contains("application/openmetrics-text") { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// How it is called.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

impl Metrics {
    /// Counts what happens from now on.
    pub(crate) fn follow(events: &Events) -> Self {
        let mut registry = Registry::default();
        let tally = Tally::register(&mut registry);
        let metrics = Self { counted: Arc::new(Counted { tally, registry }) };
        let (counting, events) = (metrics.clone(), events.clone());
        let (last, live) = events.follow_from_now();
        tokio::spawn(async move {
            events.hand_on(live, last, |record| counting.counted.tally.count(record)).await;
        });
        metrics
    }

    /// Counts spans that no collector got.
    pub(crate) fn spans_dropped(&self) -> &Counter {
        &self.counted.tally.spans_dropped
    }

    /// Everything, as it is now.
    ///
    /// # Errors
    /// None that a text in memory can have.
    pub(crate) fn encode(
        &self,
        node: &NodeStatus,
        nodes: &[NodeSeen],
        store: StoreFacts,
        format: Format,
    ) -> Result<String, fmt::Error> {
        for service in &node.services {
            self.counted.tally.introduce(&service.name);
        }
        let mut now = Registry::default();
        now.register_collector(Box::new(Published::new(node, nodes, store)));
        let mut encoded = String::new();
        match format {
            Format::Prometheus => {
                prometheus_text::encode(&mut encoded, &now)?;
                prometheus_text::encode(&mut encoded, &self.counted.registry)?;
            }
            Format::OpenMetrics => {
                text::encode_registry(&mut encoded, &now)?;
                text::encode_registry(&mut encoded, &self.counted.registry)?;
                text::encode_eof(&mut encoded)?;
            }
        }
        Ok(encoded)
    }
}

#[cfg(test)]
mod tests;
