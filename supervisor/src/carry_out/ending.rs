//! Ending a service: killed where it hangs or has to make way, stopped as it was asked for, ended with us.

use std::sync::Arc;

use engine::failpoint::fail_point;
use engine::runtime::Instance;
use policies::id::ImageId;
use policies::reclaim::Intent;

use super::{Shared, lock};

impl Shared {
    /// Whatever is under way is ended with the service's processes; what is left of it is cleared after it has
    /// let go.
    pub(super) async fn kill(&self, paused: bool) -> engine::Result<()> {
        let runtime = Arc::clone(&self.parts().runtime);
        if self.acting.try_lock().is_err() {
            runtime.kill().await?;
        }
        let _acting = self.acting.lock().await;
        self.intend(Intent::Recovering, None, None, paused).await?;
        fail_point("kill.intended");
        runtime.kill().await?;
        fail_point("kill.killed");
        self.node.tenures.unguard(&self.name).await;
        *lock(&self.instance) = None;
        self.undo_files().await
    }

    pub(super) async fn stop(&self, suspended_in: Option<ImageId>, paused: bool) -> engine::Result<()> {
        let _acting = self.acting.lock().await;
        let parts = self.parts();
        let image = suspended_in.map(|image| image.to_string());
        let (during, afterwards) = match image {
            Some(_) => (Intent::Suspended, Intent::Suspended),
            None => (Intent::Stopping, Intent::Stopped),
        };
        self.intend(during, image.clone(), self.instance(), paused).await?;
        fail_point("stop.intended");
        if let Some(instance) = self.instance().filter(|_| image.is_none()) {
            self.ask_to_end(&instance).await?;
        }
        self.clear_away().await?;
        if image.is_none() {
            parts.runtime.give_up_suspended().await?;
        }
        self.undo_files().await?;
        self.intend(afterwards, image, None, paused).await
    }

    pub(super) async fn end(&self, instance: Instance) -> engine::Result<()> {
        let _acting = self.acting.lock().await;
        let paused = self.node.journal.read(&self.name)?.is_some_and(|record| record.paused);
        self.intend(Intent::Ending, None, Some(instance.clone()), paused).await?;
        fail_point("end.intended");
        if instance.handle.is_alive() {
            self.ask_to_end(&instance).await?;
        }
        self.clear_away().await?;
        self.undo_files().await?;
        fail_point("end.ended");
        self.intend(Intent::Ended, None, None, paused).await
    }

    async fn ask_to_end(&self, instance: &Instance) -> engine::Result<()> {
        let parts = self.parts();
        instance.stop(parts.stop_signal, parts.policy.stop_timeout).await
    }

    pub(super) async fn clear_away(&self) -> engine::Result<()> {
        let parts = self.parts();
        parts.runtime.kill().await?;
        self.node.tenures.unguard(&self.name).await;
        *lock(&self.instance) = None;
        parts.runtime.remove().await
    }
}
