//! What runs a service: a few verbs and facts, the same for every runtime.
//!
//! A runtime value belongs to one service. What it refuses: deciding when and why, and keeping images.

mod container;
pub mod docker;
pub mod group;
mod links;
pub mod podman;
pub mod process;
pub mod runc;
pub mod systemd;

pub use container::{Layout, Recipe, Volume, volumes_of};

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::checkpoint::{BeforeEnd, Cut, WhileFrozen};
use crate::criu::network::Hold;
use crate::criu::{Criu, SharedOptions, Tcp, close_outer_connections};
use crate::error::{Error, Report, Result};
use crate::fence::Fence;
use crate::freeze::{Cgroup, Hierarchies};
use crate::process::pidfd::{PidFd, start_time};
use crate::shim::protocol::{FenceOrder, FenceState};
use crate::shim::{Isolation, Said, Shim};

/// The name of a container's own root among the trees of its images.
pub const ROOT_TREE: &str = "rootfs";

/// How long a shim may take to say how a service ended. It learns at the same moment as we do; a second is for a host that is very
/// busy.
const SHIM_MAX: Duration = Duration::from_secs(1);

/// An effect under way.
pub type Effect<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// What runs one service.
pub trait Runtime: Send + Sync + std::fmt::Debug {
    /// What it can do.
    fn features(&self) -> Features;

    /// Starts the service from scratch. Nothing of it may be running.
    fn start(&self) -> Effect<'_, Instance>;

    /// Takes back a service that an earlier supervisor left running.
    fn attach<'a>(&'a self, handle: &'a Handle) -> Effect<'a, Attached>;

    /// Ends every process of the service and clears what it or a failed start or restore left behind.
    fn kill(&self) -> Effect<'_, ()>;

    /// Dumps the service into the folder and lets it run on, or not.
    fn checkpoint<'a>(&'a self, dump: Dump<'a>) -> Effect<'a, Dumped>;

    /// Sees to it that the service could be restored here: that what its files are in exists. Nothing runs afterwards that did not before.
    ///
    /// # Errors
    /// `Refused` with the remedy if it could not.
    fn make_ready(&self) -> Effect<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Brings the service back from a folder that [`Runtime::checkpoint`] filled. Nothing of it may be running.
    fn restore<'a>(&'a self, from: RestoreFrom<'a>) -> Effect<'a, Instance>;

    /// The folders that its files are in, as far as they belong to its images.
    fn folders(&self) -> Effect<'_, Folders>;

    /// The service will not come back from the image that it was suspended in: what waits for that on the host goes.
    fn give_up_suspended(&self) -> Effect<'_, ()>;

    /// What the service's container is made of, where it is an engine's.
    fn layout(&self) -> Effect<'_, Layout> {
        let kind = self.features().kind;
        let text = format!("describe the container of a {kind} service: it is no container of an engine");
        Box::pin(std::future::ready(Err(Error::Refused(Report::new(text)))))
    }

    /// Clears everything of ours from the host, the shim included. The service must be dead.
    fn remove(&self) -> Effect<'_, ()>;
}

/// What a runtime can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Its name in configuration and images.
    pub kind: &'static str,
    /// BLAKE3 of what it runs, so that an image of something else is not taken for one of this service.
    pub program: String,
    /// Its version and CRIU's, for images.
    pub versions: Vec<(String, String)>,
}

/// Where a service's files are, on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Folders {
    /// Its root file system, if that is its own and writable.
    pub root: Option<Root>,
    /// Volumes that belong to its images without being declared.
    pub volumes: Vec<PathBuf>,
    /// What it sees under another path than the host does: the path inside, the folder on the host.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Those of a group's members, by name, instead of all that.
    pub members: Vec<(String, Folders)>,
}

/// A writable root file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Root {
    /// All of it is in this folder, with what it came with.
    Whole(PathBuf),
    /// Only what differs from what it came with (an overlay's upper folder).
    Changes(PathBuf),
}

/// One checkpoint, as a runtime is asked for it.
pub struct Dump<'a> {
    /// Where CRIU's files go.
    pub images: &'a Path,
    /// Wall-clock limit.
    pub limit: Duration,
    /// Set if the service is to end with it.
    pub before_end: Option<Keep>,
    /// What else happens under the same freeze.
    pub while_frozen: WhileFrozen,
    /// Set if others are dumped at the same instant.
    pub cut: Option<Arc<Cut>>,
}

