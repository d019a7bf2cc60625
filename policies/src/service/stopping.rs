//! Killing, stopping as asked, giving up.

use std::time::Duration;

use super::recovering::Phase;
use super::shutdown::ShuttingDown;
use super::{Command, Failure, FailureKind, GaveUp, Notice, Service, State};
use crate::id::{Attempt, ImageId};
use crate::time::Instant;

/// A kill that is not answered for so long has failed.
const KILL_TIMEOUT: Duration = Duration::from_secs(15);

/// How often a kill is tried: what does not die by then hangs in the kernel.
const KILL_TRIES: u32 = 5;

/// The wait after the first failed kill; each further one is longer by as much.
const KILL_SPACING: Duration = Duration::from_millis(500);

/// `Stop` is answered after the stop timeout and a kill at the latest.
const STOP_GRACE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Kill {
    /// In flight; nothing: waits to be tried again.
    pub(super) attempt: Option<Attempt>,
    pub(super) deadline: Instant,
    tries: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stopping {
    pub(super) phase: StopPhase,
    pub(super) then: Then,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum StopPhase {
    /// A start or restore is in flight: half of it is harder to remove than all of it.
    AwaitingRun { attempt: Attempt, deadline: Instant },
    /// The run, if there is one, lives until the checkpoint in flight is answered.
    AwaitingDump { run: Option<Attempt> },
    /// Told to stop.
    Asked { run: Option<Attempt>, attempt: Attempt, deadline: Instant },
    /// Being killed.
    Killing(Kill),
    /// Dead; a checkpoint that was in flight may still have to be answered.
    Killed,
}

/// What it will be once it is dead.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Then {
    Stop,
    Suspend(ImageId),
    Start,
    Fail(GaveUp),
}

impl Stopping {
    pub(super) const fn killing(kill: Kill, then: Then) -> Self {
        Self { phase: StopPhase::Killing(kill), then }
    }

    pub(super) const fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            // That of the checkpoint.
            StopPhase::AwaitingDump { .. } | StopPhase::Killed => None,
            StopPhase::AwaitingRun { deadline, .. } | StopPhase::Asked { deadline, .. } => Some(*deadline),
            StopPhase::Killing(kill) => Some(kill.deadline),
        }
    }

    pub(super) const fn run(&self) -> Option<Attempt> {
        match &self.phase {
            StopPhase::AwaitingDump { run } | StopPhase::Asked { run, .. } => *run,
            StopPhase::AwaitingRun { .. } | StopPhase::Killing(_) | StopPhase::Killed => None,
        }
    }

    pub(super) const fn will_fail(&self) -> Option<&GaveUp> {
        match &self.then {
            Then::Fail(why) => Some(why),
            Then::Stop | Then::Suspend(_) | Then::Start => None,
        }
    }
}

impl Service {
    pub(super) fn stop_asked_for(&mut self, now: Instant) {
        match &mut self.state {
            State::Running(running) => {
                // Ended as asked: that says nothing about the images of this run.
                let run = running.run;
                self.cadence.halt();
                self.stop_run(now, Some(run), Then::Stop);
            }
            State::Starting(starting) => {
                let phase = StopPhase::AwaitingRun { attempt: starting.attempt, deadline: starting.deadline };
                self.state = State::Stopping(Stopping { phase, then: Then::Stop });
            }
            State::Recovering(recovery) => {
                let phase = match &recovery.phase {
                    Phase::Killing(kill) => StopPhase::Killing(kill.clone()),
                    Phase::Killed | Phase::BackingOff { .. } => StopPhase::Killed,
                    Phase::Judging(judging) => StopPhase::AwaitingDump { run: Some(judging.run) },
                    Phase::Climbing(climbing) => {
                        StopPhase::AwaitingRun { attempt: climbing.attempt, deadline: climbing.deadline }
                    }
                };
                self.state = State::Stopping(Stopping { phase, then: Then::Stop });
                self.proceed_stopping(now);
            }
            State::Stopping(stopping) => stopping.then = Then::Stop,
            // Nothing of it should be left; but that it is to stay stopped must be written down.
            State::Held { .. } | State::Failed(_) | State::Suspended(_) => {
                self.cadence.halt();
                self.stop_run(now, None, Then::Stop);
            }
            State::Stopped | State::Suspending(_) | State::ShuttingDown(_) | State::Idle(_) => {}
        }
    }

