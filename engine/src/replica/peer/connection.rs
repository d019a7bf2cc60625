//! One connection to a peer, made when it is needed and made anew when it is lost; one request at a time.

use std::time::Duration;

use futures_util::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_LENGTH, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use policies::id::Epoch;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;

use super::{Address, DOCUMENT_MAX, EPOCH_HEADER, Refusal};
use crate::error::{Error, Report, Result};
use crate::replica::{Chunks, tls};

type Body = UnsyncBoxBody<Bytes, Error>;

/// What is asked of a peer.
pub(super) struct Ask {
    method: Method,
    path: String,
    epoch: Option<Epoch>,
    body: Body,
    /// Not known of what is made while it is sent.
    length: Option<u64>,
    /// Beyond the time limit: how long the peer may work before it answers.
    patience: Duration,
    /// Counts chunks that have gone; a long body is no silence.
    progress: watch::Receiver<u64>,
}

/// A connection that may be lost at any time.
#[derive(Debug)]
pub(super) struct Connection {
    address: Address,
    line: Mutex<Option<Line>>,
}

/// What is there of it while it lasts.
#[derive(Debug)]
struct Line {
    sender: SendRequest<Body>,
    /// How it ends. A certificate that the other side does not accept is said here, after our first request has failed.
    ending: JoinHandle<std::result::Result<(), hyper::Error>>,
}

impl Ask {
    pub(super) fn new(method: Method, path: String) -> Self {
        let body = Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync();
        let (_, progress) = watch::channel(0);
        Self { method, path, epoch: None, body, length: Some(0), patience: Duration::ZERO, progress }
    }

    pub(super) fn epoch(self, epoch: Epoch) -> Self {
        Self { epoch: Some(epoch), ..self }
    }

    pub(super) fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub(super) fn document(self, bytes: Bytes) -> Self {
        let length = Some(bytes.len() as u64);
        Self { body: Full::new(bytes).map_err(|never| match never {}).boxed_unsync(), length, ..self }
    }

    /// So many bytes, if that is known, as they come.
    pub(super) fn stream(self, chunks: Chunks, length: Option<u64>) -> Self {
        let (gone, progress) = watch::channel(0);
        let frames = chunks.map(move |chunk| {
            gone.send_modify(|count| *count += 1);
            chunk.map(Frame::data)
        });
        Self { body: BodyExt::boxed_unsync(StreamBody::new(frames)), length, progress, ..self }
    }
}

impl Connection {
    pub(super) fn new(address: Address) -> Self {
        Self { address, line: Mutex::default() }
    }

    /// Another one to the same peer.
    pub(super) fn fresh(&self) -> Self {
        Self::new(self.address.clone())
    }

    pub(super) fn timeout(&self) -> Duration {
        self.address.timeout
    }

    pub(super) fn url(&self) -> String {
        format!("peer://{}:{}", self.address.host, self.address.port)
    }

    /// Asks for a document.
    pub(super) async fn document(&self, ask: Ask) -> Result<Bytes> {
        let body = self.answer(ask).await?;
        let collected =
            tokio::time::timeout(self.address.timeout, Limited::new(body, DOCUMENT_MAX).collect()).await;
        let collected = collected.map_err(|_| self.silent())?;
        let broken =
            |e| Error::Unavailable(Report::new(format!("the answer of {} broke off: {e}", self.url())));
        collected.map(|body| body.to_bytes()).map_err(broken)
    }

    /// Asks; a refusal is an error of its kind.
    pub(super) async fn answer(&self, ask: Ask) -> Result<Incoming> {
        let mut held = self.line.lock().await;
        let mut line = match alive(held.take()).await {
            Some(line) => line,
            None => self.connect().await?,
        };
        let response = self.exchange(&mut line, ask).await?;
        if response.status().is_success() {
            *held = Some(line);
            return Ok(response.into_body());
        }
        drop(held);
        let status = response.status();
        let body = Limited::new(response.into_body(), DOCUMENT_MAX).collect();
        let body = tokio::time::timeout(self.address.timeout, body).await.map_err(|_| self.silent())?;
        let refusal = body.ok().and_then(|body| serde_json::from_slice::<Refusal>(&body.to_bytes()).ok());
        Err(refusal.map_or_else(
            || Error::Unavailable(Report::new(format!("{} answered {status}", self.url()))),
            Refusal::error,
        ))
    }

    async fn exchange(&self, line: &mut Line, ask: Ask) -> Result<Response<Incoming>> {
        let Ask { method, path, epoch, body, length, patience, mut progress } = ask;
        let mut request = Request::builder().method(method).uri(path).header(HOST, &self.address.host);
        if let Some(length) = length {
            request = request.header(CONTENT_LENGTH, length);
        }
        if let Some(epoch) = epoch {
            request = request.header(EPOCH_HEADER, epoch.0);
        }
        let request = request.body(body);
        let request =
            request.map_err(|e| Error::Internal(Report::new("cannot make a request").because(e)))?;
        let mut response = std::pin::pin!(line.sender.send_request(request));
        let mut moving = true;
        loop {
            let limit = self.address.timeout + patience;
            tokio::select! {
                response = &mut response => return match response {
                    Ok(response) => Ok(response),
                    Err(error) => Err(self.lost(&mut line.ending, &error).await),
                },
                changed = progress.changed(), if moving => moving = changed.is_ok(),
                () = tokio::time::sleep(limit) => return Err(self.silent()),
            }
        }
    }

    /// A request failed; what the connection ended by says more.
    async fn lost(
        &self,
        ending: &mut JoinHandle<std::result::Result<(), hyper::Error>>,
        error: &hyper::Error,
    ) -> Error {
        match tokio::time::timeout(self.address.timeout, ending).await {
            Ok(Ok(Err(ending))) => self.broken("ask", &ending),
            Ok(Ok(Ok(())) | Err(_)) | Err(_) => self.broken("ask", error),
        }
    }

    async fn connect(&self) -> Result<Line> {
        let connecting = async {
            let Address { host, port, files, .. } = &self.address;
            let stream = TcpStream::connect((host.trim_matches(['[', ']']), *port))
                .await
                .map_err(|e| self.broken("connect to", &e))?;
            // Advice to the kernel only.
            let _ = stream.set_nodelay(true);
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name
                .map_err(|e| Error::Invalid(Report::new(format!("no name of a host: {host}")).because(e)))?;
            let stream = TlsConnector::from(files.client()?).connect(name, stream).await;
            let stream = stream.map_err(|e| self.broken("speak TLS with", &e))?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream))
                .await
                .map_err(|e| self.broken("speak HTTP with", &e))?;
            // It ends with the sender.
            Ok(Line { sender, ending: tokio::spawn(connection) })
        };
        tokio::time::timeout(self.address.timeout, connecting).await.map_err(|_| self.silent())?
    }

    fn silent(&self) -> Error {
        let text = format!("{} has been silent for {} s", self.url(), self.address.timeout.as_secs_f64());
        Error::Unavailable(Report::new(text))
    }

    fn broken(&self, tried: &str, error: &(dyn std::error::Error + 'static)) -> Error {
        let report = Report::new(format!("cannot {tried} {}", self.url())).because(error);
        match tls::is_about_certificates(error) {
            true => Error::Refused(report.remedy(
                "both nodes need certificates of the same `supervisor cert init`, not expired, with the name or address \
                 that stands in the URL",
            )),
            false => Error::Unavailable(report),
        }
    }
}

/// One that is lost is noticed here, or when it is used.
async fn alive(line: Option<Line>) -> Option<Line> {
    let mut line = line?;
    line.sender.ready().await.is_ok().then_some(line)
}
