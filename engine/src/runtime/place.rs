//! Where a service stands on this host, and what all runtimes do there in the same way: finding its shim, finishing CRIU's images, holding its
//! connections.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Keep;
use crate::checkpoint::{BeforeEnd, Cut};
use crate::criu::network::Hold;
use crate::criu::{Criu, SharedOptions, Tcp, close_outer_connections};
use crate::error::{Error, Report, Result};
use crate::freeze::Hierarchies;
use crate::shim::{Isolation, Shim};

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
pub(in crate::runtime) type KnownShim = tokio::sync::Mutex<Option<Shim>>;

impl Place {
    pub(in crate::runtime) fn shim_socket(&self) -> PathBuf {
        self.run_folder.join("shim.sock")
    }

    /// The shim that is connected, or else an older supervisor's, or else a new one.
    pub(in crate::runtime) async fn shim(&self, known: &KnownShim, isolation: Isolation) -> Result<Shim> {
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
    pub(in crate::runtime) async fn shim_for_start(
        &self,
        known: &KnownShim,
        isolation: Isolation,
    ) -> Result<Shim> {
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

    pub(in crate::runtime) fn held_connections(&self) -> PathBuf {
        self.run_folder.join("held-connections")
    }

    /// Holds the connections of a service that has been dumped and is about to end. The note comes first: rules that nobody knows of would stay.
    pub(in crate::runtime) async fn hold_connections(&self, images: &Path, pid: i32) -> Result<()> {
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
    pub(in crate::runtime) fn finishing<'a>(
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
    pub(in crate::runtime) async fn release_connections(&self) -> Result<()> {
        release_noted(&self.held_connections()).await
    }

    pub(in crate::runtime) fn criu_folder(&self) -> Result<PathBuf> {
        let folder = self.run_folder.join("criu");
        crate::durable::create_dir(&folder)?;
        Ok(folder)
    }
}

/// Lets go of the connections that are held according to a note.
pub(in crate::runtime) async fn release_noted(note: &Path) -> Result<()> {
    let Ok(text) = std::fs::read(note) else { return Ok(()) };
    // A note that cannot be read is of another version; its rules end with the host.
    let hold: Hold = serde_json::from_slice(&text).unwrap_or_default();
    hold.release().await?;
    crate::durable::remove_file(note)
}
