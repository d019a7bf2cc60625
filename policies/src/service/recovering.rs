//! Climbing the ladder: kill, wait for what must end first, try a rung, judge it; the next one if it was not good.

use super::running::Origin;
use super::stopping::{Kill, Then};
use super::{Cause, Command, Exit, Failure, FailureKind, GaveUp, Notice, Recovered, Service, State};
use crate::health::{Health, Verdict, settle_limit};
use crate::id::{Attempt, ImageId};
use crate::ladder::{Elsewhere, Ladder, Rung, Scope, SkipReason, Step};
use crate::time::Instant;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recovery {
    cause: Cause,
    detected_at: Instant,
    scope: Scope,
    /// The image that a person asked for, tried before the ladder.
    asked: Option<ImageId>,
    /// The first rung waits by the backoff.
    delayed: bool,
    pub(super) phase: Phase,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Phase {
    /// Everything must be dead first.
    Killing(Kill),
    /// It is; a checkpoint that was in flight may still have to be answered.
    Killed,
    /// The rung is chosen and waits for its time.
    BackingOff { rung: Planned, until: Instant },
    /// The start or restore is in flight.
    Climbing(Climbing),
    /// It runs; its probes have the word.
    Judging(Judging),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Planned {
    rung: Rung,
    image: Option<ImageId>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Climbing {
    pub(super) attempt: Attempt,
    begun: Instant,
    pub(super) deadline: Instant,
    planned: Planned,
    /// It ended before the answer came.
    died: Option<Exit>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judging {
    pub(super) run: Attempt,
    since: Instant,
    pub(super) health: Health,
    pub(super) deadline: Instant,
    planned: Planned,
}

impl Phase {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Killing(kill) => Some(kill.deadline),
            // That of the checkpoint.
            Self::Killed => None,
            Self::BackingOff { until, .. } => Some(*until),
            Self::Climbing(climbing) => Some(climbing.deadline),
            Self::Judging(judging) => Some(judging.deadline),
        }
    }

    /// The start or restore in flight, and how long it is waited for.
    pub(super) const fn climbing(&self) -> Option<(Attempt, Instant)> {
        match self {
            Self::Climbing(climbing) => Some((climbing.attempt, climbing.deadline)),
            Self::Killing(_) | Self::Killed | Self::BackingOff { .. } | Self::Judging(_) => None,
        }
    }
}

impl Service {
    /// Begin to bring the service back.
    pub(super) fn recover(
        &mut self,
        now: Instant,
        detected_at: Instant,
        cause: Cause,
        scope: Scope,
        asked: Option<ImageId>,
    ) {
        self.ladder.fault(now, scope);
        let delayed = std::mem::replace(&mut self.recovered_lately, true);
        let phase = Phase::Killing(self.begin_kill(now));
        self.state = State::Recovering(Recovery { cause, detected_at, scope, asked, delayed, phase });
    }

    pub(super) fn restore_asked_for(&mut self, now: Instant, image: Option<ImageId>) {
        let best = || self.ladder.best(self.images.all()).map(|facts| facts.id.clone());
        let Some(image) = image.or_else(best) else { return };
        // Killed because somebody wants it so: that says nothing about the images of this run.
        if let State::Running(running) = &mut self.state {
            running.unjudged.clear();
        }
        self.bring_back(now, Cause::Requested, image);
    }

    /// A person wants this image; should it fail, the ladder goes on.
    pub(super) fn bring_back(&mut self, now: Instant, cause: Cause, image: ImageId) {
        self.cadence.halt();
        self.person_stepped_in();
        self.tell(Notice::Noticed { cause: cause.clone() });
        self.recover(now, now, cause, Scope::Whole, Some(image));
    }

    /// Everything is dead and nothing in flight: choose the next rung.
    pub(super) fn proceed(&mut self, now: Instant) {
        let State::Recovering(recovery) = &mut self.state else { return };
        if recovery.phase != Phase::Killed || self.dump.is_some() {
            return;
        }
        let delayed = std::mem::take(&mut recovery.delayed);
        let Some((planned, again)) = self.choose(now) else { return };
        if delayed || again {
            let until = now + self.backoff.next_delay();
            self.set_phase(Phase::BackingOff { rung: planned, until });
        } else {
            self.climb(now, planned);
        }
    }

    /// The next rung and whether it tries the same again; none: given up.
    fn choose(&mut self, now: Instant) -> Option<(Planned, bool)> {
        let State::Recovering(recovery) = &mut self.state else { return None };
        let asked = recovery.asked.take();
        if let Some(image) = asked.filter(|image| self.still_fit(image)) {
            let is_best = self.ladder.best(self.images.all()).is_some_and(|best| best.id == image);
            self.ladder.tried(now, &image);
            let rung = if is_best { Rung::RestoreLatest } else { Rung::RestoreOlder };
            return Some((Planned { rung, image: Some(image) }, false));
        }
        let decision = self.ladder.next_step(now, self.images.all());
        for (image, why) in decision.skipped {
            self.tell(Notice::ImageSkipped { image, why });
        }
        match decision.step {
            Step::Restore(image, rung) => Some((Planned { rung, image: Some(image) }, decision.again)),
            Step::ColdStart => Some((Planned { rung: Rung::ColdStart, image: None }, decision.again)),
            Step::FailOver => {
                self.leave_to_standby();
                None
            }
            Step::GiveUp(reason) => {
                self.give_up(GaveUp::Ladder(reason));
                None
            }
        }
    }

    fn leave_to_standby(&mut self) {
        let State::Recovering(recovery) = &self.state else { return };
        let cause = recovery.cause.clone();
        self.tell(Notice::RungTaken { rung: Rung::FailOver, image: None });
        self.state = State::Failed(GaveUp::LeftToStandby(cause));
        self.command(Command::FailOver);
    }

    /// The standby that was ready is not any more: the ladder is climbed here again.
    pub(super) fn fail_over_refused(&mut self, now: Instant, why: String) {
        self.ladder.set_elsewhere(Elsewhere::Impossible);
        let State::Failed(GaveUp::LeftToStandby(cause)) = &self.state else { return };
        let cause = cause.clone();
        self.tell(Notice::RungFailed { rung: Rung::FailOver, image: None, why });
        self.recover(now, now, cause, Scope::Whole, None);
    }

    /// An image that was chosen before may have been deleted or found damaged meanwhile.
    fn still_fit(&mut self, image: &ImageId) -> bool {
        let facts = self.images.all().iter().find(|facts| facts.id == *image);
        let why = facts.map_or(Some(SkipReason::Gone), Ladder::unfit);
        let fit = why.is_none();
        if let Some(why) = why {
            self.tell(Notice::ImageSkipped { image: image.clone(), why });
        }
        fit
    }

    fn backed_off(&mut self, now: Instant, planned: Planned) {
        let fit = planned.image.as_ref().is_none_or(|image| self.still_fit(image));
        if fit {
            self.climb(now, planned);
        } else {
            self.set_phase(Phase::Killed);
            self.proceed(now);
        }
    }

    fn climb(&mut self, now: Instant, planned: Planned) {
        let attempt = self.issue();
        let (rung, image) = (planned.rung, planned.image.clone());
        let limit = match &image {
            Some(_) => self.settings.restore_timeout,
            None => self.settings.start_timeout,
        };
        let climbing = Climbing { attempt, begun: now, deadline: now + limit, planned, died: None };
        self.set_phase(Phase::Climbing(climbing));
        self.tell(Notice::RungTaken { rung, image: image.clone() });
        self.command(match image {
            Some(image) => Command::Restore { attempt, image },
            None => Command::Start { attempt },
        });
    }

    /// The start or restore of a rung was answered.
    pub(super) fn climbed(&mut self, now: Instant, attempt: Attempt, answer: Result<(), Failure>) {
        let State::Recovering(recovery) = &self.state else { return };
        let Phase::Climbing(climbing) = &recovery.phase else { return };
        if climbing.attempt != attempt {
            return;
        }
        let (planned, died) = (climbing.planned.clone(), climbing.died);
        match (answer, died) {
            (Err(failure), _) => self.climb_failed(now, planned, failure),
            (Ok(()), Some(exit)) => self.died_on_rung(now, planned, exit),
            (Ok(()), None) => self.judge_rung(now, attempt, planned),
        }
    }

    fn judge_rung(&mut self, now: Instant, run: Attempt, planned: Planned) {
        let health = Health::new(&self.settings.probes, now);
        let verdict = health.verdict();
        let deadline = settle_limit(&self.settings.probes).map_or(now, |limit| now + limit);
        self.set_phase(Phase::Judging(Judging { run, since: now, health, deadline, planned }));
        self.judged(now, verdict);
    }

    fn climb_failed(&mut self, now: Instant, planned: Planned, failure: Failure) {
        self.last_failure = Some(failure.clone());
        if let Some(image) = &planned.image {
            self.ladder.restore_failed(image, failure.kind, &failure.message);
        }
        let cold_only =
            matches!(&self.state, State::Recovering(recovery) if recovery.scope == Scope::ColdStartOnly);
        match failure.kind {
            FailureKind::Fenced => {
                self.tell_rung_failed(&planned, failure.to_string());
                self.fence(now, failure);
            }
            FailureKind::Invalid if cold_only => {
                self.tell_rung_failed(&planned, failure.to_string());
                self.kill_and_fail(now, GaveUp::Invalid(failure));
            }
            FailureKind::Unavailable
            | FailureKind::Refused
            | FailureKind::Corrupt
            | FailureKind::Invalid
            | FailureKind::Internal => self.rung_failed(now, &planned, failure.to_string()),
        }
    }

    pub(super) fn exited_recovering(&mut self, now: Instant, run: Attempt, exit: Exit) {
        let State::Recovering(recovery) = &mut self.state else { return };
        match &mut recovery.phase {
            Phase::Climbing(climbing) if climbing.attempt == run => climbing.died = Some(exit),
            Phase::Judging(judging) if judging.run == run => {
                let planned = judging.planned.clone();
                self.died_on_rung(now, planned, exit);
            }
            Phase::Climbing(_)
            | Phase::Judging(_)
            | Phase::Killing(_)
            | Phase::Killed
            | Phase::BackingOff { .. } => {}
        }
    }

    fn died_on_rung(&mut self, now: Instant, planned: Planned, exit: Exit) {
        use super::RestartPolicy::{Always, Never, OnFailure, UnlessStopped};
        match self.settings.restart_policy {
            // Brought back, it did its work to the end.
            OnFailure | Never if self.is_success(exit) => self.kill_and(now, Then::Stop),
            Always | UnlessStopped | OnFailure | Never => {
                self.rung_failed(now, &planned, format!("the service ended again: {exit}"));
            }
        }
    }

    /// What the probes say of the rung.
    pub(super) fn judged(&mut self, now: Instant, verdict: Verdict) {
        let State::Recovering(recovery) = &self.state else { return };
        let Phase::Judging(judging) = &recovery.phase else { return };
        let planned = judging.planned.clone();
        match verdict {
            Verdict::Starting => {}
            Verdict::Healthy => self.recovered(now),
            Verdict::Unhealthy => self.rung_failed(now, &planned, "its liveness probes fail".to_owned()),
        }
    }

    fn recovered(&mut self, now: Instant) {
        let State::Recovering(recovery) = &self.state else { return };
        let Phase::Judging(judging) = &recovery.phase else { return };
        let Planned { rung, image } = judging.planned.clone();
        let (run, running_at, health) = (judging.run, judging.since, judging.health.clone());
        let (cause, detected_at) = (recovery.cause.clone(), recovery.detected_at);
        let recovered =
            Recovered { cause, rung, image: image.clone(), detected_at, running_at, recovered_at: now };
        self.restarts = self.restarts.saturating_add(1);
        self.last_recovery = Some(recovered.clone());
        self.tell(Notice::Recovered(recovered));
        self.run_on(now, run, image.map_or(Origin::Scratch, Origin::Image), health);
    }

    fn rung_failed(&mut self, now: Instant, planned: &Planned, why: String) {
        self.tell_rung_failed(planned, why);
        let State::Recovering(recovery) = &self.state else { return };
        if self.settings.restart_policy == super::RestartPolicy::Never {
            let cause = recovery.cause.clone();
            return self.kill_and_fail(now, GaveUp::NotToBeRestarted(cause));
        }
        let kill = self.begin_kill(now);
        self.set_phase(Phase::Killing(kill));
    }

    fn tell_rung_failed(&mut self, planned: &Planned, why: String) {
        self.tell(Notice::RungFailed { rung: planned.rung, image: planned.image.clone(), why });
    }

    fn set_phase(&mut self, phase: Phase) {
        if let State::Recovering(recovery) = &mut self.state {
            recovery.phase = phase;
        }
    }

    pub(super) fn tick_recovering(&mut self, now: Instant) {
        let State::Recovering(recovery) = &self.state else { return };
        if recovery.phase.deadline().is_none_or(|at| at > now) {
            return;
        }
        match &recovery.phase {
            Phase::Killed => {}
            Phase::Killing(_) => self.kill_overdue(now),
            Phase::BackingOff { rung, .. } => {
                let rung = rung.clone();
                self.backed_off(now, rung);
            }
            Phase::Climbing(climbing) => {
                let limit = climbing.deadline.since(climbing.begun);
                let (attempt, message) = (climbing.attempt, format!("not answered within {limit:?}"));
                self.climbed(now, attempt, Err(Failure::new(FailureKind::Internal, message)));
            }
            Phase::Judging(judging) => {
                let planned = judging.planned.clone();
                self.rung_failed(now, &planned, Cause::NeverHealthy.to_string());
            }
        }
    }
}
