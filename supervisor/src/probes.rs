//! Probing a run: one task a probe, results to the service's task.
//!
//! A run that is young is asked in quick succession until it answers well for the first time, since the time until then is
//! part of every recovery. Failures count only at the probe's own interval. What is reported from outside is not asked for here.

use std::sync::Arc;
use std::time::Duration;

use engine::probe::Probe;
use engine::runtime::Instance;
use policies::health::Settings;
use policies::id::Attempt;
use policies::service::Event;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::assemble::{NamedProbe, Source};
use crate::carry_out::{FreezeMark, Freezes};
use crate::service::Message;

/// The first pause between quick attempts; it doubles.
const QUICK_INITIAL: Duration = Duration::from_millis(2);
/// The longest pause between quick attempts.
const QUICK_MAX: Duration = Duration::from_millis(100);

/// The probes of one run; dropped, they end.
#[derive(Debug)]
pub(crate) struct Probing {
    _until_dropped: DropGuard,
}

impl Probing {
    /// Begins to probe.
    pub(crate) fn start(
        run: Attempt,
        probes: &[NamedProbe],
        instance: Option<&Instance>,
        freezes: Arc<Freezes>,
        inbox: &mpsc::Sender<Message>,
    ) -> Self {
        let token = CancellationToken::new();
        for (place, probe) in probes.iter().enumerate() {
            let Source::Asked(asked) = &probe.source else { continue };
            let instance = match &probe.member {
                Some(member) => instance.and_then(|group| group.member(member.as_str())),
                None => instance,
            };
            let prober = Prober {
                run,
                place,
                name: probe.name.clone(),
                probe: Probe::clone(asked).of_run(instance),
                settings: probe.settings.clone(),
                freezes: Arc::clone(&freezes),
                inbox: inbox.clone(),
            };
            let token = token.clone();
            // A probe that is dropped half-way cleans up after itself.
            tokio::spawn(async move { token.run_until_cancelled(prober.probe_on()).await });
        }
        Self { _until_dropped: token.drop_guard() }
    }
}

struct Prober {
    run: Attempt,
    place: usize,
    name: String,
    probe: Probe,
    settings: Settings,
    freezes: Arc<Freezes>,
    inbox: mpsc::Sender<Message>,
}

struct Result {
    passed: bool,
    overlapped_freeze: bool,
    /// From before it was asked for.
    mark: FreezeMark,
}

impl Prober {
    async fn probe_on(self) {
        let mut due = Instant::now() + self.settings.interval;
        let mut result = self.until_first_pass(due).await;
        // A call for help is as good as so many failures.
        let mut calls = self.settings.failure_threshold;
        loop {
            let mark = result.mark;
            if !self.report(result).await {
                return;
            }
            let since = tokio::select! {
                () = tokio::time::sleep_until(due) => mark,
                since = self.asked_after_freeze(mark) => since,
                () = self.probe.asks_for_help(), if calls > 0 => {
                    calls -= 1;
                    mark
                }
            };
            due = Instant::now() + self.settings.interval;
            result = self.once(since).await;
        }
    }

    /// An image is judged by the first answer after its freeze: that should not take a whole interval.
    async fn asked_after_freeze(&self, mark: FreezeMark) -> FreezeMark {
        self.freezes.answered_since(mark).await;
        let since = self.freezes.mark();
        self.probe.may_be_asked().await;
        since
    }

    /// The first good answer, or the last bad one when the first interval is over.
    async fn until_first_pass(&self, until: Instant) -> Result {
        let mut pause = QUICK_INITIAL;
        loop {
            let result = self.once(self.freezes.mark()).await;
            if result.passed || Instant::now() + pause >= until {
                return result;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(QUICK_MAX);
        }
    }

    /// A good answer is about the time since then, if it looks back.
    async fn once(&self, since: FreezeMark) -> Result {
        let mark = self.freezes.mark();
        let outcome = self.probe.run(self.settings.timeout).await;
        if !outcome.passed {
            tracing::debug!(probe = self.name, detail = outcome.detail, "a probe failed");
        }
        let about = if outcome.passed && self.probe.looks_back() { since } else { mark };
        Result { passed: outcome.passed, overlapped_freeze: self.freezes.any_since(about), mark }
    }

    async fn report(&self, result: Result) -> bool {
        let Result { passed, overlapped_freeze, .. } = result;
        let event = Event::ProbeFinished { run: self.run, probe: self.place, passed, overlapped_freeze };
        self.inbox.send(Message::Event(event)).await.is_ok()
    }
}
