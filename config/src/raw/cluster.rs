//! `[cluster]` and `[service.NAME.failover]`.

use policies::lease;

use crate::read::Table;
use crate::settings::{Cluster, ClusterTls, Failback, Failover, Lease};
use crate::values::{
    bucket, choice, command, count, device, duration, endpoint, network_address, node_name, path,
    service_name,
};

pub(super) fn cluster(table: Table<'_>) -> Cluster {
    let cluster = Cluster {
        lease: table.get("lease", choice).unwrap_or(Lease::Local),
        endpoints: table.get("endpoints", |cell| cell.list(endpoint)).unwrap_or_default(),
        bucket: table.get("bucket", bucket),
        times: lease::Settings {
            ttl: table.get("ttl", duration).unwrap_or_default(),
            renew_interval: table.get("renew_interval", duration).unwrap_or_default(),
            ..lease::Settings::default()
        },
        watchdog: table.get("watchdog", path),
        tls: tls(table.table("tls")),
    };
    table.done();
    cluster
}

fn tls(table: Table<'_>) -> ClusterTls {
    let tls = ClusterTls {
        ca: table.get("ca", path),
        certificate: table.get("cert", path),
        key: table.get("key", path),
    };
    table.done();
    tls
}

pub(super) fn failover(table: Table<'_>) -> Failover {
    let failover = Failover {
        standby: table.get("standby", |cell| cell.list(node_name)).unwrap_or_default(),
        address: table.get("address", network_address),
        device: table.get("device", device),
        failback: table.get("failback", choice).unwrap_or(Failback::Never),
        on_take_over: table.get("on_take_over", command),
        fence: table.get("fence", command),
        fence_timeout: table.get("fence_timeout", duration).unwrap_or_default(),
        prefer: table.get("prefer", choice).unwrap_or_default(),
        apart: table.get("apart", |cell| cell.list(service_name)).unwrap_or_default(),
        migration_threshold: table.get("migration_threshold", count),
    };
    table.done();
    failover
}
