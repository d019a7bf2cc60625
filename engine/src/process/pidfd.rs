//! Processes held by descriptor, so that a pid used again can never be signalled by mistake.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

use crate::descriptor::watch;
use crate::error::{Error, Report, Result};

/// A process, by descriptor.
#[derive(Debug)]
pub struct PidFd {
    descriptor: AsyncFd<OwnedFd>,
    pid: i32,
}

impl PidFd {
    /// Takes a pidfd that came from elsewhere. Works for a process that has ended, too: its pid is then 0 or less.
    pub fn new(descriptor: OwnedFd) -> Result<Self> {
        let pid = pid_of(descriptor.as_fd())?;
        let descriptor = watch(descriptor, tokio::io::Interest::READABLE)
            .map_err(|e| Error::Internal(Report::new("watch a pidfd").because(e)))?;
        Ok(Self { descriptor, pid })
    }

    /// Opens the process that has this pid now. The caller makes sure by its start time that it is the one meant.
    pub fn open(pid: i32) -> Result<Self> {
        let gone = || Error::Unavailable(Report::new(format!("open process {pid}: it does not exist")));
        let target = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(gone)?;
        Self::new(pidfd_open(target, PidfdFlags::empty()).map_err(|_| gone())?)
    }

    /// The pid in our own pid namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits until the process has ended.
    pub async fn ended(&self) -> Result<()> {
        self.descriptor
            .readable()
            .await
            .map(drop)
            .map_err(|e| Error::Internal(Report::new("wait on a pidfd").because(e)))
    }

    /// Whether it has ended already.
    pub fn has_ended(&self) -> bool {
        let mut polled = [rustix::event::PollFd::new(&self.descriptor, rustix::event::PollFlags::IN)];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        rustix::event::poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0)
    }

    /// Sends a signal; to a process that has ended this does nothing.
    pub fn signal(&self, signal: i32) -> Result<()> {
        let Some(named) = Signal::from_named_raw(signal) else {
            return Err(Error::Invalid(Report::new(format!(
                "send signal {signal}: there is no such signal"
            ))));
        };
        match pidfd_send_signal(&self.descriptor, named) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(e) => Err(Error::Refused(
                Report::new(format!("send signal {signal} to process {}", self.pid)).because(e),
            )),
        }
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.get_ref().as_fd()
    }
}

/// What the kernel says of a pidfd (`Pid:` in its fdinfo, in our namespace).
fn pid_of(descriptor: BorrowedFd<'_>) -> Result<i32> {
    let path = format!("/proc/self/fdinfo/{}", std::os::fd::AsRawFd::as_raw_fd(&descriptor));
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Error::Internal(Report::new(format!("read {path}")).because(e)))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|pid| pid.trim().parse().ok())
        .ok_or_else(|| Error::Internal(Report::new(format!("find the pid in {path}"))))
}

/// When the process with this pid started, in clock ticks since boot; `None` if there is none. With it a pid
/// names one process for ever.
pub fn start_time(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command stands in parentheses and may itself hold any character.
    let after = stat.rsplit_once(')')?.1;
    // Field 22 of the line; the state after the command is field 3.
    after.split_whitespace().nth(19)?.parse().ok()
}
