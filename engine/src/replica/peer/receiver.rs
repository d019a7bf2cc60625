//! The side that receives: what peers with a certificate of ours bring lands in the local store.
//!
//! Of each service one image is received at a time. An epoch is remembered before anything is written under it, and looked at again
//! before an image is acknowledged. It refuses images of services that this node holds itself: their only writer is here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming as Body};
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::request::Request;
use super::taking::Bases;
use super::{Begun, DOCUMENT_MAX, Entry, Refusal, watched, write};
use crate::error::{Error, Report, Result};
use crate::https;
use crate::images::{Incoming, Store, Way};
use crate::replica::tls::Files;
use crate::replica::{Chunks, Epochs, blocking, read_all, write_all};

/// How long a peer may be silent in the middle of a body.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

pub(super) type Answer = Response<UnsyncBoxBody<Bytes, Error>>;
type Slot = Arc<tokio::sync::Mutex<Option<Incoming>>>;

/// Services that this node holds. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Holding {
    services: Arc<Mutex<BTreeSet<ServiceName>>>,
}

/// An image has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Of which service.
    pub service: ServiceName,
    /// Its id.
    pub id: ImageId,
    /// Under which epoch.
    pub epoch: Epoch,
}

/// What peers talk to.
#[derive(Debug)]
pub struct Receiver {
    pub(super) store: Store,
    epochs: Epochs,
    holding: Holding,
    files: Files,
    pub(super) arrived: mpsc::Sender<Arrived>,
    slots: Mutex<BTreeMap<ServiceName, Slot>>,
    /// How this node is called where leases are; only then services are handed over to it directly.
    pub(super) node: Option<String>,
    pub(super) bases: Bases,
}

impl Holding {
    /// From now on this node is the service's only writer.
    pub fn hold(&self, service: ServiceName) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).insert(service);
    }

    /// Others may bring images of it again.
    pub fn release(&self, service: &ServiceName) {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).remove(service);
    }

    fn holds(&self, service: &ServiceName) -> bool {
        self.services.lock().unwrap_or_else(PoisonError::into_inner).contains(service)
    }
}

impl Receiver {
    /// `arrived` hears of each image; it has to be read.
    ///
    /// # Errors
    /// `Invalid` for certificates that cannot be used: said now, not to the first peer.
    pub fn new(
        store: Store,
        (epochs, holding): (Epochs, Holding),
        files: Files,
        arrived: mpsc::Sender<Arrived>,
    ) -> Result<Self> {
        files.server()?;
        Ok(Self {
            store,
            epochs,
            holding,
            files,
            arrived,
            slots: Mutex::default(),
            node: None,
            bases: Bases::default(),
        })
    }

    /// The same for a node of this name.
    #[must_use]
    pub fn named(self, node: String) -> Self {
        Self { node: Some(node), ..self }
    }

    /// Answers until it is dropped. Connections end with it.
    pub async fn serve(self, listener: TcpListener) {
        let files = self.files.clone();
        let receiver = Arc::new(self);
        let answer = service_fn(move |request| {
            let receiver = Arc::clone(&receiver);
            async move { Ok::<_, std::convert::Infallible>(receiver.answer(request).await) }
        });
        https::serve(listener, move || files.server(), answer).await;
    }

    async fn answer(&self, request: hyper::Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let answered = match Request::of(&parts) {
            Ok(request) => self.carry_out(request, body).await,
            Err(error) => Err(error),
        };
        answered.unwrap_or_else(|error| refusal(&error))
    }

