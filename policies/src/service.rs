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

mod checkpointing;
mod known;
mod recovering;
mod running;
mod shutdown;
mod starting;
mod stopping;
mod suspending;
mod told;
mod words;

pub use self::told::{Cause, CauseKind, GaveUp, Notice, Reaction, Recovered, StateName, Status};
pub use self::words::{CheckpointReason, Command, Event, Exit, RestartPolicy, Settings};
pub use crate::failure::{Failure, FailureKind};
pub use crate::image::{ImageFacts, ImageVerdict};

use crate::admission::{self, Admission, Request, Wanted};
use crate::backoff::Backoff;
use crate::cadence::Cadence;
use crate::id::{Attempt, ImageId};
use crate::ladder::Ladder;
use crate::time::Instant;

use self::checkpointing::Dump;
use self::known::Known;
use self::recovering::{Phase, Recovery};
use self::running::{ProbeAnswer, Running};
use self::shutdown::ShuttingDown;
use self::starting::Starting;
use self::stopping::{Stopping, Then};
use self::suspending::Suspending;

/// The life of one service. Create it, tell it what the store lists (`ImagesListed`), then how the service was
/// found (`StartRequested`, `Adopted` or `FoundDead`; nothing if it is to stay stopped).
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    settings: Settings,
    state: State,
    /// The checkpoint in flight: it outlives the state in which it was begun.
    dump: Option<Dump>,
    /// The last attempt given out.
    attempt: Attempt,
    backoff: Backoff,
    cadence: Cadence,
    ladder: Ladder,
    images: Known,
    paused: bool,
    /// Whether it can be checkpointed at all is still to be tried out.
    trial_wanted: bool,
    /// It was recovered since it was last stable: the next recovery waits.
    recovered_lately: bool,
    last_failure: Option<Failure>,
    restarts: u64,
    last_recovery: Option<Recovered>,
    /// The answer to the event being handled, as far as it has come.
    out: Reaction,
}

#[derive(Clone, Debug, PartialEq)]
enum State {
    Stopped,
    Starting(Starting),
    Running(Running),
    Recovering(Recovery),
    /// It ended while policies were held.
    Held {
        cause: Cause,
        detected_at: Instant,
    },
    Stopping(Stopping),
    /// A checkpoint that ends it is in flight.
    Suspending(Suspending),
    /// Its state is in this image.
    Suspended(ImageId),
    Failed(GaveUp),
    ShuttingDown(ShuttingDown),
    Idle(Option<Attempt>),
}

impl Service {
    /// A service that does not run. The same seed and the same events give the same commands.
    #[must_use]
    pub fn new(settings: Settings, seed: u64) -> Self {
        Self {
            state: State::Stopped,
            dump: None,
            attempt: Attempt::default(),
            backoff: Backoff::new(settings.backoff.clone(), seed),
            cadence: Cadence::new(settings.cadence.clone(), !seed),
            ladder: Ladder::new(settings.ladder.clone()),
            images: Known::default(),
            paused: false,
            trial_wanted: settings.trial_dump,
            recovered_lately: false,
            last_failure: None,
            restarts: 0,
            last_recovery: None,
            out: Reaction::default(),
            settings,
        }
    }

    /// Take in what has happened; `now` must not be earlier than the last time.
    pub fn handle(&mut self, now: Instant, event: Event) -> Reaction {
        self.note_stable(now);
        self.hush(now);
        self.apply(now, event);
        self.tick(now);
        std::mem::take(&mut self.out)
    }

