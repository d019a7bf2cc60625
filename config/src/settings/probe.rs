//! Health checks, as plain data.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use policies::health::Role;

use super::Service;

use policies::id::ServiceName;

/// `[service.NAME.probe.PROBE]`: one health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// Its name, for people.
    pub name: String,
    /// The member of the group that it asks; none if the service is no group.
    pub member: Option<ServiceName>,
    /// What it does.
    pub kind: ProbeKind,
    /// How often, and what its results mean.
    pub settings: policies::health::Settings,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Asks by HTTP/1.1.
    Http(HttpProbe),
    /// Opens a connection.
    Tcp(Address),
    /// Runs a command that must exit with 0.
    Exec(ExecProbe),
    /// Asks gRPC's health service.
    Grpc(GrpcProbe),
    /// Waits for this file to be touched.
    Heartbeat(PathBuf),
    /// Listens to what the service says of itself by sd_notify.
    Notify,
    /// Takes what is reported from outside; each report counts for at most so long.
    Report(Duration),
}

/// `exec = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecProbe {
    /// Program and arguments, never empty.
    pub command: Vec<String>,
    /// It is run in the service's namespaces and root.
    pub inside: bool,
}

/// `http = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Where to connect.
    pub target: HttpTarget,
    /// How the service's certificate is verified; `None`: it is asked without TLS.
    pub tls: Option<ProbeTls>,
    /// What to ask for, with its query; begins with `/`.
    pub path: String,
    /// The `Host` header.
    pub host: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// The status codes that count as passed.
    pub status: Vec<RangeInclusive<u16>>,
    /// A text that the body must contain.
    pub body: Option<String>,
}

/// Whose signature under a service's certificate is believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeTls {
    /// Those whom the host trusts.
    Host,
    /// This authority's.
    Authority(PathBuf),
    /// Anybody's.
    Unverified,
}

/// Where an http probe connects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpTarget {
    /// Over TCP.
    Tcp(Address),
    /// To a unix socket.
    Unix(PathBuf),
}

/// `grpc = { ... }`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcProbe {
    /// Where to connect.
    pub address: Address,
    /// What to ask about; empty: the whole server.
    pub service: String,
}

/// A host (name or IP address, without brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Name or IP address.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What a service is told in its environment, so that it says how it is by sd_notify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// How often it must give a sign of life at least; `None`: it need not.
    pub watchdog: Option<Duration>,
}

impl Service {
    /// What it is told; `None`: it has no such probe.
    pub fn notify(&self) -> Option<Notify> {
        let of_kind = || self.probes.iter().filter(|probe| probe.kind == ProbeKind::Notify);
        let watchdogs = of_kind().filter(|probe| probe.settings.role == Role::Liveness);
        let watchdog = watchdogs.map(|probe| probe.settings.interval).min();
        of_kind().next().map(|_| Notify { watchdog })
    }
}
