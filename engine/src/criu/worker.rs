//! One CRIU worker: one dump or one restore, then it is gone.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use prost::Message;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::message::{ExternalMount, InheritFd, Kind, Opts, Request, Response};
use super::options::{Afterwards, Options};
use super::{Criu, breakpoints, log, stats, tar};
use crate::descriptor::watch;
use crate::error::{Error, Report, Result};
use crate::process::pidfd::PidFd;
use crate::shim::client::Running;
use crate::shim::{Output, Program, Shim};

/// Where a worker finds its descriptors: the socket, the images and its working folder.
const SOCKET: i32 = 3;
const IMAGES: &str = "/proc/self/fd/4";
const WORK: &str = "/proc/self/fd/5";
const INHERITED: i32 = 6;
/// `criu_cg_mode` IGNORE: the worker stands in the right cgroup, and what it restores with it.
const CGROUPS_IGNORE: i32 = 0;
/// `criu_cg_mode` SOFT: what containers use.
const CGROUPS_SOFT: i32 = 3;
/// How long a worker may take to end once it has answered.
const EXIT_MAX: Duration = Duration::from_secs(5);

/// What is to be dumped.
#[derive(Debug, Clone, Default)]
pub struct DumpTarget {
    /// The root of the process tree, as the worker sees it.
    pub pid: i32,
    /// The root folder of its mount namespace, if that is not the worker's.
    pub root: Option<PathBuf>,
    /// Mounts that come from outside of it.
    pub external_mounts: Vec<String>,
    /// Files that are covered by `/dev/null`.
    pub masked_paths: Vec<String>,
    /// Further resources of the outside, in CRIU's notation.
    pub external: Vec<String>,
    /// The cgroup that holds all of it.
    pub freeze_cgroup: Option<PathBuf>,
    /// Whether its cgroups belong to the image.
    pub with_cgroups: bool,
    /// Whether its network namespace is dumped without its devices: somebody else furnishes it at the restore.
    pub empty_network: bool,
}

/// What is done while CRIU dumps. Each question that CRIU asks is part of the pause, and a long part on a busy host; so it asks only where
/// there is something to do.
pub trait DuringDump: Send {
    /// Whether CRIU is to ask at all.
    fn is_wanted(&self) -> bool;

    /// The first task is about to be stopped; an error ends the dump.
    fn about_to_stop(&mut self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;

    /// CRIU's images are complete, and all tasks still stand still. An error lets the service run on, whatever was asked for.
    fn complete(&mut self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;
}

/// A CRIU that has started and waits for its request.
#[derive(Debug)]
pub struct Worker {
    socket: AsyncFd<OwnedFd>,
    running: Running,
    /// Not for one that was started to restore.
    breakpoints: Option<JoinHandle<Option<breakpoints::Ready>>>,
    log: PathBuf,
    /// CRIU's names of what it inherits, from [`INHERITED`] on.
    inherited: Vec<String>,
}

/// How a worker is started.
#[derive(Debug)]
pub struct Start<'a> {
    /// The folder of CRIU's images.
    pub images: &'a Path,
    /// The folder for its logs.
    pub work: &'a Path,
    /// Cgroups that it joins first.
    pub cgroups: Vec<PathBuf>,
    /// Whether it stands in a mount namespace apart from its shim's: for services that have one themselves.
    pub own_mounts: bool,
    /// CRIU's feature cache, to be shown to it. Only where it does not stand in the host's mount namespace.
    pub feature_cache: Option<&'a Path>,
    /// What a restored process gets in the place of something outside, by CRIU's name of that.
    pub inherited: Vec<(String, OwnedFd)>,
    /// Our own program, to pack empty folders quickly while a container stands still.
    pub packer: Option<&'a Path>,
    /// What is to be restored has pids up to this one, in the shim's namespace.
    pub pids_above: i32,
}

impl<'a> Start<'a> {
    /// A worker among the host's processes and mounts, with nothing from elsewhere.
    pub const fn at(images: &'a Path, work: &'a Path) -> Self {
        Self {
            images,
            work,
            cgroups: Vec::new(),
            own_mounts: false,
            feature_cache: None,
            inherited: Vec::new(),
            packer: None,
            pids_above: 0,
        }
    }
}

impl Worker {
    /// Starts a worker.
    pub async fn start(criu: &Criu, shim: &Shim, start: Start<'_>) -> Result<Self> {
        criu.usable()?;
        let breakpoints = tokio::task::spawn_blocking(breakpoints::Ready::make);
        let Prepared { program, socket, descriptors } = Prepared::new(criu, &start)?;
        let running = shim.work(program, &borrowed(&descriptors, &start)).await?;
        Ok(Self { breakpoints: Some(breakpoints), ..Self::over(socket, running, start)? })
    }

