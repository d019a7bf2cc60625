//! Putting the daemon together, and one service's task.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use config::{Config, Failover, OnStop};
use engine::address::{Address, Addresses};
use engine::compat::Host;
use engine::criu::Criu;
use engine::error::Report;
use engine::fence::watchdog::Watchdog;
use engine::freeze::Hierarchies;
use engine::images::{Store, Swept};
use engine::journal::Journal;
use engine::lock::Lock;
use engine::process::command::Command;
use engine::replica::Epochs;
use engine::replica::peer::Holding;
use engine::systemd::Systemd;
use policies::id::{NodeName, ServiceName};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Daemon, RunOptions, Standing};
use crate::assemble::{Ground, Parts, hot_folder, store};
use crate::carry_out::{Actor, Node};
use crate::control::{Control, Entry};
use crate::events::{Events, plain};
use crate::hooks::Hooks;
use crate::reclaim::{anew, reclaim};
use crate::replicas::{Reception, Replicas};
use crate::service::{self, Beginning, Message};
use crate::status::NodeStatus;
use crate::telemetry::Telemetry;
use crate::tenure::{self, Arrival, Change, Cluster, Nodes, Tenures};

/// Commits at the same time: each takes a core and the disk.
const COMMITS: usize = 1;

/// Reads the file; what is wrong with it is said as it is.
pub(super) fn read_config(path: &Path) -> anyhow::Result<Config> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("read the configuration {}", path.display()))?;
    let env = |name: &str| std::env::var(name).ok();
    Config::parse(&text, &path.display().to_string(), &env).map_err(anyhow::Error::from)
}

/// Everything but the services.
pub(super) async fn start(
    options: RunOptions,
    gone: mpsc::Sender<ServiceName>,
    changes: mpsc::Sender<Change>,
) -> anyhow::Result<Daemon> {
    let config = read_config(&options.config)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    if (options.standing, config.node.on_stop) == (Standing::Container, Some(OnStop::Leave)) {
        tracing::warn!(
            "`node.on_stop` is `leave`, but nothing outlives process 1: services are stopped with it"
        );
    }
    let locks = locks(&config)?;
    let ground = ground(&config).await?;
    let (store, swept) = Store::open(store(&config.store, hot_folder(&config))?)?;
    let events = Events::open(&config.node.state_dir.join("events.log"))?;
    let hooks = Hooks::start(&config, events.clone(), ground.node.clone());
    tell_swept(&events, &swept);
    tell_encryption(&events, &store)?;
    let tenures = Tenures::default();
    watch(&config, &tenures)?;
    let node = Node {
        name: ground.node.clone(),
        store: store.clone(),
        journal: Journal::open(config.node.state_dir.join("services"))?,
        events: events.clone(),
        host: Host::probe(ground.criu.version())?,
        commits: Arc::new(Semaphore::new(COMMITS)),
        aside: config.node.state_dir.join("aside"),
        replicas: replicas(&config, &ground, &store, &events, &tenures)?,
        tenures: tenures.clone(),
    };
    engine::durable::create_dir_all(&node.aside)?;
    engine::durable::create_dir_all(&config.node.state_dir.join("logs"))?;
    let (status, published) = watch::channel(node_status(&options, &ground));
    let known = (Epochs::open(config.node.state_dir.join("epochs"))?, Holding::default());
    // What is configured here is written by this node alone, but for services that may run elsewhere.
    let alone = config.services.iter().filter(|(_, service)| service.failover.is_none());
    alone.for_each(|(name, _)| known.1.hold(name.clone()));
    let epochs = known.0.clone();
    let holding = known.1.clone();
    let reception = Reception::bind(&config.api, (&ground.node, store.clone()), known).await?;
    let replicas = node.replicas.clone();
    let cluster = cluster(&config, &ground).await?;
    let mark = config.node.state_dir.join("draining");
    let nodes = cluster.clone().map(|cluster| Nodes::new(cluster, mark));
    let control = Control::new(published, store, events.clone(), replicas, (tenures.clone(), nodes.clone()));
    let telemetry = Telemetry::start(&config, control.clone()).await;
    let stop = CancellationToken::new();
    if let Some(nodes) = &nodes {
        nodes.spawn(control.clone(), failovers(&config), stop.child_token());
    }
    let addresses = Arc::new(Addresses::recorded_in(ground.run_dir.join("addresses")));
    sweep_addresses(&config, &addresses, &events).await;
    let leases = cluster.zip(nodes).map(|(cluster, nodes)| tenure::Ground {
        cluster,
        nodes,
        tenures,
        holding: holding.clone(),
        epochs,
        addresses: Arc::clone(&addresses),
        control: control.clone(),
        events,
        daemon: changes,
        stop: stop.child_token(),
    });
    Ok(Daemon {
        leases,
        watched: BTreeMap::new(),
        options,
        config,
        ground,
        node,
        control,
        holding,
        reception,
        status,
        hooks,
        telemetry,
        tasks: Vec::new(),
        leaving: BTreeSet::new(),
        gone,
        said: String::new(),
        stop,
        _locks: locks,
    })
}

