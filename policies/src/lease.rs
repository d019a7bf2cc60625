//! Ownership of a service: a lease with an epoch, seen from the node that holds it and from one that waits for it.
//!
//! ```text
//! holder    Holding ──Renew──> Renewed: later limit
//!              │ limit passed, or superseded          ──Fence──> Stopped: Fenced (terminal)
//!              └ asked to give up, service has ended  ──Release──> Released (terminal)
//!
//! standby   Watching ──lease gone──> waits its turn ──Acquire──> Acquired
//!              ──FenceFormer──> ──FindImage──> TakeOver
//! ```
//!
//! The rules, each as one number on one clock:
//!
//! * The lease counts from when the request that brought or renewed it was **sent**, never from its answer.
//! * The holder begins to stop at `sent + ttl * (1 - drift) - stop_margin` ([`Settings::holder_span`]), by the monotonic
//!   and the boot-time clock both: the second goes on while the machine sleeps. Past that instant no answer, however
//!   good, makes it hold again.
//! * Where the store itself lets leases expire (etcd), a standby waits until it says so. Where it cannot (a bucket), it
//!   waits until the same beat has been there for `ttl * (1 + drift)` since the first **answer** that showed it
//!   ([`Settings::reader_span`]).
//! * An acquisition names the sighting it goes by; the store refuses if anything has changed since, and counts the epoch up.
//!
//! `drift` bounds by how much the rates of two clocks differ, not their times: no wall clock is ever compared. It refuses
//! to know what a store is, and to stop anything itself: commands are carried out by others, and the limit is also given
//! to a fence that needs nobody's help ([`holder::Command::Arm`]).

pub mod holder;
pub mod standby;

use std::time::Duration;

use crate::id::{Epoch, ImageId, NodeName};
use crate::time::Instant;

/// One instant on both clocks of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Moment {
    /// Stands still while the machine is suspended.
    pub monotonic: Instant,
    /// Does not.
    pub boottime: Instant,
}

/// The times of the protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// How long a lease holds.
    pub ttl: Duration,
    /// How long after one renewal was sent the next one is.
    pub renew_interval: Duration,
    /// By how many millionths the rates of two nodes' clocks, or of a node's and the store's, may differ.
    pub drift_ppm: u32,
    /// How long freezing a service may take: the fence begins so much before the lease may be gone.
    pub stop_margin: Duration,
}

/// Why settings cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Fewer than two renewals fit between one that succeeded and the fence: one lost request would stop the service.
    RenewedTooSeldom {
        /// The longest interval that would do.
        renew_interval_max: Duration,
    },
    /// Nothing is left of the ttl after drift and margin.
    TtlTooShort,
}

/// Who lets a lease expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Expiry {
    /// The store: a lease that has expired is shown as free.
    ByStore,
    /// Whoever reads it, by watching the beat.
    ByReader,
}

/// Somebody's right to a service, as the store shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    /// Whose it is.
    pub node: NodeName,
    /// How long it holds since it was last renewed, by what its holder says.
    pub ttl: Duration,
    /// Changes with every renewal.
    pub beat: u64,
    /// Who lets it expire.
    pub expiry: Expiry,
}

/// What stood in the store for one service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Sighting {
    /// The epoch of the present or last holder; 0: there was none yet.
    pub epoch: Epoch,
    /// The present holder.
    pub holding: Option<Holding>,
    /// The last node that held it, whether it still does or not.
    pub former: Option<NodeName>,
    /// What was said for whoever holds it next.
    pub legacy: Legacy,
    /// Names this very content of the store, so that an acquisition that goes by it fails if anything has changed.
    pub version: u64,
}

/// What a holder says, with each renewal, for whoever holds the lease next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Legacy {
    /// The newest image that was acknowledged as replicated, in whatever epoch. It never becomes older.
    pub replicated: Option<Replicated>,
    /// Who is to hold it next: all others let it go first.
    pub next: Option<NodeName>,
    /// The service does not run on purpose, and stays so wherever it is.
    pub at_rest: Option<AtRest>,
}

/// Why a service does not run, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AtRest {
    /// It was stopped.
    Stopped,
    /// It was suspended: its state waits in its newest image.
    Suspended,
}

/// An image outside the host it was taken on. Ordered by age: those of a later epoch are newer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Replicated {
    /// The epoch it was taken in.
    pub epoch: Epoch,
    /// Its id; ids of one service and epoch sort by the time of taking.
    pub image: ImageId,
}

/// Whether a later epoch may begin from `candidate`: it is at least as new as what was acknowledged as replicated.
#[must_use]
pub fn may_succeed(acknowledged: Option<&Replicated>, candidate: Option<&Replicated>) -> bool {
    candidate >= acknowledged
}

impl Settings {
    /// How long after a request was sent its lease's holder begins to stop, by its own clocks.
    #[must_use]
    pub fn holder_span(&self) -> Duration {
        self.safe_span().saturating_sub(self.stop_margin)
    }