    /// Starts one to restore as a child of ours, without a shim. This process must have one thread.
    pub fn start_as_child(criu: &Criu, start: Start<'_>) -> Result<Self> {
        criu.usable()?;
        let Prepared { program, socket, descriptors } = Prepared::new(criu, &start)?;
        let copies: Result<Vec<OwnedFd>, _> =
            borrowed(&descriptors, &start).iter().map(BorrowedFd::try_clone_to_owned).collect();
        let copies = copies.map_err(|e| Error::Unavailable(Report::new("copy descriptors").because(e)))?;
        let started = crate::shim::program::start(&program, &copies, start.own_mounts);
        let started = started
            .map_err(|failure| Error::Unavailable(Report::new(failure.message).because(failure.errno)))?;
        let pid = started.pid.as_raw();
        // Nobody but us reaps it.
        let running = Running { pid, pidfd: PidFd::open(pid).ok(), pipes: Vec::new() };
        Self::over(socket, running, start)
    }

    fn over(socket: OwnedFd, running: Running, start: Start<'_>) -> Result<Self> {
        nix::fcntl::fcntl(&socket, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .map_err(|e| Error::Internal(Report::new("set up the socket to CRIU").because(e)))?;
        let socket = watch(socket, Interest::READABLE | Interest::WRITABLE)
            .map_err(|e| Error::Internal(Report::new("watch the socket to CRIU").because(e)))?;
        let inherited = start.inherited.into_iter().map(|(key, _)| key).collect();
        Ok(Self { socket, running, breakpoints: None, log: start.work.to_owned(), inherited })
    }

    /// Its pid in the shim's namespace: above those of whatever was there before it.
    pub fn pid(&self) -> i32 {
        self.running.pid
    }

    /// Dumps a tree and leaves it running, or ends it. The worker is still ending when this returns: [`Worker::end`] waits for that, when
    /// the service runs again.
    pub async fn dump(
        &mut self,
        target: &DumpTarget,
        options: &Options,
        afterwards: Afterwards,
        limit: Duration,
        during: &mut dyn DuringDump,
    ) -> Result<()> {
        // Not having them is no reason not to dump.
        let _ready = match &mut self.breakpoints {
            Some(breakpoints) => breakpoints.await.ok().flatten(),
            None => None,
        };
        let default_mode = if target.with_cgroups { CGROUPS_SOFT } else { CGROUPS_IGNORE };
        let opts = Opts {
            pid: Some(target.pid),
            images_dir: Some(IMAGES.to_owned()),
            leave_running: Some(afterwards == Afterwards::RunOn),
            log_file: Some("dump.log".to_owned()),
            notify_scripts: Some(during.is_wanted()),
            root: target.root.as_ref().map(|r| r.display().to_string()),
            ext_mnt: external_mounts(target),
            external: options.external.iter().chain(&target.external).cloned().collect(),
            orphan_pts_master: Some(options.orphan_pts_master || target.root.is_some()),
            freeze_cgroup: target.freeze_cgroup.as_ref().map(|f| f.display().to_string()),
            timeout: Some(u32::try_from(limit.as_secs().max(1)).unwrap_or(u32::MAX)),
            manage_cgroups: Some(target.with_cgroups),
            manage_cgroups_mode: options.manage_cgroups_mode.or(Some(default_mode)),
            empty_ns: target.empty_network.then_some(libc::CLONE_NEWNET as u32),
            network_lock: Some(options.network_lock_number(afterwards)),
            ..options.common()
        };
        let log = self.log.join("dump.log");
        let answer = self.converse(Kind::Dump, opts, limit, &log, Some(during)).await?;
        succeed(&answer, "checkpoint", &log)
    }

    /// Restores a tree as a child of the shim. Gives the root's pid as the worker saw it.
    pub async fn restore(self, options: &Options, limit: Duration) -> Result<i32> {
        let opts = Opts {
            images_dir: Some(IMAGES.to_owned()),
            log_file: Some("restore.log".to_owned()),
            rst_sibling: Some(true),
            inherit_fd: (INHERITED..)
                .zip(&self.inherited)
                .map(|(fd, key)| InheritFd { key: key.clone(), fd })
                .collect(),
            manage_cgroups: Some(false),
            manage_cgroups_mode: Some(CGROUPS_IGNORE),
            ..options.common()
        };
        let log = self.log.join("restore.log");
        let answer = self.converse(Kind::Restore, opts, limit, &log, None).await?;
        self.end().await;
        succeed(&answer, "restore", &log)?;
        // A failed restore bears -1, which to kill(2) means everybody.
        match answer.restore.map(|r| r.pid) {
            Some(pid) if pid > 1 => Ok(pid),
            other => Err(Error::Internal(Report::new(format!("CRIU restored, but names the pid {other:?}")))),
        }
    }

    async fn converse(
        &self,
        kind: Kind,
        opts: Opts,
        limit: Duration,
        log: &Path,
        during: Option<&mut dyn DuringDump>,
    ) -> Result<Response> {
        match self.talk(kind, opts, limit, during).await {
            Ok(Some(answer)) => Ok(answer),
            Err(error) => {
                // It may still be taking its code out of the service.
                self.end().await;
                Err(with_log(error, log))
            }
            Ok(None) => {
                self.end_within(Duration::ZERO).await;
                Err(Error::Unavailable(
                    Report::new(format!(
                        "CRIU did not finish within {}; it was killed",
                        humantime::format_duration(limit)
                    ))
                    .output(log::telling_lines(log))
                    .remedy(
                        "raise checkpoint.timeout (or restart.restore_timeout) if the service is that large",
                    ),
                ))
            }
        }
    }

    /// `None` when the time is up. What we do for a question is not counted: killing CRIU then would cost the service its life.
    async fn talk(
        &self,
        kind: Kind,
        opts: Opts,
        limit: Duration,
        mut during: Option<&mut dyn DuringDump>,
    ) -> Result<Option<Response>> {
        let mut deadline = Instant::now() + limit;
        self.send(&Request { kind: kind as i32, opts: Some(opts), notify_success: None }).await?;
        let mut objection = None;
        loop {
            let Ok(answer) = timeout_at(deadline, self.receive()).await else { return Ok(None) };
            let answer = answer?;
            if answer.kind != Kind::Notify as i32 {
                return objection.map_or(Ok(Some(answer)), Err);
            }
            let asked = Instant::now();
            let script = answer.notify.and_then(|n| n.script).unwrap_or_default();
            let agreed = match (&mut during, script.as_str()) {
                (Some(during), "pre-dump") => during.about_to_stop().await,
                (Some(during), "post-dump") => during.complete().await,
                _ => Ok(()),
            };
            deadline += asked.elapsed();
            let reply =
                Request { kind: Kind::Notify as i32, opts: None, notify_success: Some(agreed.is_ok()) };
            objection = objection.or(agreed.err());
            self.send(&reply).await?;
        }
    }

    async fn send(&self, request: &Request) -> Result<()> {
        let bytes = request.encode_to_vec();
        self.socket
            .async_io(Interest::WRITABLE, |fd| Ok(send(fd.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL)?))
            .await
            .map(drop)
            .map_err(|e| gone(&e))
    }

    async fn receive(&self) -> Result<Response> {
        let mut bytes = vec![0_u8; 64 * 1024];
        let length = self
            .socket
            .async_io(Interest::READABLE, |fd| Ok(recv(fd.as_raw_fd(), &mut bytes, MsgFlags::empty())?))
            .await
            .map_err(|e| gone(&e))?;
        if length == 0 {
            return Err(Error::Unavailable(Report::new("CRIU ended without an answer")));
        }
        Response::decode(&bytes[..length])
            .map_err(|e| Error::Internal(Report::new("read CRIU's answer").because(e)))
    }

    /// How long the service stood still for the dump, by CRIU's own clock. Known once the worker has ended.
    pub fn pause(&self) -> Option<Duration> {
        stats::pause(&self.log)
    }

    /// Waits for the worker to be gone.
    pub async fn end(&self) {
        self.end_within(EXIT_MAX).await;
    }

    /// Waits for the worker to be gone; kills it when the patience is over.
    async fn end_within(&self, patience: Duration) {
        let Some(pidfd) = &self.running.pidfd else { return };
        if tokio::time::timeout(patience, pidfd.ended()).await.is_err() {
            let _ = pidfd.signal(libc::SIGKILL);
            let _ = tokio::time::timeout(EXIT_MAX, pidfd.ended()).await;
        }
    }
}

/// What a worker is started of.
struct Prepared {
    program: Program,
    /// Our end.
    socket: OwnedFd,
    /// Its end, the folder of images, its working folder.
    descriptors: [OwnedFd; 3],
}

impl Prepared {
    fn new(criu: &Criu, start: &Start<'_>) -> Result<Self> {
        let open = |path: &Path| {
            File::open(path)
                .map(OwnedFd::from)
                .map_err(|e| Error::Unavailable(Report::new(format!("open {}", path.display())).because(e)))
        };
        let (images, folder) = (open(start.images)?, open(start.work)?);
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(|e| Error::Unavailable(Report::new("make a socket for CRIU").because(e)))?;
        let path = match start.packer {
            Some(packer) => format!("{}:{}", tar::folder(start.work, packer)?.display(), search_path()),
            None => search_path(),
        };
        let program = Program {
            argv: vec![
                criu.program().display().to_string(),
                "--work-dir".to_owned(),
                WORK.to_owned(),
                "swrk".to_owned(),
                SOCKET.to_string(),
            ],
            env: vec![("PATH".to_owned(), path)],
            cwd: Some("/".into()),
            cgroups: start.cgroups.clone(),
            stderr: Output::File(start.work.join("stderr.log")),
            own_mounts: start.own_mounts,
            private_feature_cache: start.feature_cache.map(Path::to_owned),
            pids_above: start.pids_above,
            ..Program::default()
        };
        Ok(Self { program, socket: ours, descriptors: [theirs, images, folder] })
    }
}

/// Its descriptors from [`SOCKET`] on.
fn borrowed<'a>(own: &'a [OwnedFd; 3], start: &'a Start<'_>) -> Vec<BorrowedFd<'a>> {
    let inherited = start.inherited.iter().map(|(_, descriptor)| descriptor.as_fd());
    own.iter().map(AsFd::as_fd).chain(inherited).collect()
}

