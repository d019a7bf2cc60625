//! A running service, and what names it over our own restart.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{Effect, Place, boot_id, group};
use crate::error::{Error, Report, Result};
use crate::fence::Fence;
use crate::freeze::Cgroup;
use crate::process::pidfd::{PidFd, start_time};
use crate::shim::protocol::{FenceOrder, FenceState};
use crate::shim::{Said, Shim};

/// How long a shim may take to say how a service ended. It learns at the same moment as we do; a second is for a host that is very
/// busy.
const SHIM_MAX: Duration = Duration::from_secs(1);

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
    pub(in crate::runtime) main: Arc<Main>,
    /// Of a group: all of them, in the order of their start.
    pub(in crate::runtime) members: Arc<[group::Running]>,
    pub(in crate::runtime) said: Option<watch::Receiver<Said>>,
}

#[derive(Debug)]
pub(in crate::runtime) struct Main {
    pub(in crate::runtime) pidfd: PidFd,
    pub(in crate::runtime) shim: Shim,
    pub(in crate::runtime) oom_kills_before: u64,
    /// Set for a main process that is no child of the shim.
    witness: Option<Arc<dyn Witness>>,
}

/// Knows how a main process ended that has another parent than our shim.
pub(in crate::runtime) trait Witness: Send + Sync + std::fmt::Debug {
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
    pub(in crate::runtime) async fn new(
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

    pub(in crate::runtime) async fn was_fenced(&self) -> bool {
        let fence = tokio::time::timeout(SHIM_MAX, self.main.shim.fence(&FenceOrder::Ask)).await;
        fence.is_ok_and(|fence| fence.is_ok_and(FenceState::is_over))
    }

    /// What whoever reaped it says of its end.
    pub(in crate::runtime) async fn told(&self) -> Result<Ended> {
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
    pub(in crate::runtime) async fn end_known_by(place: &Place, handle: &Handle) -> Ended {
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
