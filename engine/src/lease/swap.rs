//! Leases over anything that can compare and swap one small document a service.
//!
//! Nothing that a store answers to a write is believed but success: after everything else, "changed meanwhile" included, the
//! document is read again and its claim and beat say whether the write took effect. (A write that is answered by an
//! error, repeated by the client and then refused has succeeded.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use policies::id::{Epoch, NodeName, ServiceName};
use policies::lease::{Expiry, Legacy, Sighting};

use super::document::{Document, Expires, version_of};
use super::{Acquisition, Claim, Held, Keeper, Said, within};
use crate::error::{Error, Report, Result};
use crate::runtime::Effect;

/// What names of nodes' cells begin with; no service's name does.
const OF_NODES: &str = "@";

/// One small document under each name.
pub(super) trait Cells: Send + Sync + std::fmt::Debug {
    /// What stands under this name; `None`: nothing does.
    fn load<'a>(&'a self, name: &'a str) -> Effect<'a, Option<Cell>>;

    /// Writes, if what stands there is still what `expected` was loaded as.
    fn swap<'a>(&'a self, name: &'a str, expected: Option<&'a Cell>, bytes: Vec<u8>) -> Effect<'a, Swap>;

    /// Removes what stands there, whatever it is.
    fn remove<'a>(&'a self, name: &'a str) -> Effect<'a, ()>;

    /// All names that begin so.
    fn names<'a>(&'a self, beginning: &'a str) -> Effect<'a, Vec<String>>;

    /// Whether it really compares; see [`Keeper::check`].
    fn check(&self) -> Effect<'_, ()>;

    /// The document's place, for people.
    fn place(&self, name: &str) -> String;
}

/// A document as it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) bytes: Vec<u8>,
    /// The store's own name for this version, where it has one.
    pub(super) tag: Option<String>,
}

/// What came of a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Swap {
    Done,
    /// Something else stands there now.
    Changed,
}

/// A clock that all who use the store share; `era` names one run of it.
pub(super) trait Clock: Send + Sync + std::fmt::Debug {
    fn now(&self) -> Result<Expires>;
}

/// A keeper over cells.
#[derive(Debug)]
pub(super) struct SwapKeeper<C> {
    pub(super) cells: C,
    /// Without one, leases never expire by themselves.
    pub(super) clock: Option<Arc<dyn Clock>>,
    /// For one whole call.
    pub(super) limit: Duration,
}

impl<C: Cells> SwapKeeper<C> {
    async fn load(&self, name: &str) -> Result<Option<(Cell, Document)>> {
        let Some(cell) = self.cells.load(name).await? else { return Ok(None) };
        let document = Document::decode(&cell.bytes, &self.cells.place(name))?;
        Ok(Some((cell, document)))
    }

    async fn sight(&self, service: &ServiceName) -> Result<Sighting> {
        let Some((cell, document)) = self.load(service.as_str()).await? else {
            return Ok(Sighting::default());
        };
        let expiry = if self.clock.is_some() { Expiry::ByStore } else { Expiry::ByReader };
        document.sighting(&cell.bytes, expiry, self.has_expired(&document)?)
    }

    async fn try_acquire(
        &self,
        service: &ServiceName,
        claim: &Claim,
        over: &Sighting,
    ) -> Result<Acquisition> {
        let found = self.load(service.as_str()).await?;
        let found_version = found.as_ref().map_or(0, |(cell, _)| version_of(&cell.bytes));
        if found_version != over.version {
            return Ok(Acquisition::Refused);
        }
        if let Some((_, document)) = &found
            && self.clock.is_some()
            && !document.released
            && !self.has_expired(document)?
        {
            return Ok(Acquisition::Refused);
        }
        let document = self.stamped(Document::acquired(claim, over)?)?;
        let won = self.write(service.as_str(), found.as_ref().map(|(cell, _)| cell), &document).await?;
        Ok(match won {
            Swap::Changed => Acquisition::Refused,
            Swap::Done => Acquisition::Acquired(Held {
                service: service.clone(),
                node: claim.node.clone(),
                epoch: Epoch(document.epoch),
                ttl: claim.ttl,
                claim: document.claim,
                etcd: None,
            }),
        })
    }

    async fn try_renew(&self, held: &Held, legacy: &Legacy) -> Result<()> {
        let (cell, document) = self.still_ours(held).await?;
        let renewed = self.stamped(document.renewed(legacy)?)?;
        match self.write(held.service.as_str(), Some(&cell), &renewed).await? {
            Swap::Done => Ok(()),
            // An earlier renewal of our own, delayed on its way, may have come between; then the lease is ours still.
            Swap::Changed => {
                self.still_ours(held).await?;
                let text = format!("renew the lease of {}: an earlier renewal came between", held.service);
                Err(Error::Unavailable(Report::new(text)))
            }
        }
    }

