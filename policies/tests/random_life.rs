//! The life of one service under random events, against a shadow model that knows only the invariants of the crate.
//!
//! The model is a world: it holds the effects that were commanded, answers them well or badly, early, late, twice or
//! never, lets runs die and probes fail, sends stale answers and requests, and checks every command.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use policies::admission::{Admission, Request};
use policies::cadence;
use policies::health::{self, Role};
use policies::id::{Attempt, ImageId};
use policies::ladder::{self, Elsewhere};
use policies::service::{
    CheckpointReason, Command, Event, Exit, Failure, FailureKind, ImageFacts, ImageVerdict, Notice, Reaction,
    RestartPolicy, Service, Settings, StateName,
};
use policies::time::{Instant, WallTime};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// What happens next; numbers choose among what is possible just then.
#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    AtDeadline,
    Answer(usize, Answer),
    AnswerStale(u64),
    Exit(Exit),
    Probe { probe: usize, passed: bool, overlapped: bool },
    Report { passed: bool, overlapped: bool, holds_ms: u64 },
    Request(u8, usize),
    List { damage: bool, incompatible: bool },
    Reload(RestartPolicy, bool),
    Found(bool),
    Elsewhere(Elsewhere),
    RefuseFailOver,
    Shutdown,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Answer {
    Well,
    Badly(FailureKind),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let kind = prop_oneof![
        6 => Just(FailureKind::Unavailable),
        2 => Just(FailureKind::Refused),
        2 => Just(FailureKind::Corrupt),
        2 => Just(FailureKind::Internal),
        1 => Just(FailureKind::Invalid),
        1 => Just(FailureKind::Fenced),
    ];
    let answer = prop_oneof![3 => Just(Answer::Well), 2 => kind.prop_map(Answer::Badly)];
    let policy = prop_oneof![
        4 => Just(RestartPolicy::Always),
        2 => Just(RestartPolicy::OnFailure),
        1 => Just(RestartPolicy::UnlessStopped),
        1 => Just(RestartPolicy::Never),
    ];
    let exit =
        prop_oneof![Just(Exit::Code(0)), Just(Exit::Code(1)), Just(Exit::Signal(9)), Just(Exit::Unknown)];
    let one = prop_oneof![
        20 => (1u64..20_000).prop_map(Move::Wait),
        20 => Just(Move::AtDeadline),
        40 => (0usize..4, answer).prop_map(|(which, how)| Move::Answer(which, how)),
        6 => (0u64..200).prop_map(Move::AnswerStale),
        10 => exit.prop_map(Move::Exit),
        30 => (0usize..4, prop::bool::weighted(0.75), prop::bool::weighted(0.2))
            .prop_map(|(probe, passed, overlapped)| Move::Probe { probe, passed, overlapped }),
        6 => (prop::bool::weighted(0.7), prop::bool::weighted(0.2), 1u64..10_000)
            .prop_map(|(passed, overlapped, holds_ms)| Move::Report { passed, overlapped, holds_ms }),
        10 => (0u8..8, any::<usize>()).prop_map(|(what, which)| Move::Request(what, which)),
        3 => (prop::bool::weighted(0.1), prop::bool::weighted(0.1))
            .prop_map(|(damage, incompatible)| Move::List { damage, incompatible }),
        1 => (policy, any::<bool>()).prop_map(|(policy, probes)| Move::Reload(policy, probes)),
        1 => any::<bool>().prop_map(Move::Found),
        2 => prop_oneof![Just(Elsewhere::Possible), Just(Elsewhere::Impossible)].prop_map(Move::Elsewhere),
        3 => Just(Move::RefuseFailOver),
    ];
    let end = prop_oneof![3 => Just(None), 1 => Just(Some(Move::Shutdown))];
    (prop::collection::vec(one, 1..250), end, 0usize..250).prop_map(|(mut all, end, at)| {
        if let Some(end) = end {
            all.insert(at.min(all.len()), end);
        }
        all
    })
}

fn settings(policy: RestartPolicy, with_probes: bool) -> Settings {
    let probe = |role| health::Settings {
        role,
        interval: Duration::from_secs(1),
        failure_threshold: 2,
        start_period: Duration::from_secs(2),
        ..health::Settings::default()
    };
    let probes = if with_probes {
        let reported = health::Settings { reported: true, ..probe(Role::Liveness) };
        vec![probe(Role::Startup), probe(Role::Liveness), probe(Role::Readiness), reported]
    } else {
        vec![]
    };
    Settings {
        cadence: cadence::Settings { interval: Some(Duration::from_secs(3)), ..cadence::Settings::default() },
        ladder: ladder::Settings { max_attempts: 3, ..ladder::Settings::default() },
        probes,
        restart_policy: policy,
        ..Settings::default()
    }
}

