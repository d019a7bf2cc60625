//! The words of a service's life that tell: causes, notices, status. Plain data, with its text for people.

use std::fmt;
use std::time::Duration;

use super::words::{CheckpointReason, Command, Exit};
use crate::admission::Denial;
use crate::failure::Failure;
use crate::health::Verdict;
use crate::id::{Attempt, ImageId};
use crate::image::ImageVerdict;
use crate::ladder::{self, Rung, SkipReason};
use crate::time::Instant;
use crate::word::words;

/// Why a service is being recovered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It ended.
    Exited(Exit),
    /// It ended with a success code, but is to run always.
    Completed(Exit),
    /// Its liveness probes say so.
    Hung,
    /// It ran, but did not turn healthy in time.
    NeverHealthy,
    /// It could not be started.
    StartFailed(Failure),
    /// It was gone when the supervisor came back.
    FoundDead(Option<Exit>),
    /// Somebody asked for an image's state.
    Requested,
    /// Somebody wanted a suspended service back.
    Resumed,
    /// Another node has lost it.
    TakenOver,
    /// The supervisor starts it, and it was to begin from an image.
    FromImage,
}

/// What kind of cause, without its details: few enough words to count by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CauseKind {
    /// It ended by itself, or somebody killed it.
    Crashed,
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// It ended with a success code, but is to run always.
    Completed,
    /// Its liveness probes say so.
    Hung,
    /// It ran, but did not turn healthy in time.
    NeverHealthy,
    /// It could not be started.
    StartFailed,
    /// It was gone when the supervisor came back.
    FoundDead,
    /// Somebody asked for an image's state.
    Requested,
    /// Somebody wanted a suspended service back.
    Resumed,
    /// Another node has lost it.
    TakenOver,
    /// The supervisor starts it, and it was to begin from an image.
    FromImage,
}

words!(CauseKind {
    Crashed = "crashed",
    OutOfMemory = "out-of-memory",
    Completed = "completed",
    Hung = "hung",
    NeverHealthy = "never-healthy",
    StartFailed = "start-failed",
    FoundDead = "found-dead",
    Requested = "requested",
    Resumed = "resumed",
    TakenOver = "taken-over",
    FromImage = "from-image",
});

impl Cause {
    /// What kind it is of.
    #[must_use]
    pub const fn kind(&self) -> CauseKind {
        match self {
            Self::Exited(Exit::OutOfMemory) => CauseKind::OutOfMemory,
            Self::Exited(Exit::Code(_) | Exit::Signal(_) | Exit::Unknown) => CauseKind::Crashed,
            Self::Completed(_) => CauseKind::Completed,
            Self::Hung => CauseKind::Hung,
            Self::NeverHealthy => CauseKind::NeverHealthy,
            Self::StartFailed(_) => CauseKind::StartFailed,
            Self::FoundDead(_) => CauseKind::FoundDead,
            Self::Requested => CauseKind::Requested,
            Self::Resumed => CauseKind::Resumed,
            Self::TakenOver => CauseKind::TakenOver,
            Self::FromImage => CauseKind::FromImage,
        }
    }
}

impl CauseKind {
    /// Whether something went wrong here; the others are wishes and what other nodes leave to us.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        !matches!(self, Self::Requested | Self::Resumed | Self::TakenOver | Self::FromImage)
    }
}

/// Why a service was given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GaveUp {
    /// The ladder has nothing more to offer.
    Ladder(ladder::GiveUpReason),
    /// The restart policy is `never`.
    NotToBeRestarted(Cause),
    /// It cannot be killed, so that nothing may be put in its place.
    CannotKill(Failure),
    /// It cannot be started before its configuration is changed.
    Invalid(Failure),
    /// Another holds the right to run it.
    Fenced(Failure),
    /// A standby is to bring it back.
    LeftToStandby(Cause),
}

/// What people should know; becomes the journal of events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The service runs: first start, or adopted.
    Started {
        /// The run.
        run: Attempt,
        /// Taken back after our own restart.
        adopted: bool,
    },
    /// A start that was asked for failed.
    StartFailed(Failure),
    /// A fault was noticed.
    Noticed {
        /// What.
        cause: Cause,
    },
    /// A fault was noticed and nothing is done, as policies are held or restarts switched off.
    Held {
        /// What.
        cause: Cause,
    },
    /// A rung is tried.
    RungTaken {
        /// Which.
        rung: Rung,
        /// From which image.
        image: Option<ImageId>,
    },
    /// It did not work.
    RungFailed {
        /// Which.
        rung: Rung,
        /// From which image.
        image: Option<ImageId>,
        /// Why.
        why: String,
    },
    /// The service is back.
    Recovered(Recovered),
    /// An image may not be restored.
    ImageSkipped {
        /// Which.
        image: ImageId,
        /// Why.
        why: SkipReason,
    },
    /// An image was judged.
    ImageJudged {
        /// Which.
        image: ImageId,
        /// What is thought of it.
        verdict: ImageVerdict,
    },
    /// A checkpoint was taken.
    CheckpointTaken {
        /// The image.
        image: ImageId,
        /// Why.
        reason: CheckpointReason,
        /// How long the service stood still.
        pause: Duration,
        /// From the command to the answer.
        took: Duration,
    },
    /// A checkpoint failed.
    CheckpointFailed {
        /// Why it was taken.
        reason: CheckpointReason,
        /// Why it failed.
        failure: Failure,
    },
    /// The service cannot be checkpointed: cold starts only from now on.
    Degraded {
        /// Why.
        reason: String,
    },
    /// It can again.
    NoLongerDegraded,
    /// A kill failed.
    KillFailed(Failure),
    /// The verdict changed.
    VerdictChanged {
        /// From.
        from: Verdict,
        /// To.
        to: Verdict,
    },
    /// The service was given up.
    GaveUp {
        /// Why.
        reason: GaveUp,
    },
    /// The service has ended as asked, or was done.
    Stopped,
    /// The service is in this image and does not run.
    Suspended {
        /// Which.
        image: ImageId,
    },
    /// Policies are held.
    Paused,
    /// Policies are not held any more.
    Unpaused,
    /// A request was not followed.
    Denied(Denial),
}

