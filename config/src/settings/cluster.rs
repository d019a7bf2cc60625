//! `[cluster]` and `[service.NAME.failover]`: who may run a service when there is more than one host.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use policies::failover::Preference;
use policies::id::{NodeName, ServiceName};

/// `[cluster]`: where the right to run a service is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// In what.
    pub lease: Lease,
    /// Members of etcd, `http://` or `https://`; never empty with [`Lease::Etcd`].
    pub endpoints: Vec<String>,
    /// `s3://bucket/prefix` or `file:///folder`; always there with [`Lease::Bucket`].
    pub bucket: Option<String>,
    /// The times of leases; a service can be held by them.
    pub times: policies::lease::Settings,
    /// The device that resets this host before a lease can be taken from it.
    pub watchdog: Option<PathBuf>,
    /// Certificates for etcd.
    pub tls: ClusterTls,
}

/// What keeps leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// A folder of this host: it stands alone.
    Local,
    /// etcd.
    Etcd,
    /// A bucket, or a folder that several hosts share.
    Bucket,
}

/// `tls = { ... }`: PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterTls {
    /// Who signed the servers' certificates; always there if an endpoint is `https`.
    pub ca: Option<PathBuf>,
    /// Our own certificate; it and its key are there both or neither.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// `[service.NAME.failover]`: other hosts that may take a service over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failover {
    /// The nodes, in the order of preference; never empty.
    pub standby: Vec<NodeName>,
    /// An address that is wherever the service is.
    pub address: Option<NetworkAddress>,
    /// The device that gets it; only with an address.
    pub device: Option<String>,
    /// Whether the service goes back by itself.
    pub failback: Failback,
    /// Run once the service runs here: program and arguments, never empty.
    pub on_take_over: Option<Vec<String>>,
    /// Run against the former node before the service is restored here: program and arguments, never empty.
    pub fence: Option<Vec<String>>,
    /// How long that may take.
    pub fence_timeout: Duration,
    /// What decides between standbys that are ready.
    pub prefer: Preference,
    /// Services that are not to run on the same node, if that can be.
    pub apart: Vec<ServiceName>,
    /// Failed recoveries after which the service is handed over; `None`: never.
    pub migration_threshold: Option<u32>,
}

/// Whether a service goes back by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failback {
    /// It stays where it is.
    Never,
}

/// An IP address and how long its network's prefix is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkAddress {
    /// The address.
    pub address: IpAddr,
    /// Bits of it that name the network.
    pub prefix_length: u8,
}

impl std::fmt::Display for NetworkAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix_length)
    }
}