/// The world around one service, and what is known of it by the invariants alone.
struct World {
    service: Service,
    now: Instant,
    in_flight: BTreeMap<Attempt, Command>,
    begun: BTreeMap<Attempt, Instant>,
    answered: Vec<Attempt>,
    images: Vec<ImageFacts>,
    /// The last thing commanded besides checkpoints was a kill, and it was answered well.
    surely_dead: bool,
    /// Nothing has ever run, or it was stopped as asked.
    clean: bool,
    stop_wanted: bool,
    shut_down: bool,
    /// Another holds the right to act.
    fenced: bool,
    /// Whether another node could take it.
    elsewhere: Elsewhere,
    /// It was left to a standby, and nobody has said anything since.
    left: bool,
    /// States and commands that came up.
    seen: BTreeSet<String>,
    settings: Settings,
}

impl World {
    fn new(policy: RestartPolicy, with_probes: bool, seed: u64) -> Self {
        let settings = settings(policy, with_probes);
        Self {
            service: Service::new(settings.clone(), seed),
            now: Instant::from_nanos(1),
            in_flight: BTreeMap::new(),
            begun: BTreeMap::new(),
            answered: Vec::new(),
            images: Vec::new(),
            surely_dead: false,
            clean: true,
            stop_wanted: false,
            shut_down: false,
            fenced: false,
            elsewhere: Elsewhere::Impossible,
            left: false,
            seen: BTreeSet::new(),
            settings,
        }
    }

    fn send(&mut self, event: Event) -> Reaction {
        let reaction = self.service.handle(self.now, event.clone());
        self.seen.insert(self.service.status().state.to_string());
        for command in &reaction.commands {
            let name = format!("{command:?}");
            self.seen.insert(name.split(' ').next().unwrap_or_default().to_owned());
            self.check(command, &event);
        }
        self.check_state();
        reaction
    }

    fn flying(&self, what: fn(&Command) -> bool) -> bool {
        self.in_flight.values().any(what)
    }

    fn check(&mut self, command: &Command, event: &Event) {
        if let Some(attempt) = command.attempt() {
            let fresh = !self.in_flight.contains_key(&attempt) && !self.answered.contains(&attempt);
            assert!(fresh, "attempt {attempt} given out twice");
        }
        let kill = matches!(command, Command::Kill { .. });
        assert!(!self.left || kill, "{command:?} of what is left to a standby, after {event:?}");
        assert!(kill || !self.fenced, "{command:?} though fenced");
        let only_dumps = || self.in_flight.values().all(|c| matches!(c, Command::Checkpoint { .. }));
        match command {
            Command::Start { .. } | Command::Restore { .. } => {
                assert!(self.in_flight.is_empty(), "{command:?} beside {:?}", self.in_flight);
                assert!(!self.shut_down && !self.stop_wanted, "{command:?} though nobody wants it");
                let first = self.clean && matches!(command, Command::Start { .. });
                assert!(self.surely_dead || first, "{command:?} without a kill, after {event:?}");
                (self.surely_dead, self.clean) = (false, false);
            }
            Command::Checkpoint { .. } => {
                assert!(self.in_flight.is_empty(), "{command:?} beside {:?}", self.in_flight);
            }
            Command::Stop { .. } => {
                assert!(self.in_flight.is_empty(), "{command:?} beside {:?}", self.in_flight);
                assert!(!self.shut_down);
            }
            Command::Kill { .. } => {
                // It ends a start or restore that was not answered in time; those were given up before.
                assert!(only_dumps(), "{command:?} beside {:?}", self.in_flight);
                assert!(!self.shut_down || self.fenced);
                (self.surely_dead, self.clean) = (false, false);
            }
            Command::FailOver => {
                assert!(self.in_flight.is_empty(), "{command:?} beside {:?}", self.in_flight);
                assert!(self.surely_dead && self.elsewhere == Elsewhere::Possible);
                assert!(!self.shut_down && !self.stop_wanted, "{command:?} though nobody wants it");
                self.left = true;
            }
            Command::JudgeImage { image, .. } => {
                assert!(self.images.iter().any(|i| i.id == *image), "judged an image that was never taken");
            }
        }
        if let Command::Restore { image, .. } = command {
            let facts = self.images.iter().find(|i| i.id == *image).expect("restores only known images");
            assert!(facts.usable(), "restores {facts:?}");
        }
        if let Some(attempt) = command.attempt() {
            self.in_flight.insert(attempt, command.clone());
            self.begun.insert(attempt, self.now);
        }
    }

