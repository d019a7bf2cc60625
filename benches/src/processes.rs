//! Processes of ours and what they leave to us: watched by descriptor, reaped, ended to the last one.
//!
//! We are the reaper of all our descendants, so nothing that we start, or that is restored from it, can get out of
//! sight. It refuses to touch any other process.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, pidfd_open};

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

static CLEARING_UP: AtomicBool = AtomicBool::new(false);

/// How long what was killed may take to be gone; a frozen one never is.
const END_MAX: Duration = Duration::from_secs(20);
/// How often it is looked whether we were interrupted.
const GLANCE: Duration = Duration::from_millis(100);

/// From now on SIGINT and SIGTERM end what we wait for, so that we can clear up. A second one changes nothing: clearing up has
/// its own limits, and some who end a program send the signal twice.
pub(crate) fn listen_for_interrupts() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(flag)).context("listen for signals")?;
    }
    Ok(())
}

/// Whether we were.
pub(crate) fn was_interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::SeqCst))
}

/// An error once we were interrupted, unless we are clearing up.
pub(crate) fn check_interrupted() -> Result<()> {
    if was_interrupted() && !CLEARING_UP.load(Ordering::SeqCst) {
        bail!("interrupted");
    }
    Ok(())
}

/// Clears up: no interruption disturbs it, and what fails is told, for there is nobody to handle it.
pub(crate) fn clear_up(work: impl FnOnce() -> Result<()>) {
    let within = CLEARING_UP.swap(true, Ordering::SeqCst);
    if let Err(error) = work() {
        eprintln!("bench: {error:#}");
    }
    CLEARING_UP.store(within, Ordering::SeqCst);
}

/// Makes us the reaper of whatever our descendants leave behind.
pub(crate) fn adopt_orphans() -> Result<()> {
    nix::sys::prctl::set_child_subreaper(true).context("become the reaper of our descendants")
}

/// Descriptors that we inherited are none of the workload's: criu would have to dump them.
pub(crate) fn keep_inherited_descriptors() {
    let own = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = own.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers.filter(|number| *number > 2) {
        // SAFETY: changes a flag of a descriptor, if there is one of that number, and uses it for nothing else.
        unsafe { nix::libc::fcntl(number, nix::libc::F_SETFD, nix::libc::FD_CLOEXEC) };
    }
}

/// A process held by descriptor.
#[derive(Debug)]
pub(crate) struct Watched {
    descriptor: OwnedFd,
    pid: i32,
}

impl Watched {
    /// Opens a process that cannot have been reaped yet: a child of ours, or one under a living parent.
    pub(crate) fn open(pid: i32) -> Result<Self> {
        let target =
            rustix::process::Pid::from_raw(pid).filter(|_| pid > 1).context("a process has a pid")?;
        let descriptor =
            pidfd_open(target, PidfdFlags::empty()).with_context(|| format!("open process {pid}"))?;
        Ok(Self { descriptor, pid })
    }

    /// Its pid as we see it.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Sends SIGKILL; to one that has ended this does nothing.
    pub(crate) fn kill(&self) -> Result<()> {
        match rustix::process::pidfd_send_signal(&self.descriptor, rustix::process::Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("kill process {}", self.pid)),
        }
    }

    /// An error once it has ended.
    pub(crate) fn check_alive(&self) -> Result<()> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        match poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&now)) {
            Ok(0) => Ok(()),
            _ => bail!("process {} has ended", self.pid),
        }
    }

    /// Waits until it has ended; returns at that moment.
    pub(crate) fn wait(&self, limit: Duration) -> Result<()> {
        let until = Instant::now() + limit;
        while Instant::now() < until {
            check_interrupted()?;
            let glance = Timespec { tv_sec: 0, tv_nsec: GLANCE.subsec_nanos().into() };
            let mut polled = [PollFd::new(&self.descriptor, PollFlags::IN)];
            match poll(&mut polled, Some(&glance)) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error).context("wait on a pidfd"),
            }
        }
        bail!("process {} did not end within {limit:?}", self.pid)
    }
}

/// Takes a dead child off the process table, so that its pid is free again.
pub(crate) fn reap(pid: i32) -> Result<()> {
    match waitpid(Pid::from_raw(pid), None) {
        // Reaped already, by its own parent.
        Ok(_) | Err(Errno::ECHILD) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("reap process {pid}")),
    }
}

/// All descendants of a process, parents before their children.
pub(crate) fn descendants(pid: i32) -> Vec<i32> {
    let mut found = children(pid);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let further = children(*pid);
        found.extend(further);
        next += 1;
    }
    found
}

/// Kills and reaps all our descendants.
pub(crate) fn end_descendants() -> Result<()> {
    let own = own_pid()?;
    let gone = until_alone(END_MAX, || {
        for pid in descendants(own) {
            // Gone meanwhile is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    });
    if !gone? {
        bail!("processes {:?} cannot be ended", descendants(own));
    }
    Ok(())
}

/// Waits until all our descendants have ended by themselves, and reaps them. Gives those that do not.
pub(crate) fn wait_for_descendants() -> Result<Vec<i32>> {
    let alone = until_alone(Duration::from_secs(2), || {})?;
    Ok(if alone { Vec::new() } else { descendants(own_pid()?) })
}

fn until_alone(limit: Duration, mut then: impl FnMut()) -> Result<bool> {
    let (own, until) = (own_pid()?, Instant::now() + limit);
    loop {
        if descendants(own).is_empty() {
            return Ok(true);
        }
        if Instant::now() > until {
            return Ok(false);
        }
        then();
        reap_the_dead();
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn own_pid() -> Result<i32> {
    i32::try_from(std::process::id()).context("our own pid")
}

fn reap_the_dead() {
    let any = Pid::from_raw(-1);
    while !matches!(waitpid(any, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(_)) {}
}

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let lists =
        threads.flatten().filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_tree_is_found_watched_and_reaped() {
        let mut shell = Command::new("sh").args(["-c", "sleep 1000 & wait"]).spawn().expect("sh starts");
        let pid = i32::try_from(shell.id()).expect("a pid");
        let until = Instant::now() + Duration::from_secs(10);
        while descendants(pid).is_empty() && Instant::now() < until {
            std::thread::yield_now();
        }
        let tree = descendants(pid);
        assert_eq!(tree.len(), 1, "{tree:?}");
        let (first, child) = (Watched::open(pid).expect("alive"), Watched::open(tree[0]).expect("alive"));
        first.check_alive().expect("it runs");
        for process in [&child, &first] {
            process.kill().expect("killed");
            process.wait(Duration::from_secs(10)).expect("ends");
            assert!(process.check_alive().is_err());
            process.kill().expect("once more does nothing");
        }
        shell.wait().expect("reaped");
        reap(pid).expect("reaped before");
    }
}
