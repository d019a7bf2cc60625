//! The only place where a decision becomes an effect.
//!
//! Each effect runs apart from the service's task and comes back to it as one message that bears the attempt of its
//! command. What is meant is written to the journal before it is done. Start, restore, stop and the clearing up after
//! them exclude each other; a kill first interrupts whichever of them is under way.

mod checkpoint;
mod commit;
mod ending;
mod files;
mod freezes;
mod judge;
mod keep;
mod naming;
mod restore;
mod words;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::capture::PutBack;
use engine::compat::Host;
use engine::failpoint::fail_point;
use engine::images::Store;
use engine::journal::{Journal, Record};
use engine::runtime::{Ended, Handle, Instance, Outside};
use policies::id::{Attempt, ImageId, ServiceName};
use policies::reclaim::Intent;
use policies::service::{CheckpointReason, Command, Event};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio_util::task::TaskTracker;

pub(crate) use commit::mebibytes;
pub(crate) use freezes::{FreezeMark, Freezes};
pub(crate) use judge::incompatible;
pub(crate) use naming::{image_id, now, wall_time};
pub(crate) use words::{exit, failure};

use judge::Judge;

use crate::assemble::Parts;
use crate::events::{Events, failed, plain};
use crate::replicas::Replicas;
use crate::service::{Listing, Message};
use crate::tenure::{Tenures, Wish};

/// An effect that has ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A start or restore; the instance if it worked.
    Began {
        /// Of the command.
        attempt: Attempt,
        /// The answer.
        event: Event,
        /// What runs now.
        instance: Option<Instance>,
    },
    /// Any other.
    Happened(Event),
    /// The store was read.
    Listed(Listing),
}

impl Outcome {
    /// Whether it tells of the store's images.
    pub(crate) const fn is_listing(&self) -> bool {
        matches!(self, Self::Listed(_))
    }
}

/// What all services of a node share.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Its name.
    pub(crate) name: String,
    /// The images.
    pub(crate) store: Store,
    /// What was meant.
    pub(crate) journal: Journal,
    /// What happened.
    pub(crate) events: Events,
    /// This host, as images record it.
    pub(crate) host: Host,
    /// Commits take both processor and disk: one at a time.
    pub(crate) commits: Arc<Semaphore>,
    /// Folders of files that were moved aside for a restore.
    pub(crate) aside: PathBuf,
    /// Which services may run here.
    pub(crate) tenures: Tenures,
    /// Where durable images are sent.
    pub(crate) replicas: Replicas,
}

/// The effects of one service.
#[derive(Debug)]
pub(crate) struct Actor {
    shared: Arc<Shared>,
    effects: TaskTracker,
}

#[derive(Debug)]
struct Shared {
    name: ServiceName,
    node: Node,
    parts: Mutex<Arc<Parts>>,
    inbox: std::sync::OnceLock<mpsc::Sender<Message>>,
    freezes: Arc<Freezes>,
    /// Held by whatever changes what runs.
    acting: tokio::sync::Mutex<()>,
    instance: Mutex<Option<Instance>>,
    /// The last image that was taken, and how long after its checkpoint's beginning the service ran again.
    thawed: Mutex<Option<(ImageId, Duration)>>,
    /// Files put back for a restore that is not judged yet.
    put_back: Mutex<Option<PutBack>>,
    to_commit: Notify,
    /// It runs: what else is to be done may begin.
    began: Notify,
    /// Its newest image is hot here and at the node that has it now: committed when that serves, and not by whoever ends it here.
    is_handed_over: AtomicBool,
    stopping: AtomicBool,
    /// A suspension is for our own end.
    ends_with_us: AtomicBool,
}

