//! Looking into a replica, and bringing an image back: for a host that has lost its own.

use std::time::{Duration, Instant, UNIX_EPOCH};

use engine::Error;
use engine::error::Report;
use engine::images::Store;
use engine::replica::{Copy, Replica};
use policies::id::{ImageId, ServiceName};
use serde::{Deserialize, Serialize};

/// One image at a replica.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ReplicaImage {
    /// Its id.
    pub(crate) id: String,
    /// Whose.
    pub(crate) service: String,
    /// When it was taken.
    pub(crate) taken_at: String,
    /// Seconds since.
    pub(crate) age_seconds: f64,
    /// `good`, `unjudged`, `suspect`.
    pub(crate) verdict: String,
    /// The node that took it.
    pub(crate) node: String,
    /// Under which epoch.
    pub(crate) epoch: u64,
    /// Bytes of its files.
    pub(crate) size_bytes: u64,
    /// Bytes there.
    pub(crate) stored_bytes: u64,
}

/// An image that is in the local store now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct FetchedImage {
    /// Its id.
    pub(crate) id: String,
    /// Whose.
    pub(crate) service: String,
    /// Bytes on disk.
    pub(crate) stored_bytes: u64,
    /// How long it took, milliseconds.
    pub(crate) took_ms: f64,
}

/// The images of one service or of all, newest first of each.
pub(crate) async fn images(replica: &Replica, service: Option<&str>) -> engine::Result<Vec<ReplicaImage>> {
    let services = match service {
        Some(name) => {
            vec![ServiceName::try_from(name).map_err(|e| Error::Invalid(Report::new(e.to_string())))?]
        }
        None => replica.services().await?,
    };
    let mut images = Vec::new();
    for service in services {
        images.extend(replica.images(&service).await?.iter().map(shown));
    }
    Ok(images)
}

/// Brings an image into the local store, whole.
pub(crate) async fn fetch(replica: &Replica, store: &Store, id: &str) -> engine::Result<FetchedImage> {
    let begun = Instant::now();
    let absent = || Error::Invalid(Report::new(format!("there is no image {id} at {}", replica.url())));
    let id = ImageId::try_from(id).map_err(|_| absent())?;
    let service = owner(replica, &id).await?.ok_or_else(absent)?;
    let sizes = replica.fetch(store, &service, &id).await?;
    Ok(FetchedImage {
        id: id.to_string(),
        service: service.to_string(),
        stored_bytes: sizes.stored,
        took_ms: begun.elapsed().as_secs_f64() * 1e3,
    })
}

async fn owner(replica: &Replica, id: &ImageId) -> engine::Result<Option<ServiceName>> {
    for service in replica.services().await? {
        if replica.images(&service).await?.iter().any(|copy| copy.head.id() == id) {
            return Ok(Some(service));
        }
    }
    Ok(None)
}

fn shown(copy: &Copy) -> ReplicaImage {
    let (head, about) = (&copy.head, copy.head.about());
    let taken = UNIX_EPOCH + Duration::from_nanos(about.taken_at.as_unix_nanos());
    ReplicaImage {
        id: head.id().to_string(),
        service: head.service().to_string(),
        taken_at: humantime::format_rfc3339_millis(taken).to_string(),
        age_seconds: engine::clock::wall().duration_since(taken).unwrap_or_default().as_secs_f64(),
        verdict: copy.verdict.to_string(),
        node: about.node.clone(),
        epoch: about.epoch.0,
        size_bytes: head.sizes().raw,
        stored_bytes: head.sizes().stored,
    }
}
