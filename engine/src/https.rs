//! HTTP over TLS, both ends of it, and the token that an operator shows.
//!
//! Certificates and token are read anew each time, so that renewed ones are used without a restart. It refuses to speak without TLS, and
//! bounds what strangers can take: connections, the time to greet, the time to begin a request.

use std::error::Error as StdError;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::durable::read_private;
use crate::error::{Error, Report, Result};
use crate::replica::tls::{certificates, private_key, roots, unusable};

/// Peers or operators, and a few requests of each.
const CONNECTIONS_MAX: usize = 64;
/// How long somebody may take to greet.
const GREETING_MAX: Duration = Duration::from_secs(10);
/// A shorter token could be found by trying.
const TOKEN_LENGTH_MIN: usize = 32;
const TOKEN_LENGTH_MAX: usize = 4096;

/// The files of a server that asks for no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Shown {
    /// What a server needs.
    ///
    /// # Errors
    /// `Invalid` for files that cannot be read or do not belong together.
    pub fn server(&self) -> Result<Arc<ServerConfig>> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(&self.cert, e))?
            .with_no_client_auth()
            .with_single_cert(certificates(&self.cert)?, private_key(&self.key)?)
            .map_err(|e| unusable(&self.cert, e))?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// What an operator has to show. Only who knows it is let in.
#[derive(Debug, Clone)]
pub struct Token {
    file: PathBuf,
}

impl Token {
    /// The one in a file.
    ///
    /// # Errors
    /// `Invalid` or `Refused` for a file that cannot be used: said now, not to the first operator.
    pub fn new(file: PathBuf) -> Result<Self> {
        let token = Self { file };
        token.read()?;
        Ok(token)
    }

    /// As it is written there now. Blocks for a moment.
    ///
    /// # Errors
    /// As [`Token::new`].
    pub fn read(&self) -> Result<String> {
        let remedy =
            format!("make one: (umask 077; head -c 32 /dev/urandom | base64 > {})", self.file.display());
        let bytes =
            read_private("token file", &self.file, TOKEN_LENGTH_MAX).map_err(|error| match error {
                Error::Invalid(report) => Error::Invalid(report.remedy(remedy.clone())),
                other => other,
            })?;
        let token = bytes.trim_ascii_end();
        let is_one = (TOKEN_LENGTH_MIN..=TOKEN_LENGTH_MAX).contains(&token.len());
        if is_one && token.iter().all(u8::is_ascii_graphic) {
            return Ok(String::from_utf8_lossy(token).into_owned());
        }
        let text = format!(
            "token must have {TOKEN_LENGTH_MIN} to {TOKEN_LENGTH_MAX} printable characters: {}",
            self.file.display()
        );
        Err(Error::Invalid(Report::new(text).remedy(remedy)))
    }

    /// Whether this is it; how long that takes says nothing about the token.
    ///
    /// # Errors
    /// As [`Token::new`].
    pub fn is(&self, shown: &[u8]) -> Result<bool> {
        // Comparing hashes of blake3 takes the same time for all of them.
        Ok(blake3::hash(self.read()?.as_bytes()) == blake3::hash(shown))
    }
}

/// Binds an address; `key` is how the configuration calls it.
///
/// # Errors
/// `Invalid` for a name that is none, `Refused` when it cannot be had.
pub async fn bind(host: &str, port: u16, key: &str) -> Result<TcpListener> {
    let unknown =
        |why: &str| Error::Invalid(Report::new(format!("find the address {host}:{port} of {key}: {why}")));
    let mut addresses = lookup_host((host, port)).await.map_err(|e| unknown(&e.to_string()))?;
    let address: SocketAddr = addresses.next().ok_or_else(|| unknown("there is none"))?;
    TcpListener::bind(address).await.map_err(|e| {
        let report = Report::new(format!("cannot listen on {address}")).because(e);
        Error::Refused(report.remedy(format!("choose another {key}, or end who uses it")))
    })
}

