//! The daemon: put together, run, reload, stop.
//!
//! ```text
//! lock -> CRIU, store, journal -> each service: reclaim, task -> API, READY=1
//!      -> [signals | the file changed | watchdog] -> every task idle -> gone; services run on
//! ```

mod host;
mod leased;
mod reload;
mod stand_in;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use config::{Config, OnStop};
use engine::lock::Lock;
use engine::replica::peer::Holding;
use policies::id::ServiceName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::host::Host;
use self::reload::Trigger;
use crate::assemble::Ground;
use crate::carry_out::Node;
use crate::control::Control;
use crate::events::plain;
use crate::hooks::Hooks;
use crate::replicas::Reception;
use crate::service::Message;
use crate::signals::{Asked, Signals};
use crate::status::NodeStatus;
use crate::telemetry::Telemetry;
use crate::tenure::{self, Arrival};

/// What `supervisor run` was given.
#[derive(Debug, Clone)]
pub(crate) struct RunOptions {
    /// The configuration file.
    pub(crate) config: PathBuf,
    /// Where it runs.
    pub(crate) standing: Standing,
}

/// What ends when the supervisor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Itself: it is one process of a host.
    Host,
    /// Its services too: it stands behind process 1 of a container.
    Container,
}

/// How often systemd is told how many services run, if that has changed.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// Beyond the longest checkpoint: what else may take time when stopping.
const STOP_GRACE: Duration = Duration::from_secs(20);

/// A running daemon.
struct Daemon {
    options: RunOptions,
    config: Config,
    ground: Ground,
    node: Node,
    control: Control,
    /// Leases, if any service may run elsewhere.
    leases: Option<tenure::Ground>,
    /// Services whose leases are watched.
    watched: BTreeMap<ServiceName, CancellationToken>,
    /// Services whose images no peer may bring.
    holding: Holding,
    /// Where peers are let in, until they are.
    reception: Option<Reception>,
    status: watch::Sender<NodeStatus>,
    hooks: Hooks,
    telemetry: Telemetry,
    tasks: Vec<(ServiceName, JoinHandle<()>)>,
    /// Taken out of the configuration and not ended yet.
    leaving: BTreeSet<ServiceName>,
    /// Where those say that they have.
    gone: mpsc::Sender<ServiceName>,
    /// What systemd was told last.
    said: String,
    stop: CancellationToken,
    _locks: Vec<Lock>,
}

/// Runs until told to stop.
pub(crate) async fn run(options: RunOptions) -> anyhow::Result<()> {
    let mut signals = Signals::listen()?;
    let (gone, mut has_gone) = mpsc::channel(64);
    let (change, mut changes) = mpsc::channel(64);
    let mut daemon = start::start(options, gone, change).await?;
    // A supervisor that nobody can talk to is not started; services are not touched before that is known.
    let doors = crate::api::Doors {
        socket: crate::api::bind(&daemon.config.api.socket).await?,
        https: crate::api::Entrance::bind(&daemon.config.api).await?,
    };
    daemon.start_services().await;
    let api = tokio::spawn(doors.serve(daemon.control.clone(), daemon.stop.child_token()));
    if let Some(reception) = daemon.reception.take() {
        tokio::spawn(reception.serve(daemon.control.clone(), daemon.stop.child_token()));
    }
    daemon.watch_host();
    let mut file = reload::Watcher::start(&daemon.options.config);
    notify(&[sd_notify::NotifyState::Ready]);
    daemon.node.events.record(plain(None, "node-started", "the supervisor runs"));
    let mut watchdog = watchdog();
    let mut status = tokio::time::interval(STATUS_EVERY);
    loop {
        daemon.say_status().await;
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Stop => break,
                Asked::Reload => daemon.reload(Trigger::Asked).await,
            },
            () = file.changed() => daemon.reload(Trigger::Seen).await,
            Some(name) = has_gone.recv() => daemon.has_gone(&name).await,
            Some(change) = changes.recv() => daemon.tenure_changed(change).await,
            _ = status.tick() => {}
            () = tick(&mut watchdog) => notify(&[sd_notify::NotifyState::Watchdog]),
        }
    }
    daemon.stop_all().await;
    tokio::join!(daemon.hooks.end(), daemon.telemetry.end());
    // It ends with the token.
    let _ = tokio::time::timeout(Duration::from_secs(2), api).await;
    Ok(())
}

impl Daemon {
    /// Every service's task, in the order of the names; those that depend on others wait by themselves.
    async fn start_services(&mut self) {
        let services: Vec<_> = self.config.services.keys().cloned().collect();
        for name in services {
            self.start_service(&name).await;
        }
        self.forget_the_rest().await;
    }

    async fn start_service(&mut self, name: &ServiceName) {
        let leased = self.config.services.get(name).is_some_and(|service| service.failover.is_some());
        if leased && self.leases.is_some() {
            self.wait_for_lease(name).await
        } else {
            self.begin(name, Arrival::AsFound).await
        }
    }

