//! Stopping a service at an instant that was set before, whatever becomes of this process: the self-fence of a node that
//! may lose its lease.
//!
//! ```text
//!           Fence ──arm, disarm──> the service's shim ──> its keeper      a process; outlives us
//!             └─────────────────────────────────────────> a thread        of ours; what we know comes from it
//!
//! Disarmed <──disarm── Armed(limit) ──limit passed on either clock──> Firing ──all members dead──> Fired
//!     └──────arm──────────^ └─arm: a later limit
//! ```
//!
//! A limit counts once the keeper has it (`engine::shim`): from then on the service ends at that instant though this process is killed,
//! stopped or hangs. The thread keeps the same limit, for when the keeper is the one that is stopped or killed, and by it
//! [`Fence::standing`] is known. Past its limit a fence cannot be armed again: [`Fence::arm`] answers `Fenced`, until a
//! runtime starts or restores the service anew. Dropping an armed fence does not take the limit back: the keeper has it.
//!
//! What it refuses: deciding about limits (that is [`policies::lease::holder`]), and to be made where nobody would keep them but us:
//! beside a shim that is older than keepers.

pub mod command;
pub(crate) mod priority;
mod thread;
pub(crate) mod timers;
pub mod watchdog;

use std::time::Duration;

use policies::lease::Moment;
use tokio::sync::watch;

use self::thread::Thread;
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;
use crate::shim::Shim;
pub use crate::shim::protocol::FencedAddress;
use crate::shim::protocol::{FenceOrder, FenceState};

/// How long freezing may take before the service is killed as it runs.
pub(crate) const FREEZE_MAX: Duration = Duration::from_millis(100);
/// How long one round of killing may take before the next one.
pub(crate) const KILL_ROUND: Duration = Duration::from_secs(1);

/// The fence of one running service.
#[derive(Debug)]
pub struct Fence {
    shim: Shim,
    cgroup: Cgroup,
    address: Option<FencedAddress>,
    thread: Thread,
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

impl Fence {
    /// A fence around this cgroup, kept by this shim. It stands as the keeper says: a supervisor that comes back finds it armed,
    /// or fired.
    ///
    /// # Errors
    /// `Refused` if the shim cannot keep one, or the kernel gives no timer or thread. `Unavailable` if the shim does not
    /// answer.
    pub async fn new(shim: Shim, cgroup: Cgroup) -> Result<Self> {
        let found = shim.fence(&FenceOrder::Ask).await?;
        let thread = Thread::start(cgroup.clone())?;
        match found {
            FenceState::Disarmed => {}
            FenceState::Armed(limit) => thread.arm(limit.into())?,
            FenceState::Firing | FenceState::Fired => thread.fire()?,
        }
        Ok(Self { shim, cgroup, address: None, thread })
    }

    /// One that takes this address off the host, too, when it has stopped the service: a supervisor that stands still could not.
    #[must_use]
    pub fn with_address(self, address: Option<FencedAddress>) -> Self {
        Self { address, ..self }
    }

    /// Sets the limit at which the service is stopped. Where this fails, the limit before stays in force.
    ///
    /// # Errors
    /// `Fenced` once the limit before has passed: the service is dead or dying. `Unavailable` if the shim does not answer;
    /// it may have the new limit all the same.
    pub async fn arm(&self, limit: Moment) -> Result<()> {
        self.thread.refuse_if_over("arm")?;
        self.order("arm", self.arming(limit)).await?;
        self.thread.arm(limit)
    }

    /// Takes the limit back: the service has ended, or its lease was let go.
    ///
    /// # Errors
    /// As [`Fence::arm`].
    pub async fn disarm(&self) -> Result<()> {
        self.thread.refuse_if_over("disarm")?;
        self.order("disarm", FenceOrder::Disarm).await?;
        self.thread.disarm()
    }

    /// Stops the service now.
    ///
    /// # Errors
    /// `Internal` if the kernel refuses to set a timer; `Unavailable` if the shim does not answer: the service is stopped all
    /// the same.
    pub async fn fire(&self) -> Result<()> {
        self.thread.fire()?;
        self.shim.fence(&self.arming(Moment::default())).await.map(drop)
    }

    /// Where it stands, now and from now on.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.thread.standing()
    }

    fn arming(&self, limit: Moment) -> FenceOrder {
        let (cgroup, address) = (self.cgroup.clone(), self.address.clone());
        FenceOrder::Arm { limit: limit.into(), cgroup, address }
    }

    async fn order(&self, tried: &str, order: FenceOrder) -> Result<()> {
        if self.shim.fence(&order).await?.is_over() {
            // So that whoever watches sees it as well.
            self.thread.fire()?;
            return Err(over(tried));
        }
        Ok(())
    }
}

fn over(tried: &str) -> Error {
    Error::Fenced(Report::new(format!("{tried} a fence: its limit has passed")))
}
