//! A service on a stage: events by short names, commands as text, the attempts looked up.

use std::time::Duration;

use policies::health;
use policies::id::{Attempt, ImageId};
use policies::service::{
    Command, Event, Exit, Failure, FailureKind, ImageFacts, ImageVerdict, Notice, RestartPolicy, Service,
    Settings, StateName, Status,
};
use policies::time::{Instant, WallTime};
use policies::{backoff, cadence, ladder};

pub(crate) struct Stage {
    pub(crate) service: Service,
    pub(crate) now: Instant,
    /// Commands in flight, the oldest first.
    pub(crate) in_flight: Vec<Command>,
    pub(crate) notices: Vec<Notice>,
}

/// No jitter, no cadence, no trial, no probes: a test adds what it is about.
pub(crate) fn quiet() -> Settings {
    Settings {
        backoff: backoff::Settings { jitter: 0.0, ..backoff::Settings::default() },
        cadence: cadence::Settings { interval: None, jitter: 0.0, ..cadence::Settings::default() },
        ladder: ladder::Settings::default(),
        trial_dump: false,
        ..Settings::default()
    }
}

pub(crate) fn with_cadence(seconds: u64) -> Settings {
    let mut settings = quiet();
    settings.cadence.interval = Some(Duration::from_secs(seconds));
    settings
}

/// Asked every second, sick after two failures.
pub(crate) fn with_liveness(settings: Settings) -> Settings {
    let probe = health::Settings {
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        failure_threshold: 2,
        ..health::Settings::default()
    };
    Settings { probes: vec![probe], ..settings }
}

pub(crate) fn with_policy(restart_policy: RestartPolicy) -> Settings {
    Settings { restart_policy, ..quiet() }
}

pub(crate) fn id(name: &str) -> ImageId {
    ImageId::try_from(name).unwrap()
}

pub(crate) fn image(name: &str, taken_at: u64, verdict: ImageVerdict) -> ImageFacts {
    ImageFacts {
        id: id(name),
        taken_at: WallTime::from_unix_nanos(taken_at),
        verdict,
        hot: false,
        durable: true,
        pinned: false,
        damaged: false,
        locked: false,
        incompatible: None,
        size: 1,
        parent: None,
    }
}

pub(crate) fn failure(kind: FailureKind) -> Failure {
    Failure::new(kind, "because")
}

impl Stage {
    pub(crate) fn new(settings: Settings) -> Self {
        let service = Service::new(settings, 1);
        let now = Instant::from_nanos(1_000_000_000_000);
        Self { service, now, in_flight: Vec::new(), notices: Vec::new() }
    }

    /// Running, with two good images: `a` and the newer `b`.
    pub(crate) fn running(settings: Settings) -> Self {
        let mut stage = Self::new(settings);
        stage.list(vec![image("a", 1, ImageVerdict::Good), image("b", 2, ImageVerdict::Good)]);
        assert_eq!(stage.send(Event::StartRequested), ["start"]);
        assert!(stage.well().is_empty());
        stage
    }

    /// The same, for longer than it takes to be stable.
    pub(crate) fn stable(settings: Settings) -> Self {
        let mut stage = Self::running(settings);
        if !stage.service.settings().probes.is_empty() {
            stage.probe(true);
        }
        stage.wait(Duration::from_secs(11));
        stage
    }

    pub(crate) fn status(&self) -> Status {
        self.service.status()
    }

    pub(crate) fn state(&self) -> StateName {
        self.status().state
    }

    pub(crate) fn run(&self) -> Attempt {
        self.status().run.unwrap()
    }

    /// What is commanded, as text.
    pub(crate) fn send(&mut self, event: Event) -> Vec<String> {
        let reaction = self.service.handle(self.now, event);
        self.notices.extend(reaction.notices);
        let shown = reaction.commands.iter().map(show).collect();
        self.in_flight.extend(reaction.commands.into_iter().filter(|c| c.attempt().is_some()));
        shown
    }