    async fn begin(&mut self, name: &ServiceName, arrival: Arrival) {
        let Some(service) = self.config.services.get(name) else { return };
        self.holding.hold(name.clone());
        self.node.replicas.follow(name);
        if self.leaving.contains(name) {
            // Put back before it had ended: its end would be the new one's. `has_gone` comes here again.
            let (entry, task) =
                stand_in::spawn(name, "stopping", "it was taken out of the configuration and still ends");
            self.tasks.push((name.clone(), task));
            return self.control.insert(name.clone(), entry).await;
        }
        let started = match self.ground.parts(name, service).map(Arc::new) {
            Ok(parts) => start::service(&self.node, &self.control, name, parts, arrival).await,
            Err(error) => Err(error),
        };
        let (entry, task) = match started {
            Ok(started) => started,
            Err(error) => {
                self.node.events.record(plain(Some(name.as_str()), "start-failed", error.to_string()));
                stand_in::spawn(name, "failed", &error.to_string())
            }
        };
        self.control.insert(name.clone(), entry).await;
        self.tasks.retain(|(other, _)| other != name);
        self.tasks.push((name.clone(), task));
    }

    /// Services that were taken out of the file while no supervisor ran.
    async fn forget_the_rest(&self) {
        let known = self.node.journal.services().unwrap_or_default();
        for name in known.into_iter().filter(|n| !self.config.services.contains_key(n)) {
            let Ok(Some(record)) = self.node.journal.read(&name) else { continue };
            if let Some(handle) = record.handle.filter(engine::runtime::Handle::is_alive) {
                let text = format!(
                    "runs (pid {}) but is not in the configuration any more; it is left alone",
                    handle.pid
                );
                self.node.events.record(plain(Some(name.as_str()), "not-configured", text));
            }
        }
    }

    fn watch_host(&self) {
        if let Some(occasion) = host::occasion(self.config.node.on_host_shutdown) {
            let (control, events) = (self.control.clone(), self.node.events.clone());
            Host { control, events, occasion }.watch(self.stop.child_token());
        }
    }

    fn on_stop(&self) -> OnStop {
        match (self.options.standing, self.config.node.on_stop) {
            (Standing::Host, wanted) => wanted.unwrap_or(OnStop::Leave),
            // Whatever ran on would be killed by the kernel the moment that process 1 ends.
            (Standing::Container, None | Some(OnStop::Leave)) => OnStop::Stop,
            (Standing::Container, Some(wanted)) => wanted,
        }
    }

    async fn say_status(&mut self) {
        let services = self.control.status().await.services;
        let running = services.iter().filter(|s| s.state == "running").count();
        let text = format!("{running} of {} services run", services.len());
        if text != self.said {
            notify(&[sd_notify::NotifyState::Status(&text)]);
            self.said = text;
        }
    }

    /// Lets what is under way come to its end. What becomes of the services is configured.
    async fn stop_all(&mut self) {
        notify(&[sd_notify::NotifyState::Stopping]);
        let on_stop = self.on_stop();
        let text = match on_stop {
            OnStop::Leave => "the supervisor stops; services run on",
            OnStop::Stop => "the supervisor stops, and its services with it",
            OnStop::Suspend => "the supervisor stops; its services are suspended until it is back",
        };
        self.node.events.record(plain(None, "node-stopping", text));
        for (_, entry) in self.control.entries().await {
            // A task that has ended has nothing to stop.
            let _ = entry.inbox.send(Message::Shutdown(on_stop)).await;
        }
        let longest = |service: &config::Service| {
            let stopping = (on_stop != OnStop::Leave).then_some(service.policy.stop_timeout + STOP_GRACE);
            service.policy.cadence.timeout + stopping.unwrap_or_default()
        };
        let longest = self.config.services.values().map(longest).max().unwrap_or_default();
        let deadline = tokio::time::Instant::now() + longest + STOP_GRACE;
        for (name, task) in self.tasks.drain(..) {
            if tokio::time::timeout_at(deadline, task).await.is_err() {
                tracing::warn!(service = %name, "did not come to rest in time");
            }
        }
        self.node.replicas.stop();
        self.stop.cancel();
        // Leases are not renewed from here on, and those that are held have their fences.
        self.node.tenures.stop_watching();
    }
}

/// systemd may not be there; then nobody hears it.
fn notify(states: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd could not be told");
    }
}

fn watchdog() -> Option<tokio::time::Interval> {
    let limit = sd_notify::watchdog_enabled()?;
    Some(tokio::time::interval(limit / 2))
}

async fn tick(watchdog: &mut Option<tokio::time::Interval>) {
    match watchdog {
        Some(interval) => drop(interval.tick().await),
        None => std::future::pending().await,
    }
}
