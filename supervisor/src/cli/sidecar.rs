//! `sidecar`: beside an application, in its pod or container.
//!
//! ```text
//! probes ──results──> the watch (rows -> verdict) ──> /livez, /readyz, /metrics
//!                          ^                     └──> reports to the node's supervisor
//!                          └── another run there: begin anew ──┘
//! ```
//!
//! It refuses to act on the application: the kubelet, or the node's supervisor, does that. It keeps nothing.

mod report;
mod serve;
mod watch;

use std::path::Path;

use tokio::net::TcpListener;

use self::report::{Reporter, Reports};
use self::watch::Watch;
use super::check;
use super::failure::Failure;
use super::run::begin_log;
use crate::assemble::{self, NamedProbe};
use crate::signals::{Asked, Signals};

/// Watches and answers until told to stop.
pub(crate) async fn sidecar(config: Option<&Path>) -> Result<(), Failure> {
    let file = config
        .ok_or_else(|| Failure::Invalid("name the file: supervisor sidecar --config FILE".to_owned()))?;
    let config = check::read(file)?;
    let missing = || Failure::Invalid(format!("{} has no `[sidecar]`", file.display()));
    let config::Sidecar { listen, report, probes } = config.sidecar.ok_or_else(missing)?;
    begin_log();
    let probes = probes.iter().map(assemble::probe).collect::<engine::Result<Vec<NamedProbe>>>();
    let probes = probes.map_err(|e| Failure::Invalid(e.to_string()))?;
    let mut signals = Signals::listen().map_err(|e| Failure::Failed(format!("{e:#}")))?;
    let listener = TcpListener::bind((listen.host.as_str(), listen.port)).await;
    let listener = listener.map_err(|e| Failure::Failed(format!("listen at {listen}: {e}")))?;

    let (watch, found) = Watch::begin(&probes);
    let reports = Reports::default();
    if let Some(to) = report {
        tokio::spawn(Reporter::new(to, watch, found.clone(), reports.clone()).report_on());
    }
    let serving = tokio::spawn(serve::serve(listener, found, reports));
    tracing::info!(%listen, probes = probes.len(), "the sidecar answers");
    loop {
        match signals.next().await {
            Asked::Stop => break,
            Asked::Reload => tracing::warn!("a sidecar reads its configuration once: start it again"),
        }
    }
    serving.abort();
    Ok(())
}
