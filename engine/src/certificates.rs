//! A small authority of one's own, and certificates for nodes that are each other's peers.
//!
//! `ca.crt` goes to every node, `ca.key` to none: whoever has it can be any node. Keys are 0600 from their first moment. It refuses to
//! replace a file: who wants another authority makes another folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use crate::durable::{self, FILE_MODE, atomic_write, read_limited};
use crate::error::{Error, Report, Result};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// How long the authority is believed.
const CA_DAYS: u32 = 3650;
const LENGTH_MAX: u64 = 1 << 20;
const CA_CERT: &str = "ca.crt";
const CA_KEY: &str = "ca.key";

/// For whom a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The node's name; also the name of the files.
    pub name: String,
    /// Names and IP addresses by which peers call it, besides its name.
    pub addresses: Vec<String>,
    /// How long it is believed.
    pub days: u32,
}

/// What was made for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Makes an authority in a folder; the certificate to be given to all nodes.
///
/// # Errors
/// `Invalid` when there is one already.
pub fn init(folder: &Path) -> Result<PathBuf> {
    durable::create_dir_all(folder)?;
    let (cert, key) = (folder.join(CA_CERT), folder.join(CA_KEY));
    let pair = KeyPair::generate().map_err(|e| failed("make a key", e))?;
    let mut params = params(&[], "supervisor peers", CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&pair).map_err(|e| failed("sign a certificate", e))?;
    write_new(&key, &pair.serialize_pem())?;
    write_new(&cert, &certificate.pem())?;
    Ok(cert)
}

/// Makes a node's certificate, signed by the authority in a folder, and puts it there.
///
/// # Errors
/// `Invalid` when there is no authority, when the node has one already, or for an address that cannot be.
pub fn issue(folder: &Path, node: &Node) -> Result<Issued> {
    let (ca_cert, ca_key) = (text(&folder.join(CA_CERT))?, text(&folder.join(CA_KEY))?);
    let ca_key = KeyPair::from_pem(&ca_key).map_err(|e| failed("read the authority's key", e))?;
    let issuer = Issuer::from_ca_cert_pem(&ca_cert, ca_key)
        .map_err(|e| failed("read the authority's certificate", e))?;
    let names: Vec<String> = std::iter::once(&node.name).chain(&node.addresses).cloned().collect();
    let mut params = params(&names, &node.name, node.days)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let pair = KeyPair::generate().map_err(|e| failed("make a key", e))?;
    let certificate = params.signed_by(&pair, &issuer).map_err(|e| failed("sign a certificate", e))?;
    let issued = Issued {
        cert: folder.join(format!("{}.crt", node.name)),
        key: folder.join(format!("{}.key", node.name)),
    };
    write_new(&issued.key, &pair.serialize_pem())?;
    write_new(&issued.cert, &certificate.pem())?;
    Ok(issued)
}

/// Until when the first certificate of a file is believed.
///
/// # Errors
/// `Invalid` for what is no certificate.
pub fn expires(path: &Path) -> Result<SystemTime> {
    let bytes = read_limited(path, LENGTH_MAX)?;
    let (_, pem) = x509_parser::pem::parse_x509_pem(&bytes).map_err(|e| not_a_certificate(path, e))?;
    let certificate = pem.parse_x509().map_err(|e| not_a_certificate(path, e))?;
    let seconds = certificate.validity().not_after.timestamp();
    Ok(UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

fn params(names: &[String], common_name: &str, days: u32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).map_err(|e| {
        Error::Invalid(
            Report::new(format!("not names or addresses of a node: {}", names.join(", "))).because(e),
        )
    })?;
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    let now = crate::clock::wall();
    // Clocks of nodes differ a little.
    params.not_before = (now - DAY).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

fn write_new(path: &Path, pem: &str) -> Result<()> {
    if path.exists() {
        let report = Report::new(format!("is there already: {}", path.display()));
        return Err(Error::Invalid(
            report.remedy("remove it first if it is not needed any more, or use another folder"),
        ));
    }
    atomic_write(path, pem.as_bytes(), FILE_MODE)
}

fn text(path: &Path) -> Result<String> {
    let missing = |error: Error| match error {
        Error::Invalid(report) => {
            Error::Invalid(report.remedy("make an authority first: supervisor cert init DIR"))
        }
        other => other,
    };
    String::from_utf8(read_limited(path, LENGTH_MAX).map_err(missing)?)
        .map_err(|e| not_a_certificate(path, e))
}

fn failed(tried: &str, error: rcgen::Error) -> Error {
    Error::Invalid(Report::new(format!("cannot {tried}")).because(error))
}

fn not_a_certificate(path: &Path, error: impl std::error::Error) -> Error {
    Error::Invalid(Report::new(format!("no certificate: {}", path.display())).because(error))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn node(name: &str, addresses: &[&str]) -> Node {
        Node {
            name: name.to_owned(),
            addresses: addresses.iter().map(|a| (*a).to_owned()).collect(),
            days: 90,
        }
    }

    #[test]
    fn an_authority_and_its_nodes() {
        let folder = tempfile::tempdir().expect("a folder");
        let pki = folder.path().join("pki");
        assert_eq!(issue(&pki, &node("alpha", &[])).expect_err("no authority").kind(), "invalid");
        let ca = init(&pki).expect("made");
        let issued = issue(&pki, &node("alpha", &["10.0.0.1", "alpha.example.org"])).expect("issued");
        for path in [&ca, &pki.join("ca.key"), &issued.cert, &issued.key] {
            assert_eq!(
                std::fs::metadata(path).expect("there").permissions().mode() & 0o777,
                0o600,
                "{}",
                path.display()
            );
        }
        let days = |path: &Path| {
            expires(path).expect("a certificate").duration_since(crate::clock::wall()).expect("later")
        };
        assert_eq!(days(&issued.cert).as_secs().div_ceil(24 * 3600), 90);
        assert_eq!(days(&ca).as_secs().div_ceil(24 * 3600), 3650);
        assert_eq!(init(&pki).expect_err("there already").kind(), "invalid");
        assert_eq!(issue(&pki, &node("alpha", &[])).expect_err("there already").kind(), "invalid");
        assert_eq!(expires(&issued.key).expect_err("a key").kind(), "invalid");
    }
}
