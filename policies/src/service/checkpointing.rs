//! The checkpoint in flight. It belongs to no state: the service may die, be stopped or be shut down meanwhile, and
//! its answer is awaited all the same.

use std::time::Duration;

use super::running::Origin;
use super::{CheckpointReason, Command, Failure, FailureKind, Notice, Service, State};
use crate::health::Verdict;
use crate::id::Attempt;
use crate::image::{ImageFacts, ImageVerdict};
use crate::time::Instant;

/// The engine keeps the time limit itself; this much later its answer is not awaited any more.
const GRACE: Duration = Duration::from_secs(10);

/// And this much longer where the image is to be durable first.
const KEPT_MAX: Duration = Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Dump {
    pub(super) attempt: Attempt,
    reason: CheckpointReason,
    /// Of which run.
    run: Attempt,
    begun: Instant,
    pub(super) deadline: Instant,
}

impl Service {
    /// Begin a checkpoint of the present run, unless there is none or one is in flight.
    pub(super) fn begin_dump(&mut self, now: Instant, reason: CheckpointReason) {
        let (Some(run), None) = (self.run(), &self.dump) else { return };
        let attempt = self.issue();
        let timeout = self.settings.cadence.timeout;
        let kept = if reason == CheckpointReason::Suspend { KEPT_MAX } else { Duration::ZERO };
        let deadline = now + timeout + GRACE + kept;
        self.dump = Some(Dump { attempt, reason, run, begun: now, deadline });
        self.cadence.begun();
        self.command(Command::Checkpoint { attempt, reason, timeout });
    }

    pub(super) fn checkpoint_done(
        &mut self,
        now: Instant,
        attempt: Attempt,
        image: ImageFacts,
        pause: Duration,
    ) {
        let Some(dump) = self.dump.take_if(|dump| dump.attempt == attempt) else { return };
        let id = image.id.clone();
        let took = now.since(dump.begun);
        self.images.taken(ImageFacts { verdict: ImageVerdict::Unjudged, ..image });
        self.tell(Notice::CheckpointTaken { image: id.clone(), reason: dump.reason, pause, took });
        self.trial_wanted = false;
        if self.cadence.refused().is_some() {
            self.tell(Notice::NoLongerDegraded);
        }
        self.cadence.succeeded(dump.begun, now);
        if !matches!(self.state, State::Running(_)) {
            self.cadence.halt();
        }
        if matches!(self.state, State::Suspending(_)) {
            return self.suspended_in(now, id);
        }
        self.first_opinion(dump, id);
        self.dump_ended(now);
    }

    pub(super) fn checkpoint_failed(&mut self, now: Instant, attempt: Attempt, failure: Failure) {
        let Some(dump) = self.dump.take_if(|dump| dump.attempt == attempt) else { return };
        let target_lives = self.run() == Some(dump.run);
        self.last_failure = Some(failure.clone());
        self.tell(Notice::CheckpointFailed { reason: dump.reason, failure: failure.clone() });
        match failure.kind {
            FailureKind::Fenced => return self.fence(now, failure),
            // A dump whose target died says nothing about the next one.
            _ if !target_lives => {}
            FailureKind::Refused => {
                self.trial_wanted = false;
                self.cadence.refuse(failure.message.clone());
                self.tell(Notice::Degraded { reason: failure.message });
            }
            FailureKind::Unavailable
            | FailureKind::Corrupt
            | FailureKind::Invalid
            | FailureKind::Internal => {
                self.trial_wanted = false;
                self.cadence.failed(dump.begun, now);
                if !matches!(self.state, State::Running(_)) {
                    self.cadence.halt();
                }
            }
        }
        self.dump_ended(now);
    }

    /// Whoever let the dump end first goes on.
    fn dump_ended(&mut self, now: Instant) {
        match &self.state {
            State::Recovering(_) => self.proceed(now),
            State::Stopping(_) => self.proceed_stopping(now),
            State::Suspending(_) => self.not_suspended(now),
            State::ShuttingDown(_) => self.idle_if_nothing_awaited(),
            State::Stopped
            | State::Starting(_)
            | State::Running(_)
            | State::Held { .. }
            | State::Suspended(_)
            | State::Failed(_)
            | State::Idle(_) => {}
        }
    }

    /// What is thought of an image that was just taken. Without liveness probes, running on is all that is asked.
    fn first_opinion(&mut self, dump: Dump, id: crate::id::ImageId) {
        match &mut self.state {
            State::Running(running) if running.run == dump.run => {
                running.taken.push(id.clone());
                if running.health.verdict() != Verdict::Healthy {
                    return;
                }
                running.unjudged.push((id, running.health.liveness().collect()));
                self.judge_good();
            }
            // There is no time for another round of probes.
            State::ShuttingDown(shutting_down) if shutting_down.run == Some(dump.run) => {
                if shutting_down.healthy {
                    self.judge(&id, ImageVerdict::Good);
                }
            }
            // Stopped for a reason that says nothing about it.
            State::Stopping(stopping) if stopping.run() == Some(dump.run) => {}
            _ => self.judge(&id, ImageVerdict::Suspect),
        }
    }

    /// Images whose round of liveness probes is complete are good.
    pub(super) fn judge_good(&mut self) {
        let State::Running(running) = &mut self.state else { return };
        if running.health.verdict() != Verdict::Healthy {
            return;
        }
        let (judged, left) =
            std::mem::take(&mut running.unjudged).into_iter().partition(|(_, left)| left.is_empty());
        running.unjudged = left;
        let judged: Vec<_> = judged;
        for (image, _) in judged {
            self.judge(&image, ImageVerdict::Good);
        }
    }

    /// The run is sick or dead: images that were not judged yet are suspect.
    pub(super) fn judge_suspect(&mut self) {
        let State::Running(running) = &mut self.state else { return };
        for (image, _) in std::mem::take(&mut running.unjudged) {
            self.judge(&image, ImageVerdict::Suspect);
        }
    }

    /// The run is over; if it never was stable, its images are no better than what it came from.
    pub(super) fn leave_run(&mut self) {
        self.judge_suspect();
        self.cadence.halt();
        if let State::Running(running) = &self.state {
            if let (Some(_), Origin::Image(parent)) = (running.stable_at, &running.origin) {
                self.ladder.inherit(parent, &running.taken);
            }
        }
    }

    pub(super) fn tick_dump(&mut self, now: Instant) {
        let Some(dump) = self.dump.as_ref().filter(|dump| dump.deadline <= now) else { return };
        let (attempt, limit) = (dump.attempt, dump.deadline.since(dump.begun));
        let message = format!("the checkpoint was not answered within {limit:?}");
        self.checkpoint_failed(now, attempt, Failure::new(FailureKind::Unavailable, message));
    }
}
