//! The node that holds a lease: renews it, and stops its service before anybody else may have it.
//!
//! ```text
//! Holding ──limit passed / superseded──> Fencing ──Stopped──> Fenced
//!    └──GiveUp──> Releasing ──Released──> Released
//! ```
//!
//! Fenced and Released are terminal: to hold again is to acquire again, with a higher epoch and a new value of this type.

use std::time::Duration;

use super::{Moment, Settings};
use crate::id::Epoch;
use crate::time::Instant;
use crate::word::words;

/// A fence that was not confirmed is commanded again after this, and a release likewise.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A held lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Holder {
    settings: Settings,
    epoch: Epoch,
    /// When the newest request that was answered well had been sent.
    sent: Moment,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Holding { renew_at: Instant },
    Fencing { reason: Reason, again_at: Instant },
    Fenced { reason: Reason },
    Releasing { again_at: Instant },
    Released,
}

/// What may happen to a held lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A deadline has passed.
    DeadlinePassed,
    /// A renewal was answered well.
    Renewed {
        /// When its request had been sent.
        sent: Moment,
    },
    /// The store could not be asked; the lease may be renewed or not.
    RenewalFailed,
    /// The store says that this epoch is over.
    Superseded,
    /// The service has ended here for good, as was asked: nobody needs the lease any more.
    GivenUp,
    /// The store has let the lease go.
    Released,
    /// The service is surely dead: the fence has done its work.
    Stopped,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Send a renewal. Only one at a time need be under way; a new one replaces it.
    Renew,
    /// Give the fence this later limit.
    Arm(Moment),
    /// Freeze and kill the service now, and say [`Event::Stopped`] when it is surely dead.
    Fence(Reason),
    /// Let the store know that the lease is free. Failing is harmless: it expires.
    Release,
}

/// Why a service is fenced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It could not be renewed in time.
    NotRenewed,
    /// The node was suspended past its limit.
    Suspended,
    /// Somebody else has a higher epoch, or the lease was taken away.
    Superseded,
}

words!(Reason { NotRenewed = "not-renewed", Suspended = "suspended", Superseded = "superseded" });

/// Where a held lease stands, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Its node may act.
    Held,
    /// The service is being stopped.
    Fencing(Reason),
    /// It was stopped.
    Fenced(Reason),
    /// The service has ended; the lease is being let go.
    Releasing,
    /// It is nobody's, or somebody else's.
    Released,
}

impl Holder {
    /// A lease that was just acquired by a request sent at `sent`. The fence must be armed with [`Holder::fence_at`], and
    /// armed before anything is started or restored.
    #[must_use]
    pub fn new(settings: Settings, epoch: Epoch, sent: Moment) -> Self {
        let renew_at = sent.monotonic + settings.renew_interval;
        Self { settings, epoch, sent, state: State::Holding { renew_at } }
    }

    /// The number that every write bears.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// When the service must begin to stop.
    #[must_use]
    pub fn fence_at(&self) -> Moment {
        self.sent.after(self.settings.holder_span())
    }

    /// Whether the service may run, and anything may be written in its name.
    #[must_use]
    pub fn may_act(&self, now: Moment) -> bool {
        matches!(self.state, State::Holding { .. }) && !now.has_passed(self.fence_at())
    }

    /// Where it stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        match self.state {
            State::Holding { .. } => Standing::Held,
            State::Fencing { reason, .. } => Standing::Fencing(reason),
            State::Fenced { reason } => Standing::Fenced(reason),
            State::Releasing { .. } => Standing::Releasing,
            State::Released => Standing::Released,
        }
    }

    /// When [`Event::DeadlinePassed`] is due, by the monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Holding { renew_at } => Some(renew_at.min(self.fence_at().monotonic)),
            State::Fencing { again_at, .. } | State::Releasing { again_at } => Some(again_at),
            State::Fenced { .. } | State::Released => None,
        }
    }

    /// What follows from an event. Before anything else the limit is looked at: whatever arrives after it arrives too late.
    pub fn handle(&mut self, now: Moment, event: Event) -> Option<Command> {
        match self.state {
            State::Holding { .. } if event == Event::GivenUp => self.release(now),
            State::Holding { .. } if now.has_passed(self.fence_at()) => self.fence(now, self.lateness(now)),
            State::Holding { renew_at } => self.while_holding(now, renew_at, event),
            State::Fencing { reason, again_at } => match event {
                Event::Stopped => {
                    self.state = State::Fenced { reason };
                    None
                }
                _ if now.monotonic >= again_at => self.fence(now, reason),
                _ => None,
            },
            State::Releasing { again_at } => match event {
                Event::Released | Event::Superseded => {
                    self.state = State::Released;
                    None
                }
                _ if now.has_passed(self.fence_at()) => {
                    self.state = State::Released;
                    None
                }
                _ if now.monotonic >= again_at => self.release(now),
                _ => None,
            },
            State::Fenced { .. } | State::Released => None,
        }
    }

    fn while_holding(&mut self, now: Moment, renew_at: Instant, event: Event) -> Option<Command> {
        match event {
            Event::Renewed { sent } => {
                // Answers may overtake each other; each proves a lease from when it was asked for.
                if sent.monotonic <= self.sent.monotonic || sent.boottime <= self.sent.boottime {
                    return None;
                }
                self.sent = sent;
                self.renew_next(renew_at.max(sent.monotonic + self.settings.renew_interval));
                Some(Command::Arm(self.fence_at()))
            }
            Event::RenewalFailed => {
                let soon = now.monotonic + self.settings.renew_interval / 4;
                self.renew_next(renew_at.min(soon));
                None
            }
            Event::Superseded => self.fence(now, Reason::Superseded),
            Event::DeadlinePassed if now.monotonic >= renew_at => {
                self.renew_next(now.monotonic + self.settings.renew_interval);
                Some(Command::Renew)
            }
            Event::DeadlinePassed | Event::GivenUp | Event::Released | Event::Stopped => None,
        }
    }

    const fn renew_next(&mut self, renew_at: Instant) {
        self.state = State::Holding { renew_at };
    }

    #[allow(clippy::unnecessary_wraps, reason = "it ends handlers that may command nothing")]
    fn fence(&mut self, now: Moment, reason: Reason) -> Option<Command> {
        self.state = State::Fencing { reason, again_at: now.monotonic + AGAIN_AFTER };
        Some(Command::Fence(reason))
    }

    #[allow(clippy::unnecessary_wraps, reason = "it ends handlers that may command nothing")]
    fn release(&mut self, now: Moment) -> Option<Command> {
        self.state = State::Releasing { again_at: now.monotonic + AGAIN_AFTER };
        Some(Command::Release)
    }

    /// A limit that only the clock has passed that goes on while the machine sleeps.
    fn lateness(&self, now: Moment) -> Reason {
        if now.monotonic < self.fence_at().monotonic { Reason::Suspended } else { Reason::NotRenewed }
    }
}
