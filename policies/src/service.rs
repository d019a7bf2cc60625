//! The life of one service: what has happened goes in, what is to be done comes out.
//!
//! ```text
//!            StartRequested            Started
//!  Stopped ------------------> Starting -------> Running --- StopRequested ---> Stopping --> Stopped
//!     |  RestoreRequested         | StartFailed   |   ^ a checkpoint may be        ^
//!     +------------------+        v               |   | in flight here             | success exit, policy
//!                        +--> Recovering <--------+   |                            | says it may end
//!                             (Exited, Hung)          |
//!      Killing -> Ready (dump ended? backoff over?) -> Restoring / ColdStarting -> Judging --+
//!         ^                     | nothing left            | failed       | sick, dead, late |
//!         |                     v                         |              |                  v
//!         |                   Failed                      |              |               Running
//!         +-----------------------------------------------+--------------+
//! ```
//!
//! Decisions worth knowing:
//!
//! * A fault is answered with `Kill` at once, even when a checkpoint is in flight: the dump ends by itself when its
//!   target dies, so nothing is gained by waiting. But no rung is taken before the dump was answered too, or its
//!   time was up.
//! * `Stop`, unlike `Kill`, waits for a checkpoint in flight: nobody is in a hurry and the image is worth having.
//! * The first recovery after a stable run has no delay. Going on to the next rung of the same fault has none
//!   either, as something else is tried; trying the same again waits by the backoff.
//! * A run whose exit means "done" is not restored from an image: under `always` it is started cold.
//! * `pause` holds new faults and the cadence; a recovery that has begun goes on to its end.
//!
//! It refuses to guess: an answer that bears another attempt than the one awaited changes nothing.

mod words;

pub use self::words::{
    Cause, CheckpointReason, Command, Event, Exit, GaveUp, Notice, Reaction, Recovered, RestartPolicy,
    Settings, StateName, Status,
};
pub use crate::failure::{Failure, FailureKind};
pub use crate::image::{ImageFacts, ImageVerdict};