/// A watchdog watches where leases can be lost.
fn watch(config: &Config, tenures: &Tenures) -> engine::Result<()> {
    let leased = config.services.values().any(|service| service.failover.is_some());
    if let Some(wanted) = crate::assemble::watchdog(&config.cluster).filter(|_| leased) {
        let margin = wanted.settings.stop_margin;
        tenures.watch_by(Watchdog::start(wanted)?, margin);
    }
    Ok(())
}

/// Addresses of services that are not configured any more. Those of others are taken again, or released when it is seen that they are not ours.
async fn sweep_addresses(config: &Config, addresses: &Addresses, events: &Events) {
    let kept = config.services.values().filter_map(|service| service.failover.as_ref()?.address);
    let kept: Vec<_> = kept.filter_map(|kept| Address::new(kept.address, kept.prefix_length).ok()).collect();
    match addresses.sweep(&kept).await {
        Ok(removed) => removed.iter().for_each(|address| {
            events.record(plain(
                None,
                "swept",
                format!("address {address} was left by an earlier supervisor"),
            ));
        }),
        Err(error) => tracing::warn!(%error, "addresses of an earlier supervisor may still be here"),
    }
}

/// Services that may run elsewhere.
fn failovers(config: &Config) -> BTreeMap<ServiceName, Failover> {
    let services = config.services.iter();
    services.filter_map(|(name, service)| Some((name.clone(), service.failover.clone()?))).collect()
}

/// Where leases are kept, if any service may run elsewhere.
async fn cluster(config: &Config, ground: &Ground) -> engine::Result<Option<Cluster>> {
    if config.services.values().all(|service| service.failover.is_none()) {
        return Ok(None);
    }
    let node = NodeName::try_from(ground.node.as_str()).map_err(|e| {
        let report = Report::new(format!("hold leases as node {}: {e}", ground.node));
        engine::Error::Invalid(report.remedy("set node.name"))
    })?;
    let folder = config.node.state_dir.join("leases");
    engine::durable::create_dir_all(&folder)?;
    let cluster = crate::assemble::cluster(&config.cluster, node, folder)?;
    match cluster.keeper.check().await {
        Err(engine::Error::Unavailable(report)) => {
            tracing::warn!(error = %report, "the store of leases cannot be asked now; it is tried again");
        }
        checked => checked?,
    }
    Ok(Some(cluster))
}

fn replicas(
    config: &Config,
    ground: &Ground,
    store: &Store,
    events: &Events,
    tenures: &Tenures,
) -> engine::Result<Replicas> {
    let targets = crate::assemble::replicas(&config.store, &config.api, &ground.node)?;
    let (epochs, marks) = (tenures.clone(), tenures.clone());
    let epoch = Arc::new(move |service: &ServiceName| epochs.epoch(service));
    let acknowledged = Arc::new(move |service: &ServiceName, image| marks.replicated(service, image));
    Ok(Replicas::new(targets, store.clone(), events.clone(), (epoch, acknowledged)))
}

/// Makes our folders. Nobody else may use them: not the state, not the sockets, not the images.
fn locks(config: &Config) -> engine::Result<Vec<Lock>> {
    let folders = [
        ("node.state_dir", &config.node.state_dir),
        ("node.run_dir", &config.node.run_dir),
        ("store.path", &config.store.path),
    ];
    let mut known = BTreeSet::new();
    let own = folders.into_iter().filter(|(_, folder)| known.insert(folder.as_path()));
    own.map(|(key, folder)| {
        engine::durable::create_dir_all(folder)?;
        Lock::take(folder, key)
    })
    .collect()
}

