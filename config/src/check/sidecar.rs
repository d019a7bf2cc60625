//! Rules of `[sidecar]`.

use super::{Rules, service};
use crate::raw::Raw;
use crate::settings::ProbeKind;

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    let Some(sidecar) = &raw.sidecar else { return };
    service::probes(&sidecar.probes, rules, &|rest: &str| format!("sidecar/{rest}"));
    for probe in &sidecar.probes {
        let inside = format!("sidecar/probe/{}/exec/inside", probe.name);
        if matches!(&probe.kind, ProbeKind::Exec(exec) if exec.inside) {
            rules.error(
                &inside,
                &[],
                "a sidecar is no parent of the application and cannot run anything inside of it",
                "leave it out: the command runs in the sidecar, which shares what the pod shares",
            );
        }
    }
    if sidecar.probes.is_empty() && rules.places.written("sidecar/probe").is_none() {
        rules.warning(
            "sidecar",
            &[],
            "the sidecar probes nothing: it will say that all is well",
            "add `[sidecar.probe.NAME]`",
        );
    }
}
