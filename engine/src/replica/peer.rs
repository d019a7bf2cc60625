//! Images at another node: HTTP/1.1 over mutual TLS, spoken by a [`Peer`] on this side and a [`Receiver`] on the other.
//!
//! | request, under `/v1/replica` | does |
//! | --- | --- |
//! | `GET /` | services that have anything there |
//! | `PUT /SERVICE/epoch` | claims an epoch |
//! | `GET /SERVICE` | lists the complete images |
//! | `POST /SERVICE/ID/begin` (head) | says what of the image is there already |
//! | `PUT /SERVICE/ID/parts/SEGMENT?offset=N` | bytes of a segment, from its present end on |
//! | `PUT /SERVICE/ID/manifest?verdict=WORD` | last: reads all of it and, if it is whole, makes it an image |
//! | `PUT /SERVICE/ID/verdict?verdict=WORD` | judges it |
//! | `POST /SERVICE/remove` (ids) | removes images |
//! | `POST /SERVICE/offer` | asks whether this is the node that is to have the service, with room for it, and which pages it has |
//! | `PUT /SERVICE/ID/hot?verdict=WORD` | a hot image, from memory to memory (`engine::images`: what one store gives and another takes) |
//! | `GET /SERVICE/ID/manifest`, `GET /SERVICE/ID/parts/SEGMENT?offset=N` | gives them back |
//!
//! What writes bears `supervisor-epoch`. A refusal is JSON with `error` and `kind`, the word of our own errors.

mod connection;
mod handover;
mod receiver;
mod request;
mod taking;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::BodyDataStream;
use hyper::Method;
use hyper::body::Bytes;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use serde::{Deserialize, Serialize};

pub use handover::{HandOver, Offer, Offered};
pub use receiver::{Arrived, Holding, Receiver};

use super::tls::Files;
use super::{Chunks, Listed, Pace, Place, Sent, Wanted, read_all};
use crate::durable::fail_point;
use crate::error::{Error, Report, Result};
use crate::images::{Outgoing, Part};
use crate::runtime::Effect;
use connection::{Ask, Connection};

/// What every address begins with.
const ROOT: &str = "/v1/replica";
/// The header that bears the epoch.
const EPOCH_HEADER: &str = "supervisor-epoch";
/// Longest document in either direction: a manifest is at most as long.
const DOCUMENT_MAX: usize = 16 << 20;
/// The other side reads all of an image before it answers; nothing is slower than this.
const READ_AT_LEAST: u64 = 10 << 20;

/// Another node, to which images are sent.
#[derive(Debug)]
pub struct Peer {
    connection: Connection,
}

/// How a peer is reached.
#[derive(Debug, Clone)]
pub struct Address {
    /// Name or IP address, as it stands in the peer's certificate.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Who we are and whom we believe.
    pub files: Files,
    /// How long it may be silent.
    pub timeout: Duration,
}

/// The answer to `begin`.
#[derive(Debug, Serialize, Deserialize)]
struct Begun {
    /// The image is there already, whole.
    complete: bool,
    /// How much of each segment has come.
    parts: BTreeMap<String, u64>,
}

/// One entry of a list.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    id: String,
    verdict: String,
}

/// A refusal.
#[derive(Debug, Serialize, Deserialize)]
struct Refusal {
    error: String,
    kind: String,
}

impl Peer {
    /// Connects to nothing yet.
    pub fn new(address: Address) -> Self {
        Self { connection: Connection::new(address) }
    }

    async fn send_image(&self, image: &Arc<Outgoing>, epoch: Epoch, pace: &Pace) -> Result<Sent> {
        let base = format!("{ROOT}/{}/{}", image.service(), image.id());
        let manifest = Bytes::copy_from_slice(image.head().bytes());
        let begin = Ask::new(Method::POST, format!("{base}/begin")).epoch(epoch).document(manifest.clone());
        let begun: Begun = read(&self.connection.document(begin).await?)?;
        let mut sent = Sent::default();
        for part in image.parts() {
            let there =
                if begun.complete { part.length } else { begun.parts.get(&part.name).copied().unwrap_or(0) };
            let there = there.min(part.length);
            sent.skipped += there;
            if there < part.length {
                self.send_part((image, &part), there, (&base, epoch, pace)).await?;
                sent.bytes += part.length - there;
            }
        }
        if !begun.complete {
            fail_point("replica.manifest.before");
            let patience = Duration::from_secs(image.manifest().sizes.stored / READ_AT_LEAST);
            let path = format!("{base}/manifest?verdict={}", image.verdict());
            let commit = Ask::new(Method::PUT, path).epoch(epoch).document(manifest).patience(patience);
            self.connection.document(commit).await?;
        }
        Ok(sent)
    }

    async fn send_part(
        &self,
        (image, part): (&Arc<Outgoing>, &Part),
        offset: u64,
        (base, epoch, pace): (&str, Epoch, &Pace),
    ) -> Result<()> {
        let pace = pace.clone();
        let chunks = read_all(image.open(part, offset)?).then(move |chunk| {
            let pace = pace.clone();
            async move {
                if let Ok(chunk) = &chunk {
                    pace.pass(chunk.len() as u64).await;
                    fail_point("replica.part");
                }
                chunk
            }
        });
        let path = format!("{base}/parts/{}?offset={offset}", part.name);
        let put = Ask::new(Method::PUT, path).epoch(epoch).stream(chunks.boxed(), Some(part.length - offset));
        self.connection.document(put).await.map(drop)
    }
}

