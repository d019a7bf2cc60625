//! `[sidecar]`, for `supervisor sidecar`.

use super::probe::SIDECAR_PROBE;
use super::{Key, Kind, Section};

pub(super) static SIDECAR: Section = Section {
    title: "sidecar",
    doc: "Read by `supervisor sidecar` alone: what it probes in the pod or container beside it, and whom it tells.",
    keys: &[
        Key::required(
            "listen",
            Kind::Address,
            "\"0.0.0.0:8086\"",
            "Where `/livez`, `/readyz` and `/metrics` are answered, by plain HTTP and to anybody.",
        ),
        Key::table("report", &REPORT),
        Key { kind: Kind::Tables("probe", &SIDECAR_PROBE), ..Key::table("probe", &SIDECAR_PROBE) },
    ],
};

static REPORT: Section = Section {
    title: "sidecar.report",
    doc: "Whom the verdict is reported to: a supervisor whose socket is mounted here, for a service of it that has a probe of the kind `report`.",
    keys: &[
        Key::default(
            "socket",
            Kind::Path,
            "\"/run/supervisor/api.sock\"",
            "The supervisor's socket. Whoever can open it can do all that `supervisor` can.",
        ),
        Key::required("service", Kind::ServiceName, "\"shop\"", "The service that the application is there."),
        Key::optional(
            "probe",
            Kind::Text,
            "the only one of that kind",
            "\"outside\"",
            "The name of the service's probe of the kind `report`.",
        ),
        Key::default(
            "interval",
            Kind::Duration,
            "\"5s\"",
            "Time between two reports; a verdict that changes is reported at once. Each holds for three intervals.",
        ),
    ],
};
