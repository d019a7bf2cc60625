//! Who is measured, and what is asked of each.
//!
//! A session is one running workload under one contender. Refuses to know how a peer does it: one file each.

mod criu;
pub(crate) mod engine;
mod runc;
mod supervisor;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde::Serialize;

use engine::Engine;

use crate::ground::{Ground, Load};
use crate::namespace::Namespace;
use crate::results::Figure;
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
    /// `docker checkpoint create`, `docker start --checkpoint`.
    Docker,
    /// `podman container checkpoint`, `podman container restore`.
    Podman,
    /// We, with a container of docker's.
    SupervisorDocker,
    /// We, with a container of podman's.
    SupervisorPodman,
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
    pub(crate) const ALL: [Self; 10] = [
        Self::Criu,
        Self::SupervisorProcess,
        Self::CriuCached,
        Self::Runc,
        Self::SupervisorRunc,
        Self::RuncCached,
        Self::Docker,
        Self::SupervisorDocker,
        Self::Podman,
        Self::SupervisorPodman,
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
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::SupervisorDocker => "supervisor (docker)",
            Self::SupervisorPodman => "supervisor (podman)",
        }
    }

    /// With whom it is compared.
    pub(crate) const fn peers(self) -> &'static [Self] {
        match self {
            Self::Criu | Self::CriuCached | Self::Runc | Self::RuncCached | Self::Docker | Self::Podman => {
                &[]
            }
            Self::SupervisorProcess => &[Self::Criu, Self::CriuCached],
            Self::SupervisorRunc => &[Self::Runc, Self::RuncCached],
            Self::SupervisorDocker => &[Self::Docker],
            Self::SupervisorPodman => &[Self::Podman],
        }
    }

    /// What of ours may cost how much, compared with this peer at this size.
    pub(crate) fn promised(self, mebibytes: u64, bare: f64) -> Vec<(Figure, f64)> {
        let engines = |small: f64, large: f64| {
            let limit = if mebibytes <= 118 { small } else { large };
            vec![(Figure::PauseMs, limit), (Figure::RestoreMs, limit)]
        };
        match self {
            Self::Docker if (119..1024).contains(&mebibytes) => engines(1.0, 1.0 / 3.0),
            Self::Docker => engines(1.0 / 3.0, 1.0 / 8.0),
            Self::Podman => engines(0.5, 1.0),
            _ => vec![(Figure::PauseMs, bare), (Figure::MttrMs, bare)],
        }
    }

    /// The engine of its containers.
    fn engine(self) -> Option<Option<Engine>> {
        match self {
            Self::Docker | Self::SupervisorDocker => Some(Engine::docker()),
            Self::Podman | Self::SupervisorPodman => Some(Engine::podman()),
            _ => None,
        }
    }

    /// Why it cannot be measured here, if so.
    pub(crate) fn lacks(self, ground: &Ground) -> Option<&'static str> {
        let runc = matches!(self, Self::Runc | Self::RuncCached | Self::SupervisorRunc);
        if self.engine() == Some(None) {
            return Some("it is not set up: run `cargo xtask bench`");
        }
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
            Self::Docker | Self::Podman => engine::start(ground, self.its_engine()?, load),
            Self::SupervisorDocker | Self::SupervisorPodman => {
                supervisor::start(ground, supervisor::Runtime::Engine(self.its_engine()?), load)
            }
        }
    }

    fn its_engine(self) -> Result<Engine> {
        self.engine().flatten().context("it is set up")
    }

    fn namespace(self, ground: &Ground) -> Option<&Namespace> {
        match self {
            Self::CriuCached | Self::RuncCached => ground.cached.as_ref(),
            _ => None,
        }
    }
}
