//! A container that an engine (docker, podman) keeps and that runc runs for it.
//!
//! The engine starts, restores and cleans up, so that it knows the container as its own all the time. The dump is asked of
//! CRIU directly, past the engine: it never learns of it, and none of its own costs are in the pause. The restore goes
//! through the engine, which is shown our image in the place of a checkpoint of its own.
//!
//! A container that runs already when it is first wanted is adopted as it is. What it refuses: removing a container.

mod engine;
mod layout;
mod told;
mod traces;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use tokio::sync::Mutex;

pub use engine::Recipe;
pub(super) use engine::{Engine, Known, Mounted, program_of};
pub use layout::{Layout, Volume, volumes_of};
pub(super) use traces::{ExitNote, Traces};

use layout::Noted;
use told::Told;

use super::runc::dump;
use super::runc::state::{State, folder_of};
use super::{
    Attached, Dump, Dumped, Effect, Ended, Features, Folders, Handle, Instance, KnownShim, Place,
    RestoreFrom, Root, Runtime, kill_members,
};
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;
use crate::process::pidfd::PidFd;
use crate::shim::{Isolation, Shim};

/// How long an engine may take to notice that a container has ended, and to clear up after it.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long a container is watched for the traces of its rest before the engine is asked.
const TRACES_MAX: Duration = Duration::from_secs(5);
/// How long what is known of a container that came to rest is taken for true: asking podman takes 70 ms.
const REST_KNOWN: Duration = Duration::from_secs(2);

/// A service that is an engine's container.
#[derive(Debug)]
pub(super) struct Container<E> {
    place: Place,
    engine: Arc<E>,
    shim: KnownShim,
    live: Mutex<Option<Live>>,
    /// The container as it came to rest.
    rested: Mutex<Option<Rested>>,
    /// What the engine said last.
    last: Mutex<Option<Known>>,
}

/// The container while it runs.
#[derive(Debug, Clone)]
struct Live {
    instance: Instance,
    /// `None`: the engine must be asked whether it has come to rest.
    traces: Option<Traces>,
}

/// The container at rest.
#[derive(Debug, Clone)]
struct Rested {
    found: Clock,
    known: Known,
    /// By what it was seen; `None`: the engine said so.
    traces: Option<Traces>,
}

impl Rested {
    /// Whether that was a moment ago, and nothing speaks against it now.
    fn is_true(&self) -> bool {
        self.found.elapsed() < REST_KNOWN && self.traces.as_ref().is_none_or(Traces::at_rest)
    }
}

impl<E: Engine> Container<E> {
    pub(super) fn new(place: Place, engine: E) -> Self {
        Self {
            place,
            engine: Arc::new(engine),
            shim: Mutex::new(None),
            live: Mutex::new(None),
            rested: Mutex::new(None),
            last: Mutex::new(None),
        }
    }

    async fn known(&self) -> Result<Known> {
        let found = self.engine.find().await?;
        self.last.lock().await.clone_from(&found);
        found.ok_or_else(|| {
            let (kind, name) = (self.engine.kind(), self.engine.container());
            let remedy =
                format!("create it, or set `image` in the service's {kind} table to have it created");
            Error::Refused(Report::new(format!("find the {kind} container {name}")).remedy(remedy))
        })
    }

    /// Also while the engine is away: what it said last.
    async fn known_or_last(&self) -> Result<Known> {
        match self.known().await {
            Err(Error::Unavailable(report)) => {
                self.last.lock().await.clone().ok_or(Error::Unavailable(report))
            }
            other => other,
        }
    }

    async fn start_now(&self) -> Result<Instance> {
        self.place.release_connections().await?;
        self.engine.ready().await?;
        self.place.shim_for_start(&self.shim, Isolation::None).await?;
        let known = self.exists().await?;
        self.warn(&known);
        if known.pid.is_some() {
            tracing::info!(service = self.place.service, "the container runs already: taken over as it is");
            return self.instance(known).await;
        }
        self.settled(known).await?;
        self.engine.start().await?;
        self.instance(self.known().await?).await
    }

    /// The container, created if it is missing and it is known how.
    async fn exists(&self) -> Result<Known> {
        if let Some(recipe) = self.engine.recipe()
            && self.engine.find().await?.is_none()
        {
            self.engine.create(recipe).await?;
        }
        self.known().await
    }

    async fn make_ready_now(&self) -> Result<()> {
        if self.rested_lately().await.is_some() {
            return Ok(());
        }
        self.engine.ready().await?;
        self.exists().await.map(drop)
    }

    /// Says what would fight us.
    fn warn(&self, known: &Known) {
        let (service, kind) = (&self.place.service, self.engine.kind());
        if !matches!(known.restart_policy.as_str(), "" | "no") {
            let policy = &known.restart_policy;
            tracing::warn!(
                service,
                "{kind} restarts this container by itself (restart policy {policy}), which takes it out of our hands: \
                 set it to \"no\" (docker update --restart=no {0}; for podman create it anew)",
                self.engine.container()
            );
        }
        if known.tty {
            tracing::warn!(service, "this container has a terminal (--tty), which cannot be checkpointed");
        }
    }

