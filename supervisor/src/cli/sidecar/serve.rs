//! `/livez`, `/readyz`, `/metrics`: what the kubelet and Prometheus ask. Plain HTTP, to anybody; nothing can be changed by it.

use std::fmt::Write;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use policies::health::Verdict;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::report::Reports;
use super::watch::Found;
use crate::metrics::Format;

/// What every request gets.
#[derive(Debug, Clone)]
struct Known {
    found: watch::Receiver<Found>,
    reports: Reports,
}

/// Answers for ever.
pub(super) async fn serve(listener: TcpListener, found: watch::Receiver<Found>, reports: Reports) {
    if let Err(error) = axum::serve(listener, router(found, reports)).await {
        tracing::error!(%error, "the sidecar cannot answer any more");
    }
}

fn router(found: watch::Receiver<Found>, reports: Reports) -> Router {
    let router = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    router.route("/metrics", get(metrics)).with_state(Known { found, reports })
}

/// What has not been judged yet is given time: a startup probe of the kubelet asks `/readyz`.
async fn livez(State(known): State<Known>) -> Response {
    let found = known.found.borrow().clone();
    said(found.verdict != Verdict::Unhealthy, &found)
}

async fn readyz(State(known): State<Known>) -> Response {
    let found = known.found.borrow().clone();
    said(found.ready, &found)
}

fn said(well: bool, found: &Found) -> Response {
    let (status, word) =
        if well { (StatusCode::OK, "ok") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ok") };
    let mut text = format!("{word}\n");
    for probe in &found.probes {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{} ({}): {}: {}", probe.name, probe.role, probe.verdict, probe.detail);
    }
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}

async fn metrics(State(known): State<Known>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accepted(accept);
    let registry = registry(&known.found.borrow(), &known.reports);
    let mut encoded = String::new();
    let written = match format {
        Format::Prometheus => prometheus_text::encode(&mut encoded, &registry),
        Format::OpenMetrics => text::encode(&mut encoded, &registry),
    };
    match written {
        Ok(()) => ([(header::CONTENT_TYPE, format.content_type())], encoded).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

type Labels = Vec<(&'static str, String)>;

/// Named in `docs/sidecar.md` too.
fn registry(found: &Found, reports: &Reports) -> Registry {
    let mut registry = Registry::default();
    let live = Gauge::<i64>::default();
    live.set(i64::from(found.verdict != Verdict::Unhealthy));
    registry.register("supervisor_sidecar_live", "Whether /livez says ok", live);
    let ready = Gauge::<i64>::default();
    ready.set(i64::from(found.ready));
    registry.register("supervisor_sidecar_ready", "Whether /readyz says ok", ready);
    let healthy = Family::<Labels, Gauge<i64>>::default();
    let results = Family::<Labels, Counter>::default();
    for probe in &found.probes {
        let of = |more: Option<(&'static str, &str)>| {
            let more = more.map(|(name, value)| (name, value.to_owned()));
            [("probe", probe.name.clone())].into_iter().chain(more).collect::<Labels>()
        };
        healthy.get_or_create(&of(None)).set(i64::from(probe.verdict == Verdict::Healthy));
        results.get_or_create(&of(Some(("result", "passed")))).inc_by(probe.passed);
        results.get_or_create(&of(Some(("result", "failed")))).inc_by(probe.failed);
    }
    registry.register("supervisor_sidecar_probe_healthy", "Whether the probe says healthy", healthy);
    registry.register("supervisor_sidecar_probe_results", "Results of the probe", results);
    let told = Family::<Labels, Counter>::default();
    for (outcome, count) in reports.counts() {
        told.get_or_create(&vec![("outcome", outcome.to_owned())]).inc_by(count);
    }
    registry.register("supervisor_sidecar_reports", "Reports to the node's supervisor", told);
    registry
}

#[cfg(test)]
mod tests {
    use policies::health::Role;

    use super::super::watch::Seen;
    use super::*;

    fn found(verdict: Verdict, ready: bool) -> Found {
        let probe = Seen {
            name: "health".to_owned(),
            role: Role::Liveness,
            verdict,
            passed: 3,
            failed: 2,
            detail: "http status 503".to_owned(),
        };
        Found { verdict, ready, probes: vec![probe], of_run: 0 }
    }

    #[tokio::test]
    async fn live_until_judged_sick_and_ready_only_when_all_is_well() {
        for (verdict, ready, expected) in [
            (Verdict::Starting, false, (200, 503)),
            (Verdict::Healthy, false, (200, 503)),
            (Verdict::Healthy, true, (200, 200)),
            (Verdict::Unhealthy, false, (503, 503)),
        ] {
            let (_publish, found) = watch::channel(found(verdict, ready));
            let known = || State(Known { found: found.clone(), reports: Reports::default() });
            let statuses = (livez(known()).await.status().as_u16(), readyz(known()).await.status().as_u16());
            assert_eq!(statuses, expected, "{verdict}");
        }
    }

    #[test]
    fn every_metric_is_documented() {
        let mut text = String::new();
        let registry = registry(&found(Verdict::Unhealthy, false), &Reports::default());
        prometheus_text::encode(&mut text, &registry).expect("memory");
        assert!(text.contains("supervisor_sidecar_live 0\n"), "{text}");
        assert!(text.contains("result=\"failed\",") || text.contains("result=\"failed\"} 2"), "{text}");
        let document = include_str!("../../../../docs/sidecar.md");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(document.contains(name), "{name} is not in docs/sidecar.md");
        }
    }
}
