//! Images outside of this host: in a bucket, in a folder of somebody else's disk, at another node.
//!
//! ```text
//! claim (epoch) -> what is there already -> segments, what is missing of them -> manifest -> epoch still ours? -> acknowledged
//!      |                                         |                                |              |
//!   Fenced                              cut: gone on with later          whole or not at all   Fenced
//! ```
//!
//! A [`Replica`] speaks to one such place through [`Place`]; what it sends is a durable image as it lies on disk, byte by byte, the
//! manifest last. Every write bears an epoch, and a place that has seen a newer one for the service refuses it: an image counts as
//! acknowledged only if the epoch was still ours after its manifest was there, so whoever claims a newer epoch and then looks finds every
//! acknowledged image. It refuses to decide when and what is sent, and knows nothing of leases: the epoch is given.

pub mod bucket;
mod epochs;
pub mod objects;
mod pace;
pub mod peer;
pub mod standby;
pub mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Bytes;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::{ImageFacts, ImageVerdict};
use policies::retention;
use policies::time::WallTime;
use tokio::sync::mpsc;

pub use epochs::Epochs;
pub use pace::Pace;

use crate::error::{Error, Report, Result};
use crate::images::{Head, Incoming, Outgoing, PartWriter, Sizes, Store, Way};
use crate::runtime::Effect;

/// Pieces of a segment on their way.
pub type Chunks = BoxStream<'static, Result<Bytes>>;
/// How much of a segment is read or written at once.
const CHUNK: usize = 256 << 10;
/// Chunks between a disk and a network.
pub(crate) const CHUNKS_WAITING: usize = 4;

/// One image as a place lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: ImageId,
    /// What is thought of it.
    pub verdict: ImageVerdict,
}

/// One image with what its manifest says.
#[derive(Debug, Clone, PartialEq)]
pub struct Copy {
    /// What it is.
    pub head: Arc<Head>,
    /// What is thought of it.
    pub verdict: ImageVerdict,
}

/// What sending an image came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sent {
    /// Bytes of segments that went over.
    pub bytes: u64,
    /// Bytes of segments that were there already.
    pub skipped: u64,
}

/// What a place outside of this host can do.
pub trait Place: std::fmt::Debug + Send + Sync {
    /// From now on, writes for this service bear this epoch.
    ///
    /// # Errors
    /// `Fenced` when a newer one was seen there.
    fn claim<'a>(&'a self, service: &'a ServiceName, epoch: Epoch) -> Effect<'a, ()>;

    /// Services that have anything there.
    fn services(&self) -> Effect<'_, Vec<ServiceName>>;

    /// The complete images of a service.
    fn list<'a>(&'a self, service: &'a ServiceName) -> Effect<'a, Vec<Listed>>;

    /// What a complete image is known by: the bytes of its [`Head`].
    fn head<'a>(&'a self, service: &'a ServiceName, id: &'a ImageId) -> Effect<'a, Vec<u8>>;

    /// A segment of a complete image, from an offset on.
    fn read<'a>(&'a self, wanted: Wanted<'a>, offset: u64) -> Effect<'a, Chunks>;

    /// Sends what is missing of an image, its manifest last. Comes back after it was acknowledged under this epoch.
    fn send<'a>(&'a self, image: &'a Arc<Outgoing>, epoch: Epoch, pace: &'a Pace) -> Effect<'a, Sent>;

    /// Judges an image.
    fn judge<'a>(
        &'a self,
        image: (&'a ServiceName, &'a ImageId),
        verdict: ImageVerdict,
        epoch: Epoch,
    ) -> Effect<'a, ()>;

    /// Removes images.
    fn remove<'a>(&'a self, service: &'a ServiceName, ids: &'a [ImageId], epoch: Epoch) -> Effect<'a, ()>;

    /// Another node, if it is one: then a service can be handed over to it directly.
    fn as_peer(&self) -> Option<&peer::Peer> {
        None
    }
}

/// A segment of an image at a place.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Whose image.
    pub service: &'a ServiceName,
    /// Which.
    pub id: &'a ImageId,
    /// The segment's name.
    pub part: &'a str,
}

/// One place to which images are sent, and from which they come back.
#[derive(Debug)]
pub struct Replica {
    url: String,
    place: Box<dyn Place>,
    pace: Pace,
    /// Those that were read: but for the wrapping of a key, a head never changes.
    heads: Mutex<BTreeMap<(ServiceName, ImageId), Arc<Head>>>,
}