    async fn attach_now(&self, handle: &Handle) -> Result<Attached> {
        if handle.is_alive() {
            // Without a word with the engine, which may be away.
            return self.instance_of(handle.pid, handle.cgroup.clone(), None).await.map(Attached::Running);
        }
        let fenced = Instance::end_known_by(&self.place, handle).await.fenced;
        match self.engine.find().await? {
            // Somebody has started it again.
            Some(known) if known.pid.is_some() => self.instance(known).await.map(Attached::Running),
            Some(known) if handle.cgroup.is_of(&known.id) => {
                Ok(Attached::Gone(Ended { fenced, ..known.ended() }))
            }
            // Removed or replaced: nobody can say how it ended.
            Some(_) | None => Ok(Attached::Gone(Ended { fenced, ..Ended::default() })),
        }
    }

    async fn kill_now(&self) -> Result<()> {
        if let Some(live) = self.live.lock().await.take() {
            kill_members(&live.instance.handle.cgroup).await?;
            if self.is_seen_at_rest(live.traces).await {
                return Ok(());
            }
        }
        self.engine.ready().await?;
        let Some(known) = self.engine.find().await? else { return Ok(()) };
        if let Some(pid) = known.pid {
            match folder_of(pid, &known.id).and_then(|folder| State::read(&folder)) {
                Ok(state) => kill_members(&state.cgroup()).await?,
                // It has just ended.
                Err(_) if !std::path::Path::new(&format!("/proc/{pid}")).exists() => {}
                Err(error) => return Err(error),
            }
        }
        self.settled(known).await.map(drop)
    }

    /// Waits until the engine has cleared up: until then it would refuse, and the files are still in use.
    async fn settled(&self, mut known: Known) -> Result<Known> {
        let begun = Clock::now();
        while !known.at_rest {
            if begun.elapsed() > SETTLE_MAX {
                let (kind, name) = (self.engine.kind(), self.engine.container());
                let limit = humantime::format_duration(SETTLE_MAX);
                return Err(Error::Unavailable(Report::new(format!(
                    "wait for {kind} to notice the end of the container {name}: it still has not after {limit}"
                ))));
            }
            tokio::time::sleep(LOOK_EVERY).await;
            known = self.known().await?;
        }
        *self.rested.lock().await = Some(Rested { found: Clock::now(), known: known.clone(), traces: None });
        Ok(known)
    }

    /// The same without a word with the engine; false also if that cannot be seen.
    async fn is_seen_at_rest(&self, traces: Option<Traces>) -> bool {
        let Some(traces) = traces else { return false };
        let Some(known) = traces.rest(TRACES_MAX).await else { return false };
        let rested = Rested { found: Clock::now(), known, traces: Some(traces) };
        *self.rested.lock().await = Some(rested);
        true
    }

    /// The container as it was found at rest a moment ago.
    async fn rested_lately(&self) -> Option<Known> {
        let rested = self.rested.lock().await.clone();
        rested.filter(Rested::is_true).map(|rested| rested.known)
    }

    async fn checkpoint_now(&self, dump: Dump<'_>) -> Result<Dumped> {
        let live = self.live.lock().await.clone();
        let live = live.ok_or_else(|| Error::Unavailable(Report::new("the service does not run")))?;
        let instance = live.instance;
        let known = self.known_or_last().await?;
        let folder = folder_of(instance.handle.pid, &known.id)?;
        if live.traces.is_none() {
            self.note_traces(&instance, &known, &folder).await;
        }
        let options = self.engine.dump_options(self.place.options.get())?;
        let images = dump.images.to_owned();
        let while_frozen = match (dump.while_frozen, self.engine.while_frozen(&known, &images)) {
            (Some(first), Some(second)) => Some(Box::new(move || first().and_then(|()| second())) as Box<_>),
            (first, second) => first.or(second),
        };
        let dump = Dump { while_frozen, ..dump };
        let volumes = known.volumes().map(|volume| (volume.name, volume.source)).collect();
        let state = Noted { image: known.image.clone(), volumes }.written()?;
        let complete = self.engine.complete(&known, &options, &images);
        dump::container(&self.place, &instance, &folder, &options, dump, complete, state).await
    }

