//! What runs a service: a few verbs and facts, the same for every runtime.
//!
//! A runtime value belongs to one service. What it refuses: deciding when and why, and keeping images.

mod container;
pub mod docker;
pub mod group;
mod instance;
mod links;
mod place;
pub mod podman;
pub mod process;
pub mod runc;
pub mod systemd;

pub use container::{Layout, Recipe, Volume, volumes_of};
pub use instance::{Attached, Ended, Handle, Instance, Outside};
pub use place::Place;

use instance::Witness;
use place::{KnownShim, release_noted};

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::checkpoint::{Cut, WhileFrozen};
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;

/// The name of a container's own root among the trees of its images.
pub const ROOT_TREE: &str = "rootfs";

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
