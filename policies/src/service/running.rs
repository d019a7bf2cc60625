//! Running, and noticing that something is wrong.

use std::collections::BTreeSet;
use std::time::Duration;

use super::stopping::{Stopping, Then};
use super::{Cause, CheckpointReason, Exit, GaveUp, Notice, Phase, RestartPolicy, Service, State};
use crate::health::{Health, Verdict, settle_limit};
use crate::id::{Attempt, ImageId};
use crate::ladder::Scope;
use crate::time::Instant;

/// How soon after the first good health it is tried whether the service can be checkpointed.
const TRIAL_AFTER: Duration = Duration::from_secs(1);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) run: Attempt,
    pub(super) since: Instant,
    pub(super) origin: Origin,
    pub(super) health: Health,
    /// When it must have turned healthy; nothing once it has.
    pub(super) settle_by: Option<Instant>,
    /// When it counts as stable; nothing once it does.
    pub(super) stable_at: Option<Instant>,
    /// When the trial is due; nothing: none, or not healthy yet.
    pub(super) trial_at: Option<Instant>,
    /// Images taken in this run.
    pub(super) taken: Vec<ImageId>,
    /// Of these, those not judged yet, with the liveness probes that have not passed since the thaw.
    pub(super) unjudged: Vec<(ImageId, BTreeSet<usize>)>,
}

/// What a probe, or whoever reports, has said.
#[derive(Clone, Copy, Debug)]
pub(super) struct ProbeAnswer {
    pub(super) probe: usize,
    pub(super) passed: bool,
    pub(super) overlapped_freeze: bool,
    /// Of a report: until when it counts.
    pub(super) until: Option<Instant>,
}

/// Where a run came from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Origin {
    Scratch,
    Image(ImageId),
    Adopted,
}

impl Service {
    pub(super) fn adopted(&mut self, now: Instant) {
        if self.state != State::Stopped {
            return;
        }
        let run = self.issue();
        self.tell(Notice::Started { run, adopted: true });
        // Whoever has images has been checkpointed before.
        self.trial_wanted &= self.images.all().is_empty();
        let health = Health::new(&self.settings.probes, now);
        self.run_on(now, run, Origin::Adopted, health);
    }

    pub(super) fn found_dead(&mut self, now: Instant, exit: Option<Exit>) {
        if self.state == State::Stopped {
            self.gone(now, Cause::FoundDead(exit));
        }
    }

    pub(super) fn taken_over(&mut self, now: Instant) {
        if self.state == State::Stopped {
            self.gone(now, Cause::TakenOver);
        }
    }

    /// From now on it runs.
    pub(super) fn run_on(&mut self, now: Instant, run: Attempt, origin: Origin, health: Health) {
        let settle_by = match health.verdict() {
            Verdict::Healthy => None,
            Verdict::Starting | Verdict::Unhealthy => {
                settle_limit(&self.settings.probes).map(|limit| now + limit)
            }
        };
        self.cadence.begin(now);
        self.state = State::Running(Running {
            run,
            since: now,
            origin,
            health,
            settle_by,
            stable_at: Some(now + self.settings.ladder.stable_after),
            trial_at: None,
            taken: Vec::new(),
            unjudged: Vec::new(),
        });
        self.arm_trial(now);
    }

    pub(super) fn exited(&mut self, now: Instant, run: Attempt, exit: Exit) {
        match &mut self.state {
            State::Running(running) if running.run == run => {
                self.leave_run();
                self.gone(now, Cause::Exited(exit));
            }
            State::Starting(starting) if starting.attempt == run => starting.died = Some(exit),
            State::Recovering(_) => self.exited_recovering(now, run, exit),
            State::Stopping(stopping) if stopping.run() == Some(run) => self.exited_stopping(now),
            State::Suspending(_) => self.exited_suspending(run, exit),
            State::ShuttingDown(shutting_down) if shutting_down.run == Some(run) => shutting_down.run = None,
            State::Idle(running) if *running == Some(run) => *running = None,
            _ => {}
        }
    }

    /// It does not run any more: what follows, unless policies are held.
    pub(super) fn gone(&mut self, now: Instant, cause: Cause) {
        if self.paused {
            self.tell(Notice::Held { cause: cause.clone() });
            self.state = State::Held { cause, detected_at: now };
        } else {
            self.respond(now, now, cause);
        }
    }

