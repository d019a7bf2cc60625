//! Telemetry by OTLP: metrics, and recoveries and checkpoints as traces, sent to a collector of OpenTelemetry if one is configured.
//!
//! ```text
//! the stream of events -> spans ──bounded queue──┐
//! metrics, as they are scraped ──────────────────┴─ every interval ──> POST /v1/traces, /v1/metrics
//! ```
//!
//! It sees published state and the stream of events only, so that it can never delay a service. A collector that is away is said once; spans wait
//! for it, up to a limit, and what is dropped is counted. It refuses to trace anything while nobody is configured to hear it.

mod measured;
mod sending;
mod spans;

use std::time::Duration;

use config::Config;
use engine::recipient::Recipient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::sending::Sending;
use self::spans::Tracer;
use crate::control::Control;

/// How many spans may wait to be sent.
const SPANS_MAX: usize = 2048;
/// How long the last of it may take when the supervisor stops.
const END_MAX: Duration = Duration::from_secs(3);

/// What is sent, as it is configured now.
#[derive(Debug)]
pub(crate) struct Telemetry {
    control: Control,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    sending: JoinHandle<()>,
}

impl Telemetry {
    /// From now on it is sent, if somebody is configured to get it.
    pub(crate) async fn start(config: &Config, control: Control) -> Self {
        let mut telemetry = Self { control, running: None };
        telemetry.replace(config).await;
        telemetry
    }

    /// To whom another configuration says. The former gets what had happened by then.
    pub(crate) async fn replace(&mut self, config: &Config) {
        let new = match &config.otlp {
            Some(otlp) => self.run(otlp).await,
            None => None,
        };
        if let Some(former) = std::mem::replace(&mut self.running, new) {
            // It ends by itself, within the limit of its last requests.
            former.stop.cancel();
        }
    }

    /// Sends the last of it, for a while.
    pub(crate) async fn end(self) {
        let Some(running) = self.running else { return };
        running.stop.cancel();
        if tokio::time::timeout(END_MAX, running.sending).await.is_err() {
            tracing::warn!("a collector has not taken the last telemetry in time");
        }
    }

    async fn run(&self, otlp: &config::Otlp) -> Option<Running> {
        let recipient = |path: &str| {
            let url = format!("{}{path}", otlp.endpoint.trim_end_matches('/'));
            let (headers, ca) = (otlp.headers.clone(), otlp.ca.clone());
            Recipient::new(&url, "application/x-protobuf", headers, ca, otlp.timeout)
        };
        let (traces, metrics) = match (recipient("/v1/traces"), recipient("/v1/metrics")) {
            (Ok(traces), Ok(metrics)) => (traces, metrics),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "nothing can be sent to a collector");
                return None;
            }
        };
        let node = self.control.status().await.node;
        let (queue, spans) = mpsc::channel(SPANS_MAX);
        let stop = CancellationToken::new();
        let dropped = self.control.metrics().spans_dropped().clone();
        let tracer = Tracer::new(node.clone(), queue, dropped);
        tokio::spawn(tracer.follow(self.control.events().clone(), stop.clone()));
        let sending = Sending::new(self.control.clone(), resource(&node), (traces, metrics), spans);
        Some(Running { sending: tokio::spawn(sending.send_on(otlp.interval, stop.clone())), stop })
    }
}

/// Who says all this.
fn resource(node: &str) -> Resource {
    let attributes = vec![
        text("service.name", "supervisor"),
        text("service.version", env!("CARGO_PKG_VERSION")),
        text("service.instance.id", node),
        text("host.name", node),
    ];
    Resource { attributes, ..Resource::default() }
}

fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "supervisor".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
