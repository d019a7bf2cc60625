//! Who runs a service when there is more than one host: each service's lease, held or watched, beside its task.
//!
//! ```text
//! watching ── the lease is gone, and it is our turn ──> acquired ──> former fenced? ── newest image here ── address ──> begin
//!    ^                                                    renewed; each renewal arms the fence of what runs          │
//!    └── end: fenced, killed, address released <── lost, or handed over <────────────────────────────────────────────┘
//! ```
//!
//! What is decided is decided by `policies::lease`; this carries it out. [`Tenures`] is what the rest of the daemon sees: the epoch that writes
//! bear, the oldest image that may be restored, and the fence that stands around each instance. A service without `failover` has none of
//! it and runs as on a host that stands alone.

mod find;
mod handing;
mod nodes;
mod status;
mod task;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use engine::error::{Error, Report};
use engine::fence::watchdog::Watchdog;
use engine::fence::{Fence, FencedAddress, Standing};
use engine::lease::Keeper;
use engine::runtime::Instance;
use policies::id::{Epoch, ImageId, NodeName, ServiceName};
use policies::lease::{Moment, Replicated, Settings};
use tokio::sync::{mpsc, oneshot, watch};

pub(crate) use handing::Handing;
pub(crate) use nodes::{NodeSeen, Nodes, ServiceSaid};
pub(crate) use status::LeaseStatus;
pub(crate) use task::{Ground, Wanted, spawn};

use crate::status::Answer;

/// How many wishes for one service may wait; more are refused.
const WISHES: usize = 4;

/// Where leases are kept, and by what times.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// The store.
    pub(crate) keeper: Arc<dyn Keeper>,
    /// The times.
    pub(crate) settings: Settings,
    /// Who we are.
    pub(crate) node: NodeName,
    /// Where held leases are noted.
    pub(crate) folder: PathBuf,
}

/// What the daemon is told.
#[derive(Debug)]
pub(crate) enum Change {
    /// The service is ours.
    Begin {
        /// Which.
        service: ServiceName,
        /// How it begins.
        arrival: Arrival,
    },
    /// It is not any more. Answered when nothing of it runs here.
    End {
        /// Which.
        service: ServiceName,
        /// Why.
        why: String,
        /// The answer.
        done: oneshot::Sender<()>,
    },
}

/// How a service begins on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// As it is found here.
    AsFound,
    /// Taken over: nothing that may be left of it here counts; from its newest image.
    FromImage,
    /// The same where there never was an image.
    Cold,
    /// Taken over, but it was stopped on purpose where it was.
    Stopped,
    /// Taken over, and its state waits in this image, as it did where it was.
    Suspended(ImageId),
}

/// What somebody wants of a service's lease.
#[derive(Debug)]
pub(crate) enum Wish {
    /// The service is to run elsewhere, in its present state.
    Move {
        /// Where; nothing: on the best standby.
        to: Option<NodeName>,
        /// Answered when it serves there, or stays here.
        reply: oneshot::Sender<Answer>,
    },
    /// The service is dead and nothing helped here: a standby is to have it.
    Leave,
}

/// What is known of the leases of all services. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tenures {
    inner: Arc<Mutex<BTreeMap<ServiceName, Tenure>>>,
    /// Resets this host should it not let go of a lease in time; there if it is configured.
    watchdog: Arc<OnceLock<Watching>>,
}

/// A watchdog, and how long after the limit of a fence a lease can be taken.
#[derive(Debug)]
struct Watching {
    watchdog: Watchdog,
    margin: Duration,
}

#[derive(Debug, Default)]
struct Tenure {
    /// Set while the lease is held.
    held: Option<Hold>,
    /// The last limit of a lease that was held, until nothing of the service runs here under it.
    answerable: Option<Moment>,
    /// What has been acknowledged as replicated, by whoever.
    floor: Option<Replicated>,
    fence: Option<Arc<Fence>>,
    /// What a fence takes off this host with the service.
    address: Option<FencedAddress>,
    /// Whether the address is on this host, from when it is being taken.
    address_here: Option<watch::Receiver<bool>>,
    status: LeaseStatus,
    /// How it is to go to another node.
    handing: Option<Arc<Handing>>,
    /// There once its lease is watched.
    wishes: Option<mpsc::Sender<Wish>>,
}

#[derive(Debug, Clone, Copy)]
struct Hold {
    epoch: Epoch,
    limit: Moment,
}

impl Tenures {
    /// The host is reset from now on before a lease can be taken from it, unless all goes well.
    pub(crate) fn watch_by(&self, watchdog: Watchdog, margin: Duration) {
        // There is one for the supervisor's whole life.
        let _ = self.watchdog.set(Watching { watchdog, margin });
    }

