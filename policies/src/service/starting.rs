//! Starting as asked, and what follows when that fails.

use super::running::Origin;
use super::stopping::Then;
use super::{
    Cause, Command, Exit, Failure, FailureKind, GaveUp, Notice, Request, RestartPolicy, Service, State,
};
use crate::health::Health;
use crate::id::Attempt;
use crate::ladder::Scope;
use crate::time::Instant;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Starting {
    pub(super) attempt: Attempt,
    pub(super) deadline: Instant,
    /// It ended before the start was answered.
    pub(super) died: Option<Exit>,
}

impl Service {
    pub(super) fn start_asked_for(&mut self, now: Instant) {
        match &mut self.state {
            State::Stopped => {
                self.person_stepped_in();
                self.start(now);
            }
            // Something may be left of it: kill first.
            State::Failed(_) | State::Held { .. } => {
                self.person_stepped_in();
                self.recover(now, now, Cause::Requested, Scope::ColdStartOnly, None);
            }
            State::Stopping(stopping) => stopping.then = Then::Start,
            State::Starting(_)
            | State::Running(_)
            | State::Recovering(_)
            | State::Suspending(_)
            | State::Suspended(_)
            | State::ShuttingDown(_)
            | State::Idle(_) => {}
        }
    }

    /// At the beginning: from the newest image, if there is one that can be trusted.
    pub(super) fn start_from_image(&mut self, now: Instant) {
        if self.state != State::Stopped {
            return;
        }
        match self.ladder.best(self.images.all()).map(|facts| facts.id.clone()) {
            Some(image) => self.bring_back(now, Cause::FromImage, image),
            None => self.requested(now, Request::Start),
        }
    }

    /// Start what is known to be dead.
    pub(super) fn start(&mut self, now: Instant) {
        let attempt = self.issue();
        let deadline = now + self.settings.start_timeout;
        self.state = State::Starting(Starting { attempt, deadline, died: None });
        self.command(Command::Start { attempt });
    }

    /// A person knows better than what was counted so far.
    pub(super) fn person_stepped_in(&mut self) {
        self.ladder.stable();
        self.backoff.reset();
        self.recovered_lately = false;
    }

    /// A start or restore was answered.
    pub(super) fn began(&mut self, now: Instant, attempt: Attempt, answer: Result<(), Failure>) {
        match &self.state {
            State::Starting(starting) if starting.attempt == attempt => match (answer, starting.died) {
                (Ok(()), died) => self.started(now, attempt, died),
                (Err(failure), _) => self.start_failed(now, failure),
            },
            State::Recovering(_) => self.climbed(now, attempt, answer),
            State::Stopping(_) => self.began_stopping(now, attempt, answer),
            State::ShuttingDown(_) => {
                let run = answer.is_ok().then_some(attempt);
                self.answered_late(now, attempt, run, answer);
            }
            State::Starting(_)
            | State::Stopped
            | State::Running(_)
            | State::Held { .. }
            | State::Suspending(_)
            | State::Suspended(_)
            | State::Failed(_)
            | State::Idle(_) => {}
        }
    }

    fn started(&mut self, now: Instant, run: Attempt, died: Option<Exit>) {
        self.tell(Notice::Started { run, adopted: false });
        let health = Health::new(&self.settings.probes, now);
        self.run_on(now, run, Origin::Scratch, health);
        if let Some(exit) = died {
            self.exited(now, run, exit);
        }
    }

    fn start_failed(&mut self, now: Instant, failure: Failure) {
        self.last_failure = Some(failure.clone());
        self.tell(Notice::StartFailed(failure.clone()));
        let policy = self.settings.restart_policy;
        match failure.kind {
            FailureKind::Fenced => self.fence(now, failure),
            FailureKind::Invalid => self.kill_and_fail(now, GaveUp::Invalid(failure)),
            _ if policy == RestartPolicy::Never => {
                self.kill_and_fail(now, GaveUp::NotToBeRestarted(Cause::StartFailed(failure)));
            }
            FailureKind::Unavailable
            | FailureKind::Refused
            | FailureKind::Corrupt
            | FailureKind::Internal => {
                let cause = Cause::StartFailed(failure);
                self.tell(Notice::Noticed { cause: cause.clone() });
                self.recover(now, now, cause, Scope::ColdStartOnly, None);
            }
        }
    }

    pub(super) fn tick_starting(&mut self, now: Instant) {
        let limit = self.settings.start_timeout;
        if matches!(&self.state, State::Starting(starting) if starting.deadline <= now) {
            let message = format!("the start was not answered within {limit:?}");
            self.start_failed(now, Failure::new(FailureKind::Unavailable, message));
        }
    }
}
