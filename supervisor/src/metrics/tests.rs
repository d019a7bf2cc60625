//! What is scraped.

mod documents;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use prometheus_client::metrics::MetricType;

use super::table::ALL;
use super::*;
use crate::events::plain;
use crate::status::{CheckpointStatus, EventRecord, NewestImage, ProbeStatus, ReplicaStatus, ServiceStatus};
use crate::tenure::{LeaseStatus, NodeSeen};

const STORE: StoreFacts = StoreFacts { free: 7, min_free: 3, max: Some(9) };

fn image() -> Option<NewestImage> {
    Some(NewestImage {
        id: "i1".to_owned(),
        taken_at: "2026-01-31T12:00:00Z".to_owned(),
        age_seconds: 0.0,
        verdict: "good".to_owned(),
        hot: true,
        durable: true,
    })
}

fn node() -> NodeStatus {
    let replica = ReplicaStatus {
        url: "file:///\"r\"".to_owned(),
        newest: Some("i1".to_owned()),
        taken_at: Some("2026-01-31T12:00:00Z".to_owned()),
        age_seconds: None,
        images: Some(1),
        behind: 2,
        sending: None,
        last_error: Some("away".to_owned()),
    };
    let web = ServiceStatus {
        name: "web".to_owned(),
        state: "running".to_owned(),
        verdict: Some("healthy".to_owned()),
        ready: true,
        probes: vec![ProbeStatus {
            name: "ping".to_owned(),
            verdict: "healthy".to_owned(),
            passed: 5,
            failed: 1,
        }],
        lease: Some(LeaseStatus { role: "holder".to_owned(), epoch: 4, ..LeaseStatus::default() }),
        checkpoint: CheckpointStatus {
            images: 3,
            stored_bytes: 1000,
            newest_hot: image(),
            newest_durable: image(),
            ..CheckpointStatus::default()
        },
        replicas: vec![replica],
        ..ServiceStatus::default()
    };
    NodeStatus { services: vec![web], ..crate::api::tests::node_status() }
}

/// One that is there and stands by, one that is silent.
fn nodes() -> Vec<NodeSeen> {
    let seen = |node: &str, there| {
        let said = serde_json::json!({
            "node": node, "there": there, "silent_seconds": 1.0, "format": 1, "version": "1", "draining": false, "load": 5,
            "services": { "web": {
                "role": "standby", "state": "standby", "serves": false, "epoch": 4, "prepared": "i1", "not_ready": null,
            } },
        });
        serde_json::from_value(said).expect("what a node says")
    };
    vec![seen("beta", true), seen("gamma", false)]
}

fn event(kind: &str) -> EventRecord {
    EventRecord {
        cause: Some("crashed".to_owned()),
        rung: Some("restore-latest".to_owned()),
        reason: Some("cadence".to_owned()),
        took_ms: Some(60.0),
        pause_ms: Some(8.0),
        size_bytes: Some(300),
        stored_bytes: Some(100),
        replica: Some("file:///r".to_owned()),
        ..plain(Some("web"), kind, "")
    }
}

/// One of everything.
fn eventful() -> Vec<EventRecord> {
    let kinds = [
        "noticed",
        "rung-failed",
        "recovered",
        "gave-up",
        "checkpoint-taken",
        "checkpoint-failed",
        "image-durable",
        "image-replicated",
    ];
    let failed = EventRecord { failure: Some("refused".to_owned()), ..plain(None, "store-failed", "") };
    kinds.into_iter().map(event).chain([failed]).collect()
}

fn scraped(events: &[EventRecord], format: Format) -> String {
    let mut registry = Registry::default();
    let tally = Tally::register(&mut registry);
    events.iter().for_each(|event| tally.count(event));
    let metrics = Metrics { counted: Arc::new(Counted { tally, registry }) };
    metrics.encode(&node(), &nodes(), STORE, format).expect("encoded")
}

/// Names of samples with the names of their labels, by the family's `TYPE` line.
fn samples(scraped: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut found = BTreeMap::<&str, BTreeSet<&str>>::new();
    for line in scraped.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().expect("a name");
        let labels = found.entry(name).or_default();
        let between = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}'));
        let Some((between, _)) = between else { continue };
        labels.extend(between.split("\",").filter_map(|label| Some(label.split_once('=')?.0)));
    }
    found
}

