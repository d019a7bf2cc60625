//! Requests judged against the state: accepted, already so, or denied with a reason as data.
//!
//! Judging changes nothing. The service judges again when the request arrives as an event, since the state may have
//! changed meanwhile.

use std::fmt;

use crate::id::ImageId;
use crate::ladder::SkipReason;
use crate::service::{GaveUp, StateName, Status};

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Take a checkpoint now.
    Checkpoint,
    /// Bring back the state of an image.
    Restore {
        /// Which; nothing: the newest that can be trusted.
        image: Option<ImageId>,
    },
    /// Stop.
    Stop,
    /// Start.
    Start,
    /// Put it into an image and end it.
    Suspend,
    /// Bring it back from there.
    Resume,
    /// Hold the policies.
    Pause,
    /// Go on.
    Unpause,
    /// Forget the service and its images.
    Remove,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It will be done.
    Accept,
    /// There is nothing to do.
    AlreadySo,
    /// It cannot be done now.
    Deny(Denial),
}

/// Why a request is denied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// It needs a running service.
    NotRunning {
        /// What it is instead.
        state: StateName,
    },
    /// It needs a service that is not just being changed.
    Busy {
        /// What it is doing.
        state: StateName,
    },
    /// It is suspended: what is asked for would lose that state without a word.
    Suspended,
    /// It is not suspended.
    NotSuspended {
        /// What it is instead.
        state: StateName,
    },
    /// One is being taken just now.
    CheckpointInFlight,
    /// There is no image that may be restored.
    NoImage,
    /// There is no such image.
    UnknownImage(ImageId),
    /// It may not be restored.
    UnusableImage {
        /// Which.
        image: ImageId,
        /// Why.
        why: SkipReason,
    },
    /// Another holds the right to run the service.
    Fenced,
    /// The supervisor stops.
    ShuttingDown,
    /// It must be stopped before.
    StillRunning,
}

/// What of the images matters to a request: whether the wanted one may be restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It may.
    Usable,
    /// None was named and none is fit.
    Nothing,
    /// It does not exist.
    Unknown,
    /// It may not.
    Unusable(SkipReason),
}

/// Judges a request against the state; `wanted` is asked for restores only.
#[must_use]
pub fn judge(
    request: &Request,
    status: &Status,
    wanted: impl FnOnce(Option<&ImageId>) -> Wanted,
) -> Admission {
    let state = status.state;
    if matches!(state, StateName::ShuttingDown | StateName::Idle) {
        return Admission::Deny(Denial::ShuttingDown);
    }
    if matches!(status.failed, Some(GaveUp::Fenced(_))) {
        return fenced(request);
    }
    match request {
        Request::Checkpoint if state != StateName::Running => Admission::Deny(Denial::NotRunning { state }),
        Request::Checkpoint if status.checkpointing.is_some() => Admission::Deny(Denial::CheckpointInFlight),
        Request::Checkpoint => Admission::Accept,
        Request::Restore { image } => restore(state, image.as_ref(), wanted),
        Request::Stop => stop(state),
        Request::Start => start(state),
        Request::Suspend => suspend(state, status),
        Request::Resume => resume(state),
        Request::Pause => already(status.paused),
        Request::Unpause => already(!status.paused),
        Request::Remove => remove(state),
    }
}

/// Whoever is fenced may be told to stay stopped and may be forgotten, nothing else.
const fn fenced(request: &Request) -> Admission {
    match request {
        Request::Stop => Admission::AlreadySo,
        Request::Remove => Admission::Accept,
        Request::Checkpoint
        | Request::Restore { .. }
        | Request::Start
        | Request::Suspend
        | Request::Resume
        | Request::Pause
        | Request::Unpause => Admission::Deny(Denial::Fenced),
    }
}