/// What one event brings about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaction {
    /// To be carried out, begun in this order.
    pub commands: Vec<Command>,
    /// To be told.
    pub notices: Vec<Notice>,
}

/// A recovery that worked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// From what.
    pub cause: Cause,
    /// By which rung.
    pub rung: Rung,
    /// From which image.
    pub image: Option<ImageId>,
    /// When the fault was noticed.
    pub detected_at: Instant,
    /// When the rung that worked had made it run.
    pub running_at: Instant,
    /// When the service counted as back.
    pub recovered_at: Instant,
}

impl GaveUp {
    /// The fault that it ended with, if it was one.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        match self {
            Self::NotToBeRestarted(cause) | Self::LeftToStandby(cause) => Some(cause),
            Self::Ladder(_) | Self::CannotKill(_) | Self::Invalid(_) | Self::Fenced(_) => None,
        }
    }
}

impl Recovered {
    /// From the notice of the fault to the first good answer.
    #[must_use]
    pub const fn took(&self) -> Duration {
        self.recovered_at.since(self.detected_at)
    }

    /// From the notice of the fault until it ran again; then it had to answer.
    #[must_use]
    pub const fn ran_after(&self) -> Duration {
        self.running_at.since(self.detected_at)
    }
}

/// Where a service is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// Does not run and shall not.
    Stopped,
    /// Is being started as asked.
    Starting,
    /// Runs.
    Running,
    /// Is being brought back.
    Recovering,
    /// Ended while policies were held, or while it is not to be restarted.
    Held,
    /// Is being stopped.
    Stopping,
    /// Is being put into an image.
    Suspending,
    /// Is in an image, and does not run until it is resumed.
    Suspended,
    /// Was given up.
    Failed,
    /// The supervisor stops and waits for what is in flight.
    ShuttingDown,
    /// The supervisor may stop; the service is left as it is.
    Idle,
}

words!(StateName {
    Stopped = "stopped",
    Starting = "starting",
    Running = "running",
    Recovering = "recovering",
    Held = "held",
    Stopping = "stopping",
    Suspending = "suspending",
    Suspended = "suspended",
    Failed = "failed",
    ShuttingDown = "shutting-down",
    Idle = "idle",
});

/// What can be seen of a service from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Status {
    /// Where it is.
    pub state: StateName,
    /// The present run, as answers about it must name it: from the first answer on, also while it is judged.
    pub run: Option<Attempt>,
    /// Since when that run runs.
    pub running_since: Option<Instant>,
    /// Its health.
    pub verdict: Option<Verdict>,
    /// The health of each probe, by its place in the settings; empty without a run.
    pub probes: Vec<Verdict>,
    /// It can serve.
    pub ready: bool,
    /// Policies are held.
    pub paused: bool,
    /// Why it cannot be checkpointed, if so.
    pub degraded: Option<String>,
    /// The image that it is in while it does not run.
    pub suspended_in: Option<ImageId>,
    /// Why it was given up, if it was.
    pub failed: Option<GaveUp>,
    /// The last effect that failed.
    pub last_failure: Option<Failure>,
    /// How often it was recovered.
    pub restarts: u64,
    /// The last recovery that worked.
    pub last_recovery: Option<Recovered>,
    /// The checkpoint in flight.
    pub checkpointing: Option<Attempt>,
    /// When the next checkpoint is due.
    pub next_checkpoint: Option<Instant>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(exit) => write!(f, "crashed: {exit}"),
            Self::Completed(exit) => write!(f, "ended: {exit}"),
            Self::Hung => write!(f, "hung: liveness probes fail"),
            Self::NeverHealthy => write!(f, "did not turn healthy in time"),
            Self::StartFailed(failure) => write!(f, "could not be started: {failure}"),
            Self::FoundDead(Some(exit)) => write!(f, "died while the supervisor was away: {exit}"),
            Self::FoundDead(None) => write!(f, "died while the supervisor was away"),
            Self::Requested => write!(f, "restore asked for"),
            Self::Resumed => write!(f, "resumed"),
            Self::TakenOver => write!(f, "taken over from another node"),
            Self::FromImage => write!(f, "started from its newest image"),
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ladder(reason) => reason.fmt(f),
            Self::NotToBeRestarted(cause) => write!(f, "{cause}; restart policy is never"),
            Self::CannotKill(failure) => write!(f, "cannot be killed: {failure}"),
            Self::Invalid(failure) => write!(f, "cannot be started as configured: {failure}"),
            Self::Fenced(failure) => write!(f, "fenced: {failure}"),
            Self::LeftToStandby(cause) => write!(f, "left to a standby: {cause}"),
        }
    }
}
