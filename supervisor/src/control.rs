//! What commands from outside can see and do: published state, requests to a service's task, the store.
//!
//! It refuses to wait for a service's task longer than its caller says, and never touches its state.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::images::Store;
use policies::id::{NodeName, ServiceName};
use tokio::sync::{RwLock, mpsc, oneshot, watch};

use crate::api::{ReportAnswer, ReportBody};
use crate::assemble::Parts;
use crate::events::Events;
use crate::history::History;
use crate::metrics::Metrics;
use crate::notices::answer;
use crate::replicas::Replicas;
use crate::service::Message;
use crate::status::{Action, Answer, NodeStatus, ServiceStatus};
use crate::tenure::{Nodes, Tenures, Wish};

/// How long a service's task may take to look at its images.
const LISTING_MAX: Duration = Duration::from_secs(10);

/// How long a service's task may take to count a report.
const REPORT_MAX: Duration = Duration::from_secs(5);

/// A handle on the running daemon. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Control {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    node: watch::Receiver<NodeStatus>,
    services: RwLock<BTreeMap<ServiceName, Entry>>,
    store: Store,
    events: Events,
    metrics: Metrics,
    history: History,
    replicas: Replicas,
    tenures: Tenures,
    /// There if any service may run elsewhere.
    nodes: Option<Nodes>,
}

/// How one service's task is reached.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Its inbox.
    pub(crate) inbox: mpsc::Sender<Message>,
    /// What it publishes.
    pub(crate) status: watch::Receiver<ServiceStatus>,
}

/// There is no such service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no service {0}")]
pub(crate) struct Unknown(pub(crate) String);

impl Control {
    /// A handle without services yet; what happens from now on is counted.
    pub(crate) fn new(
        node: watch::Receiver<NodeStatus>,
        store: Store,
        events: Events,
        replicas: Replicas,
        (tenures, nodes): (Tenures, Option<Nodes>),
    ) -> Self {
        let services = RwLock::default();
        let (metrics, history) = (Metrics::follow(&events), History::follow(&events));
        let inner = Inner { node, services, store, events, metrics, history, replicas, tenures, nodes };
        Self { inner: Arc::new(inner) }
    }

    /// Adds or replaces a service's task.
    pub(crate) async fn insert(&self, name: ServiceName, entry: Entry) {
        self.inner.services.write().await.insert(name, entry);
    }

    /// Forgets a service's task.
    pub(crate) async fn remove(&self, name: &ServiceName) {
        self.inner.services.write().await.remove(name);
    }

    /// All tasks.
    pub(crate) async fn entries(&self) -> Vec<(ServiceName, Entry)> {
        self.inner.services.read().await.iter().map(|(n, e)| (n.clone(), e.clone())).collect()
    }

    /// One task.
    pub(crate) async fn entry(&self, name: &str) -> Result<Entry, Unknown> {
        let unknown = || Unknown(name.to_owned());
        let key = ServiceName::try_from(name).map_err(|_| unknown())?;
        self.inner.services.read().await.get(&key).cloned().ok_or_else(unknown)
    }

    /// The node and its services as they are now.
    pub(crate) async fn status(&self) -> NodeStatus {
        let mut node = self.inner.node.borrow().clone();
        node.services = self.entries().await.iter().map(|(_, e)| e.status.borrow().clone()).collect();
        for service in &mut node.services {
            service.replicas = self.inner.replicas.status(&service.name);
            service.lease = self.inner.tenures.status(&service.name);
        }
        node
    }

    /// Asks a service for something. Waits until it is done, at most `limit`: then it goes on without us.
    pub(crate) async fn ask(&self, name: &str, action: Action, limit: Duration) -> Result<Answer, Unknown> {
        let entry = self.entry(name).await?;
        let (reply, answered) = oneshot::channel();
        let asked = async {
            if entry.inbox.send(Message::Request { action, reply }).await.is_err() {
                return gone(name);
            }
            answered.await.unwrap_or_else(|_| gone(name))
        };
        Ok(tokio::time::timeout(limit, asked).await.unwrap_or_else(|_| unfinished()))
    }

    /// Passes on what somebody outside has found of a service.
    pub(crate) async fn report(&self, name: &str, report: ReportBody) -> Result<ReportAnswer, Unknown> {
        let entry = self.entry(name).await?;
        let (reply, answered) = oneshot::channel();
        let asked = async {
            entry.inbox.send(Message::Report { report, reply }).await.ok()?;
            answered.await.ok()
        };
        let answer = tokio::time::timeout(REPORT_MAX, asked).await.ok().flatten();
        Ok(answer.unwrap_or_else(|| ReportAnswer {
            outcome: "denied".to_owned(),
            text: "the service does not run".to_owned(),
            run: None,
        }))
    }

    /// Has a service moved to another node: to this one, or to the best standby. Waits until it serves there, at most `limit`: then it goes
    /// on without us.
    pub(crate) async fn move_to(
        &self,
        name: &str,
        to: Option<NodeName>,
        limit: Duration,
    ) -> Result<Answer, Unknown> {
        self.entry(name).await?;
        let service = ServiceName::try_from(name).map_err(|_| Unknown(name.to_owned()))?;
        let (reply, moved) = oneshot::channel();
        if !self.inner.tenures.wish(&service, Wish::Move { to, reply }) {
            return Ok(answer("denied", "no other node may run this service: it has no `failover`"));
        }
        let moved = tokio::time::timeout(limit, moved).await;
        Ok(moved.map_or_else(|_| unfinished(), |moved| moved.unwrap_or_else(|_| gone(name))))
    }

    /// The nodes of the cluster; nothing on a host that stands alone.
    pub(crate) fn nodes(&self) -> Option<&Nodes> {
        self.inner.nodes.as_ref()
    }

    /// Tells a service's task that its images were changed by somebody else. What it is asked after this it answers with the new ones in
    /// mind, unless the store takes very long to list them.
    pub(crate) async fn images_changed(&self, name: &ServiceName) {
        let Ok(entry) = self.entry(name.as_str()).await else { return };
        let (listed, known) = oneshot::channel();
        // A task that is gone has no use for it.
        let _ = entry.inbox.send(Message::ImagesChanged(listed)).await;
        let _ = tokio::time::timeout(LISTING_MAX, known).await;
    }

    /// What a service is made of, as it is configured now.
    pub(crate) async fn parts(&self, name: &ServiceName) -> Result<Arc<Parts>, Unknown> {
        let (reply, parts) = oneshot::channel();
        // A task that ends meanwhile is one that is not there.
        let _ = self.entry(name.as_str()).await?.inbox.send(Message::Parts(reply)).await;
        parts.await.map_err(|_| Unknown(name.to_string()))
    }

    /// The store of images.
    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Where images are sent.
    pub(crate) fn replicas(&self) -> &Replicas {
        &self.inner.replicas
    }

    /// The journal of events.
    pub(crate) fn events(&self) -> &Events {
        &self.inner.events
    }

    /// What happened lately.
    pub(crate) fn history(&self) -> &History {
        &self.inner.history
    }

    /// What is counted and measured.
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }
}

fn gone(name: &str) -> Answer {
    answer("failed", format!("the task of {name} has ended"))
}

fn unfinished() -> Answer {
    answer("accepted", "not finished yet; `supervisor events --follow` tells how it goes on")
}
