//! The supervisor's side of a shim.

mod hearing;

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot, watch};

use super::protocol::{
    FENCES_SINCE, FenceOrder, FenceState, FromShim, Main, Notice, Output, Program, Reply, Request, VERSION,
    receive, send,
};
use super::said::Said;
use super::sandbox::Isolation;
use crate::descriptor;
use crate::error::{Error, Report, Result};
use crate::process::command::Command;
use crate::process::pidfd::PidFd;

/// A shim answers at once or not at all.
const ANSWER_MAX: Duration = Duration::from_secs(10);
const START_MAX: Duration = Duration::from_secs(10);
/// What helps against a shim that cannot keep a fence.
const START_ANEW: &str = "stop the service and start it again (`supervisor stop`, `supervisor start`)";

/// A connection to one shim. Clones share it.
#[derive(Debug, Clone)]
pub struct Shim {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    socket: AsyncFd<OwnedFd>,
    shared: Mutex<Shared>,
    changed: Notify,
    said: watch::Sender<Said>,
    followed: AtomicBool,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: VecDeque<oneshot::Sender<(Reply, Vec<OwnedFd>)>>,
    exits: BTreeMap<i32, i32>,
    version: u32,
    gone: bool,
}

/// A process that a shim started or tracks.
#[derive(Debug)]
pub struct Running {
    /// The pid in the shim's namespace.
    pub pid: i32,
    /// Readable once it has ended; `None` if it had ended before it could be had.
    pub pidfd: Option<PidFd>,
    /// The pipes behind its output, as CRIU names them.
    pub pipes: Vec<(i32, String)>,
}

impl Shim {
    /// Starts a shim (`program` is our own binary) that listens at `path`, and connects to it.
    pub async fn start(program: &Path, path: &Path, isolation: Isolation) -> Result<Self> {
        let isolation = match isolation {
            Isolation::Pid => "pid",
            Isolation::None => "none",
        };
        let argv = vec![
            program.display().to_string(),
            "shim".to_owned(),
            "--socket".to_owned(),
            path.display().to_string(),
            "--isolation".to_owned(),
            isolation.to_owned(),
        ];
        let output = Command::new(argv).timeout(START_MAX).run().await?;
        let said = output.stdout.trim();
        if said != "ready" {
            let why = if said.is_empty() { output.stderr.trim() } else { said };
            return Err(Error::Refused(
                Report::new(format!("start a shim at {}: {why}", path.display())).remedy(
                    "the supervisor must run as root with CAP_SYS_ADMIN; `supervisor doctor` says more",
                ),
            ));
        }
        Self::connect(path).await
    }

    /// Connects to a shim that an earlier supervisor left at `path`.
    pub async fn connect(path: &Path) -> Result<Self> {
        let away = |errno: Errno| {
            Error::Unavailable(
                Report::new(format!("connect to the shim at {}", path.display())).because(errno),
            )
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).map_err(away)?;
        connect(fd.as_raw_fd(), &UnixAddr::new(path).map_err(away)?).map_err(away)?;
        let socket = descriptor::watch(fd, Interest::READABLE)
            .map_err(|e| Error::Internal(Report::new("watch the shim's socket").because(e)))?;
        let inner = Arc::new(Inner {
            path: path.to_owned(),
            socket,
            shared: Mutex::new(Shared::default()),
            changed: Notify::new(),
            said: watch::Sender::default(),
            followed: AtomicBool::new(false),
        });
        // Holds the connection weakly: the last `Shim` dropped ends the task with it.
        tokio::spawn(read_on(Arc::downgrade(&inner), inner.socket.get_ref().try_clone()));
        let shim = Self { inner };
        shim.hello().await?;
        Ok(shim)
    }

    /// Connects to the shim at `path`, or starts one. An idle shim of another kind (the configuration has changed), or one that
    /// cannot keep a fence, makes way; one whose service still lives does not.
    pub async fn connect_or_start(program: &Path, path: &Path, isolation: Isolation) -> Result<Self> {
        if let Ok(shim) = Self::connect(path).await {
            let (kind, replaceable) = match shim.ask(&Request::Hello, &[]).await? {
                (Reply::Here { isolation, main, helpers, fence, .. }, _) => {
                    let idle = helpers == 0 && main.is_none_or(|main| main.status.is_some());
                    (isolation, idle && fence.is_none())
                }
                (other, _) => return Err(unexpected(&other)),
            };
            if kind == isolation && !replaceable {
                return Ok(shim);
            }
            shim.quit().await?;
        }
        Self::start(program, path, isolation).await
    }

