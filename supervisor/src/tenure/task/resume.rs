//! Going on with a lease that an earlier supervisor of this node has held.

use engine::clock;
use engine::lease::Held;
use policies::lease::Moment;

use super::{Task, now};
use crate::tenure::Arrival;

impl Task {
    /// A lease that an earlier supervisor of this node held is gone on with, if it still is ours.
    pub(super) async fn resume(&mut self) {
        let Some(held) = self.noted() else {
            // What an earlier supervisor may have left of it.
            return self.release_address().await;
        };
        match self.renew_until_answered(&held).await {
            Ok(sent) => {
                let epoch = held.epoch();
                self.hold(held, sent);
                self.resumed = true;
                self.tell("lease-held", format!("the lease is still held here, in epoch {epoch}"));
                self.begin(Arrival::AsFound).await;
            }
            Err(error) => {
                self.tell("lease-lost", format!("the lease of an earlier supervisor is not ours: {error}"));
                self.end("its lease was lost while no supervisor ran").await;
            }
        }
    }

    /// A store that is away is no answer. Until it may be lost for sure the service runs on; the limit that its shim keeps stands.
    async fn renew_until_answered(&self, held: &Held) -> engine::Result<Moment> {
        let settings = &self.ground.cluster.settings;
        let hopeless = now().after(settings.ttl);
        let legacy = self.legacy().await;
        loop {
            let sent = clock::now()?;
            match self.keeper().renew(held, &legacy).await {
                Ok(()) => return Ok(sent),
                Err(engine::Error::Unavailable(_)) if !now().has_passed(hopeless) => {
                    tokio::time::sleep(settings.renew_interval / 4).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}
