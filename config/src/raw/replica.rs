//! `[[store.replica]]` and the `tls` tables of peers.

use crate::error::Draft;
use crate::read::{Cell, Table};
use crate::settings::{Replica, ReplicaPlace, Tls};
use crate::values::{count, duration, path, replica_place, service_name, size, word};

pub(super) fn replica(table: Table<'_>) -> Replica {
    let retention = policies::retention::Settings {
        max_checkpoints: table.get("max_checkpoints", count).map_or(2, |count| count as usize),
        max_age: table.get("max_age", duration),
        max_total_size: table.get("max_total_size", size),
    };
    let place = table.get("url", replica_place);
    if let Some(place) = &place {
        refuse_what_does_nothing(&table, place);
    }
    let replica = Replica {
        place: place.unwrap_or(ReplicaPlace::Folder(std::path::PathBuf::new())),
        endpoint: table.get("endpoint", word),
        region: table.get("region", word),
        credentials_file: table.get("credentials_file", path),
        services: table
            .get("services", |cell| cell.list(service_name))
            .map(|names| names.into_iter().collect()),
        rate_limit: table.get("rate_limit", rate),
        timeout: table.get("timeout", duration).unwrap_or_default(),
        retention,
        tls: tls(&table),
    };
    table.done();
    replica
}

/// Slower than this, the other side would take us for silent.
fn rate(cell: &Cell<'_>) -> Option<u64> {
    match size(cell)? {
        rate if rate >= 64 << 10 => Some(rate),
        _ => cell.fault("no image gets through at this rate", "write at least `\"64KiB\"`, bytes a second"),
    }
}

/// `tls = { ca, cert, key }`, if it is there.
pub(super) fn tls(around: &Table<'_>) -> Option<Tls> {
    let written = around.has("tls");
    let table = written.then(|| around.table("tls"));
    if !written {
        around.pass_over("tls");
    }
    let table = table?;
    let files = (table.get("ca", path), table.get("cert", path), table.get("key", path));
    table.done();
    match files {
        (Some(ca), Some(cert), Some(key)) => Some(Tls { ca, cert, key }),
        _ => None,
    }
}

/// A key that a place of this kind cannot use was meant for something.
fn refuse_what_does_nothing(table: &Table<'_>, place: &ReplicaPlace) {
    let useless: &[&str] = match place {
        ReplicaPlace::S3(_) => &["tls"],
        ReplicaPlace::Azure(_) => &["region", "tls"],
        ReplicaPlace::Google(_) => &["endpoint", "region", "tls"],
        ReplicaPlace::Folder(_) => &["endpoint", "region", "credentials_file", "timeout", "tls"],
        ReplicaPlace::Peer(_) => &["endpoint", "region", "credentials_file"],
    };
    for key in useless {
        if let Some(span) = table.key_span(key) {
            let message = format!("`{key}` does nothing for a replica of this kind ({}://)", place.scheme());
            table.context.note(Draft::error(span, message).hint("leave it out, or correct `url`"));
        }
    }
}
