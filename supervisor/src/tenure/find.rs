//! The newest image of a service, wherever it is, brought here.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use engine::compat::Host;
use engine::error::Report;
use engine::images::{About, Prepared, Store};
use engine::replica::Replica;
use engine::runtime::Runtime;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use policies::id::{ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::lease::{Replicated, may_succeed};
use tokio::time::{Instant, timeout, timeout_at};

use crate::carry_out::{blocking, incompatible};
use crate::replicas::Replicas;

/// How many times as long a newer image may take to be fetched while one here would do.
const FETCH_PATIENCE: u32 = 4;

/// Where images of one service may be.
#[derive(Debug, Clone)]
pub(super) struct Sources {
    pub(super) service: ServiceName,
    pub(super) store: Store,
    pub(super) host: Host,
    /// What it is here; or why it cannot be put together.
    pub(super) runtime: Result<Arc<dyn Runtime>, String>,
    pub(super) replicas: Vec<Arc<Replica>>,
    /// What is sent from here.
    pub(super) pushed: Replicas,
}

/// An image that could be restored here.
struct Candidate {
    image: Replicated,
    suspect: bool,
    /// It is hot here and not durable: what is so on a standby was handed over.
    handed_over: bool,
    /// Where it is; `None`: here.
    from: Option<Arc<Replica>>,
    /// Why it could not be restored here.
    unfit: Option<String>,
}

/// What was looked for.
#[derive(Debug)]
pub(super) struct Found {
    /// The newest image, here and ready to be restored.
    pub(super) image: Option<(Replicated, Prepared)>,
    /// Places that could not be asked.
    pub(super) silent: Vec<String>,
}

/// Whether one of them, or none at all, is as new as what was acknowledged.
fn suffices(acknowledged: Option<&Replicated>, candidates: &[Candidate]) -> bool {
    let fit = candidates.iter().filter(|one| one.unfit.is_none() && !one.suspect);
    may_succeed(acknowledged, fit.map(|one| &one.image).max())
}

impl Candidate {
    fn is_handed_over_as(&self, acknowledged: Option<&Replicated>) -> bool {
        self.handed_over && self.unfit.is_none() && !self.suspect && Some(&self.image) == acknowledged
    }
}

impl Sources {
    /// Whether the service could be restored here at all, images aside: what it is made of is there.
    ///
    /// # Errors
    /// Why not, for people.
    pub(super) async fn make_ready(&self) -> Result<(), String> {
        let runtime = self.runtime.clone()?;
        runtime.make_ready().await.map_err(|e| e.to_string())
    }

    /// Finds the newest image that suits this host, brings it here and makes it ready. Places that do not answer are passed over: what
    /// was acknowledged is known from the lease. With an image that is new enough in hand none of them is waited for longer than `patience`:
    /// the host that was lost is a replica, too.
    pub(super) async fn newest(
        &self,
        acknowledged: Option<&Replicated>,
        patience: Duration,
    ) -> engine::Result<Found> {
        let (mut candidates, mut silent) = self.all(acknowledged, patience).await?;
        // A suspect one only if there is no other; then the newest; then the nearest.
        let rank = |one: &Candidate| (!one.suspect, one.image.clone(), one.from.is_none());
        candidates.sort_by_key(rank);
        let mut unfit = None;
        while let Some(candidate) = candidates.pop() {
            let id = &candidate.image.image;
            if let Some(why) = &candidate.unfit {
                // They are mostly unfit for one reason: the newest one's says enough.
                unfit.get_or_insert_with(|| format!("image {id}: {why}"));
                continue;
            }
            let suffices = suffices(acknowledged, &candidates);
            let bringing = self.bring(&candidate);
            let brought = match &candidate.from {
                Some(from) if suffices => {
                    timeout(patience * FETCH_PATIENCE, bringing).await.unwrap_or_else(|_| {
                        let text = format!("fetch it from {}: it takes too long", from.url());
                        Err(engine::Error::Unavailable(Report::new(text)))
                    })
                }
                Some(_) | None => bringing.await,
            };
            match brought {
                Ok(prepared) => return Ok(Found { image: Some((candidate.image, prepared)), silent }),
                Err(error) => silent.push(format!("image {id}: {error}")),
            }
        }
        silent.extend(unfit);
        Ok(Found { image: None, silent })
    }

    /// The images here and, as far as they answer, at the replicas, which are asked all at once; and who did not.
    async fn all(
        &self,
        acknowledged: Option<&Replicated>,
        patience: Duration,
    ) -> engine::Result<(Vec<Candidate>, Vec<String>)> {
        let (mut candidates, mut silent) = (self.here().await?, Vec::new());
        if candidates.iter().any(|one| one.is_handed_over_as(acknowledged)) {
            // Its giver has ended the service with it: nothing newer can be anywhere.
            return Ok((candidates, silent));
        }
        let mut awaited: BTreeSet<_> = self.replicas.iter().map(|replica| replica.url().to_owned()).collect();
        let asked =
            self.replicas.iter().map(|replica| async move { (replica.url(), self.there(replica).await) });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let until = Instant::now() + patience;
        loop {
            let answer = if suffices(acknowledged, &candidates) {
                timeout_at(until, asked.next()).await
            } else {
                Ok(asked.next().await)
            };
            match answer {
                Ok(Some((url, more))) => {
                    awaited.remove(url);
                    match more {
                        Ok(more) => candidates.extend(more),
                        Err(error) => silent.push(format!("{url}: {error}")),
                    }
                }
                Ok(None) => break,
                Err(_) => {
                    let patience = humantime::format_duration(patience);
                    silent.extend(awaited.iter().map(|url| format!("{url}: no answer within {patience}")));
                    break;
                }
            }
        }
        Ok((candidates, silent))
    }

    async fn here(&self) -> engine::Result<Vec<Candidate>> {
        let (store, service) = (self.store.clone(), self.service.clone());
        let records = blocking(move || store.list(&service)).await?;
        let usable = records.into_iter().filter(|record| record.facts.usable()).filter_map(|record| {
            let handed_over = record.facts.hot && !record.facts.durable;
            let one = self.candidate(&record.about?, record.facts.id, record.facts.verdict, None);
            Some(Candidate { handed_over, ..one })
        });
        Ok(usable.collect())
    }

    async fn there(&self, replica: &Arc<Replica>) -> engine::Result<Vec<Candidate>> {
        let copies = replica.images(&self.service).await?;
        let candidates = copies.into_iter().map(|copy| {
            let (head, from) = (copy.head, Some(Arc::clone(replica)));
            self.candidate(head.about(), head.id().clone(), copy.verdict, from)
        });
        Ok(candidates.collect())
    }

    async fn bring(&self, candidate: &Candidate) -> engine::Result<Prepared> {
        let id = candidate.image.image.clone();
        if let Some(replica) = &candidate.from {
            replica.fetch(&self.store, &self.service, &id).await?;
        }
        let store = self.store.clone();
        blocking(move || store.open_for_restore(&id)).await
    }

    /// What the ladder would not use here is none that could be taken over from.
    fn candidate(
        &self,
        about: &About,
        image: ImageId,
        verdict: ImageVerdict,
        from: Option<Arc<Replica>>,
    ) -> Candidate {
        let unfit = match &self.runtime {
            Ok(runtime) => incompatible(about, &self.host, &runtime.features().program),
            Err(why) => Some(why.clone()),
        };
        Candidate {
            image: Replicated { epoch: about.epoch, image },
            suspect: verdict == ImageVerdict::Suspect,
            handed_over: false,
            from,
            unfit,
        }
    }
}
