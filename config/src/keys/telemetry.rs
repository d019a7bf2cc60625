//! `[telemetry]`: where measurements and traces are sent.

use super::{Key, Kind, Section};

pub(super) static TELEMETRY: Section = Section {
    title: "telemetry",
    doc: "What is sent to an observability system by itself. Nothing is unless it is configured. See docs/operations.md.",
    keys: &[Key::table("otlp", &OTLP)],
};

static OTLP: Section = Section {
    title: "telemetry.otlp",
    doc: "A collector of OpenTelemetry: it gets the metrics, and recoveries and checkpoints as traces, by OTLP over HTTP (protobuf).",
    keys: &[
        Key::required(
            "endpoint",
            Kind::Url,
            "\"http://127.0.0.1:4318\"",
            "Where the collector listens, by `http` or `https`; `/v1/metrics` and `/v1/traces` are added to it.",
        ),
        Key::default(
            "headers",
            Kind::TextByName,
            "{}",
            "Further headers of these requests, as `Authorization = \"Bearer ${TOKEN}\"`.",
        ),
        Key::optional(
            "ca",
            Kind::Path,
            "the host's authorities",
            "\"/etc/supervisor/tls/collector.crt\"",
            "The certificate authority that the collector's certificate is signed by (PEM), instead of the host's.",
        ),
        Key::default("interval", Kind::Duration, "\"15s\"", "How often it is sent."),
        Key::default("timeout", Kind::Duration, "\"10s\"", "How long one request may take."),
    ],
};