    fn check_state(&self) {
        let status = self.service.status();
        let waits = match status.state {
            StateName::Starting
            | StateName::Recovering
            | StateName::Stopping
            | StateName::Suspending
            | StateName::ShuttingDown => true,
            StateName::Running => status.checkpointing.is_some(),
            StateName::Stopped
            | StateName::Held
            | StateName::Suspended
            | StateName::Failed
            | StateName::Idle => false,
        };
        assert!(!waits || self.service.deadline().is_some(), "{status:?} waits without a deadline");
        if matches!(status.state, StateName::Stopped | StateName::Suspended | StateName::Idle) {
            assert_eq!(self.service.deadline(), None, "{status:?}");
        }
        assert_eq!(status.checkpointing.is_some(), self.flying(|c| matches!(c, Command::Checkpoint { .. })));
        if !self.flying(|_| true) && matches!(status.state, StateName::Running) {
            assert!(status.run.is_some());
        }
    }

    /// Let time pass, telling the service of each deadline on the way, as its task does.
    fn wait_until(&mut self, until: Instant) {
        for _ in 0..1_000 {
            let Some(deadline) = self.service.deadline().filter(|at| *at <= until) else {
                self.now = self.now.max(until);
                return;
            };
            self.now = self.now.max(deadline);
            // An effect whose time is up is not awaited any more: whatever comes of it is stale.
            for attempt in self.overdue() {
                self.in_flight.remove(&attempt);
                self.answered.push(attempt);
            }
            self.send(Event::DeadlineReached);
            let moved = self.service.deadline().is_none_or(|at| at > self.now);
            assert!(moved, "a deadline was handled and stays: {:?}", self.service.status());
        }
        panic!("a thousand deadlines before {until}");
    }

    /// Effects whose time is up now, by limits that are stated here once more.
    fn overdue(&self) -> Vec<Attempt> {
        let limit = |command: &Command| match command {
            Command::Start { .. } => self.settings.start_timeout,
            Command::Restore { .. } => self.settings.restore_timeout,
            Command::Checkpoint { timeout, reason: CheckpointReason::Suspend, .. } => {
                *timeout + Duration::from_secs(610)
            }
            Command::Checkpoint { timeout, .. } => *timeout + Duration::from_secs(10),
            Command::Kill { .. } => Duration::from_secs(15),
            Command::Stop { .. } => self.settings.stop_timeout + Duration::from_secs(15),
            Command::FailOver | Command::JudgeImage { .. } => Duration::MAX,
        };
        let late = |attempt: &Attempt| self.begun[attempt] + limit(&self.in_flight[attempt]) <= self.now;
        self.in_flight.keys().copied().filter(late).collect()
    }

    fn answer_to(&self, command: &Command, how: Answer) -> Event {
        let failure = |kind| Failure::new(kind, "because");
        match (command.clone(), how) {
            (Command::Start { attempt }, Answer::Well) => Event::Started { attempt },
            (Command::Start { attempt }, Answer::Badly(kind)) => {
                Event::StartFailed { attempt, failure: failure(kind) }
            }
            (Command::Restore { attempt, image }, Answer::Well) => Event::Restored { attempt, image },
            (Command::Restore { attempt, image }, Answer::Badly(kind)) => {
                Event::RestoreFailed { attempt, image, failure: failure(kind) }
            }
            (Command::Checkpoint { attempt, .. }, Answer::Well) => Event::CheckpointDone {
                attempt,
                image: self.new_image(attempt),
                pause: Duration::from_millis(1),
            },
            (Command::Checkpoint { attempt, .. }, Answer::Badly(kind)) => {
                Event::CheckpointFailed { attempt, failure: failure(kind) }
            }
            (Command::Kill { attempt }, Answer::Well) => Event::Killed { attempt },
            (Command::Kill { attempt }, Answer::Badly(kind)) => {
                Event::KillFailed { attempt, failure: failure(kind) }
            }
            (Command::Stop { attempt, .. }, Answer::Well) => Event::Stopped { attempt },
            (Command::Stop { attempt, .. }, Answer::Badly(kind)) => {
                Event::StopFailed { attempt, failure: failure(kind) }
            }
            (Command::FailOver | Command::JudgeImage { .. }, _) => unreachable!("these are not in flight"),
        }
    }