    async fn carry_out(&self, request: Request, body: Body) -> Result<Answer> {
        match request {
            Request::Services => {
                let services = self.in_store(|store| store.services()).await?;
                document(&services.iter().map(ServiceName::as_str).collect::<Vec<_>>())
            }
            Request::List(service) => self.list(service).await,
            Request::Claim(service, epoch) => {
                self.let_in(&service, epoch).await?;
                done()
            }
            Request::Begin(service, id, epoch) => self.begin((service, id), epoch, body).await,
            Request::Write { service, id, part, offset, epoch } => {
                self.write((service, id), (&part, offset), (epoch, body)).await
            }
            Request::Commit(service, id, verdict, epoch) => {
                self.commit((service, id), verdict, (epoch, body)).await
            }
            Request::Judge(service, id, verdict, epoch) => {
                self.let_in(&service, epoch).await?;
                self.in_store(move |store| {
                    store.is_of(&service, &id)?;
                    store.set_verdict(&id, verdict)
                })
                .await?;
                done()
            }
            Request::Offer(service, epoch) => self.offered(service, epoch, body).await,
            Request::HandOver(service, id, verdict, epoch) => {
                self.take((service, id), verdict, (epoch, body)).await
            }
            Request::Remove(service, epoch) => self.remove(service, epoch, body).await,
            Request::Manifest(service, id) => {
                let outgoing = self.in_store(move |store| {
                    store.is_of(&service, &id)?;
                    store.outgoing(&id)
                });
                let outgoing = outgoing.await?;
                Ok(whole(StatusCode::OK, Bytes::copy_from_slice(outgoing.head().bytes())))
            }
            Request::Read { service, id, part, offset } => self.read((service, id), part, offset).await,
        }
    }

    /// That a write may be made: the epoch is not older than any that was seen, and the service is not ours.
    pub(super) async fn let_in(&self, service: &ServiceName, epoch: Epoch) -> Result<()> {
        if self.holding.holds(service) {
            let report = Report::new(format!("this node runs {service} itself and takes no images of it"));
            return Err(Error::Refused(report.remedy("give the services of the two nodes different names")));
        }
        let (epochs, service) = (self.epochs.clone(), service.clone());
        blocking(move || epochs.present(&service, epoch)).await
    }

    async fn list(&self, service: ServiceName) -> Result<Answer> {
        let records = self.in_store(move |store| store.list(&service)).await?;
        let complete = records.into_iter().filter(|r| r.facts.durable && !r.facts.damaged);
        let entry = |r: crate::images::ImageRecord| Entry {
            id: r.facts.id.to_string(),
            verdict: r.facts.verdict.to_string(),
        };
        document(&complete.map(entry).collect::<Vec<_>>())
    }

    async fn begin(&self, (service, id): (ServiceName, ImageId), epoch: Epoch, body: Body) -> Result<Answer> {
        self.let_in(&service, epoch).await?;
        let manifest = collect(body).await?;
        let slot = self.slot(&service);
        let mut slot = slot.lock().await;
        *slot = None;
        let of = (service.clone(), id.clone());
        let incoming = self.in_store(move |store| {
            // Whatever was begun before is not gone on with: its sender has something newer.
            store.forget_incoming(&service, Way::Sent, Some(&id))?;
            store.incoming(&manifest, Way::Sent)
        });
        let Some(incoming) = incoming.await? else {
            return document(&Begun { complete: true, parts: BTreeMap::new() });
        };
        if (&incoming.manifest().service, &incoming.manifest().id) != (&of.0, &of.1) {
            incoming.discard()?;
            return Err(Error::Invalid(Report::new("the manifest is of another image")));
        }
        let begun = Begun { complete: false, parts: incoming.lengths()? };
        *slot = Some(incoming);
        document(&begun)
    }

    async fn write(
        &self,
        (service, id): (ServiceName, ImageId),
        (part, offset): (&str, u64),
        (epoch, body): (Epoch, Body),
    ) -> Result<Answer> {
        self.let_in(&service, epoch).await?;
        let slot = self.slot(&service);
        let mut slot = slot.lock().await;
        let incoming =
            slot.as_mut().filter(|incoming| incoming.manifest().id == id).ok_or_else(|| not_begun(&id))?;
        let writer = incoming.part(part, offset)?;
        write_all(writer, watched(body, SILENCE_MAX, "the peer".to_owned())).await?;
        done()
    }

