//! Asks by HTTP/1.1 `GET`, over TLS if wanted, on a connection of its own that is closed afterwards: a service whose listener is stuck
//! behind old connections is noticed.
//!
//! It refuses redirects (a 3xx is the answer, and passes by default), and reads at most 64 KiB of a body.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use super::{Answer, Trust, excerpt, tcp};
use crate::error::{Error, Report, Result};

/// More of a body than this is not read: a status page may be endless.
const BODY_MAX: usize = 64 * 1024;

/// Passes if the status code of the answer is a wanted one and its body arrives, with the wanted text in it if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    target: Target,
    /// Over TLS, if at all.
    tls: Option<Trust>,
    path: Uri,
    host: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    passing: Vec<RangeInclusive<u16>>,
    wanted: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Http {
    /// `url` is `http://host[:port][/path][?query]`. Status codes 200 to 399 pass.
    ///
    /// # Errors
    /// `Invalid` for anything else, `https` among it.
    pub fn new(url: &str) -> Result<Self> {
        let (uri, host) = parse(url)?;
        let port = uri.port_u16().unwrap_or(80);
        let name = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        let target = Target::Tcp { host: name, port };
        let path = uri.path_and_query().map_or("/", |p| p.as_str());
        Ok(Self {
            target,
            tls: None,
            path: path_of(path, url)?,
            host,
            headers: Vec::new(),
            passing: Vec::new(),
            wanted: None,
        })
    }

    /// Asks over a unix socket; of `url` only the path and the `Host` header remain.
    ///
    /// # Errors
    /// As [`Http::new`].
    pub fn over_socket(socket: &Path, url: &str) -> Result<Self> {
        Ok(Self { target: Target::Unix(socket.to_owned()), ..Self::new(url)? })
    }

    /// Connects to this host and port whatever the URL says; the `Host` header stays.
    #[must_use]
    pub fn connecting_to(self, host: impl Into<String>, port: u16) -> Self {
        Self { target: Target::Tcp { host: host.into(), port }, ..self }
    }

    /// Asks over TLS a server whose certificate is believed, for the name in the `Host` header.
    #[must_use]
    pub fn over_tls(self, trust: Trust) -> Self {
        Self { tls: Some(trust), ..self }
    }

    /// Adds a header; `Host` replaces the one that the URL gives.
    ///
    /// # Errors
    /// `Invalid` if it can't be one.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self> {
        let wrong = || Error::Invalid(Report::new(format!("use as an http header: {name}: {value}")));
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        if name == HOST {
            self.host = value;
        } else {
            self.headers.push((name, value));
        }
        Ok(self)
    }

    /// Only these status codes pass; more calls add more of them.
    #[must_use]
    pub fn passing(mut self, status: RangeInclusive<u16>) -> Self {
        self.passing.push(status);
        self
    }

    /// The first 64 KiB of the body must contain this text, too.
    #[must_use]
    pub fn wanting(self, text: impl Into<String>) -> Self {
        Self { wanted: Some(text.into()), ..self }
    }

    pub(super) async fn ask(&self) -> Answer {
        match &self.target {
            Target::Tcp { host, port } => self.ask_by(tcp::connect(host, *port).await?).await,
            Target::Unix(socket) => {
                let stream = UnixStream::connect(socket).await;
                self.ask_by(stream.map_err(|e| format!("cannot connect to {}: {e}", socket.display()))?).await
            }
        }
    }

    async fn ask_by(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
        let Some(trust) = &self.tls else { return self.ask_on(stream).await };
        let name = self.host.to_str().ok().and_then(|host| host.parse::<hyper::http::uri::Authority>().ok());
        let name = name.ok_or("the host's name cannot be one of a certificate")?;
        let name = name.host().trim_start_matches('[').trim_end_matches(']');
        self.ask_on(trust.connect(name, stream).await?).await
    }

    async fn ask_on(&self, stream: impl AsyncRead + AsyncWrite + Unpin) -> Answer {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| format!("cannot speak http: {}", chain(&e)))?;
        let request = self.request()?;
        let exchange = async {
            let response = sender.send_request(request).await;
            self.judge(response.map_err(|e| format!("no http answer: {}", chain(&e)))?).await
        };
        // Both in this task: if it is dropped, so is the connection. The exchange learns of the connection's errors itself.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn request(&self) -> std::result::Result<Request<Empty<Bytes>>, String> {
        let mut request = Request::get(self.path.clone())
            .header(HOST, &self.host)
            .header(USER_AGENT, "supervisor-probe")
            .header(CONNECTION, "close")
            .body(Empty::new())
            .map_err(|e| format!("cannot make the request: {e}"))?;
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }

    async fn judge(&self, response: Response<Incoming>) -> Answer {
        let status = response.status();
        let said = format!("http status {status}");
        let body =
            read(response.into_body()).await.map_err(|e| format!("{said}, but its body broke off: {e}"))?;
        let body = String::from_utf8_lossy(&body);
        let missing = self.wanted.as_deref().filter(|wanted| !body.contains(wanted));
        let said = match (self.passes(status.as_u16()), missing) {
            (true, None) => return Ok(said),
            (true, Some(wanted)) => format!("{said}, but its body lacks {wanted:?}"),
            (false, _) => said,
        };
        Err(if body.trim().is_empty() { said } else { format!("{said}: {}", excerpt(&body)) })
    }

    fn passes(&self, status: u16) -> bool {
        if self.passing.is_empty() {
            return (200..=399).contains(&status);
        }
        self.passing.iter().any(|range| range.contains(&status))
    }
}

async fn read(mut body: Incoming) -> std::result::Result<Vec<u8>, String> {
    let mut read = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| chain(&e))?;
        let Some(data) = frame.data_ref() else { continue };
        let wanted = data.len().min(BODY_MAX - read.len());
        read.extend_from_slice(&data[..wanted]);
        if read.len() == BODY_MAX {
            break;
        }
    }
    Ok(read)
}

fn parse(url: &str) -> Result<(Uri, HeaderValue)> {
    let wrong = |why: &str| {
        let form = "write it as http://127.0.0.1:8080/healthz";
        Error::Invalid(Report::new(format!("use as a probe's URL ({why}): {url}")).remedy(form))
    };
    let uri: Uri = url.parse().map_err(|_| wrong("it isn't one"))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err(wrong("say how https is to be trusted by `over_tls`")),
        _ => return Err(wrong("it must begin with http://")),
    }
    let authority = uri.authority().ok_or_else(|| wrong("it has no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("it must not hold a password"));
    }
    let named_wrong_port = authority.port().is_none() && authority.as_str() != authority.host();
    if authority.host().is_empty() || named_wrong_port || uri.port_u16() == Some(0) {
        return Err(wrong("its host or port is not usable"));
    }
    let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("its host is not usable"))?;
    Ok((uri, host))
}

fn path_of(path: &str, url: &str) -> Result<Uri> {
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    path.parse()
        .map_err(|e| Error::Invalid(Report::new(format!("use the path of the URL: {url}")).because(e)))
}

/// hyper keeps the reason in the causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
