//! What the nodes say of themselves, by the store that also holds the leases: who is there, which services each could take over now, and how
//! loaded it is.
//!
//! It only helps to choose: whoever has a service is decided by its lease, and a node that is wrong about the others loses
//! time, never more. It refuses to compare clocks: a node is there as long as its beat changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use config::Failover;
use engine::lease::Said;
use policies::failover::{Candidate, Readiness, rank};
use policies::id::{NodeName, ServiceName};
use policies::ladder::Elsewhere;
use policies::service::Event;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Cluster;
use crate::control::Control;
use crate::service::Message;

/// The format of what is said here. Others are not understood, and their nodes count as not there.
const FORMAT: u32 = 1;

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct NodeSaid {
    format: u32,
    /// The supervisor's version.
    pub(crate) version: String,
    /// It takes nothing over, and gives away what it has.
    pub(crate) draining: bool,
    /// The load of the last minute, in thousandths of what its processors can do.
    pub(crate) load: u32,
    /// Its services that other nodes may run, too.
    pub(crate) services: BTreeMap<String, ServiceSaid>,
}

/// What it says of one service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ServiceSaid {
    /// `holder`, `standby`, `acquiring`.
    pub(crate) role: String,
    /// As in its status.
    pub(crate) state: String,
    /// It runs there and can serve.
    pub(crate) serves: bool,
    /// The epoch that it knows of.
    pub(crate) epoch: u64,
    /// Of a standby: the image that lies ready.
    pub(crate) prepared: Option<String>,
    /// Of a standby: why it could not take the service over now.
    pub(crate) not_ready: Option<String>,
}

/// A node of the cluster, as this one knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct NodeSeen {
    /// Its name.
    pub(crate) node: String,
    /// It has said something lately.
    pub(crate) there: bool,
    /// Seconds since it last did; nothing: not since this supervisor began to listen.
    pub(crate) silent_seconds: Option<f64>,
    /// What it said last.
    #[serde(flatten)]
    pub(crate) said: NodeSaid,
}

/// The nodes of the cluster. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Nodes {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    cluster: Cluster,
    known: Mutex<BTreeMap<NodeName, Known>>,
    /// Something of ours is worth saying at once.
    news: Notify,
    draining: AtomicBool,
    /// Is there while the node drains.
    mark: PathBuf,
}

#[derive(Debug)]
struct Known {
    said: NodeSaid,
    beat: u64,
    /// When its beat was last seen to change.
    heard: Option<Instant>,
}

impl Nodes {
    /// Nobody is known yet. `mark` is the file by which a node remembers that it drains.
    pub(crate) fn new(cluster: Cluster, mark: PathBuf) -> Self {
        let draining = AtomicBool::new(mark.exists());
        let known = Mutex::default();
        Self { inner: Arc::new(Inner { cluster, known, news: Notify::new(), draining, mark }) }
    }

