//! Who may run a service: leases in a store that several nodes can see, or in a folder that one node's processes share.
//!
//! ```text
//! Keeper (read, acquire, renew, release, check; say, nodes)
//!   ├── etcd                         leases and transactions; the store lets leases expire
//!   └── swap: one document a service, compared and swapped
//!         ├── local   a folder of this host      expires by its boot-time clock
//!         ├── bucket  S3, or a shared folder     never expires by itself: whoever reads it watches its beat
//!         └── fake    memory, with faults as data
//! ```
//!
//! Every call ends within the keeper's time limit, whatever the store does. An answer that was lost is asked for: after any
//! error the store is read again, and what stands there decides. `Unavailable` means that nobody knows; `Fenced` that the
//! lease is surely not ours any more, which is final. It refuses to decide when anything is done (that is
//! [`policies::lease`]) and to compare wall clocks.

pub mod bucket;
mod document;
pub mod etcd;
pub mod fake;
mod folder;
pub mod local;
mod swap;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use policies::id::{Epoch, NodeName, ServiceName};
use policies::lease::{Legacy, Sighting};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Report, Result};
use crate::runtime::Effect;

/// Where leases are kept.
pub trait Keeper: Send + Sync + std::fmt::Debug {
    /// Whether the store does what leases need of it. Asked once, at start.
    ///
    /// # Errors
    /// `Refused` if it does not, with what it did; `Unavailable` if it cannot be asked now.
    fn check(&self) -> Effect<'_, ()>;

    /// What stands there for this service now.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be asked; `Corrupt` if what stands there was not written by us.
    fn read<'a>(&'a self, service: &'a ServiceName) -> Effect<'a, Sighting>;

    /// Acquires the lease with the next epoch, if nothing has changed since the sighting. A lease that the store lets expire is
    /// refused while it holds; one that it does not may be taken over by whoever has watched it long enough.
    ///
    /// # Errors
    /// `Unavailable` if nobody knows what came of it; it may have taken effect, and then expires by itself.
    fn acquire<'a>(
        &'a self,
        service: &'a ServiceName,
        claim: &'a Claim,
        over: &'a Sighting,
    ) -> Effect<'a, Acquisition>;

    /// Renews a lease, and says what is for the next holder: once this has succeeded, no later epoch begins from an image older than
    /// the one named in it. Only one renewal of a lease may be under way.
    ///
    /// # Errors
    /// `Fenced` if the lease is not ours any more; `Unavailable` if nobody knows.
    fn renew<'a>(&'a self, held: &'a Held, legacy: &'a Legacy) -> Effect<'a, ()>;

    /// Lets a lease go. One that is not ours any more is left as it is, and that is no error.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be asked; the lease expires by itself.
    fn release<'a>(&'a self, held: &'a Held) -> Effect<'a, ()>;

    /// Says something of a node, for all others to read. Whoever reads it sees by [`Said::beat`] whether it still is said.
    ///
    /// # Errors
    /// `Unavailable` if nobody knows whether it was written.
    fn say<'a>(&'a self, node: &'a NodeName, said: &'a Said) -> Effect<'a, ()>;

    /// What all nodes say of themselves, each the last that it said.
    ///
    /// # Errors
    /// `Unavailable` if the store cannot be asked. What was not written by us is left out.
    fn nodes(&self) -> Effect<'_, BTreeMap<NodeName, Said>>;

    /// Removes what a node has said. One that has said nothing is no error, and one that lives says it again.
    ///
    /// # Errors
    /// `Unavailable` if nobody knows whether it was removed.
    fn forget<'a>(&'a self, node: &'a NodeName) -> Effect<'a, ()>;
}

/// What a node says of itself. Clocks of two nodes are not compared: whether it is new is seen by its beat alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// Another one each time that something is said.
    pub beat: u64,
    /// What is said, in a format of whoever says it.
    pub body: serde_json::Value,
}

impl Said {
    fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|e| Error::Internal(Report::new("write what a node says").because(e)))
    }
}

/// Who asks for a lease, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The node.
    pub node: NodeName,
    /// How long the lease holds without a renewal.
    pub ttl: Duration,
}

/// What came of asking for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquisition {
    /// It is ours.
    Acquired(Held),
    /// Something has changed since the sighting, or it is held.
    Refused,
}

/// A lease of ours, as its keeper knows it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    service: ServiceName,
    node: NodeName,
    epoch: Epoch,
    ttl: Duration,
    /// Drawn at random for this one acquisition: tells it from every other, whatever was lost on the way.
    claim: String,
    /// What etcd calls it.
    etcd: Option<etcd::Handle>,
}

impl Held {
    /// Whose lease it is.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// The number that every write bears.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    fn fenced(&self, why: &str) -> Error {
        let report =
            Report::new(format!("keep the lease of {} in epoch {}: {why}", self.service, self.epoch));
        Error::Fenced(report)
    }
}

/// A held lease in writing, so that the next supervisor of this node can go on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    version: u32,
    service: String,
    node: String,
    epoch: u64,
    ttl_ms: u64,
    claim: String,
    etcd: Option<etcd::Handle>,
}

const NOTE_VERSION: u32 = 1;

impl Note {
    /// Of this lease.
    pub fn of(held: &Held) -> Self {
        Self {
            version: NOTE_VERSION,
            service: held.service.to_string(),
            node: held.node.to_string(),
            epoch: held.epoch.0,
            ttl_ms: u64::try_from(held.ttl.as_millis()).unwrap_or(u64::MAX),
            claim: held.claim.clone(),
            etcd: held.etcd,
        }
    }

    /// The lease; `None` for a note of another version or of something that cannot be.
    pub fn held(self) -> Option<Held> {
        let service = ServiceName::try_from(self.service.as_str()).ok()?;
        let node = NodeName::try_from(self.node.as_str()).ok()?;
        (self.version == NOTE_VERSION).then_some(Held {
            service,
            node,
            epoch: Epoch(self.epoch),
            ttl: Duration::from_millis(self.ttl_ms),
            claim: self.claim,
            etcd: self.etcd,
        })
    }
}

/// A number that nobody else has drawn.
fn draw() -> Result<String> {
    let path = "/proc/sys/kernel/random/uuid";
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|e| Error::Internal(Report::new(format!("read {path}")).because(e)))?;
    Ok(text.trim().to_owned())
}

/// Ends what takes too long as `Unavailable`.
async fn within<T>(limit: Duration, what: &str, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Error::Unavailable(Report::new(format!("{what}: no answer within {limit}"))))
    })
}
