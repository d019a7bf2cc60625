//! Leases in etcd: a lease of its own keeps one key alive; another key, which stays, counts the epochs.
//!
//! ```text
//! <prefix>/<service>/holder   bound to the lease: is there as long as it holds; who, claim, ttl
//! <prefix>/<service>/state    stays: epoch, former holder, claim, what is said for the next one
//! <prefix>/@nodes/<node>      stays: what a node says of itself
//! ```
//!
//! Both are written in one transaction, which compares that there is no holder and that the state is the one seen; so an
//! epoch is given once. A renewal keeps the lease alive and then asks whether the holder's key is still the one that was
//! written: a lease may live on after its key was taken away. Nothing is held open between calls, so there is no stream that
//! could die unnoticed. See `docs/decisions/0008-leases.md` for why not by gRPC.

mod gateway;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use policies::id::{Epoch, NodeName, ServiceName};
use policies::lease::{Expiry, Holding, Legacy, Sighting};

pub use gateway::Tls;

use self::gateway::Gateway;
use self::words::{Compare, Entry, HolderKey, Operation, StateKey, Transaction};
use super::document::Left;
use super::{Acquisition, Claim, Held, Keeper, Said, draw, within};
use crate::error::{Error, Report, Result};
use crate::runtime::Effect;

/// How etcd knows a lease of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Handle {
    lease: i64,
    /// The revision at which both keys were written.
    revision: i64,
}

/// Where etcd is.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `http://host:port` or `https://host:port` each; asked in this order, beginning with the one that answered last, the next
    /// one as soon as those before it have kept us waiting.
    pub endpoints: Vec<String>,
    /// What all keys begin with.
    pub prefix: String,
    /// For `https`.
    pub tls: Option<Tls>,
    /// For one whole call.
    pub limit: Duration,
}

/// Leases in this etcd.
///
/// # Errors
/// `Invalid` if an endpoint or a certificate cannot be used.
pub fn open(settings: &Settings) -> Result<Arc<dyn Keeper>> {
    let gateway = Gateway::new(&settings.endpoints, settings.tls.as_ref(), settings.limit)?;
    Ok(Arc::new(Etcd { gateway, prefix: settings.prefix.clone(), limit: settings.limit }))
}

#[derive(Debug)]
struct Etcd {
    gateway: Gateway,
    prefix: String,
    limit: Duration,
}

impl Etcd {
    fn holder_key(&self, service: &ServiceName) -> String {
        format!("{}/{service}/holder", self.prefix)
    }

    fn state_key(&self, service: &ServiceName) -> String {
        format!("{}/{service}/state", self.prefix)
    }

    /// No service is called so.
    fn nodes_key(&self) -> String {
        format!("{}/@nodes/", self.prefix)
    }

    /// Both keys at one revision.
    fn look(&self, service: &ServiceName) -> Vec<Operation> {
        vec![Operation::get(&self.holder_key(service)), Operation::get(&self.state_key(service))]
    }

    async fn sight(&self, service: &ServiceName) -> Result<Sighting> {
        let (holder, state) = self.keys(service).await?;
        let Some(state) = state else { return Ok(Sighting::default()) };
        let node = |name: &str| {
            NodeName::try_from(name).map_err(|e| {
                Error::Corrupt(Report::new(format!("read the lease of {service} in etcd")).because(e))
            })
        };
        let holding = match holder {
            None => None,
            Some(holder) => Some(Holding {
                node: node(&holder.value.node)?,
                ttl: Duration::from_millis(holder.value.ttl_ms),
                beat: 0,
                expiry: Expiry::ByStore,
            }),
        };
        Ok(Sighting {
            epoch: Epoch(state.value.epoch),
            holding,
            former: Some(node(&state.value.node)?),
            legacy: state.value.left.legacy()?,
            version: state.revision.unsigned_abs(),
        })
    }