    async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        self.engine.ready().await?;
        let known = match self.rested_lately().await {
            Some(known) => known,
            None => self.settled(self.known().await?).await?,
        };
        let noted = Noted::read(from.state);
        if noted.image != known.image {
            return Err(Error::Refused(Report::new(format!(
                "restore into the container {}: it is made of {}, the checkpoint's was made of {}",
                self.engine.container(),
                known.image,
                noted.image
            ))));
        }
        // Whatever comes of it, this is not known any more.
        *self.rested.lock().await = None;
        self.place.shim_for_start(&self.shim, Isolation::None).await?;
        self.engine.restore(&known, &from, &self.place.options.get()).await?;
        self.place.release_connections().await?;
        match main_process(&known) {
            Some(pid) => self.instance(Known { pid: Some(pid), at_rest: false, ..known }).await,
            None => self.instance(self.known().await?).await,
        }
    }

    /// The container that runs now.
    async fn instance(&self, known: Known) -> Result<Instance> {
        let pid = known.pid.ok_or_else(|| {
            let (name, code) = (self.engine.container(), known.exit_code);
            let text = format!("the container {name} ended as it started, exit code {code}");
            Error::Unavailable(Report::new(text))
        })?;
        // runc's state has the id: it is this container's process or none.
        let folder = folder_of(pid, &known.id)?;
        let cgroup = State::read(&folder)?.cgroup();
        let traces = self.engine.traces(&known, &folder);
        self.instance_of(pid, cgroup, traces).await
    }

    async fn instance_of(&self, pid: i32, cgroup: Cgroup, traces: Option<Traces>) -> Result<Instance> {
        *self.rested.lock().await = None;
        let (shim, pidfd) = (self.place.shim(&self.shim, Isolation::None).await?, PidFd::open(pid)?);
        let witness = Arc::new(Told {
            engine: Arc::clone(&self.engine),
            cgroup: cgroup.clone(),
            note: self.engine.exit_note(pid),
        });
        let instance = Instance::new(shim, pidfd, pid, cgroup, Some(witness)).await?;
        *self.live.lock().await = Some(Live { instance: instance.clone(), traces });
        Ok(instance)
    }

    /// Of an instance that was taken back without a word with the engine.
    async fn note_traces(&self, of: &Instance, known: &Known, runc: &Path) {
        let traces = self.engine.traces(known, runc);
        let mut live = self.live.lock().await;
        if let Some(live) = live.as_mut().filter(|live| live.instance.handle == of.handle) {
            live.traces = traces;
        }
    }

    async fn folders_now(&self) -> Result<Folders> {
        let known = match self.rested_lately().await {
            Some(known) => Some(known),
            None => match self.known_or_last().await {
                Err(Error::Refused(_)) => None,
                known => Some(known?),
            },
        };
        let Some(known) = known else { return Ok(Folders::default()) };
        let volumes = known.mounts.iter().filter(|m| m.volume.is_some()).map(|m| m.source.clone());
        Ok(Folders {
            root: known.changes.clone().map(Root::Changes),
            volumes: volumes.collect(),
            mounts: known.mounts.iter().map(|m| (m.destination.clone(), m.source.clone())).collect(),
            members: Vec::new(),
        })
    }

    async fn layout_now(&self) -> Result<Layout> {
        let known = self.known().await?;
        let (kind, name) = (self.engine.kind(), self.engine.container());
        let changes = known.changes.clone().ok_or_else(|| {
            Error::Refused(Report::new(format!("find the writable layer of the {kind} container {name}")))
        })?;
        let volumes = known.volumes().collect();
        Ok(Layout { image: known.image, changes, lower: known.lower, volumes })
    }

    async fn remove_now(&self) -> Result<()> {
        if let Ok(shim) = Shim::connect(&self.place.shim_socket()).await {
            shim.quit().await?;
        }
        *self.shim.lock().await = None;
        Ok(())
    }
}

/// The first process of a container that has just been started or restored, as runc and the engine agree on it.
fn main_process(known: &Known) -> Option<i32> {
    let pid = std::fs::read_to_string(known.pid_file.as_ref()?).ok()?.trim().parse().ok()?;
    let state = State::read(&folder_of(pid, &known.id).ok()?).ok()?;
    (state.main_pid() == pid).then_some(pid)
}

impl<E: Engine> Runtime for Container<E> {
    fn features(&self) -> Features {
        let versions = vec![("criu".to_owned(), self.place.criu.version().to_owned())];
        Features { kind: self.engine.kind(), program: self.engine.program(), versions }
    }

    fn start(&self) -> Effect<'_, Instance> {
        Box::pin(self.start_now())
    }

    fn attach<'a>(&'a self, handle: &'a Handle) -> Effect<'a, Attached> {
        Box::pin(self.attach_now(handle))
    }

    fn kill(&self) -> Effect<'_, ()> {
        Box::pin(self.kill_now())
    }

    fn checkpoint<'a>(&'a self, dump: Dump<'a>) -> Effect<'a, Dumped> {
        Box::pin(self.checkpoint_now(dump))
    }

    fn make_ready(&self) -> Effect<'_, ()> {
        Box::pin(self.make_ready_now())
    }

    fn restore<'a>(&'a self, from: RestoreFrom<'a>) -> Effect<'a, Instance> {
        Box::pin(self.restore_now(from))
    }

    fn folders(&self) -> Effect<'_, Folders> {
        Box::pin(self.folders_now())
    }

    fn give_up_suspended(&self) -> Effect<'_, ()> {
        Box::pin(self.place.release_connections())
    }

    fn layout(&self) -> Effect<'_, Layout> {
        Box::pin(self.layout_now())
    }

    fn remove(&self) -> Effect<'_, ()> {
        Box::pin(self.remove_now())
    }
}