/// Answers until it is dropped. Connections end with it.
pub async fn serve<S, B>(
    listener: TcpListener,
    config: impl Fn() -> Result<Arc<ServerConfig>> + Send + Sync + 'static,
    service: S,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let config = Arc::new(config);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: those in use will be free again.
                tracing::warn!(%error, "nobody could be let in");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (config, service) = (Arc::clone(&config), service.clone());
        connections.spawn(async move {
            let _place = place;
            match config() {
                Ok(config) => connection(stream, config, service).await,
                Err(error) => tracing::warn!(%error, "nobody can be let in"),
            }
        });
    }
}

async fn connection<S, B>(stream: TcpStream, config: Arc<ServerConfig>, service: S)
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn StdError + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let who = stream.peer_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    let greeting = tokio::time::timeout(GREETING_MAX, TlsAcceptor::from(config).accept(stream)).await;
    let stream = match greeting {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::warn!(who, %error, "a connection was refused"),
        Err(_) => return tracing::debug!(who, "somebody said nothing"),
    };
    let serving = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        // Cut, or given up in the middle: whoever it was begins again.
        tracing::debug!(who, %error, "a connection has ended");
    }
}

/// Connects to a server that shows a certificate for `host`, signed by an authority of the file, else by one that this system knows.
///
/// # Errors
/// `Invalid` for authorities that cannot be read and names that are none, `Refused` for another certificate, `Unavailable` when nobody answers.
pub async fn connect(host: &str, port: u16, ca: Option<&Path>) -> Result<TlsStream<TcpStream>> {
    let roots = match ca {
        Some(ca) => roots(ca)?,
        None => known_authorities(),
    };
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::Internal(Report::new("set up TLS").because(e)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned())
        .map_err(|e| Error::Invalid(Report::new(format!("not the name of a host: {host}")).because(e)))?;
    let failed = |e| Report::new(format!("connect to {host}:{port}")).because(e);
    let stream = TcpStream::connect((host, port)).await.map_err(|e| Error::Unavailable(failed(e)))?;
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|e| match e.get_ref() {
        Some(inner) if inner.is::<rustls::Error>() => Error::Refused(failed(e)),
        _ => Error::Unavailable(failed(e)),
    })
}

/// Those that cannot be used are passed over, as everywhere.
fn known_authorities() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests set the scene with plain files")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join("token");
        std::fs::write(&path, text).expect("room");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
        path
    }

    #[test]
    fn only_the_token_itself_is_let_in_and_a_new_one_holds_at_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = "a".repeat(TOKEN_LENGTH_MIN);
        let token = Token::new(file(folder.path(), &format!("{first}\n"))).expect("a token");
        assert!(token.is(first.as_bytes()).expect("read"));
        for other in ["", &first[1..], &format!("{first}a"), &format!("{first}\n"), &"b".repeat(32)] {
            assert!(!token.is(other.as_bytes()).expect("read"), "{other:?}");
        }
        file(folder.path(), &"b".repeat(40));
        assert!(!token.is(first.as_bytes()).expect("read"));
        assert!(token.is("b".repeat(40).as_bytes()).expect("read"));
    }

    #[test]
    fn a_token_that_keeps_nobody_out_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let kind = |path: PathBuf| Token::new(path).expect_err("refused");
        assert_eq!(kind(folder.path().join("none")).kind(), "invalid");
        for weak in ["", "short", &format!("{} {}", "a".repeat(20), "b".repeat(20)), &"a".repeat(5000)] {
            assert_eq!(kind(file(folder.path(), weak)).kind(), "invalid", "{weak}");
        }
        let open = file(folder.path(), &"a".repeat(32));
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o640)).expect("ours");
        let error = kind(open);
        assert!(error.kind() == "refused" && error.to_string().contains("mode 0640"), "{error}");
    }
}
