//! A collector of OpenTelemetry, as small as it can be: it decodes what it is sent, and keeps it.

use std::io::{BufRead, BufReader, Read, Result, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use crate::wait::{LIMIT, wait_for};

/// A collector; it listens until the test's process ends.
#[derive(Debug, Clone)]
pub struct Collector {
    address: SocketAddr,
    got: Arc<Mutex<Got>>,
}

#[derive(Debug, Default)]
struct Got {
    spans: Vec<Span>,
    /// Of the newest message.
    metrics: Vec<Metric>,
    resources: Vec<Resource>,
    heads: Vec<String>,
    wrong: Option<String>,
}

impl Collector {
    /// One at a port of its own.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// One at an address.
    ///
    /// # Panics
    /// If it cannot be had.
    #[must_use]
    pub fn start_at(address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address).expect("an address for a collector");
        let collector = Self { address: listener.local_addr().expect("it has one"), got: Arc::default() };
        let listening = collector.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let collector = listening.clone();
                std::thread::spawn(move || {
                    if let Err(error) = collector.serve(&stream) {
                        collector.got().wrong.get_or_insert(error.to_string());
                    }
                });
            }
        });
        collector
    }

    /// Where it is, as a configuration names it.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits for a span.
    pub fn span(&self, what: &str, wanted: impl Fn(&Span) -> bool) -> Span {
        wait_for(LIMIT, &format!("the collector gets a span: {what}"), || {
            self.got().spans.iter().find(|span| wanted(span)).cloned()
        })
    }

    /// All spans that have come.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.got().spans.clone()
    }

    /// Waits for the newest message's metric of this name to be as wanted.
    pub fn metric(&self, name: &str, wanted: impl Fn(&Metric) -> bool) -> Metric {
        wait_for(LIMIT, &format!("the collector gets {name}"), || {
            self.got().metrics.iter().find(|metric| metric.name == name && wanted(metric)).cloned()
        })
    }

    /// Who has said all this, and the heads of all requests.
    ///
    /// # Panics
    /// If anything was wrong about a request.
    #[must_use]
    pub fn senders(&self) -> (Vec<Resource>, Vec<String>) {
        let got = self.got();
        assert_eq!(got.wrong, None, "every request was right");
        (got.resources.clone(), got.heads.clone())
    }

    fn got(&self) -> MutexGuard<'_, Got> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: &TcpStream) -> Result<()> {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut reader = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head)? == 0 {
                    return Ok(());
                }
            }
            let lower = head.to_ascii_lowercase();
            let length = lower.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.and_then(|length| length.trim().parse().ok()).unwrap_or(0)];
            reader.read_exact(&mut body)?;
            self.take(&head, &body)?;
            (&*stream).write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
        }
    }

    fn take(&self, head: &str, body: &[u8]) -> Result<()> {
        let mut got = self.got();
        got.heads.push(head.to_owned());
        match head.split(' ').nth(1) {
            Some("/v1/traces") => {
                let message = ExportTraceServiceRequest::decode(body)?;
                for resource in message.resource_spans {
                    got.resources.extend(resource.resource);
                    got.spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
                }
            }
            Some("/v1/metrics") => {
                got.metrics.clear();
                for resource in ExportMetricsServiceRequest::decode(body)?.resource_metrics {
                    got.resources.extend(resource.resource);
                    got.metrics.extend(resource.scope_metrics.into_iter().flat_map(|scope| scope.metrics));
                }
            }
            other => return Err(std::io::Error::other(format!("nobody posts to {other:?}"))),
        }
        Ok(())
    }
}

/// The text of an attribute.
#[must_use]
pub fn attribute<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