    fn new_image(&self, attempt: Attempt) -> ImageFacts {
        ImageFacts {
            id: ImageId::try_from(format!("i{attempt:08}")).expect("a valid id"),
            taken_at: WallTime::from_unix_nanos(self.now.as_nanos()),
            verdict: ImageVerdict::Unjudged,
            hot: true,
            durable: attempt.0 % 2 == 0,
            pinned: false,
            damaged: false,
            locked: false,
            incompatible: None,
            size: 1,
            parent: None,
        }
    }

    fn answer(&mut self, attempt: Attempt, how: Answer) {
        let Some(command) = self.in_flight.remove(&attempt) else { return };
        let event = self.answer_to(&command, how);
        self.fenced |= how == Answer::Badly(FailureKind::Fenced);
        self.answered.push(attempt);
        match &event {
            Event::CheckpointDone { image, .. } => self.images.push(image.clone()),
            Event::Killed { .. } => self.surely_dead = true,
            Event::Stopped { .. } => self.clean = true,
            _ => {}
        }
        self.send(event);
    }

    fn step(&mut self, step: Move) {
        match step {
            Move::Wait(ms) => self.wait_until(self.now + Duration::from_millis(ms)),
            Move::AtDeadline => {
                if let Some(deadline) = self.service.deadline() {
                    self.wait_until(deadline);
                }
            }
            Move::Answer(which, how) => {
                if let Some(attempt) = self.in_flight.keys().nth(which % self.in_flight.len().max(1)).copied()
                {
                    self.answer(attempt, how);
                }
            }
            Move::AnswerStale(number) => self.stale(Attempt(number)),
            Move::Exit(exit) => {
                if let Some(run) = self.service.status().run {
                    (self.surely_dead, self.clean) = (false, false);
                    self.send(Event::Exited { run, exit });
                }
            }
            Move::Probe { probe, passed, overlapped } => {
                let run = self.service.status().run.unwrap_or_default();
                self.send(Event::ProbeFinished { run, probe, passed, overlapped_freeze: overlapped });
            }
            Move::Report { passed, overlapped, holds_ms } => {
                let run = self.service.status().run.unwrap_or_default();
                let holds = Duration::from_millis(holds_ms);
                let overlapped_freeze = overlapped;
                self.send(Event::ProbeReported { run, probe: 3, passed, overlapped_freeze, holds });
            }
            Move::Request(what, which) => self.request(what, which),
            Move::List { damage, incompatible } => {
                if let Some(image) = self.images.first_mut() {
                    image.damaged |= damage;
                    image.incompatible = incompatible.then(|| "another kernel".to_owned());
                }
                let images = self.images.clone();
                self.send(Event::ImagesListed { images });
            }
            Move::Reload(policy, with_probes) => {
                self.settings = settings(policy, with_probes);
                let settings = Box::new(self.settings.clone());
                self.send(Event::SettingsChanged(settings));
            }
            Move::Found(alive) => {
                let event = if alive { Event::Adopted } else { Event::FoundDead { exit: None } };
                if self.service.status().state == StateName::Stopped {
                    (self.clean, self.stop_wanted) = (false, false);
                }
                self.send(event);
            }
            Move::Elsewhere(elsewhere) => {
                self.elsewhere = elsewhere;
                self.send(Event::ElsewhereChanged(elsewhere));
            }
            Move::RefuseFailOver => {
                (self.left, self.elsewhere) = (false, Elsewhere::Impossible);
                self.send(Event::FailOverRefused { why: "it is gone".to_owned() });
            }
            Move::Shutdown => {
                let on_shutdown = self.send(Event::ShutdownRequested);
                let fine = |c: &Command| matches!(c, Command::Checkpoint { .. });
                assert!(on_shutdown.commands.iter().all(fine));
                self.shut_down = true;
            }
        }
    }

    /// Answers to what was answered, given up or never asked change nothing.
    fn stale(&mut self, attempt: Attempt) {
        if self.in_flight.contains_key(&attempt) || self.service.status().run == Some(attempt) {
            return;
        }
        let failure = Failure::new(FailureKind::Fenced, "stale");
        let image = self.new_image(attempt);
        let id = image.id.clone();
        let pause = Duration::ZERO;
        let events = [
            Event::Started { attempt },
            Event::StartFailed { attempt, failure: failure.clone() },
            Event::Restored { attempt, image: id.clone() },
            Event::RestoreFailed { attempt, image: id, failure: failure.clone() },
            Event::CheckpointDone { attempt, image, pause },
            Event::CheckpointFailed { attempt, failure: failure.clone() },
            Event::Killed { attempt },
            Event::KillFailed { attempt, failure: failure.clone() },
            Event::Stopped { attempt },
            Event::StopFailed { attempt, failure },
            Event::Exited { run: attempt, exit: Exit::Signal(11) },
            Event::ProbeFinished { run: attempt, probe: 0, passed: false, overlapped_freeze: false },
        ];
        for event in events {
            let before = self.service.clone();
            let reaction = self.service.handle(self.now, event.clone());
            assert_eq!(reaction, Reaction::default(), "{event:?}");
            assert_eq!(self.service, before, "{event:?}");
        }
    }