    async fn try_release(&self, held: &Held) -> Result<()> {
        let (cell, document) = match self.still_ours(held).await {
            Ok(ours) => ours,
            Err(Error::Fenced(_)) => return Ok(()),
            Err(other) => return Err(other),
        };
        self.write(held.service.as_str(), Some(&cell), &document.let_go()).await.map(drop)
    }

    async fn still_ours(&self, held: &Held) -> Result<(Cell, Document)> {
        let Some((cell, document)) = self.load(held.service.as_str()).await? else {
            return Err(held.fenced("its document is gone"));
        };
        if !document.is_of(held) {
            let Document { node, epoch, .. } = &document;
            return Err(held.fenced(&format!("epoch {epoch} is {node}'s")));
        }
        if self.has_expired(&document)? {
            return Err(held.fenced("it has expired"));
        }
        Ok((cell, document))
    }

    /// Writes, and finds out what came of it whatever the answer was.
    async fn write(&self, name: &str, expected: Option<&Cell>, document: &Document) -> Result<Swap> {
        let answer = self.cells.swap(name, expected, document.encode()?).await;
        if matches!(answer, Ok(Swap::Done)) {
            return Ok(Swap::Done);
        }
        match self.load(name).await {
            Ok(Some((_, found))) if found.is_same_writing(document) => Ok(Swap::Done),
            // Whether it was not written, or not yet, nobody can tell.
            Ok(_) => answer,
            Err(unreadable) => Err(answer.err().unwrap_or(unreadable)),
        }
    }

    async fn write_said(&self, node: &NodeName, said: &Said) -> Result<()> {
        let name = format!("{OF_NODES}{node}");
        let before = self.cells.load(&name).await?;
        match self.cells.swap(&name, before.as_ref(), said.encode()?).await? {
            Swap::Done => Ok(()),
            Swap::Changed => {
                let text = format!("say something as node {node}: another says it too");
                Err(Error::Unavailable(Report::new(text).remedy("give each node a name of its own")))
            }
        }
    }

    async fn all_said(&self) -> Result<BTreeMap<NodeName, Said>> {
        let names = self.cells.names(OF_NODES).await?;
        let loaded = try_join_all(names.iter().map(|name| self.cells.load(name))).await?;
        let said = names.iter().zip(loaded).filter_map(|(name, cell)| {
            let node = NodeName::try_from(name.strip_prefix(OF_NODES)?).ok()?;
            Some((node, serde_json::from_slice(&cell?.bytes).ok()?))
        });
        Ok(said.collect())
    }

    fn stamped(&self, mut document: Document) -> Result<Document> {
        if let Some(clock) = &self.clock {
            let now = clock.now()?;
            let ttl = u64::try_from(document.ttl().as_nanos()).unwrap_or(u64::MAX);
            document.expires = Some(Expires { at_ns: now.at_ns.saturating_add(ttl), ..now });
        }
        Ok(document)
    }

    fn has_expired(&self, document: &Document) -> Result<bool> {
        let (Some(clock), Some(expires)) = (&self.clock, &document.expires) else { return Ok(false) };
        let now = clock.now()?;
        // Nothing that was started before a boot runs after it.
        Ok(now.era != expires.era || now.at_ns >= expires.at_ns)
    }
}

impl<C: Cells> Keeper for SwapKeeper<C> {
    fn check(&self) -> Effect<'_, ()> {
        Box::pin(within(self.limit * 4, "check the store of leases", self.cells.check()))
    }

    fn read<'a>(&'a self, service: &'a ServiceName) -> Effect<'a, Sighting> {
        Box::pin(within(self.limit, "read a lease", self.sight(service)))
    }

    fn acquire<'a>(
        &'a self,
        service: &'a ServiceName,
        claim: &'a Claim,
        over: &'a Sighting,
    ) -> Effect<'a, Acquisition> {
        Box::pin(within(self.limit, "acquire a lease", self.try_acquire(service, claim, over)))
    }

    fn renew<'a>(&'a self, held: &'a Held, legacy: &'a Legacy) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "renew a lease", self.try_renew(held, legacy)))
    }

    fn release<'a>(&'a self, held: &'a Held) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "release a lease", self.try_release(held)))
    }

    fn say<'a>(&'a self, node: &'a NodeName, said: &'a Said) -> Effect<'a, ()> {
        Box::pin(within(self.limit, "say something to other nodes", self.write_said(node, said)))
    }

    fn nodes(&self) -> Effect<'_, BTreeMap<NodeName, Said>> {
        Box::pin(within(self.limit, "read what nodes say", self.all_said()))
    }

    fn forget<'a>(&'a self, node: &'a NodeName) -> Effect<'a, ()> {
        let forgotten = async move { self.cells.remove(&format!("{OF_NODES}{node}")).await };
        Box::pin(within(self.limit, "remove what a node has said", forgotten))
    }
}