impl Actor {
    /// For a service that does not run, or runs as this instance.
    pub(crate) fn new(name: ServiceName, node: Node, parts: Arc<Parts>, instance: Option<Instance>) -> Self {
        let shared = Shared {
            name,
            node,
            parts: Mutex::new(parts),
            inbox: std::sync::OnceLock::new(),
            freezes: Arc::default(),
            acting: tokio::sync::Mutex::default(),
            instance: Mutex::new(instance),
            thawed: Mutex::default(),
            put_back: Mutex::default(),
            to_commit: Notify::new(),
            began: Notify::new(),
            is_handed_over: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            ends_with_us: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared), effects: TaskTracker::new() }
    }

    /// Where answers go. Commits begin, too: an earlier supervisor may have left some to be done.
    pub(crate) fn connect(&self, inbox: mpsc::Sender<Message>) {
        if self.shared.inbox.set(inbox).is_ok() {
            self.effects.spawn(commit::commit_on(Arc::clone(&self.shared)));
            self.shared.to_commit.notify_one();
        }
    }

    /// Begins an effect.
    pub(crate) fn carry_out(&self, command: Command, paused: bool) {
        let shared = Arc::clone(&self.shared);
        let freezes = matches!(command, Command::Checkpoint { .. });
        self.effects.spawn(async move {
            if let Some(outcome) = shared.perform(command, paused).await {
                shared.report(outcome).await;
            }
            if freezes {
                shared.freezes.answered();
            }
        });
    }

    /// Watches a run to its end.
    pub(crate) fn watch(&self, run: Attempt, instance: Instance) {
        let shared = Arc::clone(&self.shared);
        // Not counted among the effects: a service runs on when we stop.
        tokio::spawn(async move {
            let ended = instance.ended().await.unwrap_or_else(|error| {
                tracing::error!(%error, service = %shared.name, "the service can no longer be watched");
                Ended::default()
            });
            if shared.follow(ended.outside).await {
                shared.report(Outcome::Happened(Event::Exited { run, exit: exit(ended) })).await;
            }
        });
    }

    /// Reads the store for the policy.
    pub(crate) fn list_images(&self) {
        let shared = Arc::clone(&self.shared);
        self.effects.spawn(async move { shared.list().await });
    }

    /// The same, for somebody who waits for it.
    pub(crate) fn list_images_for(&self, listed: oneshot::Sender<()>) {
        let shared = Arc::clone(&self.shared);
        self.effects.spawn(async move {
            shared.list().await;
            // Whoever asked may have gone.
            let _ = listed.send(());
        });
    }

    /// A restore was judged good: what it replaced is not needed any more.
    pub(crate) fn keep_files(&self) {
        let shared = Arc::clone(&self.shared);
        let put_back = lock(&shared.put_back).take();
        if let Some(files) = put_back {
            self.effects.spawn_blocking(move || {
                if let Err(error) = files.keep() {
                    tracing::warn!(%error, service = %shared.name, "files that a restore replaced could not be removed");
                }
            });
        }
    }

    /// Takes the new configuration in.
    pub(crate) fn reload(&self, parts: Arc<Parts>) {
        *lock(&self.shared.parts) = parts;
    }

    /// Remembers over our own restart that policies are held.
    pub(crate) fn note_paused(&self, paused: bool) {
        let shared = Arc::clone(&self.shared);
        self.effects.spawn_blocking(move || {
            let record = shared.node.journal.read(&shared.name);
            let written = match record {
                Ok(Some(mut record)) => {
                    record.paused = paused;
                    shared.node.journal.write(&shared.name, &record)
                }
                Ok(None) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                tracing::warn!(%error, service = %shared.name, "that policies are held could not be written down");
            }
        });
    }

    /// The service's processes, if it was begun and has not been ended.
    pub(crate) fn running(&self) -> Option<Instance> {
        lock(&self.shared.instance).clone()
    }

    /// The main process as the host sees it.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.running().map(|instance| instance.handle).filter(Handle::is_alive).map(|handle| handle.pid)
    }

    /// How long after the beginning of this image's checkpoint the service ran again, if that was the last one.
    pub(crate) fn thawed_after(&self, image: &ImageId) -> Option<Duration> {
        lock(&self.shared.thawed).as_ref().filter(|(of, _)| of == image).map(|(_, after)| *after)
    }

    /// Those of a group's members, by their names.
    pub(crate) fn members(&self) -> BTreeMap<String, i32> {
        let members = self.running().map(|instance| instance.handle.members).unwrap_or_default();
        let living = members.into_iter().filter(|(_, handle)| handle.is_alive());
        living.map(|(name, handle)| (name, handle.pid)).collect()
    }

    /// What tells this run from all others, over our own restarts too.
    pub(crate) fn run_name(&self) -> Option<String> {
        let name = |handle: Handle| format!("{}-{}", handle.pid, handle.start_time);
        self.running().map(|instance| name(instance.handle))
    }

    /// What a probe asks about freezes.
    pub(crate) fn freezes(&self) -> Arc<Freezes> {
        Arc::clone(&self.shared.freezes)
    }

    /// The supervisor takes its services with it: this one is stopped as if that were asked for, but the next supervisor brings it back. One
    /// that does not run is left as it is.
    pub(crate) async fn end(&self) {
        let shared = Arc::clone(&self.shared);
        let Some(instance) = shared.instance() else { return };
        // Apart, so that a stop that is not waited for any longer is still owned to its end.
        let ended = self.effects.spawn(async move { shared.end(instance).await }).await;
        if let Ok(Err(error)) = ended {
            tracing::error!(%error, service = %self.shared.name, "the service could not be stopped");
        }
    }

    /// If it is suspended from now on, then for this supervisor's end only: the next one brings it back.
    pub(crate) fn suspend_for_our_end(&self) {
        self.shared.ends_with_us.store(true, Ordering::SeqCst);
    }

    /// Lets what is under way come to its end. What does not run any more is cleared from the host.
    pub(crate) async fn settle(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.to_commit.notify_one();
        self.shared.began.notify_one();
        self.effects.close();
        self.effects.wait().await;
        if self.pid().is_none()
            && let Err(error) = self.shared.parts().runtime.remove().await
        {
            tracing::warn!(%error, service = %self.shared.name, "something of the service may be left on the host");
        }
    }
}

