//! A service that goes to a peer directly: agreed on while it runs, given while it stands still.
//!
//! ```text
//! rehearsal R is at a replica ─ who of the peers is the node? has it R, has it room? ‖ R's pages by content ─ agreed
//!    ─ (the service stands still) last image, hot ─ given: hot there ─ the service ends here
//!                                                 └ refused: durable and pushed, as without peers
//!                                                 └ silence: nobody knows; the service runs on here
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::Error;
use engine::images::{Given, Hot, Known, Store};
use engine::replica::Replica;
use engine::replica::peer::{HandOver, Offer};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use policies::id::{Epoch, ImageId, NodeName, ServiceName};
use policies::image::ImageVerdict;
use tokio::runtime::Handle;

use crate::carry_out::{blocking, mebibytes};

/// How long a service stands still for this at most; then it goes on here.
const GIVE_MAX: Duration = Duration::from_secs(240);
/// How often a peer that is silent is asked to forget an image, and for how long in between it is not.
const TAKE_BACK_TRIES: usize = 60;
const TAKE_BACK_EVERY: Duration = Duration::from_secs(5);

/// What is needed to agree.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) service: ServiceName,
    pub(super) epoch: Epoch,
    /// Who is to have it.
    pub(super) node: NodeName,
    /// The image of its rehearsal.
    pub(super) base: ImageId,
}

/// A hand-over that was agreed on. Used once.
#[derive(Debug)]
pub(crate) struct Handing {
    replica: Arc<Replica>,
    hand_over: HandOver,
    known: Option<Arc<Known>>,
    /// What was thought of the rehearsal's image. Its service is in the same state a moment later.
    verdict: ImageVerdict,
    outcome: Mutex<Option<Result<Given, String>>>,
}

impl Handing {
    /// Finds the node among the peers, and makes ready what can be while the service runs.
    ///
    /// # Errors
    /// Why it cannot be handed over directly, for people.
    pub(super) async fn agree(
        store: &Store,
        replicas: &[Arc<Replica>],
        wanted: Wanted,
    ) -> Result<Self, String> {
        let peers: Vec<_> = replicas.iter().filter(|replica| replica.as_peer().is_some()).collect();
        if peers.is_empty() {
            return Err("it is no peer of this node".to_owned());
        }
        let (opened, service, id) = (store.clone(), wanted.service.clone(), wanted.base.clone());
        let base = blocking(move || opened.base(&service, &id)).await.map_err(|e| e.to_string())?;
        let offer = Offer {
            node: wanted.node.to_string(),
            base: wanted.base.to_string(),
            identity: base.identity().to_owned(),
            bytes: base.raw_len(),
            encrypted: store.settings().keys.encrypts(),
        };
        let known = tokio::task::spawn_blocking(move || Known::of(base));
        let (replica, hand_over, has_base) = first_to_agree(&peers, &wanted, &offer).await?;
        let known = known.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
        let known = has_base.then(|| Arc::new(known));
        let verdict = verdict_of(store, &wanted).await;
        Ok(Self { replica, hand_over, known, verdict, outcome: Mutex::default() })
    }

    /// Gives a hot image. Blocks a thread for blocking work.
    ///
    /// # Errors
    /// `Unavailable` when nobody knows whether it has arrived.
    pub(crate) fn give(&self, store: &Store, hot: &Hot) -> engine::Result<()> {
        let giving = self.hand_over.give(store, (hot, self.verdict), self.known.clone());
        let given = Handle::current().block_on(async {
            tokio::time::timeout(GIVE_MAX, giving).await.unwrap_or_else(|_| {
                let text = format!("hand an image over within {GIVE_MAX:?}");
                Err(Error::Unavailable(engine::error::Report::new(text)))
            })
        });
        let (outcome, given) = match given {
            Ok(given) => (Ok(given), Ok(())),
            Err(error) => (Err(error.to_string()), Err(error)),
        };
        *self.lock() = Some(outcome);
        given
    }

    /// The service goes on here, and with its connections: what may be there already is of a moment that it has outlived. Whoever fell silent is
    /// asked again for a while.
    pub(crate) async fn take_back(&self, image: &ImageId) {
        for _ in 0..TAKE_BACK_TRIES {
            match self.hand_over.take_back(image).await {
                Ok(()) => return,
                Err(Error::Unavailable(_)) => tokio::time::sleep(TAKE_BACK_EVERY).await,
                Err(error) => {
                    return tracing::warn!(%error, %image, "what was handed over for nothing stays until something newer comes");
                }
            }
        }
    }

    /// To whom.
    pub(crate) fn url(&self) -> &str {
        self.replica.url()
    }

    /// What came of it, for people; nothing if it was not used.
    pub(super) fn told(&self) -> String {
        match &*self.lock() {
            Some(Ok(given)) => format!(
                ", hot: {:.1} MiB sent, {:.1} MiB named as pages that were there, {:.1} MiB zero",
                mebibytes(given.sent),
                mebibytes(given.referenced),
                mebibytes(given.zero)
            ),
            Some(Err(why)) => format!(", by the disk: {why}"),
            None => String::new(),
        }
    }

    /// Whether the peer has said that it has it.
    pub(super) fn is_given(&self) -> bool {
        matches!(&*self.lock(), Some(Ok(_)))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<Given, String>>> {
        // Replaced as a whole.
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn verdict_of(store: &Store, wanted: &Wanted) -> ImageVerdict {
    let (store, service, base) = (store.clone(), wanted.service.clone(), wanted.base.clone());
    let listed = blocking(move || store.list(&service)).await.unwrap_or_default();
    let own = listed.into_iter().find(|record| record.facts.id == base);
    own.map_or(ImageVerdict::Unjudged, |record| record.facts.verdict)
}

/// All are asked at once; one of them at most is the node.
async fn first_to_agree(
    peers: &[&Arc<Replica>],
    wanted: &Wanted,
    offer: &Offer,
) -> Result<(Arc<Replica>, HandOver, bool), String> {
    let ask = |replica: Arc<Replica>| async move {
        let Some(peer) = replica.as_peer() else { return Err("no peer".to_owned()) };
        match peer.offer(&wanted.service, offer, wanted.epoch).await {
            Ok((hand_over, offered)) => Ok((Arc::clone(&replica), hand_over, offered.base)),
            Err(error) => Err(format!("{}: {error}", replica.url())),
        }
    };
    let mut asked: FuturesUnordered<_> = peers.iter().map(|replica| ask(Arc::clone(replica))).collect();
    let mut refusals = Vec::new();
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(agreed) => return Ok(agreed),
            Err(why) => refusals.push(why),
        }
    }
    Err(refusals.join("; "))
}
