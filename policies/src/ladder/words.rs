//! The ladder's words: its rungs and limits, what it says to do, and why it does not.

use std::fmt;
use std::time::Duration;

use crate::id::ImageId;
use crate::word::words;

/// One way of recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// From the best image.
    RestoreLatest,
    /// From the other images, one after the other.
    RestoreOlder,
    /// From scratch.
    ColdStart,
    /// On another host. It is passed over while no standby is ready.
    FailOver,
}

words!(Rung {
    RestoreLatest = "restore-latest",
    RestoreOlder = "restore-older",
    ColdStart = "cold-start",
    FailOver = "fail-over",
});

/// What to do when nothing helped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OnExhausted {
    /// Give up.
    Stop,
    /// Hand over to a standby; without one, give up.
    FailOver,
}

words!(OnExhausted { Stop = "stop", FailOver = "fail-over" });

/// Whether another node could take the service over now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Elsewhere {
    /// None could, as far as is known.
    #[default]
    Impossible,
    /// One is ready.
    Possible,
}

/// The ladder and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The rungs, tried in this order.
    pub rungs: Vec<Rung>,
    /// How often one image is tried in a window without a stable run; 0 is taken as 1.
    pub attempts_per_image: u32,
    /// How many walks are begun in a window without a stable run; 0 is taken as 1.
    pub max_attempts: u32,
    /// How long tries and walks count.
    pub window: Duration,
    /// A run this long is stable: it clears what was counted.
    pub stable_after: Duration,
    /// What to do when nothing helped.
    pub on_exhausted: OnExhausted,
    /// After so many walks in a window without a stable run a standby that is ready gets the service, though this host is
    /// well; 0 is taken as 1.
    pub migration_threshold: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rungs: vec![Rung::RestoreLatest, Rung::RestoreOlder, Rung::ColdStart, Rung::FailOver],
            attempts_per_image: 2,
            max_attempts: 5,
            window: Duration::from_secs(600),
            stable_after: Duration::from_secs(10),
            on_exhausted: OnExhausted::Stop,
            migration_threshold: None,
        }
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Restore this image, as this rung.
    Restore(ImageId, Rung),
    /// Start from scratch.
    ColdStart,
    /// Leave it to a standby.
    FailOver,
    /// Nothing more.
    GiveUp(GiveUpReason),
}

/// Why the ladder has no next step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GiveUpReason {
    /// The walks are spent.
    TooManyRecoveries {
        /// How many were made.
        count: u32,
        /// Within this time.
        window: Duration,
    },
    /// No rung has anything left to try.
    NothingLeft,
}

/// Why an image is not restored.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SkipReason {
    /// It is not whole.
    Damaged,
    /// It may not run here.
    Incompatible(String),
    /// It is neither complete in memory nor on disk.
    Unfinished,
    /// It was deleted meanwhile.
    Gone,
    /// It was tried as often as allowed.
    TriesSpent {
        /// How often.
        tries: u32,
    },
}

/// A step, and what was passed over on the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// It begins a new walk of the same fault, or tries the same image again: wait by the backoff first.
    pub again: bool,
    /// Images passed over for the first time since the fault.
    pub skipped: Vec<(ImageId, SkipReason)>,
}

impl fmt::Display for GiveUpReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyRecoveries { count, window } => {
                write!(f, "{count} recoveries within {window:?} did not lead to a stable run")
            }
            Self::NothingLeft => write!(f, "no rung of the ladder has anything left to try"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged => write!(f, "damaged"),
            Self::Incompatible(why) => write!(f, "may not run here: {why}"),
            Self::Unfinished => write!(f, "not complete"),
            Self::Gone => write!(f, "deleted meanwhile"),
            Self::TriesSpent { tries } => write!(f, "already tried {tries} times"),
        }
    }
}