    /// Stop a run that lives, after the checkpoint in flight if there is one.
    pub(super) fn stop_run(&mut self, now: Instant, run: Option<Attempt>, then: Then) {
        self.state = State::Stopping(Stopping { phase: StopPhase::AwaitingDump { run }, then });
        self.proceed_stopping(now);
    }

    /// No checkpoint is in flight (any more): go on.
    pub(super) fn proceed_stopping(&mut self, now: Instant) {
        if self.dump.is_some() {
            return;
        }
        let State::Stopping(stopping) = &self.state else { return };
        match &stopping.phase {
            StopPhase::AwaitingDump { run } => {
                let run = *run;
                let attempt = self.issue();
                let deadline = now + self.stop_limit();
                self.set_stop_phase(StopPhase::Asked { run, attempt, deadline });
                self.command(Command::Stop { attempt, suspended_in: None });
            }
            StopPhase::Killed => self.stopping_ended(now),
            StopPhase::AwaitingRun { .. } | StopPhase::Asked { .. } | StopPhase::Killing(_) => {}
        }
    }

    /// Within which a stop is answered.
    pub(super) fn stop_limit(&self) -> Duration {
        self.settings.stop_timeout + STOP_GRACE
    }

    /// The start or restore that was in flight when the stop was asked for was answered.
    pub(super) fn began_stopping(&mut self, now: Instant, attempt: Attempt, answer: Result<(), Failure>) {
        let State::Stopping(stopping) = &self.state else { return };
        match (&stopping.phase, answer) {
            (StopPhase::AwaitingRun { attempt: awaited, .. }, answer) if *awaited == attempt => {
                match answer {
                    Ok(()) => {
                        self.set_stop_phase(StopPhase::AwaitingDump { run: Some(attempt) });
                        self.proceed_stopping(now);
                    }
                    Err(failure) => self.stop_failed(now, failure),
                }
            }
            _ => {}
        }
    }

    pub(super) fn stop_answered(&mut self, now: Instant, attempt: Attempt, answer: Result<(), Failure>) {
        match &self.state {
            State::Stopping(Stopping { phase: StopPhase::Asked { attempt: asked, .. }, .. })
                if *asked == attempt =>
            {
                match answer {
                    Ok(()) => {
                        self.set_stop_phase(StopPhase::Killed);
                        self.proceed_stopping(now);
                    }
                    Err(failure) => self.stop_failed(now, failure),
                }
            }
            State::ShuttingDown(_) => self.answered_late(now, attempt, None, answer),
            _ => {}
        }
    }

    fn stop_failed(&mut self, now: Instant, failure: Failure) {
        self.last_failure = Some(failure.clone());
        if failure.kind == FailureKind::Fenced {
            return self.fence(now, failure);
        }
        let kill = self.begin_kill(now);
        self.set_stop_phase(StopPhase::Killing(kill));
    }

    /// It ended by itself while it waited to be stopped; told to stop already, the answer to that will come.
    pub(super) fn exited_stopping(&mut self, now: Instant) {
        let State::Stopping(stopping) = &self.state else { return };
        if matches!(stopping.phase, StopPhase::AwaitingDump { .. }) {
            let kill = self.begin_kill(now);
            self.set_stop_phase(StopPhase::Killing(kill));
        }
    }

    fn set_stop_phase(&mut self, phase: StopPhase) {
        if let State::Stopping(stopping) = &mut self.state {
            stopping.phase = phase;
        }
    }

    fn stopping_ended(&mut self, now: Instant) {
        let State::Stopping(stopping) = &self.state else { return };
        match stopping.then.clone() {
            Then::Stop => self.ended(),
            Then::Suspend(image) => self.suspended(image),
            Then::Start => {
                self.ended();
                self.person_stepped_in();
                self.start(now);
            }
            Then::Fail(why) => self.give_up(why),
        }
    }

    pub(super) fn ended(&mut self) {
        self.state = State::Stopped;
        self.tell(Notice::Stopped);
    }

    pub(super) fn give_up(&mut self, why: GaveUp) {
        self.tell(Notice::GaveUp { reason: why.clone() });
        self.state = State::Failed(why);
    }

    /// The right to run it was lost, whatever it is doing.
    pub(super) fn fenced(&mut self, now: Instant, failure: Failure) {
        match &self.state {
            State::Idle(_) => {}
            State::Failed(GaveUp::Fenced(_)) => {}
            State::Stopping(stopping) if matches!(stopping.will_fail(), Some(GaveUp::Fenced(_))) => {}
            _ => self.fence(now, failure),
        }
    }

