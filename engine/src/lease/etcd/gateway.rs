//! etcd's JSON gateway by HTTP/1.1, a connection for each request: nothing to keep alive, nothing to be found dead later.
//!
//! Several endpoints are asked one after the other, the one that answered last first. The next one is asked as soon as one fails, or has not
//! answered within its part of the limit; that one may answer still. So an endpoint that is away costs little time, and all being slow is no
//! failure. A request may take effect more than once. It refuses redirects, and answers longer than 4 MiB.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::words::{Outcome, Transaction, number, strange};
use crate::error::{Error, Report, Result};

const BODY_MAX: usize = 4 << 20;

/// Certificates for `https`, as PEM.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Who may have signed the server's certificate.
    pub ca: Vec<u8>,
    /// Our own certificate and its key, where the server asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

pub(super) struct Gateway {
    endpoints: Vec<Endpoint>,
    /// The one that answered last.
    good: AtomicUsize,
    /// How long an endpoint is alone in being asked.
    patience: Duration,
}

struct Endpoint {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl Gateway {
    pub(super) fn new(endpoints: &[String], tls: Option<&Tls>, limit: Duration) -> Result<Self> {
        let config = tls.map(client_config).transpose()?.map(Arc::new);
        let endpoints: Vec<_> =
            endpoints.iter().map(|url| Endpoint::parse(url, config.as_ref())).collect::<Result<_>>()?;
        let count = u32::try_from(endpoints.len()).unwrap_or(u32::MAX);
        if count == 0 {
            return Err(Error::Invalid(Report::new("use etcd: it has no endpoint")));
        }
        Ok(Self { endpoints, good: AtomicUsize::new(0), patience: limit / count / 2 })
    }

    pub(super) async fn transact(&self, transaction: &Transaction) -> Result<Outcome> {
        Outcome::from_json(&self.ask("/v3/kv/txn", &transaction.to_json()).await?)
    }

    /// A new lease; etcd counts in whole seconds, and never less than was asked for.
    pub(super) async fn grant(&self, ttl: Duration) -> Result<i64> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let answer = self.ask("/v3/lease/grant", &json!({ "TTL": seconds.to_string() })).await?;
        number(&answer["ID"]).ok_or_else(|| strange("a lease without id"))
    }

    /// Whether the lease is there still. An expired one is answered by a ttl of 0, not by an error.
    pub(super) async fn keep_alive(&self, lease: i64) -> Result<bool> {
        let answer = self.ask("/v3/lease/keepalive", &json!({ "ID": lease.to_string() })).await?;
        Ok(number(&answer["result"]["TTL"]).is_some_and(|ttl| ttl > 0))
    }