    /// The supervisor stops in order: services run on, watched by their fences alone.
    pub(crate) fn stop_watching(&self) {
        if let Some(watching) = self.watchdog.get() {
            watching.watchdog.stop();
        }
    }

    fn tell_watchdog(&self) {
        let Some(watching) = self.watchdog.get() else { return };
        let first = self.first_limit();
        watching.watchdog.answer_for(first.map(|limit| limit.after(watching.margin)));
    }

    /// The first limit of all leases under which something may still run here.
    fn first_limit(&self) -> Option<Moment> {
        self.lock().values().filter_map(|tenure| tenure.answerable).min_by_key(|limit| limit.monotonic)
    }

    /// The epoch under which this service's images are written: 0 without leases.
    pub(crate) fn epoch(&self, service: &ServiceName) -> Epoch {
        self.read(service, |tenure| tenure.held.map_or(Epoch(0), |hold| hold.epoch)).unwrap_or(Epoch(0))
    }

    /// No image older than this may be restored.
    pub(crate) fn floor(&self, service: &ServiceName) -> Option<Replicated> {
        self.read(service, |tenure| tenure.floor.clone()).flatten()
    }

    /// Its next suspension hands it over to a peer.
    fn hand_by(&self, service: &ServiceName, handing: Option<Arc<Handing>>) {
        self.change(service, |tenure| tenure.handing = handing);
    }

    /// How the service is handed over, if it is; once.
    pub(crate) fn take_handing(&self, service: &ServiceName) -> Option<Arc<Handing>> {
        self.lock().get_mut(service).and_then(|tenure| tenure.handing.take())
    }

    /// An image was acknowledged by a replica; the next renewal says so.
    pub(crate) fn replicated(&self, service: &ServiceName, image: Replicated) {
        self.change(service, |tenure| {
            if tenure.floor.as_ref().is_none_or(|floor| *floor < image) {
                tenure.floor = Some(image);
            }
        });
    }

    /// Whether the service may be started here.
    ///
    /// # Errors
    /// `Fenced` if the lease is not ours.
    pub(crate) fn may_act(&self, service: &ServiceName) -> engine::Result<()> {
        let now = engine::clock::now()?;
        let may = self.read(service, |tenure| tenure.held.is_some_and(|hold| !now.has_passed(hold.limit)));
        if may.unwrap_or(true) {
            return Ok(());
        }
        Err(Error::Fenced(Report::new(format!("run {service}: its lease is not held by this node"))))
    }

    /// Puts a fence around what has begun to run.
    ///
    /// # Errors
    /// `Fenced` if the lease was lost meanwhile: it is being stopped.
    pub(crate) async fn guard(&self, service: &ServiceName, instance: &Instance) -> engine::Result<()> {
        let Some(limit) = self.read(service, |tenure| tenure.held.map(|hold| hold.limit)) else {
            return Ok(());
        };
        let address = self.read(service, |tenure| tenure.address.clone()).flatten();
        let fence = Arc::new(instance.fence().await?.with_address(address));
        let armed = match limit {
            Some(limit) => fence.arm(limit).await,
            None => self.may_act(service),
        };
        if armed.is_err() {
            fence.fire().await?;
        }
        self.change(service, |tenure| tenure.fence = Some(Arc::clone(&fence)));
        armed
    }

    /// The service's address is being taken; whoever takes it says when it is there.
    fn address_comes(&self, service: &ServiceName) -> watch::Sender<bool> {
        let (sender, here) = watch::channel(false);
        self.change(service, |tenure| tenure.address_here = Some(here));
        sender
    }

    /// Waits until the service's address is on this host, if it has one that is being taken; not for longer than the limit.
    pub(crate) async fn wait_for_address(&self, service: &ServiceName, limit: Duration) {
        let here = self.read(service, |tenure| tenure.address_here.clone()).flatten();
        if let Some(mut here) = here {
            // Whoever takes it may have given it up: then there is nothing to wait for.
            let _ = tokio::time::timeout(limit, here.wait_for(|is_here| *is_here)).await;
        }
    }

    /// Nothing of the service runs any more: its fence has nothing to stop, and must not stop what comes after it.
    pub(crate) async fn unguard(&self, service: &ServiceName) {
        let fence = self.lock().get_mut(service).and_then(|tenure| tenure.fence.take());
        if let Some(fence) = fence {
            // Refused once it has fired, which then was right.
            let _ = fence.disarm().await;
        }
    }

    /// Passes a wish on. False if there are no leases for the service, or too many wishes wait.
    pub(crate) fn wish(&self, service: &ServiceName, wish: Wish) -> bool {
        let wishes = self.read(service, |tenure| tenure.wishes.clone()).flatten();
        wishes.is_some_and(|wishes| wishes.try_send(wish).is_ok())
    }