    /// What the restart policy says to a fault.
    pub(super) fn respond(&mut self, now: Instant, detected_at: Instant, cause: Cause) {
        let exit = match &cause {
            Cause::Exited(exit) => Some(*exit),
            Cause::FoundDead(exit) => *exit,
            Cause::Completed(_)
            | Cause::Hung
            | Cause::NeverHealthy
            | Cause::StartFailed(_)
            | Cause::Requested
            | Cause::Resumed
            | Cause::TakenOver
            | Cause::FromImage => None,
        };
        let done = exit.filter(|exit| self.is_success(*exit));
        match (self.settings.restart_policy, done) {
            (RestartPolicy::OnFailure | RestartPolicy::Never, Some(_)) => self.kill_and(now, Then::Stop),
            (RestartPolicy::Always | RestartPolicy::UnlessStopped, Some(exit)) => {
                let cause = Cause::Completed(exit);
                self.tell(Notice::Noticed { cause: cause.clone() });
                self.recover(now, detected_at, cause, Scope::ColdStartOnly, None);
            }
            (RestartPolicy::Never, None) => {
                self.tell(Notice::Noticed { cause: cause.clone() });
                self.kill_and_fail(now, GaveUp::NotToBeRestarted(cause));
            }
            (RestartPolicy::Always | RestartPolicy::OnFailure | RestartPolicy::UnlessStopped, None) => {
                self.tell(Notice::Noticed { cause: cause.clone() });
                self.recover(now, detected_at, cause, Scope::Whole, None);
            }
        }
    }

    pub(super) fn is_success(&self, exit: Exit) -> bool {
        matches!(exit, Exit::Code(code) if self.settings.success_exit_codes.contains(&code))
    }

    /// It runs, but is sick. Under `never` that is only told.
    fn sick(&mut self, now: Instant, cause: Cause) {
        if self.paused {
            return;
        }
        if self.settings.restart_policy == RestartPolicy::Never {
            self.tell(Notice::Held { cause });
            return;
        }
        self.leave_run();
        self.respond(now, now, cause);
    }

    pub(super) fn probe_answered(&mut self, now: Instant, run: Attempt, answer: ProbeAnswer) {
        let ProbeAnswer { probe, passed, overlapped_freeze, until } = answer;
        let (health, judging) = match &mut self.state {
            State::Running(running) if running.run == run => (&mut running.health, false),
            State::Recovering(recovery) => match &mut recovery.phase {
                Phase::Judging(judging) if judging.run == run => (&mut judging.health, true),
                _ => return,
            },
            _ => return,
        };
        let from = health.verdict();
        let counted = health.record(now, probe, passed, overlapped_freeze);
        if let Some(until) = until {
            health.hold(probe, until);
        }
        let to = health.verdict();
        if from != to {
            self.tell(Notice::VerdictChanged { from, to });
        }
        if judging {
            self.judged(now, to);
        } else {
            let passed_after_thaw = counted && passed && !overlapped_freeze;
            self.probed(now, passed_after_thaw.then_some(probe), from, to);
        }
    }

    /// Reports that are over have no say any more.
    pub(super) fn hush(&mut self, now: Instant) {
        let State::Running(running) = &mut self.state else { return };
        let from = running.health.verdict();
        let silent = running.health.hush(now);
        if silent.is_empty() {
            return;
        }
        for (_, left) in &mut running.unjudged {
            left.retain(|probe| !silent.contains(probe));
        }
        let to = running.health.verdict();
        if from != to {
            self.tell(Notice::VerdictChanged { from, to });
        }
        self.judge_good();
    }

    fn probed(&mut self, now: Instant, passed_after_thaw: Option<usize>, from: Verdict, to: Verdict) {
        let State::Running(running) = &mut self.state else { return };
        if let Some(probe) = passed_after_thaw {
            running.unjudged.iter_mut().for_each(|(_, left)| {
                left.remove(&probe);
            });
            self.judge_good();
        }
        match to {
            Verdict::Starting => {}
            Verdict::Healthy => self.arm_trial(now),
            Verdict::Unhealthy => {
                self.judge_suspect();
                if from != Verdict::Unhealthy {
                    self.sick(now, Cause::Hung);
                }
            }
        }
    }

