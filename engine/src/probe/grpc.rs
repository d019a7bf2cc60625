//! Asks gRPC's standard health service (`grpc.health.v1.Health/Check`), on a connection of its own that is closed afterwards.
//!
//! One call with a message of one field is written here on hyper's HTTP/2: tonic would bring a stack of channels and layers into the program for
//! it, and reconnects by itself where we want to know that a connection cannot be opened. The tests ask tonic's server.
//!
//! It refuses TLS, compressed answers, and anything but `SERVING`.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, TE, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::task::JoinSet;

use super::http::chain;
use super::{Answer, excerpt, tcp};
use crate::error::{Error, Report, Result};

/// An answer has two bytes and a prefix of five.
const BODY_MAX: usize = 4096;
const PREFIX: usize = 5;
const CALL: &str = "/grpc.health.v1.Health/Check";
const SERVING: i32 = 1;

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Question {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(int32, tag = "1")]
    status: i32,
}

/// Passes if the health service says `SERVING`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grpc {
    host: String,
    port: u16,
    service: String,
    call: Uri,
}

impl Grpc {
    /// `host` is a name or an IP address without brackets. The `service` is one that the server knows, or empty for all of it.
    ///
    /// # Errors
    /// `Invalid` for a host that cannot be one.
    pub fn new(host: impl Into<String>, port: u16, service: impl Into<String>) -> Result<Self> {
        let host = host.into();
        let shown = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let call = format!("http://{shown}{CALL}").parse();
        let call =
            call.map_err(|_| Error::Invalid(Report::new(format!("use as a probe's address: {shown}"))))?;
        Ok(Self { host, port, service: service.into(), call })
    }

    pub(super) async fn ask(&self) -> Answer {
        let stream = tcp::connect(&self.host, self.port).await?;
        // Whatever hyper has begun ends with this, though the server may never answer.
        let tasks = Arc::default();
        let executor = Tasks(Arc::downgrade(&tasks));
        let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream))
            .await
            .map_err(|e| format!("cannot speak http/2: {}", chain(&e)))?;
        let request = self.request()?;
        let exchange = async {
            let response = sender.send_request(request).await;
            judge(response.map_err(|e| format!("no grpc answer: {}", chain(&e)))?).await
        };
        // The exchange learns of the connection's errors itself.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn request(&self) -> std::result::Result<Request<Full<Bytes>>, String> {
        let question = Question { service: self.service.clone() }.encode_to_vec();
        let length =
            u32::try_from(question.len()).map_err(|_| "the service's name is too long".to_owned())?;
        // Not compressed; the length; the message.
        let body = [[0].as_slice(), &length.to_be_bytes(), &question].concat();
        Request::post(self.call.clone())
            .header(CONTENT_TYPE, "application/grpc")
            .header(TE, "trailers")
            .header(USER_AGENT, "supervisor-probe")
            .body(Full::from(body))
            .map_err(|e| format!("cannot make the request: {e}"))
    }
}

async fn judge(response: Response<Incoming>) -> Answer {
    let (head, body) = response.into_parts();
    if !head.status.is_success() {
        return Err(format!("http status {}: this is no grpc server", head.status));
    }
    let body = Limited::new(body, BODY_MAX).collect().await;
    let body = body.map_err(|e| format!("the answer broke off: {e}"))?;
    // An answer without a message has its status in the head.
    let end =
        body.trailers().filter(|trailers| trailers.contains_key("grpc-status")).unwrap_or(&head.headers);
    match said(end, "grpc-status").as_str() {
        "0" => {}
        // NOT_FOUND and UNIMPLEMENTED.
        "5" => return Err(format!("the health service does not know the service{}", reason(end))),
        "12" => return Err("the server has no health service".to_owned()),
        "" => return Err("the answer has no grpc status: this is no grpc server".to_owned()),
        code => return Err(format!("grpc status {code}{}", reason(end))),
    }
    let message = body.to_bytes();
    let answer = message.get(PREFIX..).filter(|_| message[0] == 0).and_then(|bytes| Said::decode(bytes).ok());
    match answer.map(|answer| answer.status) {
        Some(SERVING) => Ok("serving".to_owned()),
        Some(2) => Err("the service says that it is not serving".to_owned()),
        Some(status) => Err(format!("the service's status is unknown ({status})")),
        None => Err("the answer is not one of the health service".to_owned()),
    }
}

fn said(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).unwrap_or_default()
}

fn reason(headers: &HeaderMap) -> String {
    let reason = excerpt(&said(headers, "grpc-message"));
    if reason.is_empty() { reason } else { format!(": {reason}") }
}

/// hyper gives its connection a task of its own, which must not outlive the probe.
#[derive(Clone)]
struct Tasks(Weak<Mutex<JoinSet<()>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
{
    fn execute(&self, task: F) {
        let Some(tasks) = self.0.upgrade() else { return };
        tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(async move {
            task.await;
        });
    }
}

#[cfg(test)]
mod tests;
