//! The end of the host: held up by a lock of systemd-logind for as long as services are being brought to safety.
//!
//! ```text
//! lock taken ── the host is to stop ──> images, moves ── done, or the lock's time nearly up ──> lock let go: the host stops
//! ```
//!
//! It refuses to hold up the host any longer than logind allows, and to remember anything over the next boot.

use std::time::Duration;

use config::HostShutdown;
use engine::systemd::logind::Watch;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::control::Control;
use crate::drain::{Occasion, bring_to_safety};
use crate::events::{Events, plain};

/// What `systemd-inhibit --list` shows.
const WHY: &str = "services are brought to safety";
/// What is left of the lock's time when it is let go, so that logind does not say that it was ignored.
const MARGIN_MAX: Duration = Duration::from_millis(500);
/// How long after logind could not be heard it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Whoever does it.
#[derive(Debug, Clone)]
pub(super) struct Host {
    pub(super) control: Control,
    pub(super) events: Events,
    pub(super) occasion: Occasion,
}

/// What it is to be, by the configuration.
pub(super) const fn occasion(wanted: HostShutdown) -> Option<Occasion> {
    match wanted {
        HostShutdown::Leave => None,
        HostShutdown::Checkpoint => Some(Occasion::HostStops),
        HostShutdown::Drain => Some(Occasion::HostLeft),
    }
}

impl Host {
    /// Listens until the supervisor stops.
    pub(super) fn watch(self, stop: CancellationToken) {
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            let mut said = false;
            loop {
                if let Err(error) = self.listen().await {
                    if !said {
                        tracing::error!(%error, "a shutdown of this host is not held up (node.on_host_shutdown)");
                    }
                    said = true;
                }
                tokio::time::sleep(AGAIN_AFTER).await;
            }
        }));
    }

    async fn listen(&self) -> engine::Result<()> {
        let mut logind = Watch::start().await?;
        let mut lock = Some(logind.lock(WHY).await?);
        let limit = humantime::format_duration(logind.delay_max().await?).to_string();
        tracing::info!(
            "a shutdown of this host is held up for at most {limit} (InhibitDelayMaxSec= in logind.conf)"
        );
        loop {
            if logind.next().await? {
                let limit = logind.delay_max().await?;
                self.leave(limit.saturating_sub(MARGIN_MAX.min(limit / 10))).await;
                drop(lock.take());
            } else {
                // It goes on after all.
                self.drain_for_now(false);
                lock = Some(logind.lock(WHY).await?);
            }
        }
    }

    async fn leave(&self, limit: Duration) {
        let within = humantime::format_duration(limit);
        self.events.record(plain(
            None,
            "host-stopping",
            format!("the host stops; there are {within} for its services"),
        ));
        self.drain_for_now(self.occasion == Occasion::HostLeft);
        let services = self.control.status().await.services;
        let each = services.iter().map(|service| async {
            let answer = bring_to_safety(&self.control, service, self.occasion, limit).await;
            format!("{}: {}", service.name, answer.text)
        });
        let all = tokio::time::timeout(limit, join_all(each)).await;
        let text = all.map_or_else(|_| "not all was done in time".to_owned(), |lines| lines.join("; "));
        self.events.record(plain(None, "host-left", text));
    }

    /// Nothing comes here while the host stops; after the next boot it does.
    fn drain_for_now(&self, draining: bool) {
        if let Some(nodes) = self.control.nodes() {
            nodes.drain_for_now(draining);
        }
    }
}
