//! TLS towards a service that is probed: whom its certificate may be signed by.
//!
//! A probe learns whether the service answers; it sends nothing secret but its headers. So it may be told to believe anybody, as a
//! certificate that was made by the service itself needs. The file of an authority is read for each check, so that a renewed one is
//! believed at once, and one that is missing fails the probe and not the service's start.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http::chain;
use crate::replica::tls::roots;

/// Whose signature under a service's certificate is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Those whom the host trusts.
    Host,
    /// This authority's alone (PEM).
    Authority(PathBuf),
    /// Anybody's: encrypted, and no more.
    Anybody,
}

impl Trust {
    /// Speaks TLS on a connection, to a server of this name or address.
    pub(super) async fn connect<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        name: &str,
        stream: S,
    ) -> Result<TlsStream<S>, String> {
        let name = ServerName::try_from(name.to_owned()).map_err(|e| format!("cannot speak tls: {e}"))?;
        let stream = TlsConnector::from(self.config()?).connect(name, stream).await;
        stream.map_err(|e| format!("cannot speak tls: {}", chain(&e)))
    }

    fn config(&self) -> Result<Arc<ClientConfig>, String> {
        static HOST: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        static ANYBODY: OnceLock<Arc<ClientConfig>> = OnceLock::new();
        Ok(match self {
            Self::Host => Arc::clone(HOST.get_or_init(|| Arc::new(believing(of_the_host())))),
            Self::Authority(file) => Arc::new(believing(roots(file).map_err(|e| e.to_string())?)),
            Self::Anybody => Arc::clone(ANYBODY.get_or_init(|| Arc::new(believing_anybody()))),
        })
    }
}

fn of_the_host() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Without any, every certificate is refused, and the probe says so.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

fn believing(roots: RootCertStore) -> ClientConfig {
    builder().with_root_certificates(roots).with_no_client_auth()
}

fn believing_anybody() -> ClientConfig {
    let verifier = Arc::new(Anybody(Arc::new(ring::default_provider())));
    builder().dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
}

fn builder() -> rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks the usual versions")
}

/// Whoever holds the key of the certificate that it shows.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
