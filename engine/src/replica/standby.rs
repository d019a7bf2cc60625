//! A standby's copy of a service's newest image, prepared: fetched, read whole, unpacked where a restore begins from.
//!
//! ```text
//! refresh -> newest usable image of the replica (or of what peers brought) -> fetched -> unpacked, held -> the former let go
//! ```
//!
//! It refuses to start anything, and to prepare what does not suit this host.

use std::sync::Arc;

use policies::id::{ImageId, ServiceName};
use policies::image::{ImageFacts, ImageVerdict};

use super::{Replica, blocking};
use crate::compat::{self, Host, Strictness};
use crate::error::Result;
use crate::images::{Prepared, Store};

/// What a standby keeps ready of one service.
#[derive(Debug)]
pub struct Standby {
    store: Store,
    service: ServiceName,
    host: Host,
    /// Where images come from; `None`: peers bring them.
    from: Option<Arc<Replica>>,
    prepared: Option<Prepared>,
}

impl Standby {
    /// Nothing is prepared yet.
    pub fn new(store: Store, service: ServiceName, host: Host, from: Option<Arc<Replica>>) -> Self {
        Self { store, service, host, from, prepared: None }
    }

    /// The image that a take-over would begin with; it stays ready as long as this lives.
    pub fn image(&self) -> Option<&ImageId> {
        self.prepared.as_ref().map(Prepared::id)
    }

    /// Looks for a newer image and prepares it. Returns the one that is prepared now, if any.
    ///
    /// # Errors
    /// As [`Replica::fetch`] and [`Store::open_for_restore`]; what was prepared before stays prepared.
    pub async fn refresh(&mut self) -> Result<Option<&ImageId>> {
        if let Some(newest) = self.newest().await?
            && self.image() != Some(&newest)
        {
            if let Some(replica) = &self.from {
                replica.fetch(&self.store, &self.service, &newest).await?;
            }
            let store = self.store.clone();
            self.prepared = Some(blocking(move || store.open_for_restore(&newest)).await?);
        }
        Ok(self.image())
    }

    /// Best verdict first, then newest, of those that may run here: as the ladder would choose.
    async fn newest(&self) -> Result<Option<ImageId>> {
        let suits = |host: &Host| compat::check(host, &self.host, Strictness::Enforced).is_ok();
        let facts: Vec<ImageFacts> = match &self.from {
            Some(replica) => {
                let copies = replica.images(&self.service).await?;
                copies.iter().filter(|copy| suits(&copy.head.about().host)).map(super::Copy::facts).collect()
            }
            None => {
                let (store, service) = (self.store.clone(), self.service.clone());
                let records = blocking(move || store.list(&service)).await?;
                let suiting =
                    records.into_iter().filter(|r| r.about.as_ref().is_some_and(|about| suits(&about.host)));
                suiting.map(|record| record.facts).filter(ImageFacts::usable).collect()
            }
        };
        let rank =
            |facts: &&ImageFacts| (facts.verdict == ImageVerdict::Good, facts.taken_at, facts.id.clone());
        Ok(facts
            .iter()
            .filter(|facts| facts.verdict != ImageVerdict::Suspect)
            .max_by_key(rank)
            .map(|facts| facts.id.clone()))
    }
}