/// Whether CRIU's code was left inside a process by a worker that was killed: such a process cannot be trusted.
pub fn left_code_in(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("CRIUMFD"))
}

fn succeed(answer: &Response, what: &str, log: &Path) -> Result<()> {
    if answer.success {
        return Ok(());
    }
    let lines = log::telling_lines(log);
    let said = answer.errmsg.as_deref().map(str::trim).filter(|m| !m.is_empty());
    let mut all = lines.clone();
    all.extend(said.map(str::to_owned));
    if let Some(known) = log::refusal_in(&all) {
        return Err(Error::Refused(
            Report::new(format!("the service cannot be {what}ed: {}", known.reason).replace("eed:", "ed:"))
                .remedy(known.remedy)
                .output(lines),
        ));
    }
    let mut report = Report::new(format!("CRIU could not {what} the service"));
    if let Some(remedy) = log::remedy_in(&all) {
        report = report.remedy(remedy);
    }
    if let Some(errno) = answer.errno.filter(|e| *e != 0) {
        report = report.because(nix::errno::Errno::from_raw(errno));
    }
    Err(Error::Unavailable(report.output(lines)))
}

fn with_log(error: Error, log: &Path) -> Error {
    match error {
        Error::Unavailable(report) => Error::Unavailable(report.output(log::telling_lines(log))),
        other => other,
    }
}

fn gone(error: &std::io::Error) -> Error {
    Error::Unavailable(Report::new("talk to CRIU").because(error))
}

fn external_mounts(target: &DumpTarget) -> Vec<ExternalMount> {
    let same = target.external_mounts.iter().map(|m| (m, m.clone()));
    let masked = target.masked_paths.iter().map(|m| (m, "/dev/null".to_owned()));
    same.chain(masked).map(|(key, value)| ExternalMount { key: key.clone(), value }).collect()
}

/// CRIU calls `ip`, `iptables`, `nft` and `tar`.
fn search_path() -> String {
    std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned())
}
