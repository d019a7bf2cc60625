//! `[telemetry]`.

use super::probe::headers;
use crate::read::Table;
use crate::settings::Otlp;
use crate::values::{duration, path, web_url};

/// Where it is sent; `None`: nowhere.
pub(super) fn telemetry(table: Table<'_>) -> Option<Otlp> {
    let otlp = table.table_if_written("otlp").map(otlp);
    table.done();
    otlp
}

fn otlp(table: Table<'_>) -> Otlp {
    let headers =
        table.get("headers", headers("it is taken from `endpoint`: leave it out")).unwrap_or_default();
    let otlp = Otlp {
        endpoint: table.get("endpoint", web_url).unwrap_or_default(),
        headers,
        ca: table.get("ca", path),
        interval: table.get("interval", duration).unwrap_or_default(),
        timeout: table.get("timeout", duration).unwrap_or_default(),
    };
    table.done();
    otlp
}
