//! TLS between peers: 1.3 only, both sides show a certificate that the same authority has signed, nothing else is accepted.
//!
//! The files are read anew for each connection, so that a renewed certificate is used without a restart. It refuses everybody whose
//! certificate the authority did not sign, and a server that is not the one it was called by (name or address in its certificate).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::durable::read_limited;
use crate::error::{Error, Report, Result};

const LENGTH_MAX: u64 = 1 << 20;
const REMEDY: &str = "`supervisor cert init` and `supervisor cert issue` make these files";

/// The files by which a node shows who it is and knows its peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Who has signed the certificates of all nodes.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Files {
    /// What a server needs.
    ///
    /// # Errors
    /// `Invalid` for files that cannot be read or do not belong together.
    pub fn server(&self) -> Result<Arc<ServerConfig>> {
        let roots = Arc::new(roots(&self.ca)?);
        let provider = Arc::new(ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|e| unusable(&self.ca, e))?;
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| unusable(&self.ca, e))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain()?, self.private_key()?)
            .map_err(|e| unusable(&self.cert, e))?;
        Ok(Arc::new(config))
    }

    /// What a client needs.
    ///
    /// # Errors
    /// As [`Files::server`].
    pub fn client(&self) -> Result<Arc<ClientConfig>> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| unusable(&self.ca, e))?
            .with_root_certificates(roots(&self.ca)?)
            .with_client_auth_cert(self.chain()?, self.private_key()?)
            .map_err(|e| unusable(&self.cert, e))?;
        Ok(Arc::new(config))
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>> {
        certificates(&self.cert)
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        private_key(&self.key)
    }
}

/// A key of a file.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read_limited(path, LENGTH_MAX)?).map_err(|e| unusable(path, e))
}

/// Libraries that look for a process-wide choice find ring. Harmless when repeated.
pub fn use_ring() {
    // Somebody was first; it is the same choice, since no other is built in.
    let _ = ring::default_provider().install_default();
}

/// Whether an error, or what led to it, is that one side did not accept the other's certificate.
pub(super) fn is_about_certificates(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let inside = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let found = error.downcast_ref::<rustls::Error>().or_else(|| inside?.downcast_ref::<rustls::Error>());
        if let Some(found) = found {
            return matches!(
                found,
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(_)
                    | rustls::Error::NoCertificatesPresented
            );
        }
        next = error.source();
    }
    false
}

/// The authorities of a file.
pub(crate) fn roots(ca: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| unusable(ca, e))?;
    }
    Ok(roots)
}

/// The certificates of a file, at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read_limited(path, LENGTH_MAX)?;
    let certificates: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates.map_err(|e| unusable(path, e))? {
        none if none.is_empty() => Err(Error::Invalid(
            Report::new(format!("there is no certificate in {}", path.display())).remedy(REMEDY),
        )),
        some => Ok(some),
    }
}

pub(crate) fn unusable(path: &Path, error: impl std::error::Error) -> Error {
    Error::Invalid(Report::new(format!("cannot use {}", path.display())).because(error).remedy(REMEDY))
}
