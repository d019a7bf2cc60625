//! `[sidecar]`.

use policies::id::ServiceName;

use super::probe::{self, Of};
use crate::read::Table;
use crate::settings::{Address, Report, Sidecar};
use crate::values::{address, duration, path, service_name, text};

pub(super) fn sidecar(table: Table<'_>) -> Sidecar {
    let sidecar = Sidecar {
        listen: table.get("listen", address).unwrap_or(Address { host: String::new(), port: 0 }),
        report: table.table_if_written("report").map(report),
        probes: table
            .named_tables("probe")
            .into_iter()
            .map(|named| probe::probe(named, Of::Sidecar))
            .collect(),
    };
    table.done();
    sidecar
}

fn report(table: Table<'_>) -> Report {
    let nobody = || ServiceName::try_from("nobody").expect("it is a name");
    let report = Report {
        socket: table.get("socket", path).unwrap_or_default(),
        service: table.get("service", service_name).unwrap_or_else(nobody),
        probe: table.get("probe", text),
        interval: table.get("interval", duration).unwrap_or_default(),
    };
    table.done();
    report
}