    async fn keys(
        &self,
        service: &ServiceName,
    ) -> Result<(Option<Entry<HolderKey>>, Option<Entry<StateKey>>)> {
        let looked = Transaction { compare: Vec::new(), success: self.look(service), failure: Vec::new() };
        let outcome = self.gateway.transact(&looked).await?;
        Ok((outcome.entry(0)?, outcome.entry(1)?))
    }

    async fn try_acquire(
        &self,
        service: &ServiceName,
        claim: &Claim,
        over: &Sighting,
    ) -> Result<Acquisition> {
        if !over.is_free() {
            return Ok(Acquisition::Refused);
        }
        let lease = self.gateway.grant(claim.ttl).await?;
        let drawn = draw()?;
        let epoch = over.epoch.next();
        let holder = HolderKey::of(claim, &drawn);
        let state = StateKey {
            epoch: epoch.0,
            node: claim.node.as_str().to_owned(),
            claim: drawn.clone(),
            left: Left::of(&over.legacy.inherited()),
        };
        let (holder_key, state_key) = (self.holder_key(service), self.state_key(service));
        let version = i64::try_from(over.version).unwrap_or(i64::MAX);
        let transaction = Transaction {
            compare: vec![Compare::absent(&holder_key), Compare::revision(&state_key, version)],
            success: vec![
                Operation::put_leased(&holder_key, &holder, lease)?,
                Operation::put(&state_key, &state)?,
            ],
            failure: self.look(service),
        };
        let revision = match self.gateway.transact(&transaction).await {
            Ok(outcome) if outcome.succeeded => Some(outcome.revision),
            // It may have taken effect at an endpoint whose answer was lost, and been sent again.
            Ok(outcome) => ours(outcome.entry(0)?, &drawn),
            Err(error) => match self.keys(service).await {
                Ok((holder, _)) => ours(holder, &drawn),
                Err(_) => return Err(error),
            },
        };
        let Some(revision) = revision else {
            // With its lease gone, a transaction that is still on its way fails.
            let _ = self.gateway.revoke(lease).await;
            return Ok(Acquisition::Refused);
        };
        Ok(Acquisition::Acquired(Held {
            service: service.clone(),
            node: claim.node.clone(),
            epoch,
            ttl: claim.ttl,
            claim: drawn,
            etcd: Some(Handle { lease, revision }),
        }))
    }

    async fn try_renew(&self, held: &Held, legacy: &Legacy) -> Result<()> {
        let handle = handle_of(held)?;
        if !self.gateway.keep_alive(handle.lease).await? {
            return Err(held.fenced("it has expired"));
        }
        let (holder_key, state_key) = (self.holder_key(&held.service), self.state_key(&held.service));
        let mut compare = vec![Compare::revision(&holder_key, handle.revision)];
        let mut success = Vec::new();
        let newest = self.newly_said(held, legacy).await?;
        if let Some((revision, state)) = &newest {
            compare.push(Compare::revision(&state_key, *revision));
            success.push(Operation::put(&state_key, state)?);
        }
        let transaction = Transaction { compare, success, failure: self.look(&held.service) };
        let outcome = self.gateway.transact(&transaction).await?;
        if outcome.succeeded {
            return Ok(());
        }
        // The state may have been written by the same request at another endpoint, whose answer was late.
        let state: Option<Entry<StateKey>> = outcome.entry(1)?;
        if ours(outcome.entry(0)?, &held.claim) == Some(handle.revision) {
            let text = "renew a lease in etcd: what is said with it changes just now";
            let said = state.is_some_and(|state| newest.is_some_and(|(_, newest)| state.value == newest));
            return if said { Ok(()) } else { Err(Error::Unavailable(Report::new(text))) };
        }
        let whose = state.map_or_else(
            || "its state is gone".to_owned(),
            |state| format!("the last epoch is {}, {}'s", state.value.epoch, state.value.node),
        );
        Err(held.fenced(&whose))
    }

