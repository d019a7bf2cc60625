//! Rules about leases, and about services that other nodes may take over: without a way to fence there is none.

use std::time::Duration;

use policies::ladder::{OnExhausted, Rung};
use policies::lease::Unfit;

use super::{Rules, dependencies, human};
use crate::raw::Raw;
use crate::settings::{Failover, Lease, Service};

/// etcd counts in whole seconds, and grants nothing shorter.
const ETCD_TTL_MIN: Duration = Duration::from_secs(2);

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    places(raw, rules);
    times(raw, rules);
    watchdog(raw, rules);
    tls(raw, rules);
    for (name, service) in &raw.services {
        let at = |rest: &str| format!("{}/{rest}", raw.place(name));
        if let Some(failover) = &service.failover {
            standbys(failover, raw, rules, &at);
        }
        wanted(service, rules, &at);
    }
}

fn places(raw: &Raw, rules: &mut Rules<'_>) {
    let cluster = &raw.cluster;
    if cluster.lease == Lease::Etcd && cluster.endpoints.is_empty() {
        let hint = "add `endpoints = [\"http://127.0.0.1:2379\"]`";
        rules.error("cluster/lease", &["cluster/endpoints"], "`lease = \"etcd\"` needs `endpoints`", hint);
    }
    if cluster.lease == Lease::Bucket && cluster.bucket.is_none() {
        let hint = "add `bucket = \"s3://bucket/prefix\"`";
        rules.error("cluster/lease", &["cluster/bucket"], "`lease = \"bucket\"` needs `bucket`", hint);
    }
    let idle = [
        (
            "cluster/endpoints",
            "endpoints",
            "etcd",
            cluster.lease != Lease::Etcd && !cluster.endpoints.is_empty(),
        ),
        ("cluster/bucket", "bucket", "bucket", cluster.lease != Lease::Bucket && cluster.bucket.is_some()),
    ];
    for (place, key, lease, _) in idle.into_iter().filter(|(.., idle)| *idle) {
        let message = format!("`{key}` does nothing without `lease = \"{lease}\"`");
        rules.warning(place, &["cluster/lease"], message, "leave one of them out");
    }
}

fn times(raw: &Raw, rules: &mut Rules<'_>) {
    let keys = ["cluster/ttl", "cluster/renew_interval"];
    let times = &raw.cluster.times;
    let (ttl, interval) = (human(times.ttl), human(times.renew_interval));
    match times.check() {
        Ok(()) => {}
        Err(Unfit::TtlTooShort) => {
            let margin = human(times.stop_margin);
            let message =
                format!("nothing of a `ttl` of {ttl} is left after the {margin} that stopping may take");
            rules.error("cluster/ttl", &keys, message, "make `ttl` longer, as `\"10s\"`");
        }
        Err(Unfit::RenewedTooSeldom { renew_interval_max }) => {
            let message = format!(
                "a lease of {ttl} renewed every {interval} would stop the service at the first renewal that is lost"
            );
            let most =
                human(Duration::from_millis(u64::try_from(renew_interval_max.as_millis()).unwrap_or(0)));
            let hint = format!("make `renew_interval` at most {most}, or `ttl` longer");
            rules.error(super::later(rules.places, keys), &keys, message, &hint);
        }
    }
    if raw.cluster.lease == Lease::Etcd && (times.ttl < ETCD_TTL_MIN || times.ttl.subsec_nanos() > 0) {
        let message = format!("etcd cannot grant a lease of {ttl}");
        rules.error("cluster/ttl", &["cluster/lease"], message, "write whole seconds, two at least");
    }
}

fn watchdog(raw: &Raw, rules: &mut Rules<'_>) {
    if raw.cluster.watchdog.is_some() && raw.cluster.lease == Lease::Local {
        let message = "`watchdog` does nothing with `lease = \"local\"`: there is no lease that another node could take";
        rules.warning("cluster/watchdog", &["cluster/lease"], message, "leave one of them out");
    }
}

fn tls(raw: &Raw, rules: &mut Rules<'_>) {
    let tls = &raw.cluster.tls;
    let secure = |endpoint: &String| endpoint.starts_with("https://");
    if tls.ca.is_none() && raw.cluster.endpoints.iter().any(secure) {
        let hint = "add `tls.ca = \"/etc/supervisor/ca.pem\"`";
        rules.error(
            "cluster/endpoints",
            &["cluster/tls/ca"],
            "`https` needs the certificate authority",
            hint,
        );
    }
    let halves = [
        ("cluster/tls/cert", "cert", "key", tls.certificate.is_some() && tls.key.is_none()),
        ("cluster/tls/key", "key", "cert", tls.key.is_some() && tls.certificate.is_none()),
    ];
    for (place, one, other, _) in halves.into_iter().filter(|(.., half)| *half) {
        let message = format!("`{one}` is of no use without `{other}`");
        rules.error(place, &[&format!("cluster/tls/{other}")], message, &format!("add `{other}`"));
    }
}

fn standbys(failover: &Failover, raw: &Raw, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    let standby = at("failover/standby");
    if failover.standby.is_empty() {
        let hint = "name a node, or leave `failover` out";
        rules.error(&standby, &[], "there is no standby in the list", hint);
    }
    if raw.cluster.lease == Lease::Local && !failover.standby.is_empty() {
        let message = "a standby needs a lease that other nodes see: with a local one, nothing would stop the service \
                       here before it is started there";
        let hint =
            "write `[cluster]` with `lease = \"etcd\"` or `lease = \"bucket\"`, or leave `failover` out";
        rules.error(&standby, &["cluster/lease"], message, hint);
    }
    for (position, node) in failover.standby.iter().enumerate() {
        if failover.standby[..position].contains(node) {
            let place = at(&format!("failover/standby/{position}"));
            let message = format!("`{node}` is in the list already");
            rules.error(&place, &[], message, "leave one of them out");
        }
    }
    for (position, name) in failover.apart.iter().enumerate() {
        if !raw.services.contains_key(name) {
            dependencies::unknown(raw, &at(&format!("failover/apart/{position}")), name, rules);
        }
    }
    if failover.device.is_some() && failover.address.is_none() {
        let (device, address) = (at("failover/device"), at("failover/address"));
        rules.error(&device, &[&address], "`device` does nothing without `address`", "add `address`");
    }
}

/// What asks for a standby where there is none.
fn wanted(service: &Service, rules: &mut Rules<'_>, at: &dyn Fn(&str) -> String) {
    if service.failover.is_some() {
        return;
    }
    const HINT: &str = "name one in `failover.standby`, or leave it out";
    let ladder = at("restart/ladder");
    if rules.places.written(&ladder).is_some() {
        for (position, _) in
            service.policy.ladder.rungs.iter().enumerate().filter(|(_, rung)| **rung == Rung::FailOver)
        {
            let place = at(&format!("restart/ladder/{position}"));
            rules.warning(&place, &[], "`fail-over` is passed over: the service has no standby", HINT);
        }
    }
    if service.policy.ladder.on_exhausted == OnExhausted::FailOver {
        let message = "`on_exhausted = \"fail-over\"` needs a standby, and the service has none";
        let hint = "name one in `failover.standby`, or write `on_exhausted = \"stop\"`";
        rules.error(&at("restart/on_exhausted"), &[], message, hint);
    }
}