    /// Healthy: it has settled, and may be tried out if that is still to be done.
    pub(super) fn arm_trial(&mut self, now: Instant) {
        let wanted = self.trial_wanted;
        let State::Running(running) = &mut self.state else { return };
        if running.health.verdict() != Verdict::Healthy {
            return;
        }
        running.settle_by = None;
        if wanted && running.trial_at.is_none() && !matches!(running.origin, Origin::Image(_)) {
            running.trial_at = Some(now + TRIAL_AFTER);
        }
    }

    pub(super) fn running_unpaused(&mut self, now: Instant) {
        let State::Running(running) = &mut self.state else { return };
        match running.health.verdict() {
            Verdict::Unhealthy => self.sick(now, Cause::Hung),
            // Time during which nobody looked is not held against it.
            Verdict::Starting => {
                running.settle_by = settle_limit(&self.settings.probes).map(|limit| now + limit)
            }
            Verdict::Healthy => {}
        }
    }

    /// The probes are others now: begin anew with them.
    pub(super) fn probes_changed(&mut self, now: Instant) {
        let probes = &self.settings.probes;
        let health = Health::new(probes, now);
        let settle_by = settle_limit(probes).map(|limit| now + limit);
        match &mut self.state {
            State::Running(running) => {
                let liveness: BTreeSet<usize> = health.liveness().collect();
                running.unjudged.iter_mut().for_each(|(_, left)| left.clone_from(&liveness));
                running.health = health;
                running.settle_by = settle_by;
                self.arm_trial(now);
                self.judge_good();
            }
            State::Recovering(recovery) => {
                if let Phase::Judging(judging) = &mut recovery.phase {
                    judging.deadline = settle_by.unwrap_or(now);
                    let verdict = health.verdict();
                    judging.health = health;
                    self.judged(now, verdict);
                }
            }
            _ => {}
        }
    }

    pub(super) fn tick_running(&mut self, now: Instant) {
        // A report may have been over already when this run began to run.
        self.hush(now);
        let State::Running(running) = &mut self.state else { return };
        let past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if !self.paused && past(running.settle_by) {
            running.settle_by = None;
            return self.sick(now, Cause::NeverHealthy);
        }
        self.note_stable(now);
        let State::Running(running) = &self.state else { return };
        if past(self.trial_due(running)) {
            self.begin_dump(now, CheckpointReason::Trial);
        } else if past(self.cadence_due(running)) {
            self.begin_dump(now, CheckpointReason::Cadence);
        }
    }

    /// A run that has been healthy for long enough clears what was counted.
    pub(super) fn note_stable(&mut self, now: Instant) {
        let State::Running(running) = &mut self.state else { return };
        let healthy = running.health.verdict() == Verdict::Healthy;
        if healthy && running.stable_at.take_if(|at| *at <= now).is_some() {
            self.ladder.stable();
            self.backoff.reset();
            self.recovered_lately = false;
        }
    }

    pub(super) fn running_deadline(&self, running: &Running) -> Option<Instant> {
        let healthy = running.health.verdict() == Verdict::Healthy;
        let settle = running.settle_by.filter(|_| !self.paused);
        let stable = running.stable_at.filter(|_| healthy);
        let due = [self.trial_due(running), self.cadence_due(running), running.health.silent_at()];
        [settle, stable].into_iter().chain(due).flatten().min()
    }

    fn trial_due(&self, running: &Running) -> Option<Instant> {
        let healthy = running.health.verdict() == Verdict::Healthy;
        let allowed = healthy && self.trial_wanted && !self.paused && self.dump.is_none();
        running.trial_at.filter(|_| allowed)
    }

    fn cadence_due(&self, running: &Running) -> Option<Instant> {
        let fit = match running.health.verdict() {
            Verdict::Healthy => true,
            Verdict::Starting => !self.settings.cadence.require_healthy,
            Verdict::Unhealthy => false,
        };
        self.cadence.due().filter(|_| fit && !self.paused && self.dump.is_none())
    }

    /// Kill, and then be failed.
    pub(super) fn kill_and_fail(&mut self, now: Instant, why: GaveUp) {
        self.kill_and(now, Then::Fail(why));
    }

    /// Kill what is left, and then.
    pub(super) fn kill_and(&mut self, now: Instant, then: Then) {
        self.cadence.halt();
        let kill = self.take_kill().unwrap_or_else(|| self.begin_kill(now));
        self.state = State::Stopping(Stopping::killing(kill, then));
    }
}