/// Starts one service's task: takes it back, brings it back, or starts it.
pub(super) async fn service(
    node: &Node,
    control: &Control,
    name: &ServiceName,
    parts: Arc<Parts>,
    arrival: Arrival,
) -> engine::Result<(Entry, JoinHandle<()>)> {
    let reclaimed = match arrival {
        Arrival::AsFound => reclaim(node, name, &parts).await?,
        Arrival::FromImage => anew(node, name, &parts, Beginning::TakenOver).await?,
        Arrival::Cold => anew(node, name, &parts, Beginning::Start).await?,
        Arrival::Stopped => anew(node, name, &parts, Beginning::Stopped).await?,
        Arrival::Suspended(image) => anew(node, name, &parts, Beginning::Suspended(image)).await?,
    };
    if let Some(instance) = &reclaimed.instance {
        node.tenures.guard(name, instance).await?;
    }
    let waits = reclaimed.beginning.is_a_start() && !parts.depends_on.is_empty();
    let actor = Actor::new(name.clone(), node.clone(), Arc::clone(&parts), reclaimed.instance);
    let events = node.events.clone();
    let depends_on = parts.depends_on.clone();
    let (entry, task) =
        service::spawn(name.clone(), parts, actor, events, reclaimed.beginning, reclaimed.paused);
    if waits {
        tokio::spawn(wait_for(control.clone(), depends_on, entry.inbox.clone()));
    }
    Ok((entry, task))
}

/// Tells a task which of the services it depends on are not there yet, until all are.
async fn wait_for(control: Control, depends_on: Vec<ServiceName>, inbox: tokio::sync::mpsc::Sender<Message>) {
    let mut told = None;
    loop {
        let entries = control.entries().await;
        let there = |name: &ServiceName| {
            entries
                .iter()
                .any(|(n, e)| n == name && e.status.borrow().ready && e.status.borrow().state == "running")
        };
        let missing: Vec<String> = depends_on.iter().filter(|n| !there(n)).map(ToString::to_string).collect();
        let done = missing.is_empty();
        if told.as_ref() != Some(&missing) && inbox.send(Message::WaitingFor(missing.clone())).await.is_err()
        {
            return;
        }
        if done {
            return;
        }
        told = Some(missing);
        // A service's status may be replaced as a whole by a reload, so it is looked at anew rather than subscribed to.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ground(config: &Config) -> anyhow::Result<Ground> {
    let run_dir = config.node.run_dir.clone();
    let program = PathBuf::from(std::env::var("SUPERVISOR_CRIU").unwrap_or_else(|_| "criu".to_owned()));
    let criu = match Criu::find(&program, &run_dir).await {
        Ok(criu) => criu,
        Err(error) => {
            tracing::error!(%error, "services can only be started cold");
            Criu::absent(&program, &error)
        }
    };
    let node = match &config.node.name {
        Some(name) => name.clone(),
        None => nix::unistd::gethostname()?.to_string_lossy().into_owned(),
    };
    Ok(Ground {
        node,
        state_dir: config.node.state_dir.clone(),
        run_dir,
        program: std::env::current_exe().context("find our own binary")?,
        criu: Arc::new(criu),
        hierarchies: Hierarchies::find()?,
        runc: runc().await,
        systemd: Systemd::new(),
    })
}

async fn runc() -> Option<(PathBuf, String)> {
    let output = Command::new(vec!["runc".to_owned(), "--version".to_owned()]).run().await.ok()?;
    let version = output.stdout.lines().find_map(|l| l.strip_prefix("runc version "))?.trim().to_owned();
    let path = std::env::var_os("PATH")?;
    let program = std::env::split_paths(&path).map(|p| p.join("runc")).find(|p| p.is_file())?;
    Some((program, version))
}

fn tell_swept(events: &Events, swept: &Swept) {
    if *swept != Swept::default() {
        let text = format!(
            "cleared after an earlier supervisor: {} half-written images, {} half-removed, {} hot copies, {} folders of files, {} marks",
            swept.staging, swept.trash, swept.hot, swept.files, swept.marks
        );
        events.record(plain(None, "swept", text));
    }
}

/// What of the store cannot be read, or is not encrypted although it should be.
fn tell_encryption(events: &Events, store: &Store) -> engine::Result<()> {
    let found = store.encryption()?;
    if let Some((_, why)) = found.locked.first() {
        let count = found.locked.len();
        let text = format!("{count} of the images cannot be read: {why}");
        events.record(plain(None, "images-locked", text));
    }
    if found.key.is_some() && found.plain > 0 {
        let text = format!("{} older images are not encrypted; retention removes them in time", found.plain);
        events.record(plain(None, "images-plain", text));
    }
    Ok(())
}

fn node_status(options: &RunOptions, ground: &Ground) -> NodeStatus {
    NodeStatus {
        node: ground.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        criu: ground.criu.describe(),
        started_at: humantime::format_rfc3339_seconds(engine::clock::wall()).to_string(),
        config_file: options.config.display().to_string(),
        config_error: None,
        services: Vec::new(),
    }
}
