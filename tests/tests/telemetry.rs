//! A collector of OpenTelemetry gets what happened, as traces, and the metrics; nobody waits for it.
#![allow(missing_docs)]

use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::signal::Signal;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point::Value};
use opentelemetry_proto::tonic::trace::v1::Span;
use system_tests::collector::{Collector, attribute};
use system_tests::{Event, Host, LIMIT, Node, Runtime, wait_until};

fn send_to(node: &mut Node, endpoint: &str) {
    for (key, value) in [("endpoint", endpoint), ("interval", "200ms")] {
        node.set_in("telemetry.otlp", key, &serde_json::Value::from(value).to_string());
    }
    node.set_in("telemetry.otlp", "headers", "{ X-Scope-OrgID = \"shop\" }");
}

fn is_of(span: &Span, name: &str, key: &str, value: &str) -> bool {
    span.name == name && attribute(&span.attributes, key) == Some(value)
}

/// In nanoseconds.
fn length(span: &Span) -> u64 {
    span.end_time_unix_nano - span.start_time_unix_nano
}

fn nanos(milliseconds: Option<f64>) -> u64 {
    u64::try_from(Duration::from_secs_f64(milliseconds.expect("it is known") / 1e3).as_nanos())
        .expect("short")
}

fn lies_in(span: &Span, root: &Span) {
    assert_eq!(
        (&span.trace_id, &span.parent_span_id),
        (&root.trace_id, &root.span_id),
        "{span:?} below {root:?}"
    );
}

/// The value of a counter's point with this label.
fn counted(metric: &Metric, key: &str, value: &str) -> Option<f64> {
    let Some(Data::Sum(sum)) = &metric.data else { return None };
    let point = sum.data_points.iter().find(|point| attribute(&point.attributes, key) == Some(value))?;
    match point.value {
        Some(Value::AsDouble(number)) => Some(number),
        _ => None,
    }
}

#[test]
fn a_checkpoint_and_a_recovery_are_traces_and_the_metrics_come_with_them() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    let collector = Collector::start();
    send_to(&mut node, &collector.endpoint());
    let replica = node.folder().join("replica");
    std::fs::create_dir(&replica).expect("a folder for a replica");
    let url = format!("file://{}", replica.display());
    node.set_in("store.replica#0", "url", &serde_json::Value::from(url.as_str()).to_string());
    node.start();

    let mark = node.mark();
    let image = node.checkpoint("counter");
    let of_image = |event: &Event| event.image.as_deref() == Some(&image);
    let taken = node.wait_for_event(mark, "checkpoint-taken", of_image);
    let root = collector.span("the checkpoint", |span| is_of(span, "checkpoint", "supervisor.image", &image));
    assert!(root.parent_span_id.is_empty());
    assert_eq!(attribute(&root.attributes, "supervisor.reason"), Some("request"));
    assert_eq!(length(&root), nanos(taken.took_ms));
    for name in ["pause", "seal", "commit", "replicate"] {
        let span = collector.span(name, |span| is_of(span, name, "supervisor.image", &image));
        lies_in(&span, &root);
        match name {
            "pause" => assert_eq!(length(&span), nanos(taken.pause_ms)),
            "replicate" => assert_eq!(attribute(&span.attributes, "supervisor.replica"), Some(url.as_str())),
            _ => {}
        }
        if matches!(name, "pause" | "seal") {
            let is_inside = span.start_time_unix_nano >= root.start_time_unix_nano
                && span.end_time_unix_nano <= root.end_time_unix_nano;
            assert!(is_inside, "{span:?} in {root:?}");
        }
    }

    let mark = node.mark();
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    let root = collector.span("the recovery", |span| span.name == "recovery");
    assert_eq!(length(&root), nanos(recovered.took_ms));
    assert_eq!(attribute(&root.attributes, "supervisor.cause"), Some("crashed"));
    let [rung, answer] = ["rung", "first-answer"].map(|name| collector.span(name, |span| span.name == name));
    lies_in(&rung, &root);
    lies_in(&answer, &root);
    assert_eq!(attribute(&rung.attributes, "supervisor.rung"), Some("restore-latest"));
    assert_eq!(rung.end_time_unix_nano, answer.start_time_unix_nano, "it runs, and has to answer");
    assert_eq!(answer.end_time_unix_nano, root.end_time_unix_nano);

    collector
        .metric("supervisor_recoveries_total", |metric| counted(metric, "cause", "crashed") == Some(1.0));
    collector
        .metric("supervisor_checkpoints_total", |metric| counted(metric, "reason", "request") == Some(1.0));
    let pauses = collector.metric("supervisor_checkpoint_pause_seconds", |_| true);
    let Some(Data::Histogram(pauses)) = pauses.data else { panic!("{pauses:?}") };
    assert_eq!(pauses.data_points.iter().map(|point| point.count).sum::<u64>(), 1);
    let (resources, heads) = collector.senders();
    for resource in &resources {
        assert_eq!(attribute(&resource.attributes, "service.name"), Some("supervisor"));
        assert_eq!(attribute(&resource.attributes, "service.instance.id"), Some(node.name()));
    }
    assert!(
        heads.iter().all(|head| head.to_ascii_lowercase().contains("x-scope-orgid: shop\r\n")),
        "{heads:?}"
    );
}

#[test]
fn a_collector_that_is_away_is_said_once_and_gets_what_it_missed() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    node.start();
    let address = SocketAddr::from(([127, 0, 0, 1], node.take_port()));
    let mark = node.mark();
    // While it runs: no service is touched by it.
    let pid = node.pid("counter");
    send_to(&mut node, &format!("http://{address}"));
    node.write_config();
    let failed = node.wait_for_event(mark, "telemetry-failed", |_| true);
    assert!(failed.text.contains(&address.to_string()), "{}", failed.text);
    assert_eq!(node.pid("counter"), pid);
    let image = node.checkpoint("counter");
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);

    let collector = Collector::start_at(address);
    collector.span("the checkpoint", |span| is_of(span, "checkpoint", "supervisor.image", &image));
    collector.span("the recovery", |span| span.name == "recovery");
    node.wait_for_event(mark, "telemetry-mended", |_| true);
    let said = node.events_since(mark).iter().filter(|event| event.kind == "telemetry-failed").count();
    assert_eq!(said, 1);
    let spans = collector.spans();
    let once = spans.iter().filter(|span| span.name == "recovery").count();
    assert_eq!(once, 1, "{spans:?}");
}

/// What happened at the end is not lost with the supervisor that is stopped.
#[test]
fn the_last_of_it_is_sent_before_the_end() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    let collector = Collector::start();
    send_to(&mut node, &collector.endpoint());
    node.set_in("telemetry.otlp", "interval", "\"1h\"");
    node.start();
    let image = node.checkpoint("counter");
    assert!(collector.spans().is_empty());
    node.stop();
    wait_until(LIMIT, "the checkpoint is there", || {
        collector.spans().iter().any(|span| is_of(span, "checkpoint", "supervisor.image", &image))
    });
}