/// Makes an image safe while its service still stands still; gets what the runtime needs to know at the restore. If it fails, the
/// service runs on. It may take as long as a disk does.
pub type Keep = Box<dyn FnOnce(serde_json::Value) -> Result<()> + Send>;

/// What came of a checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Dumped {
    /// How long the service stood still.
    pub pause: Duration,
    /// When it ran again, or ended.
    pub thawed: std::time::Instant,
    /// What the runtime needs to know at the restore.
    pub state: serde_json::Value,
}

/// One restore, as a runtime is asked for it.
#[derive(Debug)]
pub struct RestoreFrom<'a> {
    /// Where CRIU's files are.
    pub images: &'a Path,
    /// Wall-clock limit.
    pub limit: Duration,
    /// What [`Dumped::state`] was.
    pub state: &'a serde_json::Value,
}

/// What names a running service across our own restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Handle {
    /// The main process as the host sees it.
    pub pid: i32,
    /// When it started, in clock ticks since boot: with the pid it names one process for ever.
    pub start_time: u64,
    /// The boot it lives in.
    pub boot_id: String,
    /// The main process as its shim sees it.
    pub inner_pid: i32,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// All members of a group, by name; what is beside this is the first one's then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub members: Vec<(String, Handle)>,
}

impl Handle {
    /// That of one member of a group.
    pub fn member(&self, name: &str) -> Option<&Self> {
        self.members.iter().find(|(member, _)| member == name).map(|(_, handle)| handle)
    }

    /// The cgroups that it is in: one, or each member's.
    pub fn cgroups(&self) -> Vec<Cgroup> {
        match self.members.as_slice() {
            [] => vec![self.cgroup.clone()],
            members => members.iter().map(|(_, handle)| handle.cgroup.clone()).collect(),
        }
    }

    /// Whether the process that it names still lives; of a group, that of every member.
    pub fn is_alive(&self) -> bool {
        if !self.members.is_empty() {
            return self.members.iter().all(|(_, handle)| handle.is_alive());
        }
        boot_id().is_ok_and(|b| b == self.boot_id) && start_time(self.pid) == Some(self.start_time)
    }
}

/// A running service.
#[derive(Debug, Clone)]
pub struct Instance {
    /// What names it.
    pub handle: Handle,
    main: Arc<Main>,
    /// Of a group: all of them, in the order of their start.
    members: Arc<[group::Running]>,
    said: Option<watch::Receiver<Said>>,
}

#[derive(Debug)]
struct Main {
    pidfd: PidFd,
    shim: Shim,
    oom_kills_before: u64,
    /// Set for a main process that is no child of the shim.
    witness: Option<Arc<dyn Witness>>,
}

/// Knows how a main process ended that has another parent than our shim.
trait Witness: Send + Sync + std::fmt::Debug {
    /// To be asked when it has ended.
    fn end(&self) -> Effect<'_, Ended>;

    /// Has it ended in its parent's own way, within the limit. False: there is none, and it is asked by a signal.
    fn stop(&self, _: Duration) -> Effect<'_, bool> {
        Box::pin(std::future::ready(Ok(false)))
    }
}

/// What became of a service that an earlier supervisor left running.
#[derive(Debug, Clone)]
pub enum Attached {
    /// It runs.
    Running(Instance),
    /// It is gone; how it ended, as far as its shim still knows.
    Gone(Ended),
}

/// How a main process ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ended {
    /// The raw wait status, if anybody knows it.
    pub status: Option<i32>,
    /// Whether the kernel killed a member of its cgroup for want of memory meanwhile.
    pub out_of_memory: bool,
    /// Whether its fence has stopped it: the lease was not renewed in time.
    pub fenced: bool,
    /// Set if somebody has had it ended past us, as is theirs to do.
    pub outside: Option<Outside>,
}

/// What somebody has done with a service past us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// It was stopped.
    Stopped,
    /// It was stopped, and runs anew or is about to.
    Restarted,
    /// It was stopped with the whole host.
    WithHost,
}

/// No process ever has this one, and no group.
const NO_PID: i32 = i32::MAX;

