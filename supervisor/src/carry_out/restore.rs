//! Restoring an image: made ready and whole, its files put back, its processes restored.

use std::sync::Arc;
use std::time::Duration;

use engine::failpoint::fail_point;
use engine::images::Prepared;
use engine::runtime::{Instance, RestoreFrom};
use policies::id::{Attempt, ImageId};
use policies::reclaim::Intent;
use policies::service::Event;

use super::{Outcome, Shared, blocking, failure, files, lock};

/// How long a restore waits for the service's address: without it, connections cannot be restored, and nobody would reach the service.
const ADDRESS_MAX: Duration = Duration::from_secs(5);

impl Shared {
    pub(super) async fn restore(self: &Arc<Self>, attempt: Attempt, image: ImageId, paused: bool) -> Outcome {
        let _acting = self.acting.lock().await;
        match self.bring_back(&image, paused).await {
            Ok(instance) => Outcome::Began {
                attempt,
                event: Event::Restored { attempt, image },
                instance: Some(instance),
            },
            Err(error) => {
                let event = Event::RestoreFailed { attempt, image, failure: failure(&error) };
                Outcome::Began { attempt, event, instance: None }
            }
        }
    }

    async fn bring_back(&self, image: &ImageId, paused: bool) -> engine::Result<Instance> {
        let parts = self.parts();
        self.node.tenures.may_act(&self.name)?;
        let (store, id) = (self.node.store.clone(), image.clone());
        self.intend(Intent::Restoring, Some(image.to_string()), None, paused).await?;
        fail_point("restore.intended");
        let prepared = blocking(move || store.open_for_restore(&id)).await?;
        fail_point("restore.prepared");
        let (ready, ()) = tokio::join!(
            parts.runtime.make_ready(),
            self.node.tenures.wait_for_address(&self.name, ADDRESS_MAX)
        );
        ready?;
        let prepared = self.put_files_back(prepared).await?;
        fail_point("restore.files");
        let from = RestoreFrom {
            images: prepared.criu_dir(),
            limit: parts.policy.restore_timeout,
            state: &prepared.about().runtime_state,
        };
        let instance = parts.runtime.restore(from).await?;
        fail_point("restore.restored");
        self.node.tenures.guard(&self.name, &instance).await?;
        self.runs(&instance, Some(image.to_string()), paused).await?;
        Ok(instance)
    }

    async fn put_files_back(&self, prepared: Prepared) -> engine::Result<Prepared> {
        let (parts, aside) = (self.parts(), self.node.aside.join(self.name.as_str()));
        let folders = parts.runtime.folders().await?;
        let (prepared, put_back) = blocking(move || {
            let put_back = files::put_back(&parts, &folders, &prepared, &aside)?;
            Ok((prepared, put_back))
        })
        .await?;
        *lock(&self.put_back) = put_back;
        Ok(prepared)
    }
}
