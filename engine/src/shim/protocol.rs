//! What a supervisor and a shim say to each other: one JSON message a datagram over a `SOCK_SEQPACKET`
//! socket, descriptors beside it.
//!
//! The format is versioned because a shim outlives the supervisor that started it: an upgraded supervisor
//! talks to older shims. Fields are only ever added, with defaults.

use std::io::{IoSlice, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::PathBuf;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use policies::lease::Moment;
use policies::time::Instant;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::said::Said;
use super::sandbox::Isolation;
use crate::freeze::Cgroup;

/// The version that this program speaks.
pub const VERSION: u32 = 3;
/// The version since which a shim keeps a fence. An older one hangs up on whoever asks it to.
pub const FENCES_SINCE: u32 = 2;
/// The version since which a shim hears what its service says of itself.
pub const LISTENS_SINCE: u32 = 3;
/// The longest message. A `SOCK_SEQPACKET` datagram is refused by the kernel above its send buffer (208 KiB).
const LENGTH_MAX: usize = 128 * 1024;
const DESCRIPTORS_MAX: usize = 8;

/// What a supervisor asks of a shim. Every request is answered by one [`Reply`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Who are you, and how is the service?
    Hello,
    /// Start the service's main process.
    Start(Program),
    /// Run a helper (CRIU, runc). The descriptors that come with the message become its 3, 4, ...
    Work(Program),
    /// The process with this pid (as the shim sees it) is the service's main process from now on: it came
    /// from a restore.
    Track {
        /// The pid in the shim's own pid namespace.
        pid: i32,
    },
    /// End every process in the shim's pid namespace but the shim itself. Refused without such a namespace.
    KillAll,
    /// If the supervisor goes away, write these values into these files as soon as no helper runs.
    Guard {
        /// Freezer files and what thaws them.
        thaw: Vec<(PathBuf, String)>,
    },
    /// Read the pipe that comes with the message to where the output goes ([`Output::Pumped`] or
    /// [`Output::Journal`]).
    Pump(Output),
    /// Something about the service's fence. Answered by [`Reply::Fence`].
    Fence(FenceOrder),
    /// A run is about to begin that says how it is by sd_notify: hear it.
    Listen(Listen),
    /// What has it said? Answered by [`Reply::Said`]; and once by [`Notice::Said`] when there is more to it than so many changes.
    Said {
        /// How many changes are known.
        beyond: u64,
    },
    /// Go away. Refused while the main process lives. A fence that has not fired goes too.
    Quit,
}

/// One program to run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The command and its arguments.
    pub argv: Vec<String>,
    /// The whole environment.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// User, group and further groups to become.
    pub user: Option<User>,
    /// `cgroup.procs` (or `tasks`) files to be written before the program starts.
    pub cgroups: Vec<PathBuf>,
    /// Where its standard output goes.
    pub stdout: Output,
    /// Where its standard error goes.
    pub stderr: Output,
    /// Give it a mount namespace of its own, so that what it mounts is gone with it, however it ends. A shim with a mount
    /// namespace of its own does not: its helpers stand where the service stands.
    #[serde(default)]
    pub own_mounts: bool,
    /// CRIU's feature cache to be shown to it at `/run/criu.kdat`, if it or its shim has a mount namespace of its own.
    pub private_feature_cache: Option<PathBuf>,
    /// A helper's pid, and those of what it starts, are to be above this one: it is about to need those up to it.
    #[serde(default)]
    pub pids_above: i32,
}

/// Where a run of a service says how it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listen {
    /// The socket's path, the same for all runs.
    pub path: PathBuf,
    /// User and group that alone may speak there; `None`: everybody may, but only members are heard.
    pub owner: Option<(u32, u32)>,
    /// Who is heard.
    pub cgroup: Cgroup,
    /// What it comes back from had said that it is ready.
    pub ready: bool,
}

/// A user to become.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The main group's id.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Where a program's output goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Output {
    /// Nowhere.
    #[default]
    Null,
    /// Appended to a file, which the program itself holds open.
    File(PathBuf),
    /// Through a pipe that the shim reads and appends to a file, so that the program holds no file of the
    /// host's: a container cannot be checkpointed otherwise.
    Pumped(PathBuf),
    /// Through a pipe that the shim reads, to the systemd journal under this name.
    Journal(String),
}

impl Output {
    /// Whether it goes through a pipe that the shim reads.
    pub fn is_pumped(&self) -> bool {
        match self {
            Self::Null | Self::File(_) => false,
            Self::Pumped(_) | Self::Journal(_) => true,
        }
    }
}

