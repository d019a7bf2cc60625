//! The probes, and what their results come to.
//!
//! One task owns the rows; each probe has a task of its own that sends it results.

use engine::probe::{Outcome, Probe};
use policies::health::{Health, Role, Settings, Verdict};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::assemble::{NamedProbe, Source};
use crate::clock::Clock;

/// Results that may wait.
const WAITING: usize = 64;

/// What is known of the application.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) ready: bool,
    pub(super) probes: Vec<Seen>,
    /// Grows with each run of the application that is known to have begun.
    pub(super) of_run: u64,
}

/// One probe.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) verdict: Verdict,
    pub(super) passed: u64,
    pub(super) failed: u64,
    /// What came of the last one, for people.
    pub(super) detail: String,
}

impl Found {
    /// What is wrong, in one line.
    pub(super) fn complaint(&self) -> String {
        let bad = self.probes.iter().filter(|probe| probe.verdict == Verdict::Unhealthy);
        bad.map(|probe| format!("{}: {}", probe.name, probe.detail)).collect::<Vec<_>>().join("; ")
    }
}

/// A hand on the watch; dropped, it goes on.
#[derive(Debug)]
pub(super) struct Watch {
    anew: mpsc::Sender<Message>,
}

enum Message {
    Answered(usize, Outcome),
    /// Another run of the application: what was found says nothing about it.
    Anew,
}

impl Watch {
    /// Begins to probe; the other end shows what is found.
    pub(super) fn begin(probes: &[NamedProbe]) -> (Self, watch::Receiver<Found>) {
        let (to, from) = mpsc::channel(WAITING);
        let mut asked = Vec::new();
        for named in probes {
            // The configuration of a sidecar knows no others.
            let Source::Asked(probe) = &named.source else { continue };
            tokio::spawn(ask_on(asked.len(), Probe::clone(probe), named.settings.clone(), to.clone()));
            asked.push(named);
        }
        let settings: Vec<_> = asked.iter().map(|named| named.settings.clone()).collect();
        let rows = Rows::new(settings, asked.iter().map(|named| named.name.clone()));
        let (publish, found) = watch::channel(rows.found());
        tokio::spawn(rows.keep(from, publish));
        (Self { anew: to }, found)
    }

    /// The application is another one now.
    pub(super) async fn begin_anew(&self) {
        // It ends with the program.
        let _ = self.anew.send(Message::Anew).await;
    }
}

/// Asks at the probe's interval, the first time at once.
async fn ask_on(place: usize, probe: Probe, settings: Settings, to: mpsc::Sender<Message>) {
    let mut due = Instant::now();
    loop {
        tokio::time::sleep_until(due).await;
        due = Instant::now() + settings.interval;
        let outcome = probe.run(settings.timeout).await;
        if to.send(Message::Answered(place, outcome)).await.is_err() {
            return;
        }
    }
}

struct Rows {
    clock: Clock,
    settings: Vec<Settings>,
    health: Health,
    seen: Vec<Seen>,
    run: u64,
}

impl Rows {
    fn new(settings: Vec<Settings>, names: impl Iterator<Item = String>) -> Self {
        let clock = Clock::start();
        let seen = |(name, settings): (String, &Settings)| Seen {
            name,
            role: settings.role,
            verdict: Verdict::Starting,
            passed: 0,
            failed: 0,
            detail: "not asked yet".to_owned(),
        };
        let seen = names.zip(&settings).map(seen).collect();
        Self { health: Health::new(&settings, clock.now()), clock, settings, seen, run: 0 }
    }

    async fn keep(mut self, mut from: mpsc::Receiver<Message>, publish: watch::Sender<Found>) {
        while let Some(message) = from.recv().await {
            let before = self.health.verdict();
            match message {
                Message::Answered(place, outcome) => self.count(place, outcome),
                Message::Anew => self.begin_anew(),
            }
            let after = self.health.verdict();
            if before != after {
                tracing::info!(from = %before, to = %after, "the verdict has changed");
            }
            publish.send_replace(self.found());
        }
    }

    fn begin_anew(&mut self) {
        self.run += 1;
        self.health = Health::new(&self.settings, self.clock.now());
    }

    fn count(&mut self, place: usize, outcome: Outcome) {
        let Some(seen) = self.seen.get_mut(place) else { return };
        *(if outcome.passed { &mut seen.passed } else { &mut seen.failed }) += 1;
        if !outcome.passed {
            tracing::debug!(probe = seen.name, detail = outcome.detail, "a probe failed");
        }
        seen.detail = outcome.detail;
        self.health.record(self.clock.now(), place, outcome.passed, false);
    }

    fn found(&self) -> Found {
        let probes = self.seen.iter().zip(self.health.verdicts());
        Found {
            verdict: self.health.verdict(),
            ready: self.health.ready(),
            probes: probes.map(|(seen, verdict)| Seen { verdict, ..seen.clone() }).collect(),
            of_run: self.run,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rows() -> Rows {
        let settings = |role| Settings { role, failure_threshold: 2, ..Settings::default() };
        let settings = vec![settings(Role::Liveness), settings(Role::Readiness)];
        Rows::new(settings, ["alive".to_owned(), "able".to_owned()].into_iter())
    }

    fn outcome(passed: bool) -> Outcome {
        Outcome { passed, detail: format!("passed: {passed}"), took: Duration::ZERO }
    }

    #[tokio::test]
    async fn results_become_a_verdict_and_another_run_begins_anew() {
        let mut rows = rows();
        assert_eq!((rows.found().verdict, rows.found().ready), (Verdict::Starting, false));
        rows.count(0, outcome(true));
        assert_eq!((rows.found().verdict, rows.found().ready), (Verdict::Healthy, false));
        rows.count(1, outcome(true));
        assert!(rows.found().ready);
        rows.count(0, outcome(false));
        rows.count(0, outcome(false));
        let found = rows.found();
        assert_eq!((found.verdict, found.ready), (Verdict::Unhealthy, false));
        assert_eq!(found.complaint(), "alive: passed: false");
        assert_eq!((found.probes[0].passed, found.probes[0].failed), (1, 2));

        let (to, from) = mpsc::channel(1);
        let (publish, mut seen) = watch::channel(found);
        tokio::spawn(rows.keep(from, publish));
        Watch { anew: to }.begin_anew().await;
        seen.changed().await.expect("it is told");
        assert_eq!(
            (seen.borrow().verdict, seen.borrow().of_run),
            (Verdict::Starting, 1),
            "nothing is known yet"
        );
    }
}