impl Place for Peer {
    fn as_peer(&self) -> Option<&Peer> {
        Some(self)
    }

    fn claim<'a>(&'a self, service: &'a ServiceName, epoch: Epoch) -> Effect<'a, ()> {
        Box::pin(async move {
            let ask = Ask::new(Method::PUT, format!("{ROOT}/{service}/epoch")).epoch(epoch);
            self.connection.document(ask).await.map(drop)
        })
    }

    fn services(&self) -> Effect<'_, Vec<ServiceName>> {
        Box::pin(async move {
            let names: Vec<String> =
                read(&self.connection.document(Ask::new(Method::GET, format!("{ROOT}/"))).await?)?;
            Ok(names.iter().filter_map(|name| ServiceName::try_from(name.as_str()).ok()).collect())
        })
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> Effect<'a, Vec<Listed>> {
        Box::pin(async move {
            let ask = Ask::new(Method::GET, format!("{ROOT}/{service}"));
            let entries: Vec<Entry> = read(&self.connection.document(ask).await?)?;
            entries.into_iter().map(Entry::listed).collect()
        })
    }

    fn head<'a>(&'a self, service: &'a ServiceName, id: &'a ImageId) -> Effect<'a, Vec<u8>> {
        Box::pin(async move {
            let ask = Ask::new(Method::GET, format!("{ROOT}/{service}/{id}/manifest"));
            self.connection.document(ask).await.map(Into::into)
        })
    }

    fn read<'a>(&'a self, wanted: Wanted<'a>, offset: u64) -> Effect<'a, Chunks> {
        Box::pin(async move {
            let Wanted { service, id, part } = wanted;
            let path = format!("{ROOT}/{service}/{id}/parts/{part}?offset={offset}");
            let silence = self.connection.timeout();
            // A connection of its own: it may be given up in the middle.
            let body = self.connection.fresh().answer(Ask::new(Method::GET, path)).await?;
            Ok(watched(body, silence, self.connection.url()))
        })
    }

    fn send<'a>(&'a self, image: &'a Arc<Outgoing>, epoch: Epoch, pace: &'a Pace) -> Effect<'a, Sent> {
        Box::pin(self.send_image(image, epoch, pace))
    }

    fn judge<'a>(
        &'a self,
        image: (&'a ServiceName, &'a ImageId),
        verdict: ImageVerdict,
        epoch: Epoch,
    ) -> Effect<'a, ()> {
        Box::pin(async move {
            let path = format!("{ROOT}/{}/{}/verdict?verdict={verdict}", image.0, image.1);
            self.connection.document(Ask::new(Method::PUT, path).epoch(epoch)).await.map(drop)
        })
    }

    fn remove<'a>(&'a self, service: &'a ServiceName, ids: &'a [ImageId], epoch: Epoch) -> Effect<'a, ()> {
        Box::pin(async move {
            let ids: Vec<&str> = ids.iter().map(ImageId::as_str).collect();
            let ask = Ask::new(Method::POST, format!("{ROOT}/{service}/remove")).epoch(epoch);
            self.connection.document(ask.document(write(&ids)?)).await.map(drop)
        })
    }
}

impl Entry {
    fn listed(self) -> Result<Listed> {
        let strange = || {
            Error::Corrupt(Report::new(format!(
                "a peer lists what is no image: {} {}",
                self.id, self.verdict
            )))
        };
        let id = ImageId::try_from(self.id.as_str()).map_err(|_| strange())?;
        Ok(Listed { id, verdict: self.verdict.parse().map_err(|_| strange())? })
    }
}

impl Refusal {
    fn error(self) -> Error {
        let report = Report::new(self.error);
        match self.kind.as_str() {
            "refused" => Error::Refused(report),
            "corrupt" => Error::Corrupt(report),
            "fenced" => Error::Fenced(report),
            "invalid" => Error::Invalid(report),
            "internal" => Error::Internal(report),
            _ => Error::Unavailable(report),
        }
    }
}

/// What comes, as long as it does not stay away for so long; after a failure nothing comes any more.
fn watched(body: hyper::body::Incoming, silence: Duration, who: String) -> Chunks {
    let state = Some((BodyDataStream::new(body), who));
    let next = move |state: Option<(BodyDataStream<hyper::body::Incoming>, String)>| async move {
        let (mut body, who) = state?;
        match tokio::time::timeout(silence, body.next()).await {
            Ok(Some(Ok(bytes))) => Some((Ok(bytes), Some((body, who)))),
            Ok(Some(Err(e))) => {
                let report = Report::new(format!("what comes from {who} broke off")).because(e);
                Some((Err(Error::Unavailable(report)), None))
            }
            Ok(None) => None,
            Err(_) => {
                let text = format!("{who} has sent nothing for {} s", silence.as_secs_f64());
                Some((Err(Error::Unavailable(Report::new(text))), None))
            }
        }
    };
    Box::pin(futures_util::stream::unfold(state, next))
}

fn read<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes)
        .map_err(|e| Error::Unavailable(Report::new("the peer's answer is not understood").because(e)))
}

fn write<T: Serialize>(value: &T) -> Result<Bytes> {
    let json = serde_json::to_vec(value);
    json.map(Bytes::from).map_err(|e| Error::Internal(Report::new("cannot write a document").because(e)))
}
