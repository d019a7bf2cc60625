//! Making hot images durable, one after the other, the newest first: an older one that waits when a newer one is
//! durable is not worth the disk any more.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use engine::images::{Manifest, Store};
use policies::id::ImageId;

use super::{Shared, blocking, now};
use crate::events::{failed, plain};

/// What waits from before is left alone for so long while the service is being brought back: that needs the processors more.
const BEGIN_FIRST: Duration = Duration::from_secs(5);

/// Commits whatever waits, whenever told that something may wait, until the service's task settles.
pub(super) async fn commit_on(shared: Arc<Shared>) {
    if shared.instance().is_none() {
        // What does not begin is not waited for any longer.
        let _ = tokio::time::timeout(BEGIN_FIRST, shared.began.notified()).await;
    }
    loop {
        shared.to_commit.notified().await;
        if shared.stopping.load(Ordering::SeqCst) && shared.is_handed_over.load(Ordering::SeqCst) {
            return;
        }
        while let Some((newest, older)) = waiting(&shared).await {
            if !commit(&shared, newest, older).await {
                break;
            }
        }
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
    }
}

/// The newest image that is not durable, and those behind it.
async fn waiting(shared: &Arc<Shared>) -> Option<(ImageId, Vec<ImageId>)> {
    let (store, name) = (shared.node.store.clone(), shared.name.clone());
    let mut own = match blocking(move || store.uncommitted(&name)).await {
        Ok(own) => own,
        Err(error) => {
            let text = format!("the store cannot be read: {error}");
            shared
                .node
                .events
                .record(plain(Some(shared.name.as_str()), "commit-failed", text).for_error(&error));
            return None;
        }
    };
    let newest = own.pop()?;
    Some((newest, own))
}

/// Whether it is worth going on.
async fn commit(shared: &Arc<Shared>, id: ImageId, older: Vec<ImageId>) -> bool {
    let Ok(_turn) = shared.node.commits.acquire().await else { return false };
    let begun = std::time::Instant::now();
    let mut committed = write(shared, &id).await;
    if matches!(committed, Err(engine::Error::Unavailable(_))) {
        // Room may be made by what retention gives up anyway.
        tidy(shared, Vec::new()).await;
        committed = write(shared, &id).await;
    }
    let name = shared.name.as_str();
    let worked = committed.is_ok();
    match committed {
        Ok(manifest) => {
            shared.tell_durable(&id, &manifest, begun.elapsed());
            shared.node.replicas.changed(&shared.name);
            tidy(shared, older).await;
        }
        Err(error) => {
            let text = format!("image {id} is hot only: {error}");
            shared.node.events.record(plain(Some(name), "commit-failed", text).for_error(&error));
            // Memory must not fill up while the disk is full: the newest two are enough to come back by.
            let mut overtaken = older;
            overtaken.pop();
            tidy(shared, overtaken).await;
        }
    }
    shared.list().await;
    worked
}

impl Shared {
    /// An image is on disk.
    pub(super) fn tell_durable(&self, id: &ImageId, manifest: &Manifest, took: Duration) {
        let text = format!(
            "image {id} is durable ({:.1} MiB of {:.1} MiB)",
            mebibytes(manifest.sizes.stored),
            mebibytes(manifest.sizes.raw)
        );
        let mut record = plain(Some(self.name.as_str()), "image-durable", text);
        record.image = Some(id.to_string());
        record.took_ms = Some(took.as_secs_f64() * 1e3);
        (record.size_bytes, record.stored_bytes) = (Some(manifest.sizes.raw), Some(manifest.sizes.stored));
        self.node.events.record(record);
    }
}

async fn write(shared: &Arc<Shared>, id: &ImageId) -> engine::Result<Manifest> {
    let (store, id) = (shared.node.store.clone(), id.clone());
    blocking(move || store.commit(&id, &AtomicBool::new(false))).await
}

/// Removes what the plan of retention names, and hot images that were overtaken.
async fn tidy(shared: &Arc<Shared>, overtaken: Vec<ImageId>) {
    let (store, name, judge) = (shared.node.store.clone(), shared.name.clone(), shared.judge());
    let retention = shared.parts().retention.clone();
    let removed = blocking(move || {
        let images = judge.facts(store.list(&name)?);
        let kept = |id: &ImageId| images.iter().any(|i| i.id == *id && (i.pinned || i.durable));
        let mut ids: Vec<ImageId> = overtaken.into_iter().filter(|id| !kept(id)).collect();
        ids.extend(policies::retention::plan(&images, &BTreeSet::new(), now(), &retention, needed(&store)));
        store.remove(&ids)
    });
    if let Err(error) = removed.await {
        shared.node.events.record(failed(Some(shared.name.as_str()), "prune-failed", &error));
    }
}

/// Bytes that are lacking to what is to stay free.
fn needed(store: &Store) -> u64 {
    store.free_space().map_or(0, |free| store.settings().min_free.saturating_sub(free))
}

/// For people.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