impl Shared {
    async fn perform(self: &Arc<Self>, command: Command, paused: bool) -> Option<Outcome> {
        match command {
            Command::Start { attempt } => Some(self.start(attempt, paused).await),
            Command::Restore { attempt, image } => Some(self.restore(attempt, image, paused).await),
            Command::Checkpoint { attempt, timeout, reason: CheckpointReason::Suspend } => {
                Some(Outcome::Happened(self.suspend(attempt, timeout, paused).await))
            }
            Command::Checkpoint { attempt, timeout, .. } => {
                Some(Outcome::Happened(self.checkpoint(attempt, timeout).await))
            }
            Command::Kill { attempt } => Some(Outcome::Happened(match self.kill(paused).await {
                Ok(()) => Event::Killed { attempt },
                Err(error) => Event::KillFailed { attempt, failure: failure(&error) },
            })),
            Command::Stop { attempt, suspended_in } => {
                Some(Outcome::Happened(match self.stop(suspended_in, paused).await {
                    Ok(()) => Event::Stopped { attempt },
                    Err(error) => Event::StopFailed { attempt, failure: failure(&error) },
                }))
            }
            Command::FailOver => self.leave_to_standby().map(Outcome::Happened),
            Command::JudgeImage { image, verdict } => {
                let store = self.node.store.clone();
                let judged = blocking(move || store.set_verdict(&image, verdict)).await;
                match judged {
                    Ok(()) => self.node.replicas.changed(&self.name),
                    Err(error) => {
                        tracing::warn!(%error, service = %self.name, "an image's verdict could not be stored");
                    }
                }
                None
            }
        }
    }

    /// What comes of it comes by the lease.
    fn leave_to_standby(&self) -> Option<Event> {
        let asked = self.node.tenures.wish(&self.name, Wish::Leave);
        (!asked).then(|| Event::FailOverRefused { why: "its lease is not kept by this node".to_owned() })
    }

    async fn start(&self, attempt: Attempt, paused: bool) -> Outcome {
        let _acting = self.acting.lock().await;
        let runtime = Arc::clone(&self.parts().runtime);
        let begun = async {
            self.node.tenures.may_act(&self.name)?;
            self.intend(Intent::Starting, None, None, paused).await?;
            fail_point("start.intended");
            self.note_baseline().await?;
            let instance = runtime.start().await?;
            fail_point("start.started");
            self.node.tenures.guard(&self.name, &instance).await?;
            self.runs(&instance, None, paused).await?;
            Ok::<_, engine::Error>(instance)
        };
        match begun.await {
            Ok(instance) => {
                Outcome::Began { attempt, event: Event::Started { attempt }, instance: Some(instance) }
            }
            Err(error) => {
                let event = Event::StartFailed { attempt, failure: failure(&error) };
                Outcome::Began { attempt, event, instance: None }
            }
        }
    }

