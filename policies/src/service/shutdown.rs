//! Leaving the service alone when the supervisor stops: one last checkpoint, what is in flight, nothing more.

use super::stopping::StopPhase;
use super::{CheckpointReason, Failure, FailureKind, Service, State};
use crate::health::Verdict;
use crate::id::Attempt;
use crate::time::Instant;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct ShuttingDown {
    /// The effect other than a checkpoint that is still in flight, and how long it is waited for.
    pub(super) awaited: Option<(Attempt, Instant)>,
    pub(super) run: Option<Attempt>,
    pub(super) healthy: bool,
}

impl ShuttingDown {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.awaited.map(|(_, deadline)| deadline)
    }
}

impl Service {
    /// The supervisor stops: one last checkpoint if wanted, wait for what is in flight, leave the service running.
    pub(super) fn shut_down(&mut self, now: Instant) {
        if matches!(self.state, State::ShuttingDown(_) | State::Idle(_)) {
            return;
        }
        let awaited = self.in_flight();
        let healthy = match &self.state {
            State::Running(running) => running.health.verdict() == Verdict::Healthy,
            State::Suspending(suspending) => suspending.is_healthy(),
            _ => false,
        };
        let last = matches!(self.state, State::Running(_))
            && self.settings.cadence.on_shutdown
            && (healthy || !self.settings.cadence.require_healthy)
            && !self.paused
            && self.cadence.refused().is_none();
        let run = self.run();
        self.state = State::ShuttingDown(ShuttingDown { awaited, run, healthy });
        if last {
            self.begin_dump(now, CheckpointReason::Shutdown);
        }
        self.cadence.halt();
        self.idle_if_nothing_awaited();
    }

    /// The effect in flight besides a checkpoint.
    fn in_flight(&mut self) -> Option<(Attempt, Instant)> {
        if let Some(kill) = self.kill_in_flight() {
            return kill.attempt.map(|attempt| (attempt, kill.deadline));
        }
        match &self.state {
            State::Starting(starting) => Some((starting.attempt, starting.deadline)),
            State::Recovering(recovery) => recovery.phase.climbing(),
            State::Stopping(stopping) => match stopping.phase {
                StopPhase::AwaitingRun { attempt, deadline } | StopPhase::Asked { attempt, deadline, .. } => {
                    Some((attempt, deadline))
                }
                StopPhase::AwaitingDump { .. } | StopPhase::Killing(_) | StopPhase::Killed => None,
            },
            _ => None,
        }
    }

    /// An answer to what was in flight when the supervisor began to stop.
    pub(super) fn answered_late(
        &mut self,
        now: Instant,
        attempt: Attempt,
        run: Option<Attempt>,
        answer: Result<(), Failure>,
    ) {
        let State::ShuttingDown(shutting_down) = &mut self.state else { return };
        if shutting_down.awaited.take_if(|(awaited, _)| *awaited == attempt).is_none() {
            return;
        }
        shutting_down.run = run;
        match answer {
            Err(failure) if failure.kind == FailureKind::Fenced => self.fence(now, failure),
            Ok(()) | Err(_) => self.idle_if_nothing_awaited(),
        }
    }

    pub(super) fn idle_if_nothing_awaited(&mut self) {
        if let State::ShuttingDown(ShuttingDown { awaited: None, run, .. }) = self.state {
            if self.dump.is_none() {
                self.state = State::Idle(run);
            }
        }
    }

    pub(super) fn tick_shutting_down(&mut self, now: Instant) {
        if let State::ShuttingDown(shutting_down) = &mut self.state {
            shutting_down.awaited.take_if(|(_, deadline)| *deadline <= now);
        }
        self.idle_if_nothing_awaited();
    }
}
