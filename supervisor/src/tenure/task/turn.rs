//! When it is this node's turn to take a service over.

use std::time::Duration;

use config::Failover;
use policies::failover::turn_after;
use policies::lease::Moment;
use policies::lease::standby::{Former, Standby};

use super::Task;
use crate::tenure::Cluster;

/// How many leases long a node that could not bring the service back leaves it to others.
const UNFIT_LEASES: u32 = 2;
/// Longer than any supervisor runs: a node that drains takes nothing over.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A node on which nothing helped is not asked for the service again before some time has passed, unless nobody else is there.
#[derive(Debug, Default)]
pub(super) struct Unfit {
    until: Option<Moment>,
}

impl Unfit {
    /// From now on, for so long.
    pub(super) fn for_a(&mut self, window: Duration, now: Moment) {
        self.until = Some(now.after(window));
    }

    /// Why others are preferred, as long as they are.
    pub(super) fn why(&self, now: Moment) -> Option<String> {
        let left = self.until?.monotonic.since(now.monotonic);
        (!left.is_zero()).then(|| {
            let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
            format!("it could not be brought back here; other nodes are preferred for another {left}")
        })
    }
}

/// A node that begins to watch.
pub(super) fn new_standby(cluster: &Cluster, failover: &Failover) -> Standby {
    let former = if failover.fence.is_some() { Former::FencedByCommand } else { Former::FencesItself };
    Standby::new(cluster.settings.clone(), cluster.node.clone(), former, NEVER)
}

impl Task {
    /// How long after the lease is gone this node tries for it: by its place among those that are there and ready, or among those
    /// that are listed as long as nobody else is heard.
    pub(super) fn turn(&self) -> Duration {
        let (nodes, settings) = (&self.ground.nodes, &self.ground.cluster.settings);
        if nodes.draining() {
            return NEVER;
        }
        let unfit = self.unfit.why(super::now()).is_some();
        let ready = self.prepared.is_some() && !unfit;
        let place = nodes.place(&self.service, &self.failover, ready).unwrap_or_else(|| self.place_in_list());
        let courtesy = if unfit { settings.ttl * UNFIT_LEASES } else { Duration::ZERO };
        turn_after(place, settings.renew_interval) + courtesy
    }

    /// Whoever is not listed as a standby is the first.
    fn place_in_list(&self) -> usize {
        let node = &self.ground.cluster.node;
        self.failover.standby.iter().position(|standby| standby == node).map_or(0, |at| at + 1)
    }
}
