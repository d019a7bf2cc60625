//! A container that an engine (docker, podman) keeps and that runc runs for it.
//!
//! The engine starts, restores and cleans up, so that it knows the container as its own all the time. The dump is asked of
//! CRIU directly, past the engine: it never learns of it, and none of its own costs are in the pause. The restore goes
//! through the engine, which is shown our image in the place of a checkpoint of its own.
//!
//! A container that runs already when it is first wanted is adopted as it is. What it refuses: removing a container.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::runc::dump;
use super::runc::state::State;
use super::{
    Attached, Dump, Dumped, Effect, Ended, Features, Folders, Handle, Instance, Place, RestoreFrom, Root,
    Runtime, Witness, kill_members,
};
use crate::checkpoint::WhileFrozen;
use crate::criu::Options;
use crate::error::{Error, Report, Result};
use crate::process::pidfd::PidFd;
use crate::shim::{Isolation, Shim};

/// How long an engine may take to notice that a container has ended, and to clear up after it.
const SETTLE_MAX: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a container is created that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Name or id of its image.
    pub image: String,
    /// Options of `create`.
    pub create_args: Vec<String>,
    /// What runs in it; empty: what the image says.
    pub command: Vec<String>,
}

impl Recipe {
    /// The arguments of docker's and podman's command line.
    pub(super) fn arguments(&self, container: &str) -> Vec<String> {
        let first = ["create", "--name", container].map(str::to_owned);
        let image = std::iter::once(self.image.clone());
        first.into_iter().chain(self.create_args.clone()).chain(image).chain(self.command.clone()).collect()
    }
}

/// The verbs in which engines differ.
pub(super) trait Engine: Send + Sync + std::fmt::Debug + 'static {
    /// Its name in configuration and images.
    fn kind(&self) -> &'static str;

    /// BLAKE3 of what is configured to run.
    fn program(&self) -> String;

    /// The container's name.
    fn container(&self) -> &str;

    /// How it is created if it is missing.
    fn recipe(&self) -> Option<&Recipe>;

    /// What the engine knows of the container; `None` if there is none.
    fn find(&self) -> Effect<'_, Option<Known>>;

    /// Creates the container.
    fn create<'a>(&'a self, recipe: &'a Recipe) -> Effect<'a, ()>;

    /// Starts it from scratch.
    fn start(&self) -> Effect<'_, ()>;

    /// CRIU's options for a dump that the engine's own restore will understand.
    fn dump_options(&self, options: Options) -> Result<Options>;

    /// What the engine's restore needs beside CRIU's images, written when the service runs again.
    fn complete<'a>(&'a self, known: &'a Known, options: &'a Options, dump: &'a Path) -> Effect<'a, ()>;

    /// What must be noted while the service stands still, if anything.
    fn while_frozen(&self, known: &Known, dump: &Path) -> WhileFrozen;

    /// Has the engine restore it.
    fn restore<'a>(
        &'a self,
        known: &'a Known,
        from: &'a RestoreFrom<'a>,
        options: &'a Options,
    ) -> Effect<'a, ()>;
}

/// What an engine knows of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) id: String,
    /// The digest of the image it was made of.
    pub(super) image: String,
    /// The first process, while it runs.
    pub(super) pid: Option<i32>,
    /// Whether it can be started or restored: it does not run, and the engine has cleared up after its end.
    pub(super) at_rest: bool,
    pub(super) exit_code: i32,
    pub(super) out_of_memory: bool,
    /// The overlay's upper folder.
    pub(super) changes: Option<PathBuf>,
    pub(super) mounts: Vec<Mounted>,
    pub(super) restart_policy: String,
    pub(super) tty: bool,
    /// The engine's own folder of the container.
    pub(super) folder: PathBuf,
    /// Addresses that a restore is to bring back, in the engine's notation.
    pub(super) network: serde_json::Value,
}

/// Something mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Mounted {
    /// Set for a named volume.
    pub(super) volume: Option<String>,
    pub(super) source: PathBuf,
    pub(super) destination: PathBuf,
}

/// What an image notes of its container.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Noted {
    image: String,
}

/// A service that is an engine's container.
#[derive(Debug)]
pub(super) struct Container<E> {
    place: Place,
    engine: Arc<E>,
    shim: Mutex<Option<Shim>>,
    live: Mutex<Option<Instance>>,
}

