//! The other end of the API: HTTP over the supervisor's socket, or HTTPS to a supervisor elsewhere.
//!
//! One connection a request. It refuses to wait for ever for a short answer; only streams have no limit.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;

use super::failure::Failure;
use super::remote::Remote;
use crate::api::ErrorBody;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long a short answer may take.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(30);
/// How long reading a whole image may take.
pub(crate) const READING_MAX: Duration = Duration::from_secs(6 * 3600);
/// Bytes that are sent at once.
const CHUNK: usize = 256 << 10;
/// Longest answer that is read whole.
const ANSWER_LENGTH_MAX: usize = 64 << 20;

/// How the supervisor is reached.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Socket(PathBuf),
    Https(Remote),
}

type Sender<B> = http1::SendRequest<B>;

impl Client {
    /// Over this socket.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { way: Way::Socket(socket) }
    }

    /// Over HTTPS.
    pub(crate) fn remote(remote: Remote) -> Self {
        Self { way: Way::Https(remote) }
    }

    /// Gets a document.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let (status, body) = self.whole(Method::GET, path, Bytes::new(), ANSWER_MAX).await?;
        read(status, &body)
    }

    /// Asks for something without a body and gets a document.
    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, limit: Duration) -> Result<T, Failure> {
        let (status, body) = self.whole(Method::POST, path, Bytes::new(), limit).await?;
        read(status, &body)
    }

    /// Asks for something and gets whatever is answered.
    pub(crate) async fn ask(
        &self,
        path: &str,
        body: &impl Serialize,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let body = serde_json::to_vec(body).map_err(|e| Failure::Failed(e.to_string()))?;
        self.whole(Method::POST, path, body.into(), limit).await
    }

    /// Sends whatever can be read from `from`, and gets a document.
    pub(crate) async fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        from: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<T, Failure> {
        let chunks = stream::try_unfold(from, |mut from| async {
            let mut chunk = Vec::with_capacity(CHUNK);
            let read = from.read_buf(&mut chunk).await?;
            Ok::<_, std::io::Error>((read > 0).then(|| (Frame::data(Bytes::from(chunk)), from)))
        });
        let (status, body) =
            collect(self.send(Method::POST, path, StreamBody::new(Box::pin(chunks))).await?).await?;
        read(status, &body)
    }

    /// Gets a stream.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, Failure> {
        let response = self.send(Method::GET, path, Full::new(Bytes::new())).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let (status, body) = collect(response).await?;
        Err(refusal(status, &body))
    }

    async fn whole(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let answered = async { collect(self.send(method, path, Full::new(body)).await?).await };
        let late = || self.unreachable(&format!("no answer within {} s", limit.as_secs()), HANGS);
        tokio::time::timeout(limit, answered).await.map_err(|_| late())?
    }

    async fn send<B>(&self, method: Method, path: &str, body: B) -> Result<Response<Incoming>, Failure>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connected = tokio::time::timeout(CONNECT_MAX, self.connect()).await;
        let mut sender = connected.map_err(|_| self.unreachable("no connection within 5 s", HANGS))??;
        let mut request =
            Request::builder().method(method).uri(path).header("content-type", "application/json");
        request = match &self.way {
            Way::Socket(_) => request.header("host", "supervisor"),
            Way::Https(remote) => request
                .header("host", remote.authority())
                .header("authorization", format!("Bearer {}", remote.token)),
        };
        let request = request.body(body).map_err(|e| Failure::Failed(e.to_string()))?;
        sender.send_request(request).await.map_err(|e| self.unreachable(&e.to_string(), HANGS))
    }

    async fn connect<B>(&self) -> Result<Sender<B>, Failure>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match &self.way {
            Way::Socket(socket) => {
                let stream = UnixStream::connect(socket).await;
                let stream = stream.map_err(|e| self.unreachable(&e.to_string(), remedy(e.kind())))?;
                self.greet(TokioIo::new(stream)).await
            }
            Way::Https(Remote { url, ca, .. }) => {
                let stream = engine::https::connect(&url.host, url.port, ca.as_deref()).await;
                let stream = stream.map_err(|e| match e {
                    engine::Error::Invalid(_) => Failure::Invalid(e.to_string()),
                    engine::Error::Refused(_) => self.unreachable(&e.to_string(), UNTRUSTED),
                    _ => self.unreachable(&e.to_string(), ELSEWHERE),
                })?;
                self.greet(TokioIo::new(stream)).await
            }
        }
    }

    async fn greet<B, T>(&self, stream: TokioIo<T>) -> Result<Sender<B>, Failure>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
        TokioIo<T>: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let greeted = http1::handshake(stream).await;
        let (sender, connection) = greeted.map_err(|e| self.unreachable(&e.to_string(), HANGS))?;
        // It ends with the body; what goes wrong on it is seen by whoever reads that.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn unreachable(&self, why: &str, remedy: &'static str) -> Failure {
        let at = match &self.way {
            Way::Socket(socket) => socket.display().to_string(),
            Way::Https(remote) => remote.url.to_string(),
        };
        Failure::Unreachable { at, why: why.to_owned(), remedy }
    }
}

const ELSEWHERE: &str = "is it running there, with `api.https` in its configuration?";
const UNTRUSTED: &str = "name who has signed its certificate with --ca, and the host as the certificate does";
const HANGS: &str = "it may be ending or hanging; its log says more";

fn remedy(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::PermissionDenied => {
            "the socket belongs to whoever runs the supervisor; try as that user (root)"
        }
        _ => "is it running? if its socket is elsewhere, name it with --socket or --config",
    }
}

async fn collect(response: Response<Incoming>) -> Result<(StatusCode, Bytes), Failure> {
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER_LENGTH_MAX).collect().await;
    let body = body.map_err(|e| Failure::Failed(format!("the supervisor's answer broke off: {e}")))?;
    Ok((status, body.to_bytes()))
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, Failure> {
    if !status.is_success() {
        return Err(refusal(status, body));
    }
    let strange = |e| format!("the supervisor's answer is not understood; is it of another version? {e}");
    serde_json::from_slice(body).map_err(|e| Failure::Failed(strange(e)))
}

/// What a refusal means for the exit code.
pub(crate) fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.error,
        Err(_) => format!("the supervisor answered {status}"),
    };
    match status {
        StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNAUTHORIZED => Failure::Denied(text),
        StatusCode::UNPROCESSABLE_ENTITY => Failure::Unhealthy(text),
        StatusCode::BAD_REQUEST => Failure::Invalid(text),
        _ => Failure::Failed(text),
    }
}

/// A text as one piece of an address.
pub(crate) fn encode(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_piece_of_the_address() {
        assert_eq!(encode("redis-1.a_b"), "redis-1.a_b");
        assert_eq!(encode("../a b?c#ä+"), "..%2Fa%20b%3Fc%23%C3%A4%2B");
    }

    #[test]
    fn a_refusal_tells_its_exit_code() {
        let body = br#"{"error": "no such image: x", "kind": "unknown"}"#;
        let codes = [404, 409, 422, 400, 503, 500].map(|status| {
            let failure = refusal(StatusCode::from_u16(status).expect("a status"), body);
            assert_eq!(failure.to_string(), "no such image: x");
            failure.exit_code()
        });
        assert_eq!(codes, [4, 4, 6, 2, 1, 1]);
        let strange = refusal(StatusCode::BAD_GATEWAY, b"<html>");
        assert_eq!(strange.to_string(), "the supervisor answered 502 Bad Gateway");
    }
}
