//! A node that may take a service over: watches the lease, waits its turn, acquires, and only then restores.
//!
//! ```text
//! Watching ──gone, and our turn──> Acquiring ──Acquired──> Fencing former ──FormerFenced──> Finding ──Found──> TakingOver
//!    ^                                 │ refused, failed       (only with a fence command)     │ none new enough
//!    └─────────────────────────────────┴───────────────────────────────────────────────────────┘ Release
//! ```
//!
//! From [`Event::Acquired`] on the lease is a [`Holder`](super::holder::Holder)'s too, which renews it and may lose it
//! again; then this is told [`Event::Lost`]. It refuses to take over what it has not acquired, to acquire what it has not
//! seen go, and to begin from an image older than one acknowledged as replicated: without such an image it gives the lease
//! back, for another standby may have it, and does not try for it again before the others had their turn.

use std::time::Duration;

use super::{Expiry, Moment, Replicated, Settings, Sighting, may_succeed};
use crate::id::{Epoch, NodeName};
use crate::time::Instant;

/// How many leases long all others leave a lease to the node that was named for it.
const COURTESY_LEASES: u32 = 2;

/// A waiting node's view of one service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Standby {
    settings: Settings,
    node: NodeName,
    former: Former,
    /// How long after the lease is gone this node tries for it: the first in the order does not wait.
    turn_after: Duration,
    state: State,
}

/// Whether the former holder is fenced from outside before its service is restored here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Former {
    /// By a command, whose success is waited for.
    FencedByCommand,
    /// It fences itself.
    FencesItself,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    /// `kept`: what was seen last, and since when.
    Watching {
        read_at: Instant,
        kept: Option<Kept>,
    },
    Acquiring {
        over: Sighting,
        until: Instant,
    },
    Fencing {
        won: Won,
        again_at: Instant,
    },
    Finding {
        won: Won,
        again_at: Instant,
        until: Instant,
    },
    TakingOver {
        won: Won,
    },
    /// Also after it has been let go: until `again_at` it is left to others.
    Releasing {
        again_at: Instant,
    },
}

/// What the store has shown without a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kept {
    version: u64,
    free: bool,
    since: Moment,
}

/// An acquired lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Won {
    epoch: Epoch,
    over: Sighting,
}

/// What may happen to a waiting node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A deadline has passed.
    DeadlinePassed,
    /// The store was read.
    Seen {
        /// What stood there.
        sighting: Sighting,
        /// When the answer had arrived: whatever was renewed after that is newer than what was seen.
        answered: Moment,
    },
    /// The store could not be asked.
    Unreachable,
    /// An acquisition succeeded.
    Acquired {
        /// The new epoch.
        epoch: Epoch,
    },
    /// Somebody was faster.
    Refused,
    /// The store did not answer; the acquisition may have taken effect, and then expires by itself.
    AcquisitionFailed,
    /// The fence command succeeded.
    FormerFenced,
    /// It did not.
    FormerNotFenced,
    /// The newest whole and compatible image that any replica has; nothing: there is none.
    Found(Option<Replicated>),
    /// The lease acquired here is lost again, or was let go.
    Lost,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Read what stands in the store.
    Read,
    /// Acquire the lease, if nothing has changed since this sighting.
    Acquire(Sighting),
    /// Run the fence command against this node.
    FenceFormer(NodeName),
    /// Find the newest image that any replica has.
    FindImage,
    /// Restore, in this epoch, from this image; nothing: there never was one, so start cold.
    TakeOver(Epoch, Option<Replicated>),
    /// Let the lease go: nothing new enough can be restored here.
    Release,
}

impl Standby {
    /// A node that begins to watch. `turn_after` comes from [`crate::failover::turn_after`].
    #[must_use]
    pub const fn new(settings: Settings, node: NodeName, former: Former, turn_after: Duration) -> Self {
        let state = State::Watching { read_at: Instant::START, kept: None };
        Self { settings, node, former, turn_after, state }
    }

    /// Its place among the standbys has changed.
    pub const fn turn(&mut self, turn_after: Duration) {
        self.turn_after = turn_after;
    }