impl<E: Engine> Container<E> {
    pub(super) fn new(place: Place, engine: E) -> Self {
        Self { place, engine: Arc::new(engine), shim: Mutex::new(None), live: Mutex::new(None) }
    }

    async fn known(&self) -> Result<Known> {
        self.engine.find().await?.ok_or_else(|| {
            let (kind, name) = (self.engine.kind(), self.engine.container());
            Error::Refused(Report::new(format!("find the {kind} container {name}")).remedy(format!(
                "create it, or set `image` in the service's {kind} table to have it created"
            )))
        })
    }

    async fn start_now(&self) -> Result<Instance> {
        if let Some(recipe) = self.engine.recipe()
            && self.engine.find().await?.is_none()
        {
            self.engine.create(recipe).await?;
        }
        let known = self.known().await?;
        self.warn(&known);
        if known.pid.is_none() {
            self.settled().await?;
            self.engine.start().await?;
        } else {
            tracing::info!(service = self.place.service, "the container runs already: taken over as it is");
        }
        self.instance().await
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
            return self.instance_of(handle.pid).await.map(Attached::Running);
        }
        match self.engine.find().await? {
            // Somebody has started it again.
            Some(Known { pid: Some(_), .. }) => self.instance().await.map(Attached::Running),
            Some(known) => Ok(Attached::Gone(known.ended())),
            None => Ok(Attached::Gone(Ended { status: None, out_of_memory: false })),
        }
    }

    async fn kill_now(&self) -> Result<()> {
        if let Some(instance) = self.live.lock().await.take() {
            kill_members(&instance.handle.cgroup).await?;
        }
        if let Some(known) = self.engine.find().await?
            && let Some(pid) = known.pid
        {
            kill_members(&State::read(&runc_folder(pid, &known.id)?)?.cgroup()).await?;
        }
        self.settled().await
    }

    /// Waits until the engine has cleared up: until then it would refuse, and the files are still in use.
    async fn settled(&self) -> Result<()> {
        let begun = Clock::now();
        while let Some(known) = self.engine.find().await? {
            if known.at_rest {
                return Ok(());
            }
            if begun.elapsed() > SETTLE_MAX {
                let (kind, name) = (self.engine.kind(), self.engine.container());
                let limit = humantime::format_duration(SETTLE_MAX);
                return Err(Error::Unavailable(Report::new(format!(
                    "wait for {kind} to notice the end of the container {name}: it still has not after {limit}"
                ))));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    async fn checkpoint_now(&self, dump: Dump<'_>) -> Result<Dumped> {
        let instance = self.live.lock().await.clone();
        let instance = instance.ok_or_else(|| Error::Unavailable(Report::new("the service does not run")))?;
        let known = self.known().await?;
        let folder = runc_folder(instance.handle.pid, &known.id)?;
        let options = self.engine.dump_options(self.place.options.get())?;
        let images = dump.images.to_owned();
        let while_frozen = match (dump.while_frozen, self.engine.while_frozen(&known, &images)) {
            (Some(first), Some(second)) => Some(Box::new(move || first().and_then(|()| second())) as Box<_>),
            (first, second) => first.or(second),
        };
        let dump = Dump { while_frozen, ..dump };
        let pause = dump::container(&self.place, &instance, &folder, &options, dump).await?;
        self.engine.complete(&known, &options, &images).await?;
        let state = serde_json::to_value(Noted { image: known.image })
            .map_err(|e| Error::Internal(Report::new("note what belongs to an image").because(e)))?;
        Ok(Dumped { pause, state })
    }

    async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        self.settled().await?;
        let known = self.known().await?;
        let noted: Noted = serde_json::from_value(from.state.clone()).unwrap_or_default();
        if noted.image != known.image {
            return Err(Error::Refused(Report::new(format!(
                "restore into the container {}: it is made of {}, the checkpoint's was made of {}",
                self.engine.container(),
                known.image,
                noted.image
            ))));
        }
        self.engine.restore(&known, &from, &self.place.options.get()).await?;
        self.instance().await
    }

    /// The container that runs now.
    async fn instance(&self) -> Result<Instance> {
        let known = self.known().await?;
        let pid = known.pid.ok_or_else(|| {
            let (name, code) = (self.engine.container(), known.exit_code);
            Error::Unavailable(Report::new(format!(
                "the container {name} ended as it started, exit code {code}"
            )))
        })?;
        self.instance_of(pid).await
    }

    async fn instance_of(&self, pid: i32) -> Result<Instance> {
        let shim = self.shim().await?;
        let pidfd = PidFd::open(pid)?;
        let known = self.known().await?;
        if known.pid != Some(pid) {
            return Err(Error::Unavailable(Report::new(format!(
                "process {pid} is not the container's any more"
            ))));
        }
        let cgroup = State::read(&runc_folder(pid, &known.id)?)?.cgroup();
        let witness = Arc::new(Told { engine: Arc::clone(&self.engine) });
        let instance = Instance::new(shim, pidfd, pid, cgroup, Some(witness)).await?;
        *self.live.lock().await = Some(instance.clone());
        Ok(instance)
    }

    async fn shim(&self) -> Result<Shim> {
        let mut known = self.shim.lock().await;
        if let Some(shim) = known.as_ref().filter(|s| s.is_connected()) {
            return Ok(shim.clone());
        }
        let socket = self.place.shim_socket();
        let shim = Shim::connect_or_start(&self.place.program, &socket, Isolation::None).await?;
        *known = Some(shim.clone());
        Ok(shim)
    }

    async fn folders_now(&self) -> Result<Folders> {
        let Some(known) = self.engine.find().await? else { return Ok(Folders::default()) };
        let volumes = known.mounts.iter().filter(|m| m.volume.is_some()).map(|m| m.source.clone());
        Ok(Folders {
            root: known.changes.clone().map(Root::Changes),
            volumes: volumes.collect(),
            mounts: known.mounts.iter().map(|m| (m.destination.clone(), m.source.clone())).collect(),
        })
    }

    async fn remove_now(&self) -> Result<()> {
        if let Ok(shim) = Shim::connect(&self.place.shim_socket()).await {
            shim.quit().await?;
        }
        *self.shim.lock().await = None;
        Ok(())
    }
}

impl Known {
    fn ended(&self) -> Ended {
        // Engines tell a signal as 128 and its number.
        let status = match self.exit_code {
            code @ 129..=192 => code - 128,
            code => (code & 0xff) << 8,
        };
        Ended { status: Some(status), out_of_memory: self.out_of_memory }
    }
}

/// The engine as the witness of the container's end.
#[derive(Debug)]
struct Told<E> {
    engine: Arc<E>,
}

impl<E: Engine> Witness for Told<E> {
    fn end(&self) -> Effect<'_, Ended> {
        Box::pin(async {
            let begun = Clock::now();
            while begun.elapsed() < Duration::from_secs(2) {
                match self.engine.find().await {
                    Ok(Some(known)) if known.pid.is_none() => return Ok(known.ended()),
                    Ok(Some(_)) => tokio::time::sleep(LOOK_EVERY).await,
                    // Removed, or the engine is away: it ended, and nobody can say how.
                    Ok(None) | Err(_) => break,
                }
            }
            Ok(Ended { status: None, out_of_memory: false })
        })
    }
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

    fn restore<'a>(&'a self, from: RestoreFrom<'a>) -> Effect<'a, Instance> {
        Box::pin(self.restore_now(from))
    }

    fn folders(&self) -> Effect<'_, Folders> {
        Box::pin(self.folders_now())
    }

    fn remove(&self) -> Effect<'_, ()> {
        Box::pin(self.remove_now())
    }
}

/// Where runc keeps its state of the container, as told by its parent: containerd's shim notes the place in the
/// container's bundle, which is its working folder; conmon leaves it to runc's default.
fn runc_folder(pid: i32, id: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Options {
        root: PathBuf,
    }
    let unknown = |why: String| {
        Error::Refused(Report::new(format!("find runc's state of the container's process {pid}: {why}")))
    };
    let parent = parent(pid).ok_or_else(|| unknown("it has no parent".to_owned()))?;
    let options = format!("/proc/{parent}/cwd/options.json");
    let namespace = std::fs::read_link(format!("/proc/{parent}/cwd"))
        .ok()
        .and_then(|bundle| Some(bundle.parent()?.file_name()?.to_owned()));
    let root = match (std::fs::read(&options), namespace) {
        (Ok(bytes), Some(namespace)) => {
            let options: Options =
                serde_json::from_slice(&bytes).map_err(|e| unknown(format!("{options}: {e}")))?;
            options.root.join(namespace)
        }
        _ => PathBuf::from("/run/runc"),
    };
    let folder = root.join(id);
    match folder.join("state.json").is_file() {
        true => Ok(folder),
        false => Err(unknown(format!("there is none in {}; is it run by runc?", folder.display()))),
    }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
