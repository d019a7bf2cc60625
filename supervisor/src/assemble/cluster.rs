//! What reaches beyond this host: replicas, and where leases are kept.

use std::path::PathBuf;
use std::sync::Arc;

use config as words;
use engine::error::{Error, Report};
use engine::fence::watchdog;
use engine::lease;
use engine::replica::bucket::Bucket;
use engine::replica::objects::{Access, Cloud, Folder, Objects, Provider};
use engine::replica::peer::{Address, Peer};
use engine::replica::tls::Files;
use engine::replica::{Pace, Replica};
use policies::id::NodeName;

use crate::replicas::Target;
use crate::tenure::Cluster;

/// Certificates and keys are some thousand bytes.
const PEM_LENGTH_MAX: u64 = 1 << 20;
/// The replicas, connected to nothing yet.
pub(crate) fn replicas(store: &words::Store, api: &words::Api, node: &str) -> engine::Result<Vec<Target>> {
    let target = |replica: &words::Replica| {
        let url = replica.place.to_string();
        let pace = replica.rate_limit.map_or_else(Pace::unlimited, Pace::limited);
        Ok(Target {
            replica: Arc::new(Replica::new(url, place(replica, api, node)?, pace)),
            services: replica.services.clone(),
            retention: replica.retention.clone(),
        })
    };
    store.replicas.iter().map(target).collect()
}

/// Where leases are kept.
pub(crate) fn cluster(cluster: &words::Cluster, node: NodeName, folder: PathBuf) -> engine::Result<Cluster> {
    let limit = cluster.times.renew_interval;
    let keeper = match cluster.lease {
        words::Lease::Local => lease::local::open(&folder.join("local"), limit)?,
        words::Lease::Bucket => lease::bucket::open(cluster.bucket.as_deref().unwrap_or_default(), limit)?,
        words::Lease::Etcd => lease::etcd::open(&lease::etcd::Settings {
            endpoints: cluster.endpoints.clone(),
            prefix: "supervisor".to_owned(),
            tls: etcd_tls(&cluster.tls)?,
            limit,
        })?,
    };
    Ok(Cluster { keeper, settings: cluster.times.clone(), node, folder })
}

/// The watchdog that is to reset this host before a lease can be taken from it.
pub(crate) fn watchdog(cluster: &words::Cluster) -> Option<watchdog::Wanted> {
    let device = cluster.watchdog.clone()?;
    Some(watchdog::Wanted { device, settings: cluster.times.clone() })
}

fn etcd_tls(files: &words::ClusterTls) -> engine::Result<Option<lease::etcd::Tls>> {
    let Some(ca) = &files.ca else { return Ok(None) };
    let read = |path: &PathBuf| engine::durable::read_limited(path, PEM_LENGTH_MAX);
    let identity = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(Some(lease::etcd::Tls { ca: read(ca)?, identity }))
}

/// The files of certificates.
pub(crate) fn tls(files: &words::Tls) -> Files {
    Files { ca: files.ca.clone(), cert: files.cert.clone(), key: files.key.clone() }
}

fn place(
    replica: &words::Replica,
    api: &words::Api,
    node: &str,
) -> engine::Result<Box<dyn engine::replica::Place>> {
    let cloud = |provider, url: &str| {
        let access = Access {
            provider,
            url: url.to_owned(),
            endpoint: replica.endpoint.clone(),
            region: replica.region.clone(),
            credentials_file: replica.credentials_file.clone(),
            timeout: replica.timeout,
        };
        Cloud::new(&access)
    };
    let objects: Arc<dyn Objects> = match &replica.place {
        words::ReplicaPlace::S3(url) => Arc::new(cloud(Provider::S3, url)?),
        words::ReplicaPlace::Google(url) => Arc::new(cloud(Provider::Google, url)?),
        words::ReplicaPlace::Azure(url) => Arc::new(cloud(Provider::Azure, url)?),
        words::ReplicaPlace::Folder(folder) => Arc::new(Folder::new(folder.clone())),
        words::ReplicaPlace::Peer(address) => {
            let files = replica.tls.as_ref().or(api.tls.as_ref()).map(tls).ok_or_else(|| {
                Error::Invalid(Report::new(format!("there are no certificates for {}", replica.place)))
            })?;
            let (host, port) = (address.host.clone(), address.port);
            return Ok(Box::new(Peer::new(Address { host, port, files, timeout: replica.timeout })));
        }
    };
    Ok(Box::new(Bucket::new(objects, replica.place.to_string(), node)))
}