    fn request(&mut self, what: u8, which: usize) {
        self.left = false;
        let image = self.images.get(which % self.images.len().max(1)).map(|i| i.id.clone());
        match what {
            0 => {
                // A stop that is denied (it is being suspended, say) is none.
                let denied = matches!(self.service.admit(&Request::Stop), Admission::Deny(_));
                self.stop_wanted = if denied { self.stop_wanted } else { !self.shut_down };
                self.send(Event::StopRequested);
            }
            1 => {
                self.stop_wanted = false;
                self.send(Event::StartRequested);
            }
            2 => {
                let busy = self.service.status().state;
                self.stop_wanted &= !matches!(busy, StateName::Stopped | StateName::Failed);
                self.send(Event::RestoreRequested { image: image.filter(|_| which % 3 > 0) });
            }
            3 => drop(self.send(Event::CheckpointRequested)),
            4 => drop(self.send(Event::PauseRequested)),
            5 => drop(self.send(Event::SuspendRequested)),
            6 => drop(self.send(Event::ResumeRequested)),
            _ => drop(self.send(Event::UnpauseRequested)),
        }
    }

    /// Everything fails from now on: it must come to rest.
    fn fail_everything(&mut self) {
        for round in 0..2_000 {
            if let Some(attempt) = self.in_flight.keys().next().copied() {
                let kill = matches!(self.in_flight[&attempt], Command::Kill { .. });
                let how = if kill { Answer::Well } else { Answer::Badly(FailureKind::Unavailable) };
                self.answer(attempt, how);
            } else if let Some(run) = self.service.status().run {
                self.send(Event::Exited { run, exit: Exit::Signal(11) });
            } else if let Some(deadline) = self.service.deadline() {
                self.wait_until(deadline);
            } else {
                return;
            }
            assert!(round < 1_999, "does not come to rest: {:?}", self.service.status());
        }
    }
}

/// Histories that never get anywhere would prove nothing.
#[test]
fn the_histories_reach_every_state_and_every_command() {
    let mut runner = TestRunner::deterministic();
    let mut seen = BTreeSet::new();
    for round in 0..150 {
        let history = moves().new_tree(&mut runner).expect("a history").current();
        let mut world = World::new(RestartPolicy::ALL[round % 4], round % 3 > 0, 1);
        world.send(Event::StartRequested);
        history.into_iter().for_each(|step| world.step(step));
        seen.append(&mut world.seen);
    }
    let commands =
        ["Start", "Restore", "Checkpoint", "Kill", "Stop", "FailOver", "JudgeImage"].map(str::to_owned);
    let wanted: BTreeSet<String> = StateName::ALL.iter().map(ToString::to_string).chain(commands).collect();
    assert_eq!(seen, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn invariants_hold_whatever_happens(
        moves in moves(),
        with_probes in any::<bool>(),
        seed in any::<u64>(),
        kind in 0usize..4,
    ) {
        let mut world = World::new(RestartPolicy::ALL[kind], with_probes, seed);
        world.send(Event::StartRequested);
        for step in moves {
            world.step(step);
        }
        let resumed = world.send(Event::UnpauseRequested);
        prop_assert!(!resumed.notices.contains(&Notice::Stopped) || world.in_flight.is_empty());
        world.fail_everything();
        let state = world.service.status().state;
        let at_rest = [StateName::Stopped, StateName::Suspended, StateName::Failed, StateName::Idle];
        prop_assert!(at_rest.contains(&state), "{state}");
    }

    #[test]
    fn the_same_history_gives_the_same_commands(moves in moves(), seed in any::<u64>()) {
        let run = || {
            let mut world = World::new(RestartPolicy::Always, true, seed);
            world.send(Event::StartRequested);
            moves.iter().for_each(|step| world.step(step.clone()));
            (world.in_flight, world.now, world.service)
        };
        prop_assert_eq!(run(), run());
    }
}