#[test]
fn what_is_scraped_is_what_the_table_says() {
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let scraped = scraped(&eventful(), format);
        let mut found = samples(&scraped);
        for metric in ALL {
            let is_histogram = matches!(metric.kind, MetricType::Histogram);
            let name = if is_histogram { format!("{}_count", metric.name) } else { metric.name.to_owned() };
            let labels = found.remove(name.as_str()).unwrap_or_else(|| panic!("no {name} in\n{scraped}"));
            assert_eq!(labels, metric.labels.iter().copied().collect(), "{name}");
            if is_histogram {
                for suffix in ["_sum", "_bucket"] {
                    assert!(found.remove(format!("{}{suffix}", metric.name).as_str()).is_some(), "{name}");
                }
            }
        }
        assert_eq!(found.keys().collect::<Vec<_>>(), Vec::<&&str>::new(), "not in the table");
    }
}

#[test]
fn values_are_those_of_the_events_and_of_the_published_state() {
    let scraped = scraped(&eventful(), Format::Prometheus);
    for line in [
        "# HELP supervisor_faults_total Faults that were noticed, by kind of cause.",
        "# TYPE supervisor_faults_total counter",
        "# TYPE supervisor_probe_results_total counter",
        "supervisor_faults_total{service=\"web\",cause=\"crashed\"} 1",
        "supervisor_faults_total{service=\"web\",cause=\"hung\"} 0",
        "supervisor_recoveries_total{service=\"web\",cause=\"crashed\",rung=\"restore-latest\"} 1",
        "supervisor_recovery_seconds_sum{service=\"web\",rung=\"restore-latest\"} 0.06",
        "supervisor_recovery_seconds_bucket{service=\"web\",rung=\"restore-latest\",le=\"0.05\"} 0",
        "supervisor_recovery_seconds_bucket{service=\"web\",rung=\"restore-latest\",le=\"0.1\"} 1",
        "supervisor_checkpoint_pause_seconds_sum{service=\"web\"} 0.008",
        "supervisor_checkpoint_seconds_sum{service=\"web\"} 0.06",
        "supervisor_image_size_bytes{service=\"web\"} 300",
        "supervisor_image_stored_bytes{service=\"web\"} 100",
        "supervisor_errors_total{service=\"\",event=\"store-failed\",kind=\"refused\"} 1",
        "supervisor_service_state{service=\"web\",state=\"running\"} 1",
        "supervisor_service_state{service=\"web\",state=\"standby\"} 0",
        "supervisor_probe_results_total{service=\"web\",probe=\"ping\",result=\"failed\"} 1",
        "supervisor_replica_behind_images{service=\"web\",replica=\"file:///\\\"r\\\"\"} 2",
        "supervisor_lease_epoch{service=\"web\"} 4",
        "supervisor_node_there{node=\"gamma\"} 0",
        "supervisor_standby_ready{node=\"beta\",service=\"web\"} 1",
        "supervisor_store_max_bytes 9",
    ] {
        let is_there = |found: &str| found == line || found == format!("{line}.0");
        assert!(scraped.lines().any(is_there), "no {line} in\n{scraped}");
    }
    assert!(self::scraped(&[], Format::OpenMetrics).ends_with("# EOF\n"));
}

#[test]
fn a_restore_that_was_asked_for_is_a_recovery_and_no_repair() {
    let asked = EventRecord { cause: Some("requested".to_owned()), ..event("recovered") };
    let scraped = scraped(&[asked], Format::Prometheus);
    assert!(scraped.contains("supervisor_recoveries_total{service=\"web\",cause=\"requested\""), "{scraped}");
    assert!(!scraped.contains("supervisor_recovery_seconds_count"), "{scraped}");
}

#[tokio::test]
async fn whoever_counts_too_slowly_misses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let events = Events::open(&folder.path().join("events")).expect("a journal");
    let metrics = Metrics::follow(&events);
    let count = || metrics.counted.tally.counted("started");
    events.record(plain(Some("web"), "started", ""));
    let counted = async |wanted: u64| {
        while count() < wanted {
            tokio::task::yield_now().await;
        }
    };
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, counted(1)).await.expect("it is counted");
    // More than the live end holds, and nobody has a chance to count meanwhile.
    for _ in 0..3000 {
        events.record(plain(Some("web"), "started", ""));
    }
    tokio::time::timeout(limit, counted(3001)).await.expect("all are counted");
    assert_eq!(count(), 3001);
}
