//! A service that goes to a peer directly: what is asked beforehand, and its last image from memory to memory.

use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use hyper::Method;
use hyper::body::Bytes;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::connection::{Ask, Connection};
use super::{Peer, READ_AT_LEAST, ROOT, read, write};
use crate::durable::fail_point;
use crate::error::{Error, Report, Result};
use crate::images::{Given, Hot, Known, Store};
use crate::replica::{CHUNKS_WAITING, Chunks, joined};

/// What is asked before anything stands still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The node that the lease will name.
    pub node: String,
    /// An image that it should have.
    pub base: String,
    /// What its manifest's BLAKE3 is here.
    pub identity: String,
    /// Bytes that will come, about.
    pub bytes: u64,
    /// Whether images are encrypted on this node's disk.
    pub encrypted: bool,
}

/// The answer of the node that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offered {
    /// It has the same base, and holds it ready: its pages need not be sent.
    pub base: bool,
}

/// A peer that has agreed to take a service; with a connection of its own, made already.
#[derive(Debug)]
pub struct HandOver {
    connection: Connection,
    service: ServiceName,
    epoch: Epoch,
}

impl Peer {
    /// Asks whether this is the node, and has room. It makes the base ready meanwhile, which takes as long as its memory does.
    ///
    /// # Errors
    /// `Refused` if it is another node or doesn't want it, `Unavailable` if it does not answer or has no room, `Fenced` if another holds the service.
    pub async fn offer(
        &self,
        service: &ServiceName,
        offer: &Offer,
        epoch: Epoch,
    ) -> Result<(HandOver, Offered)> {
        let connection = self.connection.fresh();
        let ask = Ask::new(Method::POST, format!("{ROOT}/{service}/offer")).epoch(epoch);
        let ask = ask.document(write(offer)?).patience(patience(offer.bytes));
        let offered = read(&connection.document(ask).await?)?;
        Ok((HandOver { connection, service: service.clone(), epoch }, offered))
    }
}

impl HandOver {
    /// Sends a hot image; comes back when it is one there, all of it found as it is here.
    ///
    /// # Errors
    /// As [`Store::give`] and [`Store::take`]; `Unavailable` when the peer falls silent: then nobody knows whether it has it.
    pub async fn give(
        &self,
        store: &Store,
        (hot, verdict): (&Hot, ImageVerdict),
        known: Option<Arc<Known>>,
    ) -> Result<Given> {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let (store, hot, of) = (store.clone(), hot.clone(), hot.id.clone());
        let length = hot.raw_len;
        fail_point("handover.before");
        let giving = tokio::task::spawn_blocking(move || {
            let mut to = ToBody { sender, gathered: Vec::new() };
            let given = store.give(&hot, known.as_deref(), &mut to);
            if let Err(error) = &given {
                // The other side must not take what has come for all of it.
                to.break_off(error);
            }
            given
        });
        let path = format!("{ROOT}/{}/{of}/hot?verdict={verdict}", self.service);
        let ask = Ask::new(Method::PUT, path).epoch(self.epoch).stream(chunks(receiver), None);
        let answered = self.connection.document(ask.patience(patience(length))).await;
        // If the body is not taken any more it ends by itself. What the peer says goes before what became of the sending.
        let given = joined(giving.await);
        let given = match (answered, given) {
            (Ok(_), given) => given?,
            (Err(Error::Unavailable(_)), Err(error @ (Error::Corrupt(_) | Error::Internal(_)))) => {
                return Err(error);
            }
            (Err(error), _) => return Err(error),
        };
        fail_point("handover.answered");
        Ok(given)
    }

    /// It is not needed there after all.
    ///
    /// # Errors
    /// As the peer answers.
    pub async fn take_back(&self, id: &ImageId) -> Result<()> {
        let ask = Ask::new(Method::POST, format!("{ROOT}/{}/remove", self.service)).epoch(self.epoch);
        self.connection.document(ask.document(write(&[id.as_str()])?)).await.map(drop)
    }
}

fn patience(bytes: u64) -> Duration {
    Duration::from_secs(bytes / READ_AT_LEAST)
}

/// A writer whose bytes are a request's body.
struct ToBody {
    sender: mpsc::Sender<Result<Bytes>>,
    gathered: Vec<u8>,
}

impl ToBody {
    fn break_off(&self, error: &Error) {
        let report = Report::new("the image could not be sent").because(error);
        // Nobody may be reading any more.
        let _ = self.sender.blocking_send(Err(Error::Unavailable(report)));
    }
}

impl Write for ToBody {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.gathered.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let bytes = Bytes::from(std::mem::take(&mut self.gathered));
        if bytes.is_empty() {
            return Ok(());
        }
        self.sender.blocking_send(Ok(bytes)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

fn chunks(receiver: mpsc::Receiver<Result<Bytes>>) -> Chunks {
    let next = async |mut receiver: mpsc::Receiver<Result<Bytes>>| {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    };
    futures_util::stream::unfold(receiver, next).boxed()
}
