//! The newest image of a service, wherever it is, brought here.

use std::sync::Arc;

use engine::compat::{self, Host, Strictness};
use engine::images::{Prepared, Store};
use engine::replica::Replica;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::lease::Replicated;

use crate::carry_out::blocking;
use crate::replicas::Replicas;

/// Where images of one service may be.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) service: ServiceName,
    pub(super) store: Store,
    pub(super) host: Host,
    pub(super) replicas: Vec<Arc<Replica>>,
    /// What is sent from here.
    pub(super) pushed: Replicas,
}

/// An image that could be restored here.
struct Candidate {
    image: Replicated,
    suspect: bool,
    /// Where it is; `None`: here.
    from: Option<Arc<Replica>>,
}

/// What was looked for.
#[derive(Debug)]
pub(super) struct Found {
    /// The newest image, here and ready to be restored.
    pub(super) image: Option<(Replicated, Prepared)>,
    /// Places that could not be asked.
    pub(super) silent: Vec<String>,
}

impl Sources {
    /// Finds the newest image that suits this host, brings it here and makes it ready. Places that do not answer are passed over: what
    /// was acknowledged is known from the lease.
    pub(super) async fn newest(&self) -> engine::Result<Found> {
        let (mut candidates, mut silent) = (self.here().await?, Vec::new());
        for replica in &self.replicas {
            match self.there(replica).await {
                Ok(more) => candidates.extend(more),
                Err(error) => silent.push(format!("{}: {error}", replica.url())),
            }
        }
        // A suspect one only if there is no other; then the newest; then the nearest.
        let rank = |one: &Candidate| (!one.suspect, one.image.clone(), one.from.is_none());
        candidates.sort_by_key(rank);
        while let Some(candidate) = candidates.pop() {
            match self.bring(&candidate).await {
                Ok(prepared) => return Ok(Found { image: Some((candidate.image, prepared)), silent }),
                Err(error) => silent.push(format!("image {}: {error}", candidate.image.image)),
            }
        }
        Ok(Found { image: None, silent })
    }

    async fn here(&self) -> engine::Result<Vec<Candidate>> {
        let (store, service) = (self.store.clone(), self.service.clone());
        let records = blocking(move || store.list(&service)).await?;
        let usable = records.into_iter().filter(|record| record.facts.usable()).filter_map(|record| {
            let about = record.about.filter(|about| self.suits(&about.host))?;
            Some(candidate(about.epoch, record.facts.id, record.facts.verdict, None))
        });
        Ok(usable.collect())
    }

    async fn there(&self, replica: &Arc<Replica>) -> engine::Result<Vec<Candidate>> {
        let copies = replica.images(&self.service).await?;
        let suiting = copies.into_iter().filter(|copy| self.suits(&copy.head.about().host));
        Ok(suiting
            .map(|copy| {
                let (head, from) = (copy.head, Some(Arc::clone(replica)));
                candidate(head.about().epoch, head.id().clone(), copy.verdict, from)
            })
            .collect())
    }

    async fn bring(&self, candidate: &Candidate) -> engine::Result<Prepared> {
        let id = candidate.image.image.clone();
        if let Some(replica) = &candidate.from {
            replica.fetch(&self.store, &self.service, &id).await?;
        }
        let store = self.store.clone();
        blocking(move || store.open_for_restore(&id)).await
    }

    fn suits(&self, host: &Host) -> bool {
        compat::check(host, &self.host, Strictness::Enforced).is_ok()
    }
}

fn candidate(epoch: Epoch, image: ImageId, verdict: ImageVerdict, from: Option<Arc<Replica>>) -> Candidate {
    Candidate { image: Replicated { epoch, image }, suspect: verdict == ImageVerdict::Suspect, from }
}
