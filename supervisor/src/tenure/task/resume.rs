//! Going on with a lease that an earlier supervisor of this node has held.

use std::time::Duration;

use engine::clock;
use engine::lease::Held;
use policies::lease::Moment;
use tokio::time::Instant;

use super::{Task, now};
use crate::status::Action;
use crate::tenure::Arrival;

/// How long it is waited for that a service has begun here.
const BEGINS_MAX: Duration = Duration::from_secs(60);
/// How often that is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);

impl Task {
    /// A lease that an earlier supervisor of this node held is gone on with, if it still is ours.
    pub(super) async fn resume(&mut self) {
        let Some(held) = self.noted() else {
            // What an earlier supervisor may have left of it.
            return self.release_address().await;
        };
        // Read before the renewal says otherwise.
        let sighting = self.keeper().read(&self.service).await;
        let was_leaving = sighting.is_ok_and(|sighting| sighting.legacy.next.is_some());
        match self.renew_until_answered(&held).await {
            Ok(sent) => {
                let epoch = held.epoch();
                self.hold(held, sent);
                self.resumed = true;
                self.tell("lease-held", format!("the lease is still held here, in epoch {epoch}"));
                self.begin(Arrival::AsFound).await;
                if was_leaving {
                    self.bring_back_what_was_leaving();
                }
            }
            Err(error) => {
                self.tell("lease-lost", format!("the lease of an earlier supervisor is not ours: {error}"));
                self.end("its lease was lost while no supervisor ran").await;
            }
        }
    }

    /// We died while it was on its way: what is in an image for another node, and not let go, belongs here.
    fn bring_back_what_was_leaving(&self) {
        let (control, service) = (self.ground.control.clone(), self.service.to_string());
        tokio::spawn(async move {
            let begun = Instant::now();
            while begun.elapsed() < BEGINS_MAX {
                match control
                    .entry(&service)
                    .await
                    .map(|entry| entry.status.borrow().state.clone())
                    .as_deref()
                {
                    Ok("suspended") => {
                        let resumed = control.ask(&service, Action::Resume, BEGINS_MAX).await;
                        return tracing::info!(service, ?resumed, "it was on its way to another node");
                    }
                    // It has not begun here yet.
                    Ok("standby" | "") => tokio::time::sleep(LOOK_EVERY).await,
                    _ => return,
                }
            }
        });
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
