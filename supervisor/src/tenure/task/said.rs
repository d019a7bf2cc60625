//! What is published of the lease, what the store says of it, and what is said to others with it.

use engine::images::Prepared;
use policies::lease::{AtRest, Legacy, Replicated, Sighting};

use super::leave::Leaving;
use super::{Task, now};

impl Task {
    pub(super) fn was_prepared(
        &mut self,
        prepared: Result<Option<(Replicated, Prepared)>, String>,
        unable: Option<String>,
    ) {
        self.preparing = None;
        self.prepare_at = tokio::time::Instant::now() + self.ground.cluster.settings.renew_interval;
        let why = match prepared {
            Ok(Some(newest)) => {
                self.prepared = Some(newest);
                None
            }
            Ok(None) => Some("there is no image of it yet".to_owned()),
            Err(why) => Some(why),
        };
        let image = self.prepared.as_ref().map(|(image, _)| image.image.to_string());
        let why = self.unfit.why(now()).or(unable).or(why);
        self.publish_readiness(image, why);
    }

    pub(super) fn saw(&mut self, sighting: &Sighting) {
        let legacy = &sighting.legacy;
        // On its way to another node it is suspended for a moment, and is to run there.
        let moves = legacy.next.is_some();
        self.at_rest = legacy.at_rest.filter(|rest| *rest == AtRest::Stopped || !moves);
        if let Some(image) = &sighting.legacy.replicated {
            self.ground.tenures.replicated(&self.service, image.clone());
        }
        let holder = sighting.holding.as_ref().map(|holding| holding.node.to_string());
        let (epoch, at_rest) = (sighting.epoch.0, self.at_rest);
        let replicated = legacy.replicated.as_ref().map(|image| image.image.to_string());
        self.ground.tenures.set_status(&self.service, |status| {
            status.replicated = replicated;
            (status.holder, status.epoch) = (holder, epoch);
            status.stopped = at_rest == Some(AtRest::Stopped);
            status.suspended = at_rest == Some(AtRest::Suspended);
        });
        if self.holder.is_none() {
            self.set_role("standby");
        }
    }

    pub(super) fn set_role(&self, role: &str) {
        let before = self.ground.tenures.status(self.service.as_str());
        if before.is_none_or(|before| before.role != role) {
            self.ground.tenures.set_status(&self.service, |status| role.clone_into(&mut status.role));
            self.ground.nodes.news();
        }
    }

    /// What this node could do for the service now: others choose by it.
    fn publish_readiness(&self, image: Option<String>, why: Option<String>) {
        let before = self.ground.tenures.status(self.service.as_str()).unwrap_or_default();
        if (&before.prepared, &before.not_ready) != (&image, &why) {
            self.ground.tenures.set_status(&self.service, |status| {
                (status.prepared, status.not_ready) = (image, why);
            });
            self.ground.nodes.news();
        }
    }

    /// What is said with each renewal for whoever holds the lease next.
    pub(super) async fn legacy(&self) -> Legacy {
        let entry = self.ground.control.entry(self.service.as_str()).await;
        Legacy {
            replicated: self.ground.tenures.floor(&self.service),
            next: self.leaving.as_ref().and_then(Leaving::next),
            at_rest: entry.ok().and_then(|entry| match entry.status.borrow().state.as_str() {
                "stopped" => Some(AtRest::Stopped),
                "suspended" => Some(AtRest::Suspended),
                _ => None,
            }),
        }
    }
}
