//! The second keeper of a limit: a thread of the supervisor.
//!
//! ```text
//! Disarmed <──disarm── Armed(limit) ──limit passed on either clock──> Firing ──all members dead──> Fired
//!     └──────arm──────────^ └─arm: a later limit
//! ```
//!
//! Real-time where the kernel allows it, it waits on two timers, one of the monotonic clock and one of boot time; nothing that the
//! asynchronous runtime does or fails to do can keep it. What it cannot do: act while this process itself is stopped or
//! dead. Dropping its handle ends it, armed or not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use policies::lease::Moment;
use tokio::sync::watch;

use super::priority::become_real_time;
use super::timers::Timers;
use super::{FREEZE_MAX, KILL_ROUND, Standing, over};
use crate::clock;
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;

#[derive(Debug)]
pub(super) struct Thread {
    shared: Arc<Shared>,
    standing: watch::Receiver<Standing>,
}

#[derive(Debug)]
struct Shared {
    cgroup: Cgroup,
    timers: Timers,
    state: Mutex<State>,
    standing: watch::Sender<Standing>,
}

#[derive(Debug, Default)]
struct State {
    limit: Option<Moment>,
    fired: bool,
    /// Nobody holds the handle any more.
    left: bool,
}

impl Thread {
    /// Disarmed; it runs.
    pub(super) fn start(cgroup: Cgroup) -> Result<Self> {
        let (sender, standing) = watch::channel(Standing::Disarmed);
        let state = Mutex::default();
        let shared = Arc::new(Shared { cgroup, timers: Timers::new()?, state, standing: sender });
        let thread = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("fence".to_owned())
            .spawn(move || thread.watch())
            .map_err(|e| Error::Refused(Report::new("start the thread of a fence").because(e)))?;
        Ok(Self { shared, standing })
    }

    /// Whether its limit has passed.
    pub(super) fn refuse_if_over(&self, tried: &str) -> Result<()> {
        self.shared.state().refuse_if_over(tried)
    }

    pub(super) fn arm(&self, limit: Moment) -> Result<()> {
        let mut state = self.shared.state();
        state.refuse_if_over("arm")?;
        // The timers first: if they cannot be set, the limit before stays in force.
        self.shared.timers.set(limit)?;
        state.limit = Some(limit);
        self.shared.standing.send_replace(Standing::Armed(limit));
        Ok(())
    }

    pub(super) fn disarm(&self) -> Result<()> {
        let mut state = self.shared.state();
        state.refuse_if_over("disarm")?;
        self.shared.timers.clear()?;
        state.limit = None;
        self.shared.standing.send_replace(Standing::Disarmed);
        Ok(())
    }

    /// Stops the service now.
    pub(super) fn fire(&self) -> Result<()> {
        let mut state = self.shared.state();
        if !state.fired {
            state.limit = Some(Moment::default());
            self.shared.timers.ring()?;
        }
        Ok(())
    }

    pub(super) fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl State {
    /// A limit that has passed is final, whether the thread has seen it or not.
    fn refuse_if_over(&self, tried: &str) -> Result<()> {
        let now = clock::now()?;
        if self.fired || self.limit.is_some_and(|limit| now.has_passed(limit)) {
            Err(over(tried))
        } else {
            Ok(())
        }
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.shared.state().left = true;
        let _ = self.shared.timers.ring();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self) {
        if let Err(error) = become_real_time() {
            tracing::warn!(%error, "the fence has ordinary priority");
        }
        loop {
            if let Err(error) = self.timers.wait() {
                // Without timers it is not known when; stopping the service is the safe side.
                tracing::error!(%error, "a fence cannot wait for its limit");
                return self.stop_service();
            }
            let mut state = self.state();
            let passed = |limit| clock::now().map_or(true, |now: Moment| now.has_passed(limit));
            match state.limit {
                Some(limit) if passed(limit) => {
                    state.fired = true;
                    drop(state);
                    return self.stop_service();
                }
                _ if state.left => return,
                Some(_) | None => {}
            }
        }
    }

    fn stop_service(&self) {
        self.standing.send_replace(Standing::Firing);
        tracing::error!("the lease's limit has passed: the service is frozen and killed");
        while let Err(error) = self.cgroup.freeze_and_kill(FREEZE_MAX, KILL_ROUND) {
            tracing::error!(%error, "a fenced service is still alive");
        }
        self.standing.send_replace(Standing::Fired);
    }
}

#[cfg(test)]
mod tests;