    /// Speaks and listens from now on, and tells services whether another node could have them.
    pub(crate) fn spawn(
        &self,
        control: Control,
        wanted: BTreeMap<ServiceName, Failover>,
        stop: CancellationToken,
    ) {
        let nodes = self.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let pause = nodes.inner.cluster.settings.renew_interval;
            loop {
                nodes.exchange(&control).await;
                for (service, failover) in &wanted {
                    nodes.tell(&control, service, failover).await;
                }
                // News wait for nobody, a failing store is not asked without a pause.
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = nodes.inner.news.notified() => tokio::time::sleep(pause / 20).await,
                }
            }
        }));
    }

    /// Something of ours has changed that others choose by.
    pub(crate) fn news(&self) {
        self.inner.news.notify_one();
    }

    /// Says what is to be said and reads what others say, now. What cannot be asked is as silent as its nodes.
    pub(crate) async fn exchange(&self, control: &Control) {
        let Cluster { keeper, node, .. } = &self.inner.cluster;
        let said = Said { beat: beat(), body: self.own(control).await };
        let (spoken, read) = tokio::join!(keeper.say(node, &said), keeper.nodes());
        match spoken.and(read) {
            Ok(all) => self.heard(all),
            Err(error) => tracing::debug!(%error, "the other nodes cannot be heard"),
        }
    }

    /// Whether this node takes nothing over.
    pub(crate) fn draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    /// Drains, or takes over again; remembered over our own restart.
    pub(crate) fn set_draining(&self, draining: bool) -> engine::Result<()> {
        if draining {
            engine::durable::atomic_write(&self.inner.mark, b"", engine::durable::FILE_MODE)?;
        } else if self.inner.mark.exists() {
            engine::durable::remove_file(&self.inner.mark)?;
        }
        self.inner.draining.store(draining, Ordering::SeqCst);
        self.news();
        Ok(())
    }

    /// The same, or no longer, until the supervisor is started again. What is remembered stays so.
    pub(crate) fn drain_for_now(&self, draining: bool) {
        self.inner.draining.store(draining || self.inner.mark.exists(), Ordering::SeqCst);
        self.news();
    }

    /// Whatever a node that is gone has said is removed, here and in the store.
    ///
    /// # Errors
    /// Why not, for people.
    pub(crate) async fn forget(&self, node: &str) -> Result<(), String> {
        match self.seen().iter().find(|seen| seen.node == node) {
            None => {
                Err(format!("no node {node} is known; `supervisor status --cluster` shows those that are"))
            }
            Some(seen) if seen.there => {
                Err(format!("{node} is there: it would say again what it has to say"))
            }
            Some(_) => {
                let name = NodeName::try_from(node).map_err(|e| e.to_string())?;
                self.inner.cluster.keeper.forget(&name).await.map_err(|e| e.to_string())?;
                self.known().remove(&name);
                Ok(())
            }
        }
    }

    /// The node that is to have a service: the one that is asked for, or the best.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(crate) fn choose(
        &self,
        service: &ServiceName,
        failover: &Failover,
        to: Option<&NodeName>,
    ) -> Result<NodeName, String> {
        let candidates = self.candidates(service);
        if let Some(to) = to {
            let found = candidates.iter().find(|candidate| candidate.node == *to);
            return match found.map(|candidate| &candidate.readiness) {
                Some(Readiness::Ready) => Ok(to.clone()),
                Some(Readiness::NotReady(why)) => Err(format!("{to} is not ready: {why}")),
                None => {
                    Err(format!("no node {to} is there; `supervisor status --cluster` shows those that are"))
                }
            };
        }
        let best = ranked(failover, &candidates).first().map(|candidate| candidate.node.clone());
        best.ok_or_else(|| {
            let why = candidates.iter().map(|candidate| match &candidate.readiness {
                Readiness::NotReady(why) => format!("{}: {why}", candidate.node),
                Readiness::Ready => format!("{} is not one of its standbys", candidate.node),
            });
            let why = why.collect::<Vec<_>>().join("; ");
            let why = if why.is_empty() { "no other node is there".to_owned() } else { why };
            format!("no standby is ready: {why}")
        })
    }

    /// This node's place among those that are ready for a service, from 0; nothing if no other is there.
    pub(crate) fn place(&self, service: &ServiceName, failover: &Failover, ready: bool) -> Option<usize> {
        let mut candidates = self.candidates(service);
        if candidates.is_empty() {
            return None;
        }
        let own = &self.inner.cluster.node;
        if !ready {
            return Some(candidates.iter().filter(|c| c.readiness == Readiness::Ready).count());
        }
        candidates.push(Candidate {
            node: own.clone(),
            readiness: Readiness::Ready,
            load: load(),
            services: BTreeSet::new(),
        });
        ranked(failover, &candidates).iter().position(|candidate| candidate.node == *own)
    }

    /// All that were ever heard of, this one included.
    pub(crate) fn seen(&self) -> Vec<NodeSeen> {
        let ttl = self.inner.cluster.settings.ttl;
        let known = self.known();
        let seen = known.iter().map(|(node, known)| {
            let silent = known.heard.map(|heard| heard.elapsed());
            NodeSeen {
                node: node.to_string(),
                there: *node == self.inner.cluster.node || silent.is_some_and(|silent| silent < ttl),
                silent_seconds: silent.map(|silent| silent.as_secs_f64()),
                said: known.said.clone(),
            }
        });
        seen.collect()
    }

    /// What another node says of a service, if it is there.
    pub(crate) fn says(&self, node: &NodeName, service: &ServiceName) -> Option<ServiceSaid> {
        let ttl = self.inner.cluster.settings.ttl;
        let known = self.known();
        let known = known.get(node).filter(|known| known.heard.is_some_and(|heard| heard.elapsed() < ttl))?;
        known.said.services.get(service.as_str()).cloned()
    }

    /// The other nodes that are there and know the service.
    fn candidates(&self, service: &ServiceName) -> Vec<Candidate> {
        let nodes: Vec<_> =
            self.known().keys().filter(|node| **node != self.inner.cluster.node).cloned().collect();
        let there = nodes.into_iter().filter_map(|node| Some((self.says(&node, service)?, node)));
        let candidate = |(said, node): (ServiceSaid, NodeName)| {
            let known = self.known();
            let whole = known.get(&node).map(|known| known.said.clone()).unwrap_or_default();
            let held = whole.services.iter().filter(|(_, said)| said.role == "holder");
            Candidate {
                readiness: readiness(&said, whole.draining),
                load: whole.load,
                services: held.filter_map(|(name, _)| ServiceName::try_from(name.as_str()).ok()).collect(),
                node,
            }
        };
        there.map(candidate).collect()
    }

    fn heard(&self, all: BTreeMap<NodeName, Said>) {
        let mut known = self.known();
        known.retain(|node, _| all.contains_key(node));
        for (node, Said { beat, body }) in all {
            let Ok(said) = serde_json::from_value::<NodeSaid>(body) else { continue };
            if said.format != FORMAT {
                continue;
            }
            let before = known.remove(&node);
            // What was said before we listened may have been said by somebody who is dead.
            let heard = before
                .and_then(|before| if before.beat == beat { before.heard } else { Some(Instant::now()) });
            known.insert(node, Known { said, beat, heard });
        }
    }

    async fn own(&self, control: &Control) -> serde_json::Value {
        let services = control.status().await.services.into_iter().filter_map(|service| {
            let lease = service.lease?;
            let said = ServiceSaid {
                serves: service.ready && service.state == "running",
                role: lease.role,
                state: service.state,
                epoch: lease.epoch,
                prepared: lease.prepared,
                not_ready: lease.not_ready,
            };
            Some((service.name, said))
        });
        let said = NodeSaid {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            draining: self.draining(),
            load: load(),
            services: services.collect(),
        };
        serde_json::to_value(said).unwrap_or_default()
    }

    /// Services that run elsewhere have nobody here who listens to it.
    async fn tell(&self, control: &Control, service: &ServiceName, failover: &Failover) {
        let elsewhere = match self.choose(service, failover, None) {
            Ok(_) => Elsewhere::Possible,
            Err(_) => Elsewhere::Impossible,
        };
        if let Ok(entry) = control.entry(service.as_str()).await {
            // One that is busy is told the next time.
            let _ = entry.inbox.try_send(Message::Event(Event::ElsewhereChanged(elsewhere)));
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<NodeName, Known>> {
        // Changed in single steps.
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn readiness(said: &ServiceSaid, draining: bool) -> Readiness {
    let why = match said {
        _ if draining => "it drains",
        ServiceSaid { not_ready: Some(why), .. } => why,
        ServiceSaid { role, .. } if role != "standby" => "it does not stand by",
        ServiceSaid { prepared: None, .. } => "it has no image yet",
        _ => return Readiness::Ready,
    };
    Readiness::NotReady(why.to_owned())
}

/// Whoever is not listed as a standby is where the service belongs, and comes first.
fn ranked<'a>(failover: &Failover, candidates: &'a [Candidate]) -> Vec<&'a Candidate> {
    let nodes = candidates.iter().map(|candidate| &candidate.node);
    let mut listed: Vec<_> = nodes.filter(|node| !failover.standby.contains(node)).cloned().collect();
    listed.extend(failover.standby.iter().cloned());
    let apart = failover.apart.iter().cloned().collect();
    rank(&listed, &apart, failover.prefer, candidates)
}

/// Not the same twice on one host, whatever its wall clock does.
fn beat() -> u64 {
    engine::clock::now().map_or(0, |now| now.boottime.as_nanos())
}

/// Of the last minute; what cannot be read is no load.
fn load() -> u32 {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running: f64 = text.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    (running * 1000.0 / processors as f64) as u32
}