    /// When [`Event::DeadlinePassed`] is due, by the monotonic clock; nothing once the service is taken over.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Watching { read_at, .. } => Some(*read_at),
            State::Acquiring { until, .. } => Some(*until),
            State::Fencing { again_at, .. } | State::Releasing { again_at } => Some(*again_at),
            State::Finding { again_at, until, .. } => Some((*again_at).min(*until)),
            State::TakingOver { .. } => None,
        }
    }

    /// What follows from an event.
    pub fn handle(&mut self, now: Moment, event: Event) -> Option<Command> {
        match self.state.clone() {
            // What was let go is left to others for a while.
            State::Releasing { again_at } if now.monotonic < again_at => None,
            _ if event == Event::Lost => self.watch(now),
            State::Watching { read_at, kept } => match event {
                Event::Seen { sighting, answered } => self.seen(now, kept, sighting, answered),
                _ if now.monotonic >= read_at => self.read(now),
                _ => None,
            },
            State::Acquiring { over, until } => self.acquiring(now, over, until, event),
            State::Fencing { won, again_at } => match event {
                Event::FormerFenced => self.find(now, won),
                Event::FormerNotFenced => {
                    self.state = State::Fencing { won, again_at: now.monotonic + self.pause() };
                    None
                }
                _ if now.monotonic >= again_at => self.fence(now, won),
                _ => None,
            },
            State::Finding { won, again_at, until } => self.finding(now, won, again_at, until, event),
            State::Releasing { .. } => self.watch(now),
            State::TakingOver { .. } => None,
        }
    }

    /// Whether the service was taken over here, and in which epoch.
    #[must_use]
    pub const fn taken_over(&self) -> Option<Epoch> {
        match &self.state {
            State::TakingOver { won } => Some(won.epoch),
            _ => None,
        }
    }

    fn seen(
        &mut self,
        now: Moment,
        kept: Option<Kept>,
        sighting: Sighting,
        answered: Moment,
    ) -> Option<Command> {
        let free = sighting.is_free();
        let kept = match kept {
            Some(kept) if kept.version == sighting.version && kept.free == free => kept,
            Some(_) | None => Kept { version: sighting.version, free, since: answered },
        };
        let turn_after = self.turn_after(&sighting);
        let wait = match &sighting.holding {
            None => Some(turn_after),
            Some(holding) if holding.expiry == Expiry::ByReader => {
                let span = self.settings.reader_span(holding.ttl.max(self.settings.ttl));
                Some(span + turn_after)
            }
            Some(_) => None,
        };
        let mut read_at = now.monotonic + self.pause_before(&sighting);
        if let Some(wait) = wait {
            // On both clocks: a node that slept has not watched.
            let turn = kept.since.after(wait);
            if now.monotonic >= turn.monotonic && now.boottime >= turn.boottime {
                let until = now.monotonic + self.settings.ttl;
                self.state = State::Acquiring { over: sighting.clone(), until };
                return Some(Command::Acquire(sighting));
            }
            if turn.monotonic > now.monotonic {
                read_at = read_at.min(turn.monotonic);
            }
        }
        self.state = State::Watching { read_at, kept: Some(kept) };
        None
    }

    fn acquiring(&mut self, now: Moment, over: Sighting, until: Instant, event: Event) -> Option<Command> {
        match event {
            // An epoch that is not higher is not what was asked for.
            Event::Acquired { epoch } if epoch > over.epoch => {
                let former = over.former.clone().filter(|former| *former != self.node);
                let won = Won { epoch, over };
                match (self.former, former) {
                    (Former::FencedByCommand, Some(_)) => self.fence(now, won),
                    (Former::FencedByCommand, None) | (Former::FencesItself, _) => self.find(now, won),
                }
            }
            Event::Refused | Event::AcquisitionFailed => self.watch(now),
            _ if now.monotonic >= until => self.watch(now),
            _ => None,
        }
    }

    fn finding(
        &mut self,
        now: Moment,
        won: Won,
        again_at: Instant,
        until: Instant,
        event: Event,
    ) -> Option<Command> {
        match event {
            Event::Found(image) if may_succeed(won.over.legacy.replicated.as_ref(), image.as_ref()) => {
                let epoch = won.epoch;
                self.state = State::TakingOver { won };
                Some(Command::TakeOver(epoch, image))
            }
            _ if now.monotonic >= until => {
                self.state = State::Releasing { again_at: now.monotonic + self.settings.ttl };
                Some(Command::Release)
            }
            Event::Found(_) => {
                self.state = State::Finding { won, again_at: now.monotonic + self.pause(), until };
                None
            }
            _ if now.monotonic >= again_at => {
                self.state = State::Finding { won, again_at: now.monotonic + self.settings.ttl, until };
                Some(Command::FindImage)
            }
            _ => None,
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "it ends handlers that may command nothing")]
    fn watch(&mut self, now: Moment) -> Option<Command> {
        self.state = State::Watching { read_at: now.monotonic, kept: None };
        self.read(now)
    }

    /// Reads again; what was seen so far stays, since only the store can say that it has changed.
    fn read(&mut self, now: Moment) -> Option<Command> {
        if let State::Watching { read_at, .. } = &mut self.state {
            *read_at = now.monotonic + self.settings.renew_interval;
        }
        Some(Command::Read)
    }

    fn fence(&mut self, now: Moment, won: Won) -> Option<Command> {
        let former = won.over.former.clone();
        self.state = State::Fencing { won, again_at: now.monotonic + self.settings.ttl * 6 };
        former.map(Command::FenceFormer)
    }

    #[allow(clippy::unnecessary_wraps, reason = "it ends handlers that may command nothing")]
    fn find(&mut self, now: Moment, won: Won) -> Option<Command> {
        let again_at = now.monotonic + self.settings.ttl;
        self.state = State::Finding { won, again_at, until: now.monotonic + self.settings.ttl * 3 };
        Some(Command::FindImage)
    }

    /// How long after the lease is gone it is this node's turn.
    fn turn_after(&self, sighting: &Sighting) -> Duration {
        match &sighting.legacy.next {
            Some(next) if *next == self.node => Duration::ZERO,
            Some(_) => self.settings.ttl * COURTESY_LEASES + self.turn_after,
            None => self.turn_after,
        }
    }

    /// Between two looks: whoever is named for the lease does not keep its clients waiting.
    fn pause_before(&self, sighting: &Sighting) -> Duration {
        let named = sighting.legacy.next.as_ref() == Some(&self.node);
        if named { self.pause() / 10 } else { self.pause() }
    }

    fn pause(&self) -> Duration {
        self.settings.renew_interval / 4
    }
}