    /// Another holds the right to act: kill, nothing else; also while the supervisor stops.
    pub(super) fn fence(&mut self, now: Instant, failure: Failure) {
        if let State::ShuttingDown(_) = self.state {
            let kill = self.begin_kill(now);
            let awaited = kill.attempt.map(|attempt| (attempt, kill.deadline));
            self.state = State::ShuttingDown(ShuttingDown { awaited, run: None, healthy: false });
        } else {
            self.kill_and_fail(now, GaveUp::Fenced(failure));
        }
    }

    /// The kill in flight, if there is one.
    pub(super) fn take_kill(&mut self) -> Option<Kill> {
        self.kill_in_flight().cloned()
    }

    /// Command a kill.
    pub(super) fn begin_kill(&mut self, now: Instant) -> Kill {
        let attempt = self.issue();
        self.command(Command::Kill { attempt });
        Kill { attempt: Some(attempt), deadline: now + KILL_TIMEOUT, tries: 1 }
    }

    pub(super) fn kill_in_flight(&mut self) -> Option<&mut Kill> {
        match &mut self.state {
            State::Recovering(recovery) => match &mut recovery.phase {
                Phase::Killing(kill) => Some(kill),
                Phase::Killed | Phase::BackingOff { .. } | Phase::Climbing(_) | Phase::Judging(_) => None,
            },
            State::Stopping(Stopping { phase: StopPhase::Killing(kill), .. }) => Some(kill),
            _ => None,
        }
    }

    pub(super) fn kill_answered(&mut self, now: Instant, attempt: Attempt, answer: Result<(), Failure>) {
        if matches!(self.state, State::ShuttingDown(_)) {
            // Whatever it was: nothing more is commanded.
            return self.answered_late(now, attempt, None, Ok(()));
        }
        let awaited = self.kill_in_flight().is_some_and(|kill| kill.attempt == Some(attempt));
        match answer {
            _ if !awaited => {}
            Ok(()) => self.killed(now),
            Err(failure) => self.kill_failed(now, failure),
        }
    }

    fn killed(&mut self, now: Instant) {
        match &mut self.state {
            State::Recovering(recovery) => {
                recovery.phase = Phase::Killed;
                self.proceed(now);
            }
            State::Stopping(stopping) => {
                stopping.phase = StopPhase::Killed;
                self.proceed_stopping(now);
            }
            _ => {}
        }
    }

    fn kill_failed(&mut self, now: Instant, failure: Failure) {
        self.last_failure = Some(failure.clone());
        self.tell(Notice::KillFailed(failure.clone()));
        if failure.kind == FailureKind::Fenced {
            // Takes over this kill, so that its tries still count.
            self.fence(now, failure.clone());
        }
        let Some(kill) = self.kill_in_flight() else { return };
        if kill.tries < KILL_TRIES {
            kill.attempt = None;
            kill.deadline = now + KILL_SPACING * kill.tries;
            return;
        }
        let fenced = match &self.state {
            State::Stopping(stopping) => stopping.will_fail().cloned(),
            _ => None,
        };
        self.give_up(fenced.unwrap_or(GaveUp::CannotKill(failure)));
    }

    /// The time of a kill is up: of the answer, or of the wait before the next try.
    pub(super) fn kill_overdue(&mut self, now: Instant) {
        let Some(kill) = self.kill_in_flight() else { return };
        if kill.attempt.is_some() {
            let message = format!("the kill was not answered within {KILL_TIMEOUT:?}");
            return self.kill_failed(now, Failure::new(FailureKind::Unavailable, message));
        }
        let tries = kill.tries + 1;
        let again = Kill { tries, ..self.begin_kill(now) };
        if let Some(kill) = self.kill_in_flight() {
            *kill = again;
        }
    }

    pub(super) fn tick_stopping(&mut self, now: Instant) {
        let State::Stopping(stopping) = &self.state else { return };
        if stopping.deadline().is_none_or(|at| at > now) {
            return;
        }
        match stopping.phase {
            StopPhase::AwaitingDump { .. } | StopPhase::Killed => {}
            StopPhase::Killing(_) => self.kill_overdue(now),
            StopPhase::AwaitingRun { .. } | StopPhase::Asked { .. } => {
                let message = "not answered in time".to_owned();
                self.stop_failed(now, Failure::new(FailureKind::Unavailable, message));
            }
        }
    }
}
