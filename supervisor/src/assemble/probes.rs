//! Probes as they are run.

use config as words;
use engine::probe::{Exec, Grpc, Heartbeat, Http, Notify, Probe, Tcp as TcpProbe, Trust};
use policies::health::Role;

use super::{NamedProbe, Source};

/// A probe as it is run.
pub(crate) fn probe(probe: &words::Probe) -> engine::Result<NamedProbe> {
    let kind = match &probe.kind {
        words::ProbeKind::Http(http) => Probe::Http(http_probe(http)?),
        words::ProbeKind::Tcp(address) => Probe::Tcp(TcpProbe::new(address.host.clone(), address.port)),
        words::ProbeKind::Exec(exec) if exec.inside => Probe::Exec(Exec::new(&exec.command).inside()),
        words::ProbeKind::Exec(exec) => Probe::Exec(Exec::new(&exec.command)),
        words::ProbeKind::Grpc(grpc) => {
            Probe::Grpc(Grpc::new(grpc.address.host.clone(), grpc.address.port, grpc.service.clone())?)
        }
        words::ProbeKind::Heartbeat(file) => Probe::Heartbeat(Heartbeat::new(file)?),
        words::ProbeKind::Notify => Probe::Notify(match probe.settings.role {
            Role::Liveness => Notify::life(),
            Role::Readiness | Role::Startup => Notify::ready(),
        }),
        words::ProbeKind::Report(max_age) => return Ok(named(probe, Source::Reported(*max_age))),
    };
    Ok(named(probe, Source::Asked(Box::new(kind))))
}

fn named(probe: &words::Probe, source: Source) -> NamedProbe {
    NamedProbe {
        name: match &probe.member {
            Some(member) => format!("{member}/{}", probe.name),
            None => probe.name.clone(),
        },
        member: probe.member.clone(),
        source,
        settings: probe.settings.clone(),
    }
}

fn http_probe(http: &words::HttpProbe) -> engine::Result<Http> {
    let url = format!("http://{}{}", http.host, http.path);
    let mut probe = match &http.target {
        words::HttpTarget::Tcp(address) => Http::new(&url)?.connecting_to(address.host.clone(), address.port),
        words::HttpTarget::Unix(socket) => Http::over_socket(socket, &url)?,
    };
    if let Some(tls) = &http.tls {
        probe = probe.over_tls(match tls {
            words::ProbeTls::Host => Trust::Host,
            words::ProbeTls::Authority(file) => Trust::Authority(file.clone()),
            words::ProbeTls::Unverified => Trust::Anybody,
        });
    }
    if let Some(text) = &http.body {
        probe = probe.wanting(text);
    }
    for (name, value) in &http.headers {
        probe = probe.header(name, value)?;
    }
    Ok(http.status.iter().fold(probe, |probe, range| probe.passing(range.clone())))
}