impl Instance {
    async fn new(
        shim: Shim,
        pidfd: PidFd,
        inner_pid: i32,
        cgroup: Cgroup,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self> {
        let pid = pidfd.pid();
        // One that has ended already and was reaped: how, whoever reaped it says.
        let (pid, start_time) = start_time(pid).map_or((NO_PID, 0), |start_time| (pid, start_time));
        let oom_kills_before = cgroup.oom_kills();
        let handle = Handle { pid, start_time, boot_id: boot_id()?, inner_pid, cgroup, members: Vec::new() };
        let main = Arc::new(Main { pidfd, shim, oom_kills_before, witness });
        Ok(Self { handle, main, members: Arc::new([]), said: None })
    }

    /// That of one member of a group.
    pub fn member(&self, name: &str) -> Option<&Self> {
        group::member(&self.members, name)
    }

    /// What this run says of itself; `None`: nobody has told it where to. The members of a group speak for themselves.
    pub fn said(&self) -> Option<watch::Receiver<Said>> {
        self.said.clone()
    }

    /// The members of a group that say something of themselves, by their names.
    pub fn said_by_members(&self) -> Vec<(String, watch::Receiver<Said>)> {
        group::said(&self.members)
    }

    /// Waits until the main process has ended; of a group, until that of any member has.
    pub async fn ended(&self) -> Result<Ended> {
        if !self.members.is_empty() {
            return group::first_end(&self.members).await;
        }
        self.main.pidfd.ended().await?;
        // At once: an engine removes the cgroup of what has ended.
        let out_of_memory = self.handle.cgroup.oom_kills() > self.main.oom_kills_before;
        let (fenced, told) = tokio::join!(self.was_fenced(), self.told());
        let told = told?;
        Ok(Ended { out_of_memory: told.out_of_memory || out_of_memory, fenced, ..told })
    }

    async fn was_fenced(&self) -> bool {
        let fence = tokio::time::timeout(SHIM_MAX, self.main.shim.fence(&FenceOrder::Ask)).await;
        fence.is_ok_and(|fence| fence.is_ok_and(FenceState::is_over))
    }

    /// What whoever reaped it says of its end.
    async fn told(&self) -> Result<Ended> {
        if let Some(witness) = &self.main.witness {
            return witness.end().await;
        }
        let status = self.main.shim.exit_status(self.handle.inner_pid);
        let status = tokio::time::timeout(SHIM_MAX, status).await.ok().flatten();
        Ok(Ended { status, ..Ended::default() })
    }

    /// What stops it at an instant, whether we still live then or not.
    ///
    /// # Errors
    /// As [`Fence::new`]; `Refused` for a group.
    pub async fn fence(&self) -> Result<Fence> {
        if !self.members.is_empty() {
            return Err(Error::Refused(Report::new("make a fence around a group: there is none for groups")));
        }
        Fence::new(self.main.shim.clone(), self.handle.cgroup.clone()).await
    }

    /// Of a service that is gone: its shim may have seen how it ended.
    async fn end_known_by(place: &Place, handle: &Handle) -> Ended {
        let seen = match Shim::connect(&place.shim_socket()).await {
            Ok(shim) => (shim.hello().await.ok(), shim.fence(&FenceOrder::Ask).await.ok()),
            Err(_) => (None, None),
        };
        let main = seen.0.and_then(|(main, _)| main).filter(|main| main.pid == handle.inner_pid);
        let fenced = seen.1.is_some_and(FenceState::is_over);
        Ended { status: main.and_then(|main| main.status), fenced, ..Ended::default() }
    }

    /// Asks the main process by a signal to end, and waits for that, but not for longer than the limit. The members of a group are asked
    /// one after the other, the last one first, each by its own signal and with its own limit.
    pub async fn stop(&self, signal: i32, limit: Duration) -> Result<()> {
        if !self.members.is_empty() {
            return group::stop(&self.members).await;
        }
        if let Some(witness) = &self.main.witness
            && witness.stop(limit).await?
        {
            return Ok(());
        }
        self.main.pidfd.signal(signal)?;
        // Not in time, or not to be watched: whoever stops a service kills what is left of it.
        let _ = tokio::time::timeout(limit, self.ended()).await;
        Ok(())
    }
}

/// Where one service stands on this host: what all runtimes need.
#[derive(Debug, Clone)]
pub struct Place {
    /// The service's name.
    pub service: String,
    /// The node's name.
    pub node: String,
    /// Our own binary, which is also the shim's.
    pub program: PathBuf,
    /// The service's own folder below the run folder: sockets, logs of CRIU, runtime state.
    pub run_folder: PathBuf,
    /// The cgroup hierarchies.
    pub hierarchies: Hierarchies,
    /// The CRIU to use.
    pub criu: Arc<Criu>,
    /// CRIU's options for this service.
    pub options: SharedOptions,
}

/// A service's shim, once it is known.
type KnownShim = tokio::sync::Mutex<Option<Shim>>;

impl Place {
    fn shim_socket(&self) -> PathBuf {
        self.run_folder.join("shim.sock")
    }

