//! Who is measured, and what is asked of each.
//!
//! A session is one running workload under one contender. Refuses to know how a peer does it: one file each.

mod criu;
mod runc;
mod supervisor;

use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use crate::ground::{Ground, Load};
use crate::namespace::Namespace;
use crate::service::Service;

/// One of those that are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contender {
    /// `criu dump`, `criu restore`, as installed.
    Criu,
    /// The same where it can keep its feature cache.
    CriuCached,
    /// `runc checkpoint`, `runc restore`, as installed.
    Runc,
    /// The same where criu can keep its feature cache.
    RuncCached,
    /// We, running a plain process.
    SupervisorProcess,
    /// We, running a container of runc.
    SupervisorRunc,
}

/// A running workload under one contender. Dropped, everything of it is gone.
pub(crate) trait Session {
    /// The workload.
    fn service(&self) -> Service;

    /// Takes a checkpoint to memory and to disk, and lets the workload run on.
    fn checkpoint(&mut self) -> Result<Checkpoint>;

    /// The fault: SIGKILL to the main process.
    fn kill(&mut self) -> Result<()>;

    /// What follows the fault: a bare command is started as soon as the death is noticed.
    fn begin_recovery(&mut self) -> Result<()>;

    /// Ends the workload and whatever of it is in the way of a restore.
    fn stop(&mut self) -> Result<()>;

    /// Starts the command that restores the stopped workload.
    fn begin_restore(&mut self) -> Result<()>;

    /// An error if what was begun has failed.
    fn check(&mut self) -> Result<()>;

    /// Waits until what was begun has ended.
    fn finish(&mut self) -> Result<()>;

    /// Ends everything in an orderly way.
    fn end(self: Box<Self>) -> Result<()>;
}

/// A checkpoint's figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checkpoint {
    /// From the command's start until an image in memory can be restored.
    pub(crate) to_memory: Duration,
    /// How long the service stood still for that, as it sees it.
    pub(crate) pause: Duration,
    /// From the command's start until it is on the disk and synced.
    pub(crate) to_disk: Duration,
    /// How long the service stood still for that.
    pub(crate) pause_to_disk: Duration,
    /// Bytes of the image, uncompressed.
    pub(crate) image: u64,
    /// The counter in the image that is going to be restored.
    pub(crate) counter: u64,
}

impl Contender {
    /// In the order of a round: each of ours between two peers.
    pub(crate) const ALL: [Self; 6] = [
        Self::Criu,
        Self::SupervisorProcess,
        Self::CriuCached,
        Self::Runc,
        Self::SupervisorRunc,
        Self::RuncCached,
    ];

    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Criu => "criu",
            Self::CriuCached => "criu (kdat cached)",
            Self::Runc => "runc",
            Self::RuncCached => "runc (kdat cached)",
            Self::SupervisorProcess => "supervisor (process)",
            Self::SupervisorRunc => "supervisor (runc)",
        }
    }

    /// With whom it is compared.
    pub(crate) const fn peers(self) -> &'static [Self] {
        match self {
            Self::Criu | Self::CriuCached | Self::Runc | Self::RuncCached => &[],
            Self::SupervisorProcess => &[Self::Criu, Self::CriuCached],
            Self::SupervisorRunc => &[Self::Runc, Self::RuncCached],
        }
    }

    /// Why it cannot be measured here, if so.
    pub(crate) fn lacks(self, ground: &Ground) -> Option<&'static str> {
        let runc = matches!(self, Self::Runc | Self::RuncCached | Self::SupervisorRunc);
        let cached = matches!(self, Self::CriuCached | Self::RuncCached);
        if runc && ground.runc.is_none() {
            return Some("runc is not installed");
        }
        (cached && ground.cached.is_none()).then_some("/run is a tmpfs here, so the cache is kept anyway")
    }

    /// Starts the workload under it, and waits until it answers.
    pub(crate) fn start(self, ground: &Ground, load: Load) -> Result<Box<dyn Session + '_>> {
        match self {
            Self::Criu | Self::CriuCached => criu::start(ground, self.namespace(ground), load),
            Self::Runc | Self::RuncCached => runc::start(ground, self.namespace(ground), load),
            Self::SupervisorProcess => supervisor::start(ground, supervisor::Runtime::Process, load),
            Self::SupervisorRunc => supervisor::start(ground, supervisor::Runtime::Runc, load),
        }
    }

    fn namespace(self, ground: &Ground) -> Option<&Namespace> {
        match self {
            Self::CriuCached | Self::RuncCached => ground.cached.as_ref(),
            Self::Criu | Self::Runc | Self::SupervisorProcess | Self::SupervisorRunc => None,
        }
    }
}