    /// What is published of a service's lease; nothing without one.
    pub(crate) fn status(&self, service: &str) -> Option<LeaseStatus> {
        let service = ServiceName::try_from(service).ok()?;
        self.read(&service, |tenure| tenure.status.clone())
    }

    /// Its lease is watched from now on; what is wanted of it arrives here.
    fn enter(&self, service: &ServiceName, address: Option<FencedAddress>) -> mpsc::Receiver<Wish> {
        let (sender, wishes) = mpsc::channel(WISHES);
        let mut tenures = self.lock();
        let tenure = tenures.entry(service.clone()).or_default();
        (tenure.wishes, tenure.address) = (Some(sender), address);
        drop(tenures);
        wishes
    }

    /// Its lease is not watched any more.
    pub(crate) fn leave(&self, service: &ServiceName) {
        self.lock().remove(service);
        self.tell_watchdog();
    }

    fn held(&self, service: &ServiceName, epoch: Epoch, limit: Moment) {
        self.change(service, |tenure| {
            (tenure.held, tenure.answerable) = (Some(Hold { epoch, limit }), Some(limit));
        });
        self.tell_watchdog();
    }

    /// A renewal has succeeded.
    async fn arm(&self, service: &ServiceName, limit: Moment) {
        self.change(service, |tenure| {
            if let Some(hold) = &mut tenure.held {
                hold.limit = limit;
                tenure.answerable = Some(limit);
            }
        });
        self.tell_watchdog();
        let fence = self.read(service, |tenure| tenure.fence.clone()).flatten();
        if let Some(fence) = fence
            && let Err(error) = fence.arm(limit).await
        {
            // The limit before stands; past it the holder is told by the same clock.
            tracing::warn!(%error, %service, "the fence did not take the later limit");
        }
    }

    async fn fire(&self, service: &ServiceName) {
        self.change(service, |tenure| tenure.held = None);
        let fence = self.read(service, |tenure| tenure.fence.clone()).flatten();
        if let Some(fence) = fence
            && let Err(error) = fence.fire().await
        {
            tracing::error!(%error, %service, "the fence could not be set off by hand; its limit stands");
        }
    }

    /// Nothing of the service runs here any more under a lease.
    fn let_go(&self, service: &ServiceName) {
        self.change(service, |tenure| (tenure.held, tenure.answerable) = (None, None));
        self.tell_watchdog();
    }

    fn set_status(&self, service: &ServiceName, set: impl FnOnce(&mut LeaseStatus)) {
        self.change(service, |tenure| set(&mut tenure.status));
    }

    /// Waits until the fence has done its work, if there is one.
    async fn fenced(&self, service: &ServiceName) {
        let fence = self.read(service, |tenure| tenure.fence.clone()).flatten();
        if let Some(fence) = fence {
            // Its thread lives as long as the fence.
            let _ = fence.standing().wait_for(|standing| *standing == Standing::Fired).await;
        }
    }

    fn change(&self, service: &ServiceName, change: impl FnOnce(&mut Tenure)) {
        if let Some(tenure) = self.lock().get_mut(service) {
            change(tenure);
        }
    }

    fn read<T>(&self, service: &ServiceName, read: impl FnOnce(&Tenure) -> T) -> Option<T> {
        self.lock().get(service).map(read)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ServiceName, Tenure>> {
        // Changed in single steps.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use policies::time::Instant;

    use super::*;

    fn at(seconds: u64) -> Moment {
        let instant = Instant::from_nanos(seconds * 1_000_000_000);
        Moment { monotonic: instant, boottime: instant }
    }

    #[tokio::test]
    async fn a_watchdog_goes_by_the_first_limit_until_nothing_runs_under_it() {
        let (tenures, names) =
            (Tenures::default(), ["a", "b"].map(|n| ServiceName::try_from(n).expect("a name")));
        let _wishes = names.each_ref().map(|name| tenures.enter(name, None));
        assert_eq!(tenures.first_limit(), None, "nothing is held");
        tenures.held(&names[0], Epoch(1), at(10));
        tenures.held(&names[1], Epoch(1), at(5));
        assert_eq!(tenures.first_limit(), Some(at(5)));
        tenures.arm(&names[1], at(7)).await;
        assert_eq!(tenures.first_limit(), Some(at(7)), "a renewal moves it");
        // Being stopped is not being dead.
        tenures.fire(&names[1]).await;
        assert_eq!(tenures.first_limit(), Some(at(7)));
        tenures.let_go(&names[1]);
        assert_eq!(tenures.first_limit(), Some(at(10)));
        tenures.leave(&names[0]);
        assert_eq!(tenures.first_limit(), None);
    }
}