    /// Asks how the service is. The main process's pidfd comes with it if that lives.
    pub async fn hello(&self) -> Result<(Option<Main>, Option<PidFd>)> {
        match self.ask(&Request::Hello, &[]).await? {
            (Reply::Here { main, .. }, descriptors) => Ok((main, first_pidfd(descriptors)?)),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Starts the service's main process.
    pub async fn start_main(&self, program: Program) -> Result<Running> {
        self.run(&Request::Start(program), &[]).await
    }

    /// Runs a helper with the descriptors as its 3, 4, ...
    pub async fn work(&self, program: Program, descriptors: &[BorrowedFd<'_>]) -> Result<Running> {
        self.run(&Request::Work(program), descriptors).await
    }

    /// Makes a restored process the main one.
    pub async fn track(&self, pid: i32) -> Result<Running> {
        self.run(&Request::Track { pid }, &[]).await
    }

    /// Ends all processes of the shim's pid namespace but the shim.
    pub async fn kill_all(&self) -> Result<()> {
        self.done(&Request::KillAll, &[]).await
    }

    /// What the shim writes where if we go away.
    pub async fn guard(&self, thaw: Vec<(PathBuf, String)>) -> Result<()> {
        self.done(&Request::Guard { thaw }, &[]).await
    }

    /// Orders something of the service's fence; says how it stands then.
    ///
    /// # Errors
    /// `Refused` by a shim that cannot keep a fence, `Unavailable` if it does not answer.
    pub async fn fence(&self, order: &FenceOrder) -> Result<FenceState> {
        self.knows("fence", FENCES_SINCE)?;
        match self.ask(&Request::Fence(order.clone()), &[]).await? {
            (Reply::Fence(state), _) => Ok(state),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// To be called before the service is started anew: its last fence may have fired.
    ///
    /// # Errors
    /// As [`Shim::fence`]; `Unavailable` also while the fence still kills.
    pub async fn lift_fence(&self) -> Result<()> {
        if self.fence(&FenceOrder::Lift).await?.is_over() {
            return Err(Error::Unavailable(Report::new(
                "start a service whose fence has fired: some of its processes are not dead yet",
            )));
        }
        Ok(())
    }

    /// An older shim hangs up on what it does not know.
    fn knows(&self, what: &str, since: u32) -> Result<()> {
        let version = self.inner.shared().version;
        if version >= since {
            return Ok(());
        }
        let text =
            format!("{what} a service whose shim is too old: it speaks version {version} of {VERSION}");
        Err(Error::Refused(Report::new(text).remedy(START_ANEW)))
    }

    /// Hands the shim a pipe to be read to where the output goes.
    pub async fn pump(&self, pipe: BorrowedFd<'_>, output: Output) -> Result<()> {
        self.done(&Request::Pump(output), &[pipe]).await
    }

    /// Ends the shim. Refused while the service lives.
    pub async fn quit(&self) -> Result<()> {
        self.done(&Request::Quit, &[]).await
    }

    /// Whether the shim is still connected.
    pub fn is_connected(&self) -> bool {
        !self.inner.shared().gone
    }

    /// Waits for the raw wait status of a process that the shim watches; `None` if the shim is gone and nobody
    /// knows.
    pub async fn exit_status(&self, pid: i32) -> Option<i32> {
        loop {
            let changed = self.inner.changed.notified();
            {
                let shared = self.inner.shared();
                if let Some(status) = shared.exits.get(&pid) {
                    return Some(*status);
                }
                if shared.gone {
                    return None;
                }
            }
            changed.await;
        }
    }

    async fn run(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<Running> {
        match self.ask(request, descriptors).await? {
            (Reply::Running { pid, pipes, .. }, descriptors) => {
                Ok(Running { pid, pidfd: first_pidfd(descriptors)?, pipes })
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn done(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        match self.ask(request, descriptors).await? {
            (Reply::Done, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    async fn ask(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(Reply, Vec<OwnedFd>)> {
        let (sender, answer) = oneshot::channel();
        self.send_in_order(request, descriptors, sender)?;
        match tokio::time::timeout(ANSWER_MAX, answer).await {
            Ok(Ok((Reply::Failed { errno, message }, _))) => Err(failed(errno, message)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) => Err(self.lost()),
            Err(_) => Err(Error::Unavailable(Report::new(format!(
                "wait for the shim at {}: no answer in {}",
                self.inner.path.display(),
                humantime::format_duration(ANSWER_MAX)
            )))),
        }
    }

    /// Answers come in the order of the requests, so both queues move under one lock.
    fn send_in_order(
        &self,
        request: &Request,
        descriptors: &[BorrowedFd<'_>],
        sender: oneshot::Sender<(Reply, Vec<OwnedFd>)>,
    ) -> Result<()> {
        let mut shared = self.inner.shared();
        if shared.gone {
            return Err(self.lost());
        }
        send(self.inner.socket.get_ref(), request, descriptors).map_err(|e| {
            Error::Unavailable(
                Report::new(format!("write to the shim at {}", self.inner.path.display())).because(e),
            )
        })?;
        shared.waiting.push_back(sender);
        Ok(())
    }

    fn lost(&self) -> Error {
        Error::Unavailable(Report::new(format!("the shim at {} has gone", self.inner.path.display())))
    }
}

impl Inner {
    fn shared(&self) -> MutexGuard<'_, Shared> {
        // A panic while holding it leaves whole queues behind; going on is right.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what is there; false when the shim has gone.
    fn read_available(&self) -> bool {
        loop {
            match receive::<FromShim>(self.socket.get_ref()) {
                Ok(Some((message, descriptors))) => self.deliver(message, descriptors),
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return true,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(None) | Err(_) => return false,
            }
        }
    }

    fn deliver(&self, message: FromShim, descriptors: Vec<OwnedFd>) {
        let mut shared = self.shared();
        match message {
            FromShim::Notice(Notice::Exited { pid, status }) => {
                shared.exits.insert(pid, status);
                self.changed.notify_waiters();
            }
            FromShim::Notice(Notice::Said(said)) => self.note_said(&said),
            FromShim::Reply(reply) => {
                match &reply {
                    Reply::Here { version, .. } => shared.version = *version,
                    Reply::Said(Some(said)) => self.note_said(said),
                    _ => {}
                }
                shared.note_exit(&reply);
                self.changed.notify_waiters();
                if let Some(waiting) = shared.waiting.pop_front() {
                    // Whoever asked may have given up; its descriptors close here.
                    let _ = waiting.send((reply, descriptors));
                }
            }
        }
    }
}

impl Shared {
    /// Pids are used again inside a sandbox: what is known of an older bearer must not be taken for the newer one's.
    fn note_exit(&mut self, reply: &Reply) {
        let (pid, status) = match reply {
            Reply::Running { pid, status, .. } => (*pid, *status),
            Reply::Here { main: Some(main), .. } => (main.pid, main.status),
            Reply::Here { main: None, .. }
            | Reply::Fence(_)
            | Reply::Said(_)
            | Reply::Done
            | Reply::Failed { .. } => return,
        };
        match status {
            Some(status) => self.exits.insert(pid, status),
            None => self.exits.remove(&pid),
        };
    }
}

async fn read_on(inner: Weak<Inner>, socket: std::io::Result<OwnedFd>) {
    // A duplicate is waited on, so that the connection itself closes when the last `Shim` is dropped.
    if let Ok(socket) = socket.and_then(|fd| descriptor::watch(fd, Interest::READABLE)) {
        while let Ok(mut ready) = socket.readable().await {
            let Some(inner) = inner.upgrade() else { return };
            ready.clear_ready();
            if !inner.read_available() {
                break;
            }
        }
    }
    if let Some(inner) = inner.upgrade() {
        let mut shared = inner.shared();
        shared.gone = true;
        shared.waiting.clear();
        inner.changed.notify_waiters();
    }
}

fn first_pidfd(descriptors: Vec<OwnedFd>) -> Result<Option<PidFd>> {
    descriptors.into_iter().next().map(PidFd::new).transpose()
}

fn unexpected(reply: &Reply) -> Error {
    Error::Internal(Report::new(format!("a shim answered something else than was asked: {reply:?}")))
}

fn failed(errno: Option<i32>, message: String) -> Error {
    let mut report = Report::new(message);
    let errno = errno.map(Errno::from_raw);
    if let Some(errno) = errno {
        report = report.because(errno);
    }
    match errno {
        Some(Errno::ENOENT | Errno::EACCES | Errno::ENOEXEC | Errno::ENOTDIR | Errno::EINVAL) => {
            Error::Invalid(report.remedy("check the service's command, working directory and user"))
        }
        // The keeper of its fence has ended.
        Some(Errno::EPIPE) => Error::Refused(report.remedy(START_ANEW)),
        Some(Errno::EPERM) => Error::Refused(report),
        _ => Error::Unavailable(report),
    }
}

#[cfg(test)]
mod tests;