    /// Ends a lease, and its key with it. One that is gone is no error.
    pub(super) async fn revoke(&self, lease: i64) -> Result<()> {
        match self.ask("/v3/lease/revoke", &json!({ "ID": lease.to_string() })).await {
            Err(Error::Refused(report)) if report.to_string().contains("lease not found") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Whoever calls this limits the time.
    async fn ask(&self, path: &str, body: &Value) -> Result<Value> {
        let body = Bytes::from(body.to_string());
        let first = self.good.load(Ordering::Relaxed);
        let mut left = (0..self.endpoints.len()).map(|turn| (first + turn) % self.endpoints.len());
        let mut asked = FuturesUnordered::new();
        let mut last = None;
        loop {
            let next = left.next();
            if let Some(index) = next {
                let body = body.clone();
                asked.push(async move { (index, self.endpoints[index].post(path, body).await) });
            }
            let patience = if next.is_some() { self.patience } else { Duration::MAX };
            match tokio::time::timeout(patience, asked.next()).await {
                Ok(Some((_, Err(Error::Unavailable(report))))) => last = Some(Error::Unavailable(report)),
                Ok(Some((index, answer))) => {
                    self.good.store(index, Ordering::Relaxed);
                    return answer;
                }
                Ok(None) => {
                    return Err(
                        last.unwrap_or_else(|| Error::Internal(Report::new("ask etcd: it has no endpoint")))
                    );
                }
                Err(_) => {}
            }
        }
    }
}

impl Endpoint {
    fn parse(url: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Self> {
        let invalid = |remedy: &str| {
            Error::Invalid(Report::new(format!("use as an endpoint of etcd: {url}")).remedy(remedy))
        };
        let form = "write it as https://host:2379";
        let uri: Uri = url.parse().map_err(|_| invalid(form))?;
        let host = uri.host().ok_or_else(|| invalid(form))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = uri.port_u16().unwrap_or(2379);
        let tls = match uri.scheme_str() {
            Some("http") => None,
            Some("https") => {
                Some(tls.cloned().ok_or_else(|| invalid("name its certificate authority in tls.ca"))?)
            }
            _ => return Err(invalid(form)),
        };
        Ok(Self { host, port, tls })
    }

    async fn post(&self, path: &str, body: Bytes) -> Result<Value> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|e| self.unavailable("connect", e))?;
        let Some(config) = &self.tls else { return self.exchange(stream, path, body).await };
        let name = ServerName::try_from(self.host.clone()).map_err(|e| self.unavailable("name", e))?;
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
        self.exchange(stream.map_err(|e| self.unavailable("speak tls", e))?, path, body).await
    }

    async fn exchange(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send,
        path: &str,
        body: Bytes,
    ) -> Result<Value> {
        let request = Request::post(path)
            .header(HOST, format!("{}:{}", self.host, self.port))
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close")
            .body(Full::new(body))
            .map_err(|e| Error::Internal(Report::new("make a request to etcd").because(e)))?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| self.unavailable("speak http", e))?;
        let exchange = async {
            let response =
                sender.send_request(request).await.map_err(|e| self.unavailable("get an answer", e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), BODY_MAX).collect().await;
            let body = body.map_err(|e| {
                Error::Unavailable(Report::new(format!("read etcd's answer at {}: {e}", self.host)))
            })?;
            self.judge(status, &body.to_bytes())
        };
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn judge(&self, status: StatusCode, body: &[u8]) -> Result<Value> {
        let answer: Value =
            serde_json::from_slice(body).map_err(|e| self.unavailable("understand the answer", e))?;
        // A stream's error comes inside an answer that is called good.
        let error = answer.get("error").filter(|error| !error.is_null());
        if status.is_success() && error.is_none() {
            return Ok(answer);
        }
        let said = answer["message"].as_str().or_else(|| answer["error"].as_str()).unwrap_or_default();
        let report = Report::new(format!("ask etcd at {}:{}: {status}: {said}", self.host, self.port));
        // 4xx: the request is wrong, or a lease or key is not there. 5xx: no leader, a time limit, too many requests.
        if status.is_client_error() { Err(Error::Refused(report)) } else { Err(Error::Unavailable(report)) }
    }

    fn unavailable(&self, tried: &str, error: impl std::error::Error) -> Error {
        Error::Unavailable(
            Report::new(format!("{tried}: etcd at {}:{}", self.host, self.port)).because(error),
        )
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoints = self.endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port));
        f.debug_list().entries(endpoints).finish()
    }
}

fn client_config(tls: &Tls) -> Result<ClientConfig> {
    let invalid = |what: &str, error: &dyn std::fmt::Display| {
        Error::Invalid(Report::new(format!("use the {what} for etcd: {error}")))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&tls.ca) {
        let certificate = certificate.map_err(|e| invalid("certificate authority", &e))?;
        roots.add(certificate).map_err(|e| invalid("certificate authority", &e))?;
    }
    if roots.is_empty() {
        return Err(invalid("certificate authority", &"there is no certificate in it"));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| invalid("protocol versions", &e))?
        .with_root_certificates(roots);
    let Some((certificates, key)) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(certificates)
        .collect::<Result<_, _>>()
        .map_err(|e| invalid("certificate", &e))?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| invalid("key", &e))?;
    builder.with_client_auth_cert(certificates, key).map_err(|e| invalid("certificate and key", &e))
}