impl Replica {
    /// `url` is how people call it.
    pub fn new(url: impl Into<String>, place: Box<dyn Place>, pace: Pace) -> Self {
        Self { url: url.into(), place, pace, heads: Mutex::default() }
    }

    /// How people call it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The other node, if it is one.
    pub fn as_peer(&self) -> Option<&peer::Peer> {
        self.place.as_peer()
    }

    /// From now on, writes for this service bear this epoch.
    ///
    /// # Errors
    /// `Fenced` when a newer one was seen there.
    pub async fn claim(&self, service: &ServiceName, epoch: Epoch) -> Result<()> {
        self.place.claim(service, epoch).await
    }

    /// Services that have anything there.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer.
    pub async fn services(&self) -> Result<Vec<ServiceName>> {
        self.place.services().await
    }

    /// The complete images of a service there, newest first. One whose manifest is not as it was written is left out, and said in the log.
    ///
    /// # Errors
    /// `Unavailable` when it does not answer.
    pub async fn images(&self, service: &ServiceName) -> Result<Vec<Copy>> {
        let mut copies = Vec::new();
        for Listed { id, verdict } in self.place.list(service).await? {
            match self.head(service, &id).await {
                Ok(head) => copies.push(Copy { head, verdict }),
                Err(Error::Corrupt(report)) => {
                    tracing::warn!(%service, image = %id, replica = self.url, error = %report, "an image of a replica is damaged");
                }
                Err(error) => return Err(error),
            }
        }
        copies.sort_by(|a, b| b.order().cmp(&a.order()));
        Ok(copies)
    }

    /// Sends an image; what is there already is not sent again.
    ///
    /// # Errors
    /// `Unavailable`: try again, it goes on where it was cut. `Fenced`: somebody else holds the service. `Corrupt`: it did not arrive as it
    /// was read, and is sent from its beginning next time. `Refused`: certificate, credentials, or no such bucket.
    pub async fn send(&self, image: &Arc<Outgoing>, epoch: Epoch) -> Result<Sent> {
        self.place.send(image, epoch, &self.pace).await
    }

    /// Judges an image there.
    ///
    /// # Errors
    /// As [`Replica::send`].
    pub async fn judge(
        &self,
        service: &ServiceName,
        id: &ImageId,
        verdict: ImageVerdict,
        epoch: Epoch,
    ) -> Result<()> {
        self.place.judge((service, id), verdict, epoch).await
    }

    /// Removes there what the plan of retention names.
    ///
    /// # Errors
    /// As [`Replica::send`].
    pub async fn retain(
        &self,
        service: &ServiceName,
        settings: &retention::Settings,
        (now, epoch): (WallTime, Epoch),
    ) -> Result<Vec<ImageId>> {
        let facts: Vec<ImageFacts> = self.images(service).await?.iter().map(Copy::facts).collect();
        let surplus = retention::plan(&facts, &BTreeSet::new(), now, settings, 0);
        if !surplus.is_empty() {
            self.place.remove(service, &surplus, epoch).await?;
            let mut known = self.heads.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|(of, id), _| of != service || !surplus.contains(id));
        }
        Ok(surplus)
    }

    /// Brings an image into the local store, where all of it is read before it counts; what came of it earlier is not fetched again.
    ///
    /// # Errors
    /// `Corrupt` when it isn't whole there or didn't arrive whole; otherwise as [`Replica::images`] and by what the disk says.
    pub async fn fetch(&self, store: &Store, service: &ServiceName, id: &ImageId) -> Result<Sizes> {
        let bytes = self.place.head(service, id).await?;
        let head = decode(&bytes, (service, id))?;
        let verdict = self.place.list(service).await?.into_iter().find(|listed| listed.id == *id);
        let verdict = verdict.map_or(head.about().verdict, |listed| listed.verdict);
        let alone = store.fetch_alone(service).await;
        let (opened, of) = (store.clone(), (service.clone(), id.clone()));
        let incoming = blocking(move || {
            opened.forget_incoming(&of.0, Way::Fetched, Some(&of.1))?;
            opened.incoming(&bytes, Way::Fetched)
        });
        let Some(incoming) = incoming.await? else {
            return Ok(head.sizes());
        };
        let incoming = self.fetch_parts(incoming, (service, id)).await?;
        // To the end of it, whoever still waits for that.
        blocking(move || {
            let committed = incoming.commit(verdict);
            drop(alone);
            committed
        })
        .await
        .map(|manifest| manifest.sizes)
    }

    async fn fetch_parts(
        &self,
        incoming: Incoming,
        (service, id): (&ServiceName, &ImageId),
    ) -> Result<Incoming> {
        let lengths = incoming.lengths()?;
        for part in incoming.parts() {
            let offset = lengths.get(&part.name).copied().unwrap_or(0);
            if offset >= part.length {
                continue;
            }
            let writer = incoming.part(&part.name, offset)?;
            let chunks = self.place.read(Wanted { service, id, part: &part.name }, offset).await?;
            write_all(writer, chunks).await?;
        }
        Ok(incoming)
    }

    async fn head(&self, service: &ServiceName, id: &ImageId) -> Result<Arc<Head>> {
        let key = (service.clone(), id.clone());
        let known = self.heads.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let bytes = self.place.head(service, id).await?;
        let head = Arc::new(decode(&bytes, (service, id))?);
        self.heads.lock().unwrap_or_else(PoisonError::into_inner).insert(key, Arc::clone(&head));
        Ok(head)
    }
}

