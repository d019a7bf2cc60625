//! How a unit's main process ended, as systemd saw it: it is the parent.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Clock};

use super::super::{Effect, Ended, Outside, Witness};
use crate::error::Result;
use crate::systemd::{Systemd, Unit};

/// How long systemd may take to see an end that we have seen.
const SEE_MAX: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(super) struct Told {
    pub(super) systemd: Systemd,
    pub(super) unit: String,
    pub(super) pid: i32,
    /// How often systemd had restarted it before.
    pub(super) restarts: u32,
    pub(super) fate: Arc<Fate>,
}

/// Who has the last word on a run.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// It is us who end it.
    ours: AtomicBool,
    /// Somebody has ended it and started it anew.
    others: AtomicBool,
}

impl Fate {
    pub(super) fn ends_by_us(&self) {
        self.ours.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_ours(&self) -> bool {
        self.ours.load(Ordering::SeqCst)
    }

    pub(super) fn is_others(&self) -> bool {
        self.others.load(Ordering::SeqCst)
    }
}

impl Told {
    async fn end_now(&self) -> Result<Ended> {
        let begun = Clock::now();
        while begun.elapsed() < SEE_MAX {
            // It ended, and nobody can say how.
            let Ok(unit) = self.systemd.unit(&self.unit).await else { break };
            if unit.last_main == Some(self.pid) && unit.ended > 0 {
                return Ok(self.judged(&unit).await);
            }
            if unit.begins_anew(self.pid) {
                return Ok(self.overtaken(&unit));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(Ended::default())
    }

    async fn judged(&self, unit: &Unit) -> Ended {
        let ended = ended(unit);
        if ended.outside.is_none() || self.fate.is_ours() {
            return Ended { outside: None, ..ended };
        }
        let outside = match unit.begins_anew(self.pid) {
            true => Outside::Restarted,
            false if self.systemd.is_stopping().await.unwrap_or(false) => Outside::WithHost,
            false => Outside::Stopped,
        };
        Ended { outside: Some(outside), ..ended }
    }

    /// It runs again before we could ask how it had ended.
    fn overtaken(&self, unit: &Unit) -> Ended {
        // What systemd restarts by itself had a fault; that is ours to mend.
        let by_itself = unit.restarts != self.restarts;
        Ended { outside: (!by_itself).then_some(Outside::Restarted), ..Ended::default() }
    }
}

impl Told {
    /// By systemd, in the unit's own way. One that has been started anew by somebody is left to them.
    async fn stop_now(&self, limit: Duration) -> Result<bool> {
        let unit = self.systemd.unit(&self.unit).await?;
        let has_ended = unit.main != Some(self.pid);
        if has_ended && self.end_now().await?.outside == Some(Outside::Restarted) {
            self.fate.others.store(true, Ordering::SeqCst);
            return Ok(true);
        }
        self.fate.ends_by_us();
        if let Err(error) = self.systemd.stop(&self.unit, limit).await {
            tracing::warn!(%error, unit = self.unit, "the unit is killed");
        }
        Ok(true)
    }
}

impl Witness for Told {
    fn end(&self) -> Effect<'_, Ended> {
        Box::pin(self.end_now())
    }

    fn stop(&self, limit: Duration) -> Effect<'_, bool> {
        Box::pin(self.stop_now(limit))
    }
}

/// How a unit that has ended did, by what systemd says of it.
pub(super) fn ended(unit: &Unit) -> Ended {
    Ended {
        status: unit.wait_status,
        out_of_memory: unit.result == "oom-kill",
        fenced: false,
        outside: unit.was_stopped().then_some(Outside::Stopped),
    }
}

/// The same for one that ended while no supervisor ran.
pub(super) fn ended_since(unit: &Unit, pid: i32) -> Ended {
    if unit.last_main == Some(pid) {
        return ended(unit);
    }
    // systemd forgets what ended without a fault, and nobody wants: most likely somebody has stopped it.
    let forgotten = unit.active == "inactive" && unit.last_main.is_none();
    Ended { outside: forgotten.then_some(Outside::Stopped), ..Ended::default() }
}
