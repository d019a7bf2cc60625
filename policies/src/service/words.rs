//! The words of a service's life that decide: settings, events, commands. Plain data.

use std::fmt;
use std::time::Duration;

use crate::failure::Failure;
use crate::id::{Attempt, ImageId};
use crate::image::{ImageFacts, ImageVerdict};
use crate::ladder::Elsewhere;
use crate::word::words;
use crate::{backoff, cadence, health, ladder};

/// When a service that ended is brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RestartPolicy {
    /// Whatever its exit.
    Always,
    /// Unless its exit code is one of the success codes.
    OnFailure,
    /// Whatever its exit, but it stays stopped over restarts of the supervisor once a stop was asked for.
    UnlessStopped,
    /// Not at all. A hang is only reported.
    Never,
}

words!(RestartPolicy {
    Always = "always",
    OnFailure = "on-failure",
    UnlessStopped = "unless-stopped",
    Never = "never",
});

/// Everything that decides about one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// How long to wait before trying the same again.
    pub backoff: backoff::Settings,
    /// When checkpoints are taken.
    pub cadence: cadence::Settings,
    /// How health is judged; an event names a probe by its place here.
    pub probes: Vec<health::Settings>,
    /// How it is recovered.
    pub ladder: ladder::Settings,
    /// When it is brought back.
    pub restart_policy: RestartPolicy,
    /// Exit codes that mean "done" and not "failed".
    pub success_exit_codes: Vec<i32>,
    /// How long it may take to stop by itself.
    pub stop_timeout: Duration,
    /// How long a cold start may take to be answered.
    pub start_timeout: Duration,
    /// How long a restore may take to be answered.
    pub restore_timeout: Duration,
    /// Try one checkpoint soon after the first start, to learn early whether it can be checkpointed.
    pub trial_dump: bool,
}

/// How a service ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Exit {
    /// By itself, with this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Killed for want of memory.
    OutOfMemory,
    /// Gone; nobody saw how.
    Unknown,
}

/// Why a checkpoint is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CheckpointReason {
    /// To learn whether it can be done.
    Trial,
    /// It was due.
    Cadence,
    /// A person or program asked for it.
    Request,
    /// The supervisor stops.
    Shutdown,
    /// It is to be suspended: the service ends with it.
    Suspend,
}

words!(CheckpointReason {
    Trial = "trial",
    Cadence = "cadence",
    Request = "request",
    Shutdown = "shutdown",
    Suspend = "suspend",
});

