//! Stopping a service at an instant that was set before, whatever else happens in this process: the self-fence of a node
//! that may lose its lease.
//!
//! ```text
//! Disarmed <──disarm── Armed(limit) ──limit passed on either clock──> Firing ──all members dead──> Fired
//!     └──────arm──────────^ └─arm: a later limit
//! ```
//!
//! A thread of its own, real-time where the kernel allows it, waits on two timers, one of the monotonic clock and one of boot
//! time; nothing that the asynchronous runtime does or fails to do can keep it. Past its limit it cannot be armed again:
//! [`Fence::arm`] answers `Fenced`. Dropping an armed fence does not take it back: the thread goes on.
//!
//! What it refuses: deciding about limits (that is [`policies::lease::holder`]). What it cannot do: act while this
//! process itself is stopped or dead; see `docs/failover.md` for what stands behind it then.

pub mod command;
mod timers;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use policies::lease::Moment;
use tokio::sync::watch;

use self::timers::Timers;
use crate::clock;
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;

/// How long freezing may take before the service is killed as it runs.
const FREEZE_MAX: Duration = Duration::from_millis(100);
/// How long one round of killing may take before the next one.
const KILL_ROUND: Duration = Duration::from_secs(1);
/// Low among the real-time priorities: ahead of everything ordinary is enough.
const PRIORITY: i32 = 10;

/// The fence of one service.
#[derive(Debug)]
pub struct Fence {
    shared: Arc<Shared>,
    standing: watch::Receiver<Standing>,
}

/// Where a fence stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It has no limit.
    Disarmed,
    /// It will act at this limit.
    Armed(Moment),
    /// It is stopping the service.
    Firing,
    /// The service is dead.
    Fired,
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
    /// Nobody holds the fence any more.
    left: bool,
}

impl Fence {
    /// A fence around this cgroup, disarmed; its thread runs.
    ///
    /// # Errors
    /// `Refused` if the kernel gives no timer or thread.
    pub fn new(cgroup: Cgroup) -> Result<Self> {
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

    /// Sets the limit at which the service is stopped.
    ///
    /// # Errors
    /// `Fenced` once the limit before has passed: the service is dead or dying.
    pub fn arm(&self, limit: Moment) -> Result<()> {
        let mut state = self.shared.state();
        state.refuse_if_over("arm")?;
        // The timers first: if they cannot be set, the limit before stays in force.
        self.shared.timers.set(limit)?;
        state.limit = Some(limit);
        self.shared.standing.send_replace(Standing::Armed(limit));
        Ok(())
    }

    /// Takes the limit back: the service has ended, or its lease was let go.
    ///
    /// # Errors
    /// As [`Fence::arm`].
    pub fn disarm(&self) -> Result<()> {
        let mut state = self.shared.state();
        state.refuse_if_over("disarm")?;
        self.shared.timers.clear()?;
        state.limit = None;
        self.shared.standing.send_replace(Standing::Disarmed);
        Ok(())
    }

    /// Stops the service now.
    ///
    /// # Errors
    /// `Internal` if the kernel refuses to set a timer.
    pub fn fire(&self) -> Result<()> {
        let mut state = self.shared.state();
        if !state.fired {
            state.limit = Some(Moment::default());
            self.shared.timers.ring()?;
        }
        Ok(())
    }

    /// Where it stands, now and from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }
}

impl State {
    /// A limit that has passed is final, whether the thread has seen it or not.
    fn refuse_if_over(&self, tried: &str) -> Result<()> {
        let now = clock::now()?;
        if self.fired || self.limit.is_some_and(|limit| now.has_passed(limit)) {
            return Err(Error::Fenced(Report::new(format!("{tried} a fence: its limit has passed"))));
        }
        Ok(())
    }
}

impl Drop for Fence {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.left = true;
        if state.limit.is_none() {
            let _ = self.shared.timers.ring();
        }
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
                None if state.left => return,
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

/// Ahead of everything that is not real-time. Needs CAP_SYS_NICE, and a cgroup that has real-time bandwidth.
fn become_real_time() -> Result<()> {
    let priority = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: 0 is the calling thread, and the parameter lives through the call.
    let done = unsafe { libc::sched_setscheduler(0, policy, &raw const priority) };
    if done == 0 {
        return Ok(());
    }
    let error = std::io::Error::last_os_error();
    Err(Error::Refused(Report::new("take real-time priority").because(error)))
}

#[cfg(test)]
mod tests;
