//! `[service.NAME.probe.PROBE]`, `[sidecar.probe.PROBE]` and their kinds.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use policies::health::{Role, Settings};

use crate::error::Draft;
use crate::read::{Cell, Named, Table};
use crate::settings::{Address, ExecProbe, GrpcProbe, HttpProbe, HttpTarget, Probe, ProbeKind, ProbeTls};
use crate::values::{
    address, choice, command, count, duration, duration_or_zero, flag, header_value, is_header_name, path,
    request_path, status_range, text, url,
};

const KINDS: [&str; 7] = ["http", "tcp", "exec", "grpc", "heartbeat", "report", "notify"];

/// Whose probe it is: only a service takes reports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    Service,
    Sidecar,
}

pub(super) fn probe(named: Named<'_>, of: Of) -> Probe {
    let Named { name, name_span, table } = named;
    if name.is_empty()
        || name.len() > 63
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
    {
        let draft = Draft::error(name_span, "this cannot be the name of a probe");
        table.context.note(draft.hint("use `A-Z a-z 0-9 . _ -`, and at most 63 characters"));
    }
    let kind = kind(&table, of);
    let settings = Settings {
        role: table.get("role", choice).unwrap_or(Role::Liveness),
        interval: table.get("interval", duration).unwrap_or_default(),
        timeout: table.get("timeout", duration).unwrap_or_default(),
        failure_threshold: table.get("failure_threshold", count).unwrap_or_default(),
        success_threshold: table.get("success_threshold", count).unwrap_or_default(),
        start_period: table.get("start_period", duration_or_zero).unwrap_or_default(),
        reported: matches!(kind, ProbeKind::Report(_)),
    };
    table.done();
    Probe { name: name.to_owned(), member: None, kind, settings }
}

fn kind(table: &Table<'_>, of: Of) -> ProbeKind {
    let hint = "write one of `http = { url = \"...\" }`, `tcp = { address = \"...\" }`, `exec = { \
    command = [\"...\"] }`, `grpc = { address = \"...\" }`, `heartbeat = { file = \"...\" }` and `notify = {}`";
    let chosen = table.exactly_one_of("kind of probe", &KINDS, hint);
    let http = table.has("http").then(|| http(table.table("http")));
    let tcp = table.has("tcp").then(|| tcp(table.table("tcp")));
    let exec = table.has("exec").then(|| exec(table.table("exec")));
    let grpc = table.has("grpc").then(|| grpc(table.table("grpc")));
    let heartbeat = table.has("heartbeat").then(|| heartbeat(table.table("heartbeat")));
    // A sidecar's were answered already.
    let report = (of == Of::Service && table.has("report")).then(|| report(table.table("report")));
    if of == Of::Service && table.has("notify") {
        table.table("notify").done();
    }
    let kind = match chosen {
        Some("http") => http.map(ProbeKind::Http),
        Some("tcp") => tcp.map(ProbeKind::Tcp),
        Some("grpc") => grpc.map(ProbeKind::Grpc),
        Some("heartbeat") => heartbeat.map(ProbeKind::Heartbeat),
        Some("notify") => Some(ProbeKind::Notify),
        Some("report") => report.map(ProbeKind::Report),
        Some(_) | None => exec.map(ProbeKind::Exec),
    };
    kind.unwrap_or(ProbeKind::Exec(ExecProbe { command: Vec::new(), inside: false }))
}