/// What has happened. Every answer bears the attempt of the command that it answers; `run` is the attempt of the
/// start or restore that brought the run about (see [`crate::service::Status::run`]).
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A start succeeded: the service runs.
    Started {
        /// Of the command.
        attempt: Attempt,
    },
    /// A start failed.
    StartFailed {
        /// Of the command.
        attempt: Attempt,
        /// Why.
        failure: Failure,
    },
    /// A restore succeeded: the service runs.
    Restored {
        /// Of the command.
        attempt: Attempt,
        /// From which image.
        image: ImageId,
    },
    /// A restore failed.
    RestoreFailed {
        /// Of the command.
        attempt: Attempt,
        /// From which image.
        image: ImageId,
        /// Why. `Corrupt` and `Refused` rule the image out for good.
        failure: Failure,
    },
    /// A checkpoint succeeded; the service is thawed, the image may be restored on this host.
    CheckpointDone {
        /// Of the command.
        attempt: Attempt,
        /// What is known of the image now. That it became durable later is told by `ImagesListed`.
        image: ImageFacts,
        /// How long the service stood still.
        pause: Duration,
    },
    /// A checkpoint failed; the service is thawed, or dead.
    CheckpointFailed {
        /// Of the command.
        attempt: Attempt,
        /// Why. `Refused`: the service cannot be checkpointed.
        failure: Failure,
    },
    /// All of the service is dead and leftovers are removed.
    Killed {
        /// Of the command.
        attempt: Attempt,
    },
    /// Something of the service may be left.
    KillFailed {
        /// Of the command.
        attempt: Attempt,
        /// Why.
        failure: Failure,
    },
    /// The service has ended as asked.
    Stopped {
        /// Of the command.
        attempt: Attempt,
    },
    /// The service would not stop.
    StopFailed {
        /// Of the command.
        attempt: Attempt,
        /// Why.
        failure: Failure,
    },
    /// A run ended.
    Exited {
        /// Which.
        run: Attempt,
        /// How.
        exit: Exit,
    },
    /// A probe was answered, or not in time.
    ProbeFinished {
        /// Of which run.
        run: Attempt,
        /// Its place in the settings.
        probe: usize,
        /// How it ended.
        passed: bool,
        /// The service was frozen during some of it.
        overlapped_freeze: bool,
    },
    /// Somebody outside has reported how it is, which is the result of a probe for a while.
    ProbeReported {
        /// Of which run.
        run: Attempt,
        /// Its place in the settings.
        probe: usize,
        /// Whether it is well.
        passed: bool,
        /// The service may have been frozen when that was found.
        overlapped_freeze: bool,
        /// How long the report holds.
        holds: Duration,
    },
    /// The store was read: these are all images of the service.
    ImagesListed {
        /// In any order.
        images: Vec<ImageFacts>,
    },
    /// After our own restart: it runs and was taken back. Its health is not known. Only at the beginning.
    Adopted,
    /// After our own restart: it should run and does not. Only at the beginning.
    FoundDead {
        /// How it ended, if that can still be learnt.
        exit: Option<Exit>,
    },
    /// This node has acquired the right to run it: it comes back from an image, and nothing of it may be running. Only at the beginning.
    TakenOver,
    /// This node has lost the right to run it. Terminal.
    Fenced {
        /// Why.
        failure: Failure,
    },
    /// Another node could take it over now, or none could any more.
    ElsewhereChanged(Elsewhere),
    /// No standby was ready for [`Command::FailOver`] after all: nothing has changed, and the service goes on here.
    FailOverRefused {
        /// Why.
        why: String,
    },
    /// After our own restart: its state is in this image, and it was not to run. Only at the beginning.
    FoundSuspended {
        /// Which.
        image: ImageId,
    },
    /// The time of `Service::deadline` has come. Harmless at any other time.
    DeadlineReached,
    /// Somebody wants a checkpoint.
    CheckpointRequested,
    /// Somebody wants the state of an image back.
    RestoreRequested {
        /// Which; nothing: the newest that can be trusted.
        image: Option<ImageId>,
    },
    /// Somebody wants it stopped.
    StopRequested,
    /// Somebody wants it started.
    StartRequested,
    /// It is to be started from the newest image that can be trusted; from scratch if there is none. Only at the beginning.
    ImageStartRequested,
    /// Somebody wants it put into an image and ended.
    SuspendRequested,
    /// Somebody wants it back from there.
    ResumeRequested,
    /// Hold the policies; the service runs on.
    PauseRequested,
    /// Go on.
    UnpauseRequested,
    /// The configuration was loaded anew. Results of probes that were begun before must not follow.
    SettingsChanged(Box<Settings>),
    /// The supervisor stops; the service runs on.
    ShutdownRequested,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start from scratch.
    Start {
        /// To be borne by the answer; then the number of the run.
        attempt: Attempt,
    },
    /// Restore from an image.
    Restore {
        /// To be borne by the answer; then the number of the run.
        attempt: Attempt,
        /// Which.
        image: ImageId,
    },
    /// Take a checkpoint, let the service run on; for [`CheckpointReason::Suspend`] make the image durable and end the service.
    Checkpoint {
        /// To be borne by the answer.
        attempt: Attempt,
        /// Why.
        reason: CheckpointReason,
        /// To be answered within this time, thawed.
        timeout: Duration,
    },
    /// Make sure that all of it is dead, and remove what a failed start or restore left behind. Ends whatever start
    /// or restore is still under way.
    Kill {
        /// To be borne by the answer.
        attempt: Attempt,
    },
    /// Send the stop signal, and after the stop timeout kill.
    Stop {
        /// To be borne by the answer.
        attempt: Attempt,
        /// Set if a checkpoint has ended it: its state is in this image. There is nobody to send a signal to.
        suspended_in: Option<ImageId>,
    },
    /// Leave the service, which is dead, to a standby. Not answered unless refused: what follows is that the right to run it goes.
    FailOver,
    /// Store what is thought of an image. Not answered.
    JudgeImage {
        /// Which.
        image: ImageId,
        /// What is thought of it.
        verdict: ImageVerdict,
    },
}

impl Command {
    /// The attempt whose answer is awaited, if one is.
    #[must_use]
    pub const fn attempt(&self) -> Option<Attempt> {
        match self {
            Self::Start { attempt }
            | Self::Restore { attempt, .. }
            | Self::Checkpoint { attempt, .. }
            | Self::Kill { attempt }
            | Self::Stop { attempt, .. } => Some(*attempt),
            Self::FailOver | Self::JudgeImage { .. } => None,
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            backoff: backoff::Settings::default(),
            cadence: cadence::Settings::default(),
            probes: Vec::new(),
            ladder: ladder::Settings::default(),
            restart_policy: RestartPolicy::Always,
            success_exit_codes: vec![0],
            stop_timeout: Duration::from_secs(10),
            start_timeout: Duration::from_secs(60),
            restore_timeout: Duration::from_secs(60),
            trial_dump: true,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::OutOfMemory => write!(f, "killed for want of memory"),
            Self::Unknown => write!(f, "unknown exit"),
        }
    }
}
