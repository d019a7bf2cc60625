//! The shim's own life: one thread, one loop over its socket, its children and their pipes.
//!
//! ```text
//! waiting for a supervisor <──> serving one (a newer one replaces an older)
//!         │ gone, and a guard is set
//!         └──> no helper runs any more (or 60 s later) ──> thaw
//! ```

use std::collections::VecDeque;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{ForkResult, Pid, fork};

use super::ear::Ear;
use super::keeper::Keeper;
use super::program::{self, Failure};
use super::protocol::{
    FenceOrder, FromShim, Listen, Main, Notice, Program, Reply, Request, VERSION, receive, send,
};
use super::pump::Pump;
use super::sandbox::{self, Isolation};
use super::setup::{block_signals, detach_from_starter, listen_at};

/// How long helpers may take to end by themselves once their supervisor has gone, before they are killed so
/// that the service can be thawed.
const ORPHANED_HELPER_MAX: Duration = Duration::from_secs(60);
const EXITS_REMEMBERED: usize = 16;

/// `supervisor shim --socket PATH --isolation pid|none`, which only [`super::Shim::start`] says. `None`: these are other
/// arguments. Must be called while the process has one thread.
pub fn main(arguments: impl Iterator<Item = String>) -> Option<ExitCode> {
    let arguments: Vec<String> = arguments.skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let ["shim", "--socket", socket, "--isolation", isolation] = words[..] else { return None };
    let isolation = if isolation == "pid" { Isolation::Pid } else { Isolation::None };
    Some(if run(Path::new(socket), isolation) == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Turns this process into a shim and serves until told to quit. Says `ready` on standard output once it can be connected to, or why not.
fn run(socket: &Path, isolation: Isolation) -> i32 {
    match prepare(socket, isolation) {
        Ok(Some(mut server)) => {
            println!("ready");
            let _ = std::io::stdout().flush();
            detach_from_starter();
            server.serve();
            0
        }
        Ok(None) => 0,
        Err(problem) => {
            println!("{problem}");
            1
        }
    }
}

/// `None` in the process that only forked the shim proper.
fn prepare(socket: &Path, isolation: Isolation) -> Result<Option<Server>, String> {
    let _ = nix::unistd::chdir("/");
    // So that people tell it from the supervisor, whose binary it is.
    let _ = nix::sys::prctl::set_name(c"supervisor-shim");
    let told = |what: &'static str| move |errno: Errno| format!("{what}: {errno}");
    let signals = block_signals().map_err(told("block signals"))?;
    // Before the socket, which it must not hold open, and before the namespaces, which it stays out of.
    let keeper = Keeper::fork().map_err(told("fork the keeper of the fence"))?;
    let listener = listen_at(socket).map_err(told("listen at the shim's socket"))?;
    if isolation == Isolation::Pid {
        sandbox::leave().map_err(told("make pid and mount namespaces"))?;
    }
    // SAFETY: this process has one thread.
    if let ForkResult::Parent { .. } = unsafe { fork() }.map_err(told("fork"))? {
        return Ok(None);
    }
    // Not before the fork: whoever leads a process group cannot leave it, and would be killed with it.
    let _ = nix::unistd::setsid();
    match isolation {
        Isolation::Pid => sandbox::furnish().map_err(told("mount the sandbox's /proc"))?,
        Isolation::None => {
            nix::sys::prctl::set_child_subreaper(true).map_err(told("become the reaper of orphans"))?;
        }
    }
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    let signals = SignalFd::with_flags(&signals, flags).map_err(told("watch signals"))?;
    Ok(Some(Server {
        isolation,
        socket: socket.to_owned(),
        listener,
        signals,
        client: None,
        main: None,
        helpers: Vec::new(),
        exits: VecDeque::new(),
        pumps: Vec::new(),
        ear: None,
        guard: Vec::new(),
        keeper,
        orphaned_since: None,
        quitting: false,
    }))
}

struct Server {
    isolation: Isolation,
    socket: PathBuf,
    listener: OwnedFd,
    signals: SignalFd,
    client: Option<OwnedFd>,
    main: Option<Main>,
    helpers: Vec<Pid>,
    exits: VecDeque<(i32, i32)>,
    pumps: Vec<Pump>,
    ear: Option<Ear>,
    guard: Vec<(PathBuf, String)>,
    keeper: Keeper,
    orphaned_since: Option<Instant>,
    quitting: bool,
}

impl Server {
    fn serve(&mut self) {
        while !self.quitting {
            let ready = self.wait();
            while let Ok(Some(_)) = self.signals.read_signal() {}
            self.reap();
            if ready.ear {
                self.hear();
            }
            if ready.listener {
                self.accept();
            } else if ready.client {
                self.answer();
            }
            self.pump(&ready.pumps);
            self.keep_guard();
        }
        let _ = nix::unistd::unlink(&self.socket);
    }

    fn wait(&self) -> Ready {
        let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut polled = vec![watch(self.signals.as_fd()), watch(self.listener.as_fd())];
        polled.extend(self.pumps.iter().map(|p| watch(p.as_fd())));
        let pumps = 2..polled.len();
        polled.extend(self.client.iter().map(|c| watch(c.as_fd())));
        let client = pumps.end..polled.len();
        polled.extend(self.ear.as_ref().and_then(Ear::listens).map(watch));
        let ear = client.end..polled.len();
        if poll(&mut polled, self.patience()).is_err() {
            return Ready::default();
        }
        let any = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        Ready {
            listener: any(&polled[1]),
            pumps: polled[pumps].iter().map(any).collect(),
            client: polled[client].iter().any(any),
            ear: polled[ear].iter().any(any),
        }
    }

    /// The signal descriptor wakes us; the limit only serves the guard's patience, and an ear that rests.
    fn patience(&self) -> PollTimeout {
        let guard = self.orphaned_since.map(|_| Duration::from_millis(200));
        let rest = self.ear.as_ref().and_then(Ear::rest);
        let limit = guard.into_iter().chain(rest).min();
        // Rounded up: a limit of nothing would be a busy loop.
        let round = |limit: Duration| PollTimeout::try_from(limit + Duration::from_millis(1));
        limit.map_or(PollTimeout::NONE, |limit| round(limit).unwrap_or(PollTimeout::MAX))
    }

    fn accept(&mut self) {
        // Not to be held up by a supervisor that is stopped.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let raw = accept4(std::os::fd::AsRawFd::as_raw_fd(&self.listener), flags);
        if let Ok(raw) = raw {
            // SAFETY: just made by the kernel for us.
            self.client = Some(unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(raw) });
            self.ear.iter_mut().for_each(Ear::tell_nobody);
        }
    }

    fn answer(&mut self) {
        let Some(client) = &self.client else { return };
        match receive::<Request>(client) {
            Ok(Some((request, descriptors))) => {
                let (reply, pidfd) = self.carry_out(request, descriptors);
                self.tell(&FromShim::Reply(reply), pidfd.as_ref().map(AsFd::as_fd));
            }
            Ok(None) | Err(_) => self.lose_client(),
        }
    }

    fn lose_client(&mut self) {
        self.client = None;
        self.orphaned_since = Some(Instant::now());
    }

    fn tell(&mut self, message: &FromShim, descriptor: Option<BorrowedFd<'_>>) {
        let Some(client) = &self.client else { return };
        if send(client, message, descriptor.as_slice()).is_err() {
            self.lose_client();
        }
    }

    fn carry_out(&mut self, request: Request, descriptors: Vec<OwnedFd>) -> (Reply, Option<OwnedFd>) {
        match request {
            Request::Hello => self.hello(),
            Request::Start(program) => self.start(&program, &descriptors),
            Request::Work(program) => self.work(&program, &descriptors),
            Request::Track { pid } => self.track(pid),
            Request::KillAll => (self.kill_all(), None),
            Request::Guard { thaw } => {
                self.guard = thaw;
                (Reply::Done, None)
            }
            Request::Pump(output) => {
                self.pumps.extend(descriptors.into_iter().map(|pipe| Pump::new(pipe, output.clone())));
                (Reply::Done, None)
            }
            Request::Fence(order) => (self.fence(order), None),
            Request::Listen(listen) => (self.listen(&listen), None),
            Request::Said { beyond } => (Reply::Said(self.ear.as_mut().map(|ear| ear.said(beyond))), None),
            Request::Quit => (self.quit(), None),
        }
    }

    fn hello(&mut self) -> (Reply, Option<OwnedFd>) {
        let pidfd = self.main.filter(|m| m.status.is_none()).and_then(|m| pidfd(m.pid));
        self.orphaned_since = None;
        let (isolation, main, helpers) = (self.isolation, self.main, self.helpers.len());
        let fence = self.keeper.order(FenceOrder::Ask).ok();
        (Reply::Here { version: VERSION, isolation, main, helpers, fence }, pidfd)
    }

    fn fence(&mut self, order: FenceOrder) -> Reply {
        match self.keeper.order(order) {
            Ok(state) => Reply::Fence(state),
            Err(errno) => refusal(errno, "reach the process that keeps the fence"),
        }
    }

    fn listen(&mut self, listen: &Listen) -> Reply {
        match Ear::listen(&mut self.ear, listen, self.isolation) {
            Ok(()) => Reply::Done,
            Err(errno) => refusal(errno, &format!("listen at {}", listen.path.display())),
        }
    }

    fn hear(&mut self) {
        if let Some(said) = self.ear.as_mut().and_then(Ear::hear) {
            self.tell(&FromShim::Notice(Notice::Said(said)), None);
        }
    }

    fn start(&mut self, program: &Program, descriptors: &[OwnedFd]) -> (Reply, Option<OwnedFd>) {
        if self.main_lives() {
            return (refusal(Errno::EBUSY, "start a second main process"), None);
        }
        match program::start(program, descriptors, false) {
            Ok(started) => {
                self.main = Some(Main { pid: started.pid.as_raw(), status: None });
                self.running(started)
            }
            Err(problem) => (failed(problem), None),
        }
    }

    fn work(&mut self, program: &Program, descriptors: &[OwnedFd]) -> (Reply, Option<OwnedFd>) {
        if let (Isolation::Pid, Some(cache)) = (self.isolation, &program.private_feature_cache) {
            // Without the cache CRIU is slower, not wrong.
            let _ = sandbox::show_feature_cache(cache);
        }
        if self.isolation == Isolation::Pid {
            // In a namespace that is new, CRIU would otherwise stand on the very pids that it is to restore.
            let _ = sandbox::raise_pids(program.pids_above);
        }
        match program::start(program, descriptors, self.isolation == Isolation::None && program.own_mounts) {
            Ok(started) => {
                self.helpers.push(started.pid);
                self.running(started)
            }
            Err(problem) => (failed(problem), None),
        }
    }

    fn running(&mut self, started: program::Started) -> (Reply, Option<OwnedFd>) {
        let pid = started.pid.as_raw();
        self.pumps.extend(started.pumps.into_iter().map(|(pipe, output)| Pump::new(pipe, output)));
        // Nobody but us reaps this child, so the pid is still its own.
        (Reply::Running { pid, status: None, pipes: started.pipes }, pidfd(pid))
    }

    fn track(&mut self, pid: i32) -> (Reply, Option<OwnedFd>) {
        // Who lives comes first: an older bearer of the same pid may have ended long ago.
        if let Some(descriptor) = pidfd(pid) {
            self.main = Some(Main { pid, status: None });
            return (Reply::Running { pid, status: None, pipes: Vec::new() }, Some(descriptor));
        }
        let Some(status) = self.exits.iter().rev().find(|(p, _)| *p == pid).map(|(_, status)| *status) else {
            return (refusal(Errno::ESRCH, "find the restored process"), None);
        };
        self.main = Some(Main { pid, status: Some(status) });
        (Reply::Running { pid, status: Some(status), pipes: Vec::new() }, None)
    }

    fn kill_all(&mut self) -> Reply {
        if self.isolation != Isolation::Pid {
            return refusal(Errno::EPERM, "kill all without an own pid namespace");
        }
        // In this namespace -1 is everybody but pid 1, which is us.
        match nix::sys::signal::kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Reply::Done,
            Err(errno) => refusal(errno, "kill all processes of the sandbox"),
        }
    }

    fn quit(&mut self) -> Reply {
        if self.main_lives() {
            return refusal(Errno::EBUSY, "quit while the service runs");
        }
        // A keeper that were left armed would act on whoever has the cgroup then.
        let _ = self.keeper.order(FenceOrder::Disarm);
        self.quitting = true;
        Reply::Done
    }

    fn main_lives(&self) -> bool {
        self.main.is_some_and(|m| m.status.is_none())
    }

    fn reap(&mut self) {
        loop {
            let mut status: i32 = 0;
            // The raw status is what travels; nix only hands out a parsed one.
            // SAFETY: `status` outlives the call.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, WaitPidFlag::WNOHANG.bits()) };
            if pid <= 0 {
                return;
            }
            self.note_exit(pid, status);
        }
    }

    fn note_exit(&mut self, pid: i32, status: i32) {
        self.helpers.retain(|helper| helper.as_raw() != pid);
        if let Some(main) = self.main.as_mut().filter(|m| m.pid == pid) {
            main.status = Some(status);
        }
        if self.exits.len() == EXITS_REMEMBERED {
            self.exits.pop_front();
        }
        self.exits.push_back((pid, status));
        self.tell(&FromShim::Notice(Notice::Exited { pid, status }), None);
    }

    fn pump(&mut self, ready: &[bool]) {
        let mut finished = Vec::new();
        for (index, pump) in self.pumps.iter_mut().enumerate() {
            if ready.get(index).copied().unwrap_or(false) && !pump.once() {
                finished.push(index);
            }
        }
        for index in finished.into_iter().rev() {
            self.pumps.swap_remove(index);
        }
    }

    fn keep_guard(&mut self) {
        let Some(since) = self.orphaned_since else { return };
        if self.client.is_some() {
            return;
        }
        if !self.helpers.is_empty() {
            if since.elapsed() < ORPHANED_HELPER_MAX {
                return;
            }
            for helper in &self.helpers {
                let _ = nix::sys::signal::kill(*helper, Signal::SIGKILL);
            }
            self.orphaned_since = Some(Instant::now());
        }
        for (file, value) in self.guard.drain(..) {
            #[expect(clippy::disallowed_methods, reason = "a freezer file of the kernel, not a file of ours")]
            let _ = std::fs::write(file, value);
        }
        if self.helpers.is_empty() {
            self.orphaned_since = None;
        }
    }
}

#[derive(Default)]
struct Ready {
    listener: bool,
    client: bool,
    pumps: Vec<bool>,
    ear: bool,
}

fn pidfd(pid: i32) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid)?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

fn refusal(errno: Errno, tried: &str) -> Reply {
    Reply::Failed { errno: Some(errno as i32), message: tried.to_owned() }
}

fn failed(problem: Failure) -> Reply {
    Reply::Failed { errno: Some(problem.errno as i32), message: problem.message }
}