    /// Writes down what is about to be done.
    async fn intend(
        &self,
        intent: Intent,
        image: Option<String>,
        instance: Option<Instance>,
        paused: bool,
    ) -> engine::Result<()> {
        let intent = match (intent, self.ends_with_us.load(Ordering::SeqCst)) {
            (Intent::Suspending, true) => Intent::Ending,
            (Intent::Suspended, true) => Intent::Ended,
            (intent, _) => intent,
        };
        let mut record = Record::new(intent.to_string(), self.parts().kind().to_owned());
        record.handle = instance.map(|i| i.handle);
        record.image = image;
        record.paused = paused;
        let (journal, name) = (self.node.journal.clone(), self.name.clone());
        blocking(move || journal.write(&name, &record)).await
    }

    async fn runs(&self, instance: &Instance, image: Option<String>, paused: bool) -> engine::Result<()> {
        *lock(&self.instance) = Some(instance.clone());
        self.is_handed_over.store(false, Ordering::SeqCst);
        self.began.notify_one();
        self.intend(Intent::Running, image, Some(instance.clone()), paused).await
    }

    /// A restore that was not judged good: the files are as before it.
    async fn undo_files(&self) -> engine::Result<()> {
        let put_back = lock(&self.put_back).take();
        match put_back {
            Some(files) => blocking(move || files.undo()).await,
            None => Ok(()),
        }
    }

    async fn list(&self) {
        let (store, name, judge) = (self.node.store.clone(), self.name.clone(), self.judge());
        let listed = blocking(move || Ok(judge.facts(store.list(&name)?))).await;
        match listed {
            Ok(images) => self.report(Outcome::Listed(images)).await,
            Err(error) => {
                self.node.events.record(failed(Some(self.name.as_str()), "store-failed", &error));
                // The policy goes on with what it knows.
                self.report(Outcome::Listed(Vec::new())).await;
            }
        }
    }

    /// What somebody has done with the service past us is respected, and said. False if not even its end is to be told.
    async fn follow(&self, outside: Option<Outside>) -> bool {
        let service = Some(self.name.as_str());
        let (record, message) = match outside {
            None => return true,
            // The next boot brings it back; until then nothing is to be done.
            Some(Outside::WithHost) => return false,
            Some(Outside::Stopped) => {
                let text = "was stopped past the supervisor: it stays so until `supervisor start`";
                (plain(service, "stopped-outside", text), Message::Event(Event::StopRequested))
            }
            Some(Outside::Restarted) => {
                let text = "was restarted past the supervisor: it is taken over as it is";
                (plain(service, "restarted-outside", text), Message::Restart(self.parts()))
            }
        };
        self.node.events.record(record);
        if let Some(inbox) = self.inbox.get() {
            // A task that has ended has no use for it.
            let _ = inbox.send(message).await;
        }
        true
    }

    async fn report(&self, outcome: Outcome) {
        if let Some(inbox) = self.inbox.get() {
            // A task that has ended has no use for it.
            let _ = inbox.send(Message::Effect(Box::new(outcome))).await;
        }
    }

    fn judge(&self) -> Judge {
        Judge {
            host: self.node.host.clone(),
            program: self.parts().runtime.features().program,
            floor: self.node.tenures.floor(&self.name),
        }
    }

    fn parts(&self) -> Arc<Parts> {
        Arc::clone(&lock(&self.parts))
    }

    fn instance(&self) -> Option<Instance> {
        lock(&self.instance).clone()
    }
}

/// Work that may take as long as a disk takes.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> engine::Result<T> + Send + 'static,
) -> engine::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|panic| {
        Err(engine::Error::Internal(engine::error::Report::new("carry out an effect").because(panic)))
    })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is kept behind these is replaced as a whole, so a panic elsewhere cannot have torn it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