    /// When `DeadlineReached` is to be sent, if nothing happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Stopped
            | State::Held { .. }
            | State::Suspending(_)
            | State::Suspended(_)
            | State::Failed(_)
            | State::Idle(_) => None,
            State::Starting(starting) => Some(starting.deadline),
            State::Running(running) => self.running_deadline(running),
            State::Recovering(recovery) => recovery.phase.deadline(),
            State::Stopping(stopping) => stopping.deadline(),
            State::ShuttingDown(shutting_down) => shutting_down.deadline(),
        };
        [state, self.dump.as_ref().map(|dump| dump.deadline)].into_iter().flatten().min()
    }

    /// Would this request be followed now?
    #[must_use]
    pub fn admit(&self, request: &Request) -> Admission {
        admission::judge(request, &self.status(), |image| self.wanted(image))
    }

    /// The images it knows, with what it thinks of them.
    #[must_use]
    pub fn images(&self) -> &[ImageFacts] {
        self.images.all()
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What can be seen from outside.
    #[must_use]
    pub fn status(&self) -> Status {
        let health = match &self.state {
            State::Running(running) => Some(&running.health),
            State::Recovering(Recovery { phase: Phase::Judging(judging), .. }) => Some(&judging.health),
            _ => None,
        };
        Status {
            state: self.state_name(),
            run: self.run(),
            running_since: match &self.state {
                State::Running(running) => Some(running.since),
                _ => None,
            },
            verdict: health.map(crate::health::Health::verdict),
            probes: health.map(crate::health::Health::verdicts).unwrap_or_default(),
            ready: matches!(self.state, State::Running(_))
                && health.is_some_and(crate::health::Health::ready),
            paused: self.paused,
            degraded: self.cadence.refused().map(str::to_owned),
            suspended_in: match &self.state {
                State::Suspended(image) => Some(image.clone()),
                _ => None,
            },
            failed: match &self.state {
                State::Failed(why) => Some(why.clone()),
                State::Stopping(stopping) => stopping.will_fail().cloned(),
                _ => None,
            },
            last_failure: self.last_failure.clone(),
            restarts: self.restarts,
            last_recovery: self.last_recovery.clone(),
            checkpointing: self.dump.as_ref().map(|dump| dump.attempt),
            next_checkpoint: self.cadence.due(),
        }
    }

    const fn state_name(&self) -> StateName {
        match self.state {
            State::Stopped => StateName::Stopped,
            State::Starting(_) => StateName::Starting,
            State::Running(_) => StateName::Running,
            State::Recovering(_) => StateName::Recovering,
            State::Held { .. } => StateName::Held,
            State::Stopping(Stopping { then: Then::Suspend(_), .. }) | State::Suspending(_) => {
                StateName::Suspending
            }
            State::Stopping(_) => StateName::Stopping,
            State::Suspended(_) => StateName::Suspended,
            State::Failed(_) => StateName::Failed,
            State::ShuttingDown(_) => StateName::ShuttingDown,
            State::Idle(_) => StateName::Idle,
        }
    }

    const fn run(&self) -> Option<Attempt> {
        match &self.state {
            State::Running(running) => Some(running.run),
            State::Recovering(Recovery { phase: Phase::Judging(judging), .. }) => Some(judging.run),
            State::Stopping(stopping) => stopping.run(),
            State::Suspending(suspending) => Some(suspending.run()),
            State::ShuttingDown(shutting_down) => shutting_down.run,
            State::Idle(run) => *run,
            State::Stopped
            | State::Starting(_)
            | State::Recovering(_)
            | State::Held { .. }
            | State::Suspended(_)
            | State::Failed(_) => None,
        }
    }

    fn wanted(&self, image: Option<&ImageId>) -> Wanted {
        let images = self.images.all();
        let Some(id) = image else {
            return self.ladder.best(images).map_or(Wanted::Nothing, |_| Wanted::Usable);
        };
        let Some(facts) = images.iter().find(|facts| facts.id == *id) else { return Wanted::Unknown };
        // A person may try again what failed; only what the store says is binding.
        Ladder::unfit(facts).map_or(Wanted::Usable, Wanted::Unusable)
    }

    fn apply(&mut self, now: Instant, event: Event) {
        match event {
            Event::Started { attempt } | Event::Restored { attempt, .. } => self.began(now, attempt, Ok(())),
            Event::StartFailed { attempt, failure } | Event::RestoreFailed { attempt, failure, .. } => {
                self.began(now, attempt, Err(failure));
            }
            Event::CheckpointDone { attempt, image, pause } => {
                self.checkpoint_done(now, attempt, image, pause)
            }
            Event::CheckpointFailed { attempt, failure } => self.checkpoint_failed(now, attempt, failure),
            Event::Killed { attempt } => self.kill_answered(now, attempt, Ok(())),
            Event::KillFailed { attempt, failure } => self.kill_answered(now, attempt, Err(failure)),
            Event::Stopped { attempt } => self.stop_answered(now, attempt, Ok(())),
            Event::StopFailed { attempt, failure } => self.stop_answered(now, attempt, Err(failure)),
            Event::Exited { run, exit } => self.exited(now, run, exit),
            Event::ProbeFinished { run, probe, passed, overlapped_freeze } => {
                self.probe_answered(now, run, ProbeAnswer { probe, passed, overlapped_freeze, until: None });
            }
            Event::ProbeReported { run, probe, passed, overlapped_freeze, holds } => {
                let until = Some(now + holds);
                self.probe_answered(now, run, ProbeAnswer { probe, passed, overlapped_freeze, until });
            }
            Event::ImagesListed { images } => {
                self.images.listed(images);
                self.ladder.keep_only(self.images.all());
            }
            Event::Adopted => self.adopted(now),
            Event::FoundDead { exit } => self.found_dead(now, exit),
            Event::TakenOver => self.taken_over(now),
            Event::Fenced { failure } => self.fenced(now, failure),
            Event::ElsewhereChanged(elsewhere) => self.ladder.set_elsewhere(elsewhere),
            Event::FailOverRefused { why } => self.fail_over_refused(now, why),
            Event::FoundSuspended { image } => self.found_suspended(image),
            Event::DeadlineReached => {}
            Event::CheckpointRequested => self.requested(now, Request::Checkpoint),
            Event::RestoreRequested { image } => self.requested(now, Request::Restore { image }),
            Event::StopRequested => self.requested(now, Request::Stop),
            Event::StartRequested => self.requested(now, Request::Start),
            Event::ImageStartRequested => self.start_from_image(now),
            Event::SuspendRequested => self.requested(now, Request::Suspend),
            Event::ResumeRequested => self.requested(now, Request::Resume),
            Event::PauseRequested => self.requested(now, Request::Pause),
            Event::UnpauseRequested => self.requested(now, Request::Unpause),
            Event::SettingsChanged(settings) => self.settings_changed(now, *settings),
            Event::ShutdownRequested => self.shut_down(now),
        }
    }

    /// What is overdue. One pass: whatever it begins has a deadline of its own.
    fn tick(&mut self, now: Instant) {
        self.tick_dump(now);
        match &self.state {
            State::Stopped
            | State::Held { .. }
            | State::Suspending(_)
            | State::Suspended(_)
            | State::Failed(_)
            | State::Idle(_) => {}
            State::Starting(_) => self.tick_starting(now),
            State::Running(_) => self.tick_running(now),
            State::Recovering(_) => self.tick_recovering(now),
            State::Stopping(_) => self.tick_stopping(now),
            State::ShuttingDown(_) => self.tick_shutting_down(now),
        }
    }

    fn requested(&mut self, now: Instant, request: Request) {
        match self.admit(&request) {
            Admission::AlreadySo => return,
            Admission::Deny(denial) => return self.tell(Notice::Denied(denial)),
            Admission::Accept => {}
        }
        match request {
            Request::Checkpoint => self.begin_dump(now, CheckpointReason::Request),
            Request::Restore { image } => self.restore_asked_for(now, image),
            Request::Stop => self.stop_asked_for(now),
            Request::Start => self.start_asked_for(now),
            Request::Suspend => self.suspend_asked_for(now),
            Request::Resume => self.resume_asked_for(now),
            Request::Pause => {
                self.paused = true;
                self.tell(Notice::Paused);
            }
            Request::Unpause => self.unpaused(now),
            Request::Remove => {}
        }
    }

    fn unpaused(&mut self, now: Instant) {
        self.paused = false;
        self.tell(Notice::Unpaused);
        match &mut self.state {
            State::Held { cause, detected_at } => {
                let (cause, detected_at) = (cause.clone(), *detected_at);
                self.respond(now, detected_at, cause);
            }
            State::Running(_) => self.running_unpaused(now),
            _ => {}
        }
    }

    fn settings_changed(&mut self, now: Instant, settings: Settings) {
        if matches!(self.state, State::ShuttingDown(_) | State::Idle(_)) {
            return;
        }
        let was_refused = self.cadence.refused().is_some();
        let cadence_changed = was_refused || settings.cadence != self.settings.cadence;
        let probes_changed = settings.probes != self.settings.probes;
        self.trial_wanted = settings.trial_dump && (self.trial_wanted || was_refused);
        self.backoff.reload(settings.backoff.clone());
        self.ladder.reload(settings.ladder.clone());
        if cadence_changed {
            let slots = matches!(self.state, State::Running(_)) && self.dump.is_none();
            self.cadence.reload(settings.cadence.clone(), now, slots);
        }
        self.settings = settings;
        if probes_changed {
            self.probes_changed(now);
        }
        self.arm_trial(now);
    }

    /// A new attempt, never given out before.
    const fn issue(&mut self) -> Attempt {
        self.attempt = self.attempt.next();
        self.attempt
    }

    fn command(&mut self, command: Command) {
        self.out.commands.push(command);
    }

    fn tell(&mut self, notice: Notice) {
        self.out.notices.push(notice);
    }

    fn judge(&mut self, image: &ImageId, verdict: ImageVerdict) {
        let fenced =
            matches!(&self.state, State::Stopping(s) if matches!(s.will_fail(), Some(GaveUp::Fenced(_))));
        if fenced {
            return;
        }
        self.images.judge(image, verdict);
        self.command(Command::JudgeImage { image: image.clone(), verdict });
        self.tell(Notice::ImageJudged { image: image.clone(), verdict });
    }
}