    /// The state with this said in it, if that changes it, and the revision that it replaces.
    async fn newly_said(&self, held: &Held, legacy: &Legacy) -> Result<Option<(i64, StateKey)>> {
        let (_, state) = self.keys(&held.service).await?;
        let Some(Entry { value, revision }) = state.filter(|state| state.value.claim == held.claim) else {
            return Err(held.fenced("the state is another epoch's"));
        };
        let left = value.left.followed_by(legacy)?;
        Ok((left != value.left).then_some((revision, StateKey { left, ..value })))
    }

    async fn write_said(&self, node: &NodeName, said: &Said) -> Result<()> {
        self.just(Operation::put(&format!("{}{node}", self.nodes_key()), said)?).await
    }

    async fn remove_said(&self, node: &NodeName) -> Result<()> {
        self.just(Operation::delete(&format!("{}{node}", self.nodes_key()))).await
    }

    /// On no condition.
    async fn just(&self, operation: Operation) -> Result<()> {
        let one = Transaction { compare: Vec::new(), success: vec![operation], failure: Vec::new() };
        self.gateway.transact(&one).await.map(drop)
    }

    async fn all_said(&self) -> Result<BTreeMap<NodeName, Said>> {
        let beginning = self.nodes_key();
        let look = Transaction {
            compare: Vec::new(),
            success: vec![Operation::get_all(&beginning)],
            failure: Vec::new(),
        };
        let found = self.gateway.transact(&look).await?.entries(0)?;
        let said = found.into_iter().filter_map(|(key, value)| {
            let node = NodeName::try_from(key.strip_prefix(&beginning)?).ok()?;
            Some((node, serde_json::from_slice(&value).ok()?))
        });
        Ok(said.collect())
    }

    async fn try_release(&self, held: &Held) -> Result<()> {
        self.gateway.revoke(handle_of(held)?.lease).await
    }
}

impl Keeper for Etcd {
    fn check(&self) -> Effect<'_, ()> {
        let look = Transaction {
            compare: Vec::new(),
            success: vec![Operation::get(&format!("{}/", self.prefix))],
            failure: Vec::new(),
        };
        Box::pin(within(self.limit, "ask etcd", async move { self.gateway.transact(&look).await.map(drop) }))
    }

    fn read<'a>(&'a self, service: &'a ServiceName) -> Effect<'a, Sighting> {
        Box::pin(within(self.limit, "read a lease in etcd", self.sight(service)))
    }

    fn acquire<'a>(
        &'a self,
        service: &'a ServiceName,
        claim: &'a Claim,
        over: &'a Sighting,
    ) -> Effect<'a, Acquisition> {
        Box::pin(within(self.limit, "acquire a lease in etcd", self.try_acquire(service, claim, over)))
    }

    fn renew<'a>(&'a self, held: &'a Held, legacy: &'a Legacy) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "renew a lease in etcd", self.try_renew(held, legacy)))
    }

    fn release<'a>(&'a self, held: &'a Held) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "release a lease in etcd", self.try_release(held)))
    }

    fn say<'a>(&'a self, node: &'a NodeName, said: &'a Said) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "say something to other nodes by etcd", self.write_said(node, said)))
    }

    fn nodes(&self) -> Effect<'_, BTreeMap<NodeName, Said>> {
        Box::pin(within(self.limit, "read what nodes say in etcd", self.all_said()))
    }

    fn forget<'a>(&'a self, node: &'a NodeName) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "remove what a node has said from etcd", self.remove_said(node)))
    }
}

/// The revision at which this acquisition was written, if it was.
fn ours(holder: Option<Entry<HolderKey>>, claim: &str) -> Option<i64> {
    holder.filter(|holder| holder.value.claim == claim).map(|holder| holder.revision)
}

fn handle_of(held: &Held) -> Result<Handle> {
    let text = "use a lease in etcd that was not acquired there";
    held.etcd.ok_or_else(|| Error::Internal(Report::new(text)))
}
