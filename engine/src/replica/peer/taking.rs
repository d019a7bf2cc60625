//! The receiving end of a hand-over: agreed to beforehand, taken from memory to memory, sealed before it is answered.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use hyper::body::{Bytes, Incoming as Body};
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use tokio::sync::mpsc;

use super::handover::{Offer, Offered};
use super::receiver::{Answer, Arrived, Receiver, SILENCE_MAX, collect, document};
use super::watched;
use crate::durable::fail_point;
use crate::error::{Error, Report, Result};
use crate::images::{Base, Seed, StageNeeds};
use crate::replica::{CHUNKS_WAITING, Chunks, joined};

/// How long a base is held ready for a hand-over that was agreed to: the service is frozen and dumped meanwhile.
const READY_MAX: Duration = Duration::from_secs(120);

/// How much of what is refused is read all the same: whoever still sends does not listen, and would take the end of the connection for silence.
const READ_PAST_MAX: usize = 64 << 20;

/// Of each service the base that was agreed on. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Bases {
    of: Arc<Mutex<BTreeMap<ServiceName, Agreed>>>,
}

/// What is ready for a hand-over.
#[derive(Debug)]
struct Agreed {
    base: Arc<Base>,
    seed: Option<Seed>,
}

impl Receiver {
    pub(super) async fn offered(&self, service: ServiceName, epoch: Epoch, body: Body) -> Result<Answer> {
        self.let_in(&service, epoch).await?;
        let offer: Offer = serde_json::from_slice(&collect(body).await?)
            .map_err(|e| Error::Invalid(Report::new("not an offer").because(e)))?;
        if self.node.as_deref() != Some(offer.node.as_str()) {
            return Err(Error::Refused(Report::new(format!("this is not node {}", offer.node))));
        }
        if offer.encrypted && !self.store.settings().keys.encrypts() {
            let report = Report::new("images are encrypted there, and would not be here");
            return Err(Error::Refused(report.remedy("set store.encryption_key_file on both nodes")));
        }
        let (of, former) = (service.clone(), self.bases.take(&service));
        let agreed = self.in_store(move |store| {
            // It would be in the way.
            drop(former);
            store.has_room_in_memory(StageNeeds { memory: offer.bytes, files: 0 })?;
            let id = ImageId::try_from(offer.base.as_str());
            let id = id.map_err(|e| Error::Invalid(Report::new("no id of an image").because(e)))?;
            // One that is not here, or not whole, is none.
            let base = store.base(&of, &id).ok().filter(|base| base.identity() == offer.identity);
            // Without it the hand-over takes a little longer.
            Ok(base.map(|base| Agreed { seed: store.seed(&of, &base).ok(), base: Arc::new(base) }))
        });
        let agreed = agreed.await?;
        let answer = Offered { base: agreed.is_some() };
        self.bases.agree(service, agreed);
        document(&answer)
    }

    pub(super) async fn take(
        &self,
        (service, id): (ServiceName, ImageId),
        verdict: ImageVerdict,
        (epoch, body): (Epoch, Body),
    ) -> Result<Answer> {
        let mut chunks = watched(body, SILENCE_MAX, "the peer".to_owned());
        let taken = self.take_hot((&service, &id), verdict, (epoch, &mut chunks)).await;
        if taken.is_err() {
            read_past(&mut chunks).await;
        }
        taken?;
        fail_point("handover.sealed");
        // Whoever listened has ended; so do we.
        let _ = self.arrived.send(Arrived { service, id, epoch }).await;
        document(&serde_json::json!({}))
    }

    async fn take_hot(
        &self,
        (service, id): (&ServiceName, &ImageId),
        verdict: ImageVerdict,
        (epoch, chunks): (Epoch, &mut Chunks),
    ) -> Result<()> {
        self.let_in(service, epoch).await?;
        let agreed = self.bases.take(service);
        let (base, seed) = agreed.map_or((None, None), |agreed| (Some(agreed.base), agreed.seed));
        let (store, of) = (self.store.clone(), (service.clone(), id.clone()));
        let take = move |from: &mut dyn Read| {
            store.take((&of.0, &of.1), epoch, (base.as_deref(), seed), from)?;
            // Of those that are there the ladder takes the newest good one.
            store.set_verdict(&of.1, verdict)
        };
        read_by(chunks, take).await.map_err(refused)?;
        // A newer holder may have come meanwhile: then it does not count.
        self.let_in(service, epoch).await
    }
}

impl Bases {
    /// Holds it for a while. Whatever was agreed on before is over.
    fn agree(&self, service: ServiceName, agreed: Option<Agreed>) {
        let Some(agreed) = agreed else { return };
        let base = Arc::downgrade(&agreed.base);
        self.lock().insert(service.clone(), agreed);
        let bases = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(READY_MAX).await;
            let is_it = |held: &Agreed| std::ptr::eq(Arc::as_ptr(&held.base), base.as_ptr());
            let mut held = bases.lock();
            let over = if held.get(&service).is_some_and(is_it) { held.remove(&service) } else { None };
            drop(held);
            // Its memory is given back off these threads.
            tokio::task::spawn_blocking(move || drop(over));
        });
    }

    fn take(&self, service: &ServiceName) -> Option<Agreed> {
        self.lock().remove(service)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Agreed>> {
        // Changed in single steps.
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whoever hears this is to know that nothing of it is here, which silence does not say.
fn refused(error: Error) -> Error {
    match error {
        Error::Unavailable(report) => Error::Refused(report),
        other => other,
    }
}

/// Has what comes read on a thread for blocking work.
async fn read_by<T: Send + 'static>(
    chunks: &mut Chunks,
    work: impl FnOnce(&mut dyn Read) -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    let working = tokio::task::spawn_blocking(move || work(&mut FromBody { receiver, chunk: Bytes::new() }));
    while let Some(chunk) = chunks.next().await {
        // A reader that has ended says why below.
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    joined(working.await)
}

async fn read_past(chunks: &mut Chunks) {
    let mut left = READ_PAST_MAX;
    while let Some(Ok(chunk)) = chunks.next().await {
        match left.checked_sub(chunk.len()) {
            Some(less) => left = less,
            None => return,
        }
    }
}

/// A reader of what comes; a break is an error, not an end.
struct FromBody {
    receiver: mpsc::Receiver<Result<Bytes>>,
    chunk: Bytes,
}

impl Read for FromBody {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Err(io::Error::other(error.to_string())),
                None => return Ok(0),
            }
        }
        let length = into.len().min(self.chunk.len());
        into[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}