fn http(table: Table<'_>) -> HttpProbe {
    let url = table.get("url", url);
    let address = table.get("address", address);
    let socket = table.get("socket", path);
    let asked = table.get("path", request_path);
    let targets = ["url", "address", "socket"];
    if table.exactly_one_of("address", &targets, "write `url = \"http://...\"`").is_some() {
        refuse_path_beside_url(&table);
    }
    let secure = table.get("tls", flag).unwrap_or_default() || url.as_ref().is_some_and(|url| url.secure);
    let tls = tls(&table, secure);
    let root = || "/".to_owned();
    let (target, authority, default) = match (url, address, socket) {
        (Some(url), ..) => (HttpTarget::Tcp(url.address), url.authority, url.path),
        (None, Some(address), _) => (HttpTarget::Tcp(address.clone()), address.to_string(), root()),
        (None, None, Some(socket)) => (HttpTarget::Unix(socket), "localhost".to_owned(), root()),
        (None, None, None) => (HttpTarget::Tcp(nowhere()), String::new(), String::new()),
    };
    let probe = HttpProbe {
        target,
        tls,
        path: asked.unwrap_or(default),
        host: table.get("host", header_value).unwrap_or(authority),
        headers: table.get("headers", headers("write `host = \"...\"` beside `headers`")).unwrap_or_default(),
        status: table.get("status", |cell| cell.list(status_range)).unwrap_or_default(),
        body: table.get("body", text),
    };
    table.done();
    probe
}

fn tls(table: &Table<'_>, secure: bool) -> Option<ProbeTls> {
    let ca = table.get("ca", path);
    let verify = table.get("verify", flag).unwrap_or(true);
    let useless = |key: &str, message: &str, hint: &str| {
        if let Some(span) = table.key_span(key) {
            table.context.note(Draft::error(span, message).hint(hint));
        }
    };
    let without = "this does nothing without TLS";
    match (secure, verify, ca) {
        (false, ..) => {
            let hint = "write an `https` URL or `tls = true`, or leave it out";
            ["ca", "verify"].iter().for_each(|key| useless(key, without, hint));
            None
        }
        (true, true, None) => Some(ProbeTls::Host),
        (true, true, Some(ca)) => Some(ProbeTls::Authority(ca)),
        (true, false, ca) => {
            if ca.is_some() {
                useless("ca", "this does nothing with `verify = false`", "leave one of them out");
            }
            Some(ProbeTls::Unverified)
        }
    }
}

fn refuse_path_beside_url(table: &Table<'_>) {
    if let (Some(url), Some(path)) = (table.key_span("url"), table.key_span("path")) {
        let draft = Draft::error(path, "`path` stands beside `url`, which has a path of its own");
        table.context.note(draft.also(url, "the URL").hint("put the path into the URL"));
    }
}

/// Headers by name; `host` says where that one comes from.
pub(super) fn headers(host: &'static str) -> impl Fn(&Cell<'_>) -> Option<BTreeMap<String, String>> {
    let header = move |name: &str, span: Range<usize>, cell: &Cell<'_>| {
        let value = header_value(cell);
        if !is_header_name(name) {
            let draft = Draft::error(span, "this cannot be the name of a header");
            cell.context.note(draft.hint("write it as `X-Name`"));
            return None;
        }
        if name.eq_ignore_ascii_case("host") {
            let draft = Draft::error(span, "the `Host` header is not set here");
            cell.context.note(draft.hint(host));
            return None;
        }
        value
    };
    move |cell| cell.by_name(header)
}

fn tcp(table: Table<'_>) -> Address {
    let address = table.get("address", address);
    table.done();
    address.unwrap_or_else(nowhere)
}

fn grpc(table: Table<'_>) -> GrpcProbe {
    let address = table.get("address", address).unwrap_or_else(nowhere);
    let service = table.get("service", text).unwrap_or_default();
    table.done();
    GrpcProbe { address, service }
}

fn heartbeat(table: Table<'_>) -> PathBuf {
    let file = table.get("file", path).unwrap_or_default();
    table.done();
    file
}

fn report(table: Table<'_>) -> Duration {
    let max_age = table.get("max_age", duration).unwrap_or_default();
    table.done();
    max_age
}

/// Stands in for an address that was answered by a mistake.
fn nowhere() -> Address {
    Address { host: String::new(), port: 0 }
}

fn exec(table: Table<'_>) -> ExecProbe {
    let command = table.get("command", command).unwrap_or_default();
    let inside = table.get("inside", flag).unwrap_or_default();
    table.done();
    ExecProbe { command, inside }
}