    /// How long after a request was sent nobody else can have its lease, by the holder's clocks.
    #[must_use]
    pub fn safe_span(&self) -> Duration {
        self.ttl.saturating_sub(self.drift(self.ttl))
    }

    /// What a watchdog is set to, in whole seconds, that is fed as long as it would reset the host within [`Settings::safe_span`]: two
    /// renewals fit in before it is not fed any more.
    #[must_use]
    pub fn watchdog_timeout(&self) -> Duration {
        let left = self.safe_span().saturating_sub(self.renew_interval * 2);
        Duration::from_secs(left.as_secs().max(1))
    }

    /// How long a reader must see the same beat before it takes a lease that nobody lets expire.
    #[must_use]
    pub fn reader_span(&self, ttl: Duration) -> Duration {
        ttl.saturating_add(self.drift(ttl))
    }

    /// Whether a service can be held by these settings at all.
    ///
    /// # Errors
    /// If it would be fenced in the ordinary course of things.
    pub fn check(&self) -> Result<(), Unfit> {
        let span = self.holder_span();
        if span.is_zero() || self.renew_interval.is_zero() {
            return Err(Unfit::TtlTooShort);
        }
        let renew_interval_max = span / 2;
        if self.renew_interval > renew_interval_max {
            return Err(Unfit::RenewedTooSeldom { renew_interval_max });
        }
        Ok(())
    }

    /// The part of `span` that clocks may disagree about, rounded up.
    fn drift(&self, span: Duration) -> Duration {
        let nanos = span.as_nanos().saturating_mul(u128::from(self.drift_ppm)).div_ceil(1_000_000);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl Default for Settings {
    /// 2000 ppm: the kernel slews a clock by at most 500 ppm, crystals are off by at most 100, and two clocks may do so
    /// in opposite directions.
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(10),
            renew_interval: Duration::from_secs(2),
            drift_ppm: 2000,
            stop_margin: Duration::from_secs(1),
        }
    }
}

impl Moment {
    /// Later by `span` on both clocks.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self { monotonic: self.monotonic + span, boottime: self.boottime + span }
    }

    /// Whether this lies at or after `limit` on either clock.
    #[must_use]
    pub fn has_passed(self, limit: Self) -> bool {
        self.monotonic >= limit.monotonic || self.boottime >= limit.boottime
    }
}

impl Sighting {
    /// Whether it is nobody's.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.holding.is_none()
    }
}

impl Legacy {
    /// With what is newer in it than what was said before.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        Self { replicated: self.replicated.max(before.replicated.clone()), ..self }
    }

    /// As a new epoch begins with it: who was to be next has had its chance.
    #[must_use]
    pub fn inherited(&self) -> Self {
        Self { next: None, ..self.clone() }
    }
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::RenewedTooSeldom { renew_interval_max } => write!(
                f,
                "one lost renewal would stop the service; renew at least every {renew_interval_max:?}"
            ),
            Self::TtlTooShort => {
                write!(f, "nothing is left of the ttl after clock drift and the time to stop")
            }
        }
    }
}

impl std::error::Error for Unfit {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Moment, Replicated, Settings, Unfit, may_succeed};
    use crate::id::{Epoch, ImageId};
    use crate::time::Instant;

    #[test]
    fn the_holder_stops_before_any_reader_may_take_over() {
        let settings = Settings::default();
        assert_eq!(settings.holder_span(), Duration::from_millis(8980));
        assert_eq!(settings.reader_span(settings.ttl), Duration::from_millis(10_020));
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn settings_that_would_stop_a_service_for_nothing_are_refused() {
        let seldom = Settings { renew_interval: Duration::from_secs(5), ..Settings::default() };
        let renew_interval_max = Duration::from_millis(4490);
        assert_eq!(seldom.check(), Err(Unfit::RenewedTooSeldom { renew_interval_max }));
        let short = Settings { ttl: Duration::from_secs(1), ..Settings::default() };
        assert_eq!(short.check(), Err(Unfit::TtlTooShort));
    }

    #[test]
    fn either_clock_passes_a_limit() {
        let at = |monotonic, boottime| Moment {
            monotonic: Instant::from_nanos(monotonic),
            boottime: Instant::from_nanos(boottime),
        };
        let limit = at(10, 10);
        assert!(!at(9, 9).has_passed(limit));
        assert!(at(10, 9).has_passed(limit) && at(3, 10).has_passed(limit));
    }

    #[test]
    fn a_later_epochs_images_are_newer_and_none_is_older_than_all() {
        let image =
            |epoch, id: &str| Replicated { epoch: Epoch(epoch), image: ImageId::try_from(id).unwrap() };
        let (old, same, late) = (image(1, "b"), image(1, "c"), image(2, "a"));
        assert!(may_succeed(None, None) && may_succeed(None, Some(&old)));
        assert!(may_succeed(Some(&old), Some(&old)) && may_succeed(Some(&old), Some(&same)));
        assert!(may_succeed(Some(&same), Some(&late)));
        assert!(!may_succeed(Some(&same), Some(&old)) && !may_succeed(Some(&old), None));
        assert!(!may_succeed(Some(&late), Some(&same)));
    }
}
