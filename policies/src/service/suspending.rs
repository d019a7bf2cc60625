//! Suspending: a checkpoint that ends the service, and then nothing until somebody wants it back.
//!
//! ```text
//!  Running -- SuspendRequested --> Suspending -- CheckpointDone --> Stopping --> Suspended -- ResumeRequested --> Recovering
//!     ^                               |                                              | StopRequested
//!     +------- CheckpointFailed ------+                                              +--> Stopped
//! ```
//!
//! The image is kept before the service ends, and a checkpoint that fails lets it run on: nothing is lost in between. That it ends
//! meanwhile is no fault; only if the checkpoint then fails it was one.

use super::running::Running;
use super::stopping::{StopPhase, Stopping, Then};
use super::{Cause, CheckpointReason, Command, Exit, Notice, Service, State};
use crate::health::Verdict;
use crate::id::{Attempt, ImageId};
use crate::image::ImageVerdict;
use crate::time::Instant;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Suspending {
    running: Running,
    exited: Option<Exit>,
}

impl Suspending {
    pub(super) const fn run(&self) -> Attempt {
        self.running.run
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.running.health.verdict() == Verdict::Healthy
    }
}

impl Service {
    pub(super) fn suspend_asked_for(&mut self, now: Instant) {
        let State::Running(running) = &self.state else { return };
        let running = running.clone();
        self.cadence.halt();
        self.begin_dump(now, CheckpointReason::Suspend);
        self.state = State::Suspending(Suspending { running, exited: None });
    }

    pub(super) fn exited_suspending(&mut self, run: Attempt, exit: Exit) {
        if let State::Suspending(suspending) = &mut self.state {
            if suspending.running.run == run {
                suspending.exited = Some(exit);
            }
        }
    }

    /// The checkpoint has ended the service and its image is safe: clear away what is left of it.
    pub(super) fn suspended_in(&mut self, now: Instant, image: ImageId) {
        let State::Suspending(suspending) = &self.state else { return };
        let (run, healthy) = (suspending.run(), suspending.is_healthy());
        // Nobody can ask it any more.
        if healthy {
            self.judge(&image, ImageVerdict::Good);
        }
        let (attempt, deadline) = (self.issue(), now + self.stop_limit());
        let phase = StopPhase::Asked { run: Some(run), attempt, deadline };
        self.state = State::Stopping(Stopping { phase, then: Then::Suspend(image.clone()) });
        self.command(Command::Stop { attempt, suspended_in: Some(image) });
    }

    /// The checkpoint failed: the service runs on, or has ended by itself.
    pub(super) fn not_suspended(&mut self, now: Instant) {
        let State::Suspending(Suspending { running, exited }) = &self.state else { return };
        let (running, exited) = (running.clone(), *exited);
        self.state = State::Running(running);
        match exited {
            Some(exit) => {
                self.leave_run();
                self.gone(now, Cause::Exited(exit));
            }
            None => self.cadence.begin(now),
        }
    }

    /// After our own restart.
    pub(super) fn found_suspended(&mut self, image: ImageId) {
        if self.state == State::Stopped {
            self.suspended(image);
        }
    }

    pub(super) fn suspended(&mut self, image: ImageId) {
        self.tell(Notice::Suspended { image: image.clone() });
        self.state = State::Suspended(image);
    }

    pub(super) fn resume_asked_for(&mut self, now: Instant) {
        let State::Suspended(image) = &self.state else { return };
        let image = image.clone();
        self.bring_back(now, Cause::Resumed, image);
    }
}
