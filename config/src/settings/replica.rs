//! `[[store.replica]]`: where images are sent, and how peers know each other.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use policies::id::ServiceName;

use super::Address;

/// `[[store.replica]]`: one place to which durable images are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Where it is.
    pub place: ReplicaPlace,
    /// The address of the bucket's server; `None`: the provider's own.
    pub endpoint: Option<String>,
    /// The region of an S3 bucket.
    pub region: Option<String>,
    /// Who we are to the bucket; `None`: what environment and machine say.
    pub credentials_file: Option<PathBuf>,
    /// Only images of these; `None`: of all services.
    pub services: Option<BTreeSet<ServiceName>>,
    /// Most bytes a second.
    pub rate_limit: Option<u64>,
    /// How long the other side may be silent.
    pub timeout: Duration,
    /// Which images of each service are kept there.
    pub retention: policies::retention::Settings,
    /// Certificates for this peer; `None`: those of `[api]`.
    pub tls: Option<Tls>,
}

/// Where a replica is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplicaPlace {
    /// A bucket of S3 or of something compatible; its URL.
    S3(String),
    /// A bucket of Google's; its URL.
    Google(String),
    /// A container of Azure's; its URL.
    Azure(String),
    /// A folder.
    Folder(PathBuf),
    /// Another node.
    Peer(Address),
}

/// The files by which a node shows who it is and knows its peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// Who has signed the certificates of all nodes.
    pub ca: PathBuf,
    /// This node's certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl ReplicaPlace {
    /// The kind, as it begins the URL.
    pub fn scheme(&self) -> &'static str {
        match self {
            Self::S3(_) => "s3",
            Self::Google(_) => "gs",
            Self::Azure(_) => "az",
            Self::Folder(_) => "file",
            Self::Peer(_) => "peer",
        }
    }
}

impl fmt::Display for ReplicaPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3(url) | Self::Google(url) | Self::Azure(url) => f.write_str(url),
            Self::Folder(folder) => write!(f, "file://{}", folder.display()),
            Self::Peer(address) => write!(f, "peer://{address}"),
        }
    }
}