fn restore(
    state: StateName,
    image: Option<&ImageId>,
    wanted: impl FnOnce(Option<&ImageId>) -> Wanted,
) -> Admission {
    match state {
        StateName::Stopped
        | StateName::Running
        | StateName::Failed
        | StateName::Held
        | StateName::Suspended => {}
        StateName::Starting
        | StateName::Recovering
        | StateName::Stopping
        | StateName::Suspending
        | StateName::ShuttingDown
        | StateName::Idle => return Admission::Deny(Denial::Busy { state }),
    }
    match (wanted(image), image) {
        (Wanted::Usable, _) => Admission::Accept,
        (Wanted::Unknown, Some(image)) => Admission::Deny(Denial::UnknownImage(image.clone())),
        (Wanted::Unusable(why), Some(image)) => {
            Admission::Deny(Denial::UnusableImage { image: image.clone(), why })
        }
        (Wanted::Nothing | Wanted::Unknown | Wanted::Unusable(_), _) => Admission::Deny(Denial::NoImage),
    }
}

const fn stop(state: StateName) -> Admission {
    match state {
        StateName::Stopped => Admission::AlreadySo,
        // Also while stopping: a start remembered for afterwards is then forgotten.
        StateName::Stopping
        | StateName::Starting
        | StateName::Running
        | StateName::Recovering
        | StateName::Held
        | StateName::Suspended
        | StateName::Failed => Admission::Accept,
        StateName::Suspending => Admission::Deny(Denial::Busy { state }),
        StateName::ShuttingDown | StateName::Idle => Admission::Deny(Denial::ShuttingDown),
    }
}

const fn suspend(state: StateName, status: &Status) -> Admission {
    match state {
        StateName::Suspended => Admission::AlreadySo,
        StateName::Running if status.checkpointing.is_some() => Admission::Deny(Denial::CheckpointInFlight),
        StateName::Running => Admission::Accept,
        StateName::Stopped
        | StateName::Starting
        | StateName::Recovering
        | StateName::Held
        | StateName::Stopping
        | StateName::Suspending
        | StateName::Failed
        | StateName::ShuttingDown
        | StateName::Idle => Admission::Deny(Denial::NotRunning { state }),
    }
}

const fn resume(state: StateName) -> Admission {
    match state {
        StateName::Suspended => Admission::Accept,
        StateName::Running => Admission::AlreadySo,
        StateName::Stopped
        | StateName::Starting
        | StateName::Recovering
        | StateName::Held
        | StateName::Stopping
        | StateName::Suspending
        | StateName::Failed
        | StateName::ShuttingDown
        | StateName::Idle => Admission::Deny(Denial::NotSuspended { state }),
    }
}

const fn start(state: StateName) -> Admission {
    match state {
        StateName::Starting | StateName::Running | StateName::Recovering => Admission::AlreadySo,
        // While stopping: it is started when that is over.
        StateName::Stopped | StateName::Stopping | StateName::Held | StateName::Failed => Admission::Accept,
        StateName::Suspended => Admission::Deny(Denial::Suspended),
        StateName::Suspending => Admission::Deny(Denial::Busy { state }),
        StateName::ShuttingDown | StateName::Idle => Admission::Deny(Denial::ShuttingDown),
    }
}

const fn remove(state: StateName) -> Admission {
    match state {
        StateName::Stopped | StateName::Failed => Admission::Accept,
        StateName::Starting
        | StateName::Running
        | StateName::Recovering
        | StateName::Held
        | StateName::Suspending
        | StateName::Suspended
        | StateName::Stopping => Admission::Deny(Denial::StillRunning),
        StateName::ShuttingDown | StateName::Idle => Admission::Deny(Denial::ShuttingDown),
    }
}

const fn already(so: bool) -> Admission {
    if so { Admission::AlreadySo } else { Admission::Accept }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotRunning { state } => write!(f, "the service must be running, it is {state}"),
            Self::Busy { state } => write!(f, "the service is {state}; try again when that is over"),
            Self::Suspended => {
                write!(f, "the service is suspended: resume it, or stop it first to give that state up")
            }
            Self::NotSuspended { state } => write!(f, "the service must be suspended, it is {state}"),
            Self::CheckpointInFlight => write!(f, "a checkpoint is being taken just now"),
            Self::NoImage => write!(f, "there is no image that may be restored"),
            Self::UnknownImage(image) => write!(f, "there is no image {image}"),
            Self::UnusableImage { image, why } => write!(f, "image {image} cannot be restored: {why}"),
            Self::Fenced => write!(f, "another node holds the right to run this service"),
            Self::ShuttingDown => write!(f, "the supervisor is stopping"),
            Self::StillRunning => write!(f, "the service must be stopped first"),
        }
    }
}