    /// The shim that is connected, or else an older supervisor's, or else a new one.
    async fn shim(&self, known: &KnownShim, isolation: Isolation) -> Result<Shim> {
        let mut known = known.lock().await;
        if let Some(shim) = known.as_ref().filter(|shim| shim.is_connected()) {
            return Ok(shim.clone());
        }
        let shim = Shim::connect_or_start(&self.program, &self.shim_socket(), isolation).await?;
        *known = Some(shim.clone());
        Ok(shim)
    }

    /// That shim for a service that is to be started or restored: what its last fence did is over. One that cannot keep a fence, and
    /// is idle, makes way for one that can.
    async fn shim_for_start(&self, known: &KnownShim, isolation: Isolation) -> Result<Shim> {
        let shim = self.shim(known, isolation).await?;
        match shim.lift_fence().await {
            Ok(()) => Ok(shim),
            Err(Error::Refused(_)) => {
                shim.quit().await?;
                *known.lock().await = None;
                self.shim(known, isolation).await
            }
            Err(error) => Err(error),
        }
    }

    fn held_connections(&self) -> PathBuf {
        self.run_folder.join("held-connections")
    }

    /// Holds the connections of a service that has been dumped and is about to end. The note comes first: rules that nobody knows of would stay.
    async fn hold_connections(&self, images: &Path, pid: i32) -> Result<()> {
        if self.options.get().tcp == Tcp::Close {
            return Ok(());
        }
        let hold = Hold::plan(images, pid, &format!("supervisor-{}-{}", self.node, self.service));
        if hold.is_nothing() {
            return Ok(());
        }
        let note = serde_json::to_vec(&hold)
            .map_err(|e| Error::Internal(Report::new("note what holds connections").because(e)))?;
        crate::durable::atomic_write_volatile(&self.held_connections(), &note, 0o600)?;
        let taken = hold.take(pid).await;
        if taken.is_err() {
            self.release_connections().await?;
        }
        taken
    }

    /// What finishes CRIU's images: with the keeping of them while the service still stands still, if it is to end; else when it runs again.
    /// Then it will have gone on with its connections, and the image has only those within (within a group, if it is a member's dump:
    /// the group knows).
    fn finishing<'a>(
        &'a self,
        keep: Option<Keep>,
        part_of: Option<&Arc<Cut>>,
        complete: impl Future<Output = Result<()>> + Send + 'a,
        images: &'a Path,
        pid: i32,
        state: serde_json::Value,
    ) -> (Option<BeforeEnd<'a>>, BeforeEnd<'a>) {
        let closes = part_of.is_none() && self.options.get().tcp != Tcp::Close;
        let Some(keep) = keep else {
            let afterwards = async move {
                complete.await?;
                if closes { close_outer_connections(&[images.to_owned()]) } else { Ok(()) }
            };
            return (None, Box::pin(afterwards));
        };
        let before_end = async move {
            complete.await?;
            self.hold_connections(images, pid).await?;
            tokio::task::spawn_blocking(move || keep(state))
                .await
                .map_err(|e| Error::Internal(Report::new("keep an image").because(e)))?
        };
        (Some(Box::pin(before_end)), Box::pin(std::future::ready(Ok(()))))
    }

    /// Lets them go, whether a restore has done so already or not.
    async fn release_connections(&self) -> Result<()> {
        release_noted(&self.held_connections()).await
    }

    fn criu_folder(&self) -> Result<PathBuf> {
        let folder = self.run_folder.join("criu");
        crate::durable::create_dir(&folder)?;
        Ok(folder)
    }
}

/// Lets go of the connections that are held according to a note.
async fn release_noted(note: &Path) -> Result<()> {
    let Ok(text) = std::fs::read(note) else { return Ok(()) };
    // A note that cannot be read is of another version; its rules end with the host.
    let hold: Hold = serde_json::from_slice(&text).unwrap_or_default();
    hold.release().await?;
    crate::durable::remove_file(note)
}

/// This boot's id.
pub fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    std::fs::read_to_string(path)
        .map(|id| id.trim().to_owned())
        .map_err(|e| Error::Internal(Report::new(format!("read {path}")).because(e)))
}

/// Ends all members of a cgroup, off the asynchronous threads.
async fn kill_members(cgroup: &Cgroup) -> Result<()> {
    let cgroup = cgroup.clone();
    tokio::task::spawn_blocking(move || cgroup.kill(Duration::from_secs(10)))
        .await
        .map_err(|e| Error::Internal(Report::new("kill a cgroup").because(e)))?
}
