//! What was handed over from memory to memory comes to a disk here, too: when the other node serves, or soon in any case.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::sync::Notify;

use super::Task;
use crate::carry_out::blocking;
use crate::events::{failed, plain};

/// The restore goes first, for so long: the other node may share our disks and processors.
const SERVES_FIRST: Duration = Duration::from_secs(10);

impl Task {
    /// Nothing of the service runs here any more, and its last image is in memory only.
    pub(super) fn keep_what_was_given(&mut self) {
        if !self.handing().is_some_and(|handing| handing.is_given()) {
            return;
        }
        let served = Arc::new(Notify::new());
        self.served = Some(Arc::clone(&served));
        let (store, commits) = (self.sources.store.clone(), Arc::clone(&self.commits));
        let (service, events) = (self.service.clone(), self.ground.events.clone());
        tokio::spawn(async move {
            // If the other node does not say so in time it is kept all the same.
            let _ = tokio::time::timeout(SERVES_FIRST, served.notified()).await;
            let Ok(_turn) = commits.acquire_owned().await else { return };
            let of = service.clone();
            let kept = blocking(move || {
                // The newest is the one; what is older is overtaken by it.
                let Some(id) = store.uncommitted(&of)?.pop() else { return Ok(None) };
                store.commit(&id, &AtomicBool::new(false))?;
                store.forget_overtaken(&of, &id)?;
                Ok(Some(id))
            });
            match kept.await {
                Ok(Some(id)) => {
                    let mut record =
                        plain(Some(service.as_str()), "image-durable", format!("image {id} is durable"));
                    record.image = Some(id.to_string());
                    events.record(record);
                }
                Ok(None) => {}
                Err(error) => events.record(failed(Some(service.as_str()), "commit-failed", &error)),
            }
        });
    }

    /// The other node serves.
    pub(super) fn given_is_served(&mut self) {
        if let Some(served) = self.served.take() {
            served.notify_one();
        }
    }
}