    async fn commit(
        &self,
        (service, id): (ServiceName, ImageId),
        verdict: ImageVerdict,
        (epoch, body): (Epoch, Body),
    ) -> Result<Answer> {
        self.let_in(&service, epoch).await?;
        let manifest = collect(body).await?;
        let slot = self.slot(&service);
        let mut slot = slot.lock().await;
        let incoming =
            slot.take().filter(|incoming| incoming.manifest().id == id).ok_or_else(|| not_begun(&id))?;
        if !incoming.is_of(&manifest) {
            return Err(Error::Invalid(Report::new(format!(
                "another manifest of {id} than it was begun with"
            ))));
        }
        let overtaken = (self.store.clone(), service.clone(), id.clone());
        blocking(move || {
            incoming.commit(verdict)?;
            // What was handed over and then not needed: its giver has gone on, and this is newer.
            let (store, service, id) = overtaken;
            store.forget_overtaken(&service, &id)
        })
        .await?;
        // A newer holder may have come and looked while all of it was being read: then it does not count.
        self.let_in(&service, epoch).await?;
        // Whoever listened has ended; so do we.
        let _ = self.arrived.send(Arrived { service, id, epoch }).await;
        done()
    }

    async fn remove(&self, service: ServiceName, epoch: Epoch, body: Body) -> Result<Answer> {
        self.let_in(&service, epoch).await?;
        let ids: Vec<String> = serde_json::from_slice(&collect(body).await?)
            .map_err(|e| Error::Invalid(Report::new("not a list of images").because(e)))?;
        self.in_store(move |store| {
            let own = store.list(&service)?;
            let named =
                |record: &&crate::images::ImageRecord| ids.iter().any(|id| *id == record.facts.id.as_str());
            // One that somebody has pinned here stays here.
            let removable = own.iter().filter(named).filter(|record| !record.facts.pinned);
            let removable: Vec<ImageId> = removable.map(|record| record.facts.id.clone()).collect();
            store.remove(&removable)
        })
        .await?;
        done()
    }

    async fn read(&self, (service, id): (ServiceName, ImageId), part: String, offset: u64) -> Result<Answer> {
        let (outgoing, file) = self
            .in_store(move |store| {
                store.is_of(&service, &id)?;
                let outgoing = store.outgoing(&id)?;
                let wanted = outgoing.parts().into_iter().find(|found| found.name == part);
                let wanted = wanted
                    .ok_or_else(|| Error::Invalid(Report::new(format!("no segment {part} of {id}"))))?;
                let file = outgoing.open(&wanted, offset)?;
                Ok((outgoing, file))
            })
            .await?;
        // The image is held as long as it is being read.
        let chunks: Chunks = read_all(file)
            .map(move |chunk| {
                let _held = &outgoing;
                chunk
            })
            .boxed();
        Ok(Response::new(BodyExt::boxed_unsync(StreamBody::new(chunks.map(|chunk| chunk.map(Frame::data))))))
    }

    fn slot(&self, service: &ServiceName) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(service.clone()).or_default())
    }

    pub(super) async fn in_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Store) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        blocking(move || work(&store)).await
    }
}

pub(super) async fn collect(body: Body) -> Result<Bytes> {
    let broken = |text: String| Error::Unavailable(Report::new(format!("a request broke off: {text}")));
    let collected = tokio::time::timeout(SILENCE_MAX, Limited::new(body, DOCUMENT_MAX).collect()).await;
    let collected = collected.map_err(|_| broken("nothing has come for 30 s".to_owned()))?;
    collected.map(|body| body.to_bytes()).map_err(|e| broken(e.to_string()))
}

fn not_begun(id: &ImageId) -> Error {
    Error::Unavailable(Report::new(format!("image {id} was not begun here, or something newer was since")))
}

fn done() -> Result<Answer> {
    document(&serde_json::json!({}))
}

pub(super) fn document<T: serde::Serialize>(value: &T) -> Result<Answer> {
    Ok(whole(StatusCode::OK, write(value)?))
}

fn refusal(error: &Error) -> Answer {
    let status = match error {
        Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        Error::Refused(_) | Error::Fenced(_) => StatusCode::CONFLICT,
        Error::Corrupt(_) => StatusCode::UNPROCESSABLE_ENTITY,
        Error::Invalid(_) => StatusCode::BAD_REQUEST,
        Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    };
    let body = Refusal { error: error.to_string(), kind: error.kind().to_owned() };
    whole(status, write(&body).unwrap_or_default())
}

fn whole(status: StatusCode, bytes: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(bytes).map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    answer
}
