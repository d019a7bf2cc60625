//! Hooks: whoever is to be told of events is told, beside everything else and in front of nothing.
//!
//! ```text
//! journal ──live──> listener: one of these kinds, of this service? ──bounded queue──> teller: one event after the other
//! ```
//!
//! Nothing waits for a hook: what does not fit into its queue is not told, and that is said. A hook's own failure is the event
//! `hook-failed`, of which no hook is told, so nothing goes round in circles. Each hook has one command or request at a time.

mod message;
mod teller;
#[cfg(test)]
mod tests;

use std::time::Duration;

use config::Config;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::message::Sender;
use self::teller::Teller;
use crate::assemble::{Way, ways};
use crate::events::{Events, plain};
use crate::status::EventRecord;

pub(crate) use self::teller::tell_of_take_over;

/// The kind of event that says that a hook has failed.
pub(crate) const HOOK_FAILED: &str = "hook-failed";
/// How many events may wait for one hook.
const QUEUE: usize = 256;
/// How long hooks may take for the last events when the supervisor stops.
const END_MAX: Duration = Duration::from_secs(5);

/// All hooks of a configuration.
#[derive(Debug)]
pub(crate) struct Hooks {
    events: Events,
    node: String,
    running: Vec<Running>,
    /// Of an earlier configuration; they tell what they had heard.
    leaving: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    stop: CancellationToken,
    telling: JoinHandle<()>,
}

/// What one hook listens for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    /// Only of this service; `None`: of all, and of the node.
    pub(crate) service: Option<String>,
    /// Only of these kinds; empty: of all.
    pub(crate) kinds: Vec<String>,
}

impl Hooks {
    /// From now on they are told.
    pub(crate) fn start(config: &Config, events: Events, node: String) -> Self {
        let mut hooks = Self { events, node, running: Vec::new(), leaving: Vec::new() };
        hooks.replace(config);
        hooks
    }

    /// Those of another configuration instead. Each event is told to the former or to the new ones.
    pub(crate) fn replace(&mut self, config: &Config) {
        self.leaving.retain(|hook| !hook.telling.is_finished());
        let new = ways(config).into_iter().map(|(wanted, way)| self.run(wanted, way)).collect();
        for former in std::mem::replace(&mut self.running, new) {
            former.stop.cancel();
            self.leaving.push(former);
        }
    }

    /// Lets them tell the last events, for a while. What then still runs is killed.
    pub(crate) async fn end(mut self) {
        self.running.iter().for_each(|hook| hook.stop.cancel());
        self.running.append(&mut self.leaving);
        let deadline = tokio::time::Instant::now() + END_MAX;
        for mut hook in self.running {
            if tokio::time::timeout_at(deadline, &mut hook.telling).await.is_err() {
                tracing::warn!("a hook has not told the last events in time");
                hook.telling.abort();
                // It ends at once; with it, its command.
                let _ = hook.telling.await;
            }
        }
    }

    fn run(&self, wanted: Wanted, way: Way) -> Running {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let (events, name) = (self.events.clone(), way.name());
        let listener =
            Listener { live: events.follow(), wanted, queue, missed: 0, name, events: events.clone() };
        tokio::spawn(listener.listen(stop.clone()));
        let sender = Sender { node: self.node.clone() };
        let telling = tokio::spawn(Teller { way, sender, events }.tell_on(waiting));
        Running { stop, telling }
    }
}

impl Wanted {
    fn wants(&self, record: &EventRecord) -> bool {
        let of_its_service = self.service.is_none() || self.service == record.service;
        let of_its_kinds = self.kinds.is_empty() || self.kinds.contains(&record.kind);
        of_its_service && of_its_kinds && record.kind != HOOK_FAILED
    }
}

struct Listener {
    live: broadcast::Receiver<EventRecord>,
    wanted: Wanted,
    queue: mpsc::Sender<EventRecord>,
    /// How many events were not told since the last that was.
    missed: u64,
    name: String,
    events: Events,
}

impl Listener {
    /// Until stopped; what had happened by then is told.
    async fn listen(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                record = self.live.recv() => match record {
                    Ok(record) => self.hear(record),
                    Err(broadcast::error::RecvError::Lagged(count)) => self.miss(count),
                    Err(broadcast::error::RecvError::Closed) => return,
                },
                () = stop.cancelled() => break,
            }
        }
        loop {
            match self.live.try_recv() {
                Ok(record) => self.hear(record),
                Err(broadcast::error::TryRecvError::Lagged(count)) => self.miss(count),
                Err(_) => return,
            }
        }
    }

    fn hear(&mut self, record: EventRecord) {
        if !self.wanted.wants(&record) {
            return;
        }
        if self.queue.try_send(record).is_err() {
            return self.miss(1);
        }
        if self.missed > 0 {
            let text = format!("{} is told again; it has missed {} events", self.name, self.missed);
            self.missed = 0;
            self.say(text);
        }
    }

    /// Said once, not for each of them.
    fn miss(&mut self, count: u64) {
        if self.missed == 0 {
            self.say(format!("{} is behind by {QUEUE} events, and misses further ones", self.name));
        }
        self.missed += count;
    }

    fn say(&self, text: String) {
        self.events.record(plain(self.wanted.service.as_deref(), HOOK_FAILED, text));
    }
}
