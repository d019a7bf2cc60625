//! Two timers for one limit, since one clock stands still while the machine sleeps and the other does not.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use policies::lease::Moment;
use policies::time::Instant;

use crate::error::{Error, Report, Result};

#[derive(Debug)]
pub(crate) struct Timers {
    monotonic: TimerFd,
    boottime: TimerFd,
}

impl Timers {
    pub(crate) fn new() -> Result<Self> {
        let timer = |clock| {
            TimerFd::new(clock, TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK)
                .map_err(|e| Error::Refused(Report::new("make a timer").because(e)))
        };
        Ok(Self { monotonic: timer(ClockId::CLOCK_MONOTONIC)?, boottime: timer(ClockId::CLOCK_BOOTTIME)? })
    }

    /// Both ring at their clock's part of the limit.
    pub(crate) fn set(&self, limit: Moment) -> Result<()> {
        set(&self.monotonic, limit.monotonic)?;
        set(&self.boottime, limit.boottime)
    }

    /// At once.
    pub(crate) fn ring(&self) -> Result<()> {
        set(&self.monotonic, Instant::START)
    }

    pub(crate) fn clear(&self) -> Result<()> {
        let unset = |timer: &TimerFd| timer.unset().map_err(failed);
        unset(&self.monotonic).and_then(|()| unset(&self.boottime))
    }

    /// Until one of them rings.
    pub(crate) fn wait(&self) -> Result<()> {
        self.wait_beside(&[], PollTimeout::NONE).map(drop)
    }

    /// Until one of them rings, one of the others has something to be read (which one is said), or the time is over.
    pub(crate) fn wait_beside(&self, others: &[BorrowedFd<'_>], limit: PollTimeout) -> Result<Vec<bool>> {
        let mut polled: Vec<PollFd<'_>> = [self.monotonic.as_fd(), self.boottime.as_fd()]
            .iter()
            .chain(others)
            .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
            .collect();
        loop {
            match poll(&mut polled, limit) {
                Err(Errno::EINTR) => {}
                Err(error) => return Err(failed(error)),
                Ok(_) => break,
            }
        }
        for timer in [&self.monotonic, &self.boottime] {
            match timer.wait() {
                // The one that has not rung.
                Ok(()) | Err(Errno::EAGAIN) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(polled[2..].iter().map(|fd| fd.any().unwrap_or(false)).collect())
    }
}

fn set(timer: &TimerFd, at: Instant) -> Result<()> {
    // A timer set to 0 is one that is unset.
    let at = std::time::Duration::from_nanos(at.as_nanos().max(1));
    let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
    timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME).map_err(failed)
}

fn failed(error: Errno) -> Error {
    Error::Internal(Report::new("use the timers of a fence").because(error))
}