impl Copy {
    /// What policies decide by.
    pub fn facts(&self) -> ImageFacts {
        let about = self.head.about();
        ImageFacts {
            id: self.head.id().clone(),
            taken_at: about.taken_at,
            verdict: self.verdict,
            hot: false,
            durable: true,
            pinned: false,
            damaged: false,
            locked: false,
            incompatible: None,
            size: self.head.sizes().stored,
            parent: about.parent.clone(),
        }
    }

    fn order(&self) -> (WallTime, &ImageId) {
        (self.head.about().taken_at, self.head.id())
    }
}

/// A head that came from elsewhere, and is the one that was asked for.
fn decode(bytes: &[u8], (service, id): (&ServiceName, &ImageId)) -> Result<Head> {
    let head = Head::decode(bytes)?;
    if (head.service(), head.id()) == (service, id) {
        return Ok(head);
    }
    let text = format!("manifest is of image {} of {}, not of {id} of {service}", head.id(), head.service());
    Err(Error::Corrupt(Report::new(text)))
}

/// Writes what comes, on a thread for blocking work; what has come before a failure stays.
async fn write_all(mut writer: PartWriter, mut chunks: Chunks) -> Result<()> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let writing = tokio::task::spawn_blocking(move || {
        while let Some(chunk) = receiver.blocking_recv() {
            writer.write(&chunk)?;
        }
        Ok(())
    });
    let mut broken = Ok(());
    while let Some(chunk) = chunks.next().await {
        let passed_on = match chunk {
            // A writer that has ended says why below.
            Ok(chunk) => sender.send(chunk).await.is_ok(),
            Err(error) => {
                broken = Err(error);
                false
            }
        };
        if !passed_on {
            break;
        }
    }
    drop(sender);
    joined(writing.await)?;
    broken
}

/// Reads a file to its end, on a thread for blocking work.
fn read_all(mut file: std::fs::File) -> Chunks {
    let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut buffer = vec![0; CHUNK];
            let chunk = match std::io::Read::read(&mut file, &mut buffer) {
                Ok(0) => return,
                Ok(length) => {
                    buffer.truncate(length);
                    Ok(Bytes::from(buffer))
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => Err(Error::Unavailable(Report::new("cannot read a segment").because(e))),
            };
            let over = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || over {
                return;
            }
        }
    });
    let next = async |mut receiver: mpsc::Receiver<Result<Bytes>>| {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    };
    Box::pin(futures_util::stream::unfold(receiver, next))
}

/// Work that may take as long as a disk takes.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

fn joined<T>(ended: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    ended.unwrap_or_else(|panic| Err(Error::Internal(Report::new("copy an image").because(panic))))
}

/// Sixteen random bytes, as text.
fn nonce() -> Result<String> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|e| Error::Unavailable(Report::new("ask the kernel for random bytes").because(e)))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Somebody else has the service now.
fn fenced(service: &ServiceName, (ours, seen): (Epoch, Epoch), at: &str) -> Error {
    let text = format!("epoch {} of {service} is over: {at} has seen epoch {}", ours.0, seen.0);
    Error::Fenced(Report::new(text))
}