/// A shim's answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To `Hello`. A pidfd of the main process comes with it if that lives.
    Here {
        /// The shim's protocol version.
        version: u32,
        /// How far it set itself and its service apart.
        isolation: Isolation,
        /// The main process, if one was started.
        main: Option<Main>,
        /// How many helpers run.
        helpers: usize,
        /// How its fence stands. `None`: it has none, since it is older or its fence's process has ended.
        #[serde(default)]
        fence: Option<FenceState>,
    },
    /// To `Start`, `Work` and `Track`: it runs; a pidfd comes with the message, and the pid as the shim sees it.
    /// If the process has ended already there is no pidfd, but its status.
    Running {
        /// The pid in the shim's pid namespace.
        pid: i32,
        /// The raw wait status, if it has ended.
        status: Option<i32>,
        /// The pipes that the program's output goes through, as CRIU names them (`pipe:[inode]`).
        pipes: Vec<(i32, String)>,
    },
    /// To `Fence`: how it stands now, whether the order changed anything or not.
    Fence(FenceState),
    /// To `Said`: all of it. `None`: nobody was told to listen.
    Said(Option<Said>),
    /// Done.
    Done,
    /// Not done, and why.
    Failed {
        /// The errno, if one says it.
        errno: Option<i32>,
        /// What was tried.
        message: String,
    },
}

/// What may be asked of a service's fence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceOrder {
    /// Stop all members of the cgroup at the limit, in the place of any limit before. Changes nothing once the limit before has
    /// passed.
    Arm {
        /// When.
        limit: FenceLimit,
        /// Whom.
        cgroup: Cgroup,
        /// What goes with them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<FencedAddress>,
    },
    /// There is no limit any more. Changes nothing once it has passed.
    Disarm,
    /// The service is to be started anew: a fence that has fired, and has nothing left to kill, is disarmed. One that is armed
    /// stays so.
    Lift,
    /// Only say how it stands.
    Ask,
}

/// The service's address, which a host without the service must not have: others could not take it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencedAddress {
    /// The folder of records: what is not recorded there was not put on this host by us.
    pub records: PathBuf,
    /// Which.
    pub ip: IpAddr,
}

/// An instant on two clocks, in nanoseconds; whichever comes first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FenceLimit {
    /// By `CLOCK_MONOTONIC`.
    pub monotonic: u64,
    /// By `CLOCK_BOOTTIME`.
    pub boottime: u64,
}

/// How a fence stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FenceState {
    /// It has no limit.
    #[default]
    Disarmed,
    /// It will act at this limit.
    Armed(FenceLimit),
    /// It is stopping the service.
    Firing,
    /// The service is dead, and is killed again should somebody else bring it back.
    Fired,
}

impl FenceState {
    /// Whether the limit has passed.
    pub fn is_over(self) -> bool {
        match self {
            Self::Disarmed | Self::Armed(_) => false,
            Self::Firing | Self::Fired => true,
        }
    }
}

impl From<Moment> for FenceLimit {
    fn from(moment: Moment) -> Self {
        Self { monotonic: moment.monotonic.as_nanos(), boottime: moment.boottime.as_nanos() }
    }
}

impl From<FenceLimit> for Moment {
    fn from(limit: FenceLimit) -> Self {
        Self {
            monotonic: Instant::from_nanos(limit.monotonic),
            boottime: Instant::from_nanos(limit.boottime),
        }
    }
}

/// What a shim says unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Notice {
    /// A process that it was asked about has ended.
    Exited {
        /// The pid in the shim's pid namespace.
        pid: i32,
        /// The raw wait status.
        status: i32,
    },
    /// The service has said more than is known.
    Said(Said),
}

/// What travels from a shim to a supervisor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromShim {
    /// The answer to the oldest unanswered request.
    Reply(Reply),
    /// Something that happened.
    Notice(Notice),
}

/// The service's main process, as its shim knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Main {
    /// The pid in the shim's pid namespace.
    pub pid: i32,
    /// The raw wait status, once it has ended.
    pub status: Option<i32>,
}

/// Sends one message, with descriptors.
pub fn send<T: Serialize>(
    socket: impl AsFd,
    message: &T,
    descriptors: &[BorrowedFd<'_>],
) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > LENGTH_MAX {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "message to the shim is too long"));
    }
    let raw: Vec<i32> = descriptors.iter().map(|d| d.as_raw_fd()).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control = if raw.is_empty() { &rights[..0] } else { &rights[..] };
    sendmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &[IoSlice::new(&bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(())
}

/// Receives one message with its descriptors; `None` when the other side has gone.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> std::io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0_u8; LENGTH_MAX];
    let mut control = nix::cmsg_space!([i32; DESCRIPTORS_MAX]);
    let (length, descriptors) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            socket.as_fd().as_raw_fd(),
            &mut slices,
            Some(&mut control),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        let mut descriptors = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for us; nobody else knows them.
                descriptors.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        (received.bytes, descriptors)
    };
    if length == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&bytes[..length])?, descriptors)))
}