    pub(crate) fn list(&mut self, images: Vec<ImageFacts>) {
        assert!(self.send(Event::ImagesListed { images }).is_empty());
    }

    /// Let time pass, with a tick at each deadline on the way.
    pub(crate) fn wait(&mut self, time: Duration) -> Vec<String> {
        let until = self.now + time;
        let mut shown = Vec::new();
        while let Some(deadline) = self.service.deadline().filter(|at| *at <= until) {
            self.now = self.now.max(deadline);
            shown.extend(self.send(Event::DeadlineReached));
        }
        self.now = until;
        shown
    }

    pub(crate) fn wait_ms(&mut self, ms: u64) -> Vec<String> {
        self.wait(Duration::from_millis(ms))
    }

    /// How long until the next deadline.
    pub(crate) fn deadline_in(&self) -> Option<Duration> {
        self.service.deadline().map(|at| at.since(self.now))
    }

    /// The oldest effect in flight succeeds; a checkpoint's image is named after its attempt.
    pub(crate) fn well(&mut self) -> Vec<String> {
        let event = match self.in_flight.remove(0) {
            Command::Start { attempt } => Event::Started { attempt },
            Command::Restore { attempt, image } => Event::Restored { attempt, image },
            Command::Kill { attempt } => Event::Killed { attempt },
            Command::Stop { attempt, .. } => Event::Stopped { attempt },
            Command::Checkpoint { attempt, .. } => {
                let image = image("new", self.now.as_nanos(), ImageVerdict::Unjudged);
                return self.checkpoint_done(attempt, image);
            }
            Command::FailOver | Command::JudgeImage { .. } => unreachable!("not in flight"),
        };
        self.send(event)
    }

    pub(crate) fn checkpoint_done(&mut self, attempt: Attempt, image: ImageFacts) -> Vec<String> {
        self.send(Event::CheckpointDone { attempt, image, pause: Duration::from_millis(5) })
    }

    /// The oldest effect in flight fails.
    pub(crate) fn badly(&mut self, kind: FailureKind) -> Vec<String> {
        let failure = failure(kind);
        let event = match self.in_flight.remove(0) {
            Command::Start { attempt } => Event::StartFailed { attempt, failure },
            Command::Restore { attempt, image } => Event::RestoreFailed { attempt, image, failure },
            Command::Kill { attempt } => Event::KillFailed { attempt, failure },
            Command::Stop { attempt, .. } => Event::StopFailed { attempt, failure },
            Command::Checkpoint { attempt, .. } => Event::CheckpointFailed { attempt, failure },
            Command::FailOver | Command::JudgeImage { .. } => unreachable!("not in flight"),
        };
        self.send(event)
    }

    pub(crate) fn exit(&mut self, exit: Exit) -> Vec<String> {
        let run = self.run();
        self.send(Event::Exited { run, exit })
    }

    pub(crate) fn crash(&mut self) -> Vec<String> {
        self.exit(Exit::Signal(9))
    }

    /// The first probe is answered.
    pub(crate) fn probe(&mut self, passed: bool) -> Vec<String> {
        let run = self.run();
        self.send(Event::ProbeFinished { run, probe: 0, passed, overlapped_freeze: false })
    }

    pub(crate) fn told(&self, wanted: impl Fn(&Notice) -> bool) -> bool {
        self.notices.iter().any(wanted)
    }
}

fn show(command: &Command) -> String {
    match command {
        Command::Start { .. } => "start".to_owned(),
        Command::Restore { image, .. } => format!("restore {image}"),
        Command::Checkpoint { reason, .. } => format!("checkpoint {reason}"),
        Command::Kill { .. } => "kill".to_owned(),
        Command::Stop { suspended_in: Some(image), .. } => format!("clear away, it is in {image}"),
        Command::Stop { suspended_in: None, .. } => "stop".to_owned(),
        Command::FailOver => "fail-over".to_owned(),
        Command::JudgeImage { image, verdict } => format!("judge {image} {verdict}"),
    }
}
