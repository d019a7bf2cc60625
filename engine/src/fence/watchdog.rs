//! A watchdog device: the kernel, or the hardware, resets this host unless it is fed.
//!
//! ```text
//! no lease is held          the device is closed (magic close): nothing is watched
//! leases are held           fed as long as  now + its timeout  lies before the first instant at which a lease can be taken
//! one is not renewed        not fed any more; let go (and closed) once its service is surely dead; else reset
//! this process hangs, dies  not fed any more: reset, or the next supervisor goes on
//! ```
//!
//! So it is reset before a lease can be taken, whatever hangs. By a thread, real-time where the kernel allows it; what it goes by is told by
//! those who renew. It refuses devices that cannot be set short enough, or never be closed again.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::stat::{major, minor};
use policies::lease::{Moment, Settings};

use super::priority::become_real_time;
use crate::clock;
use crate::error::{Error, Report, Result};

/// How often it is fed, and looked whether it may be.
const FEED_EVERY: Duration = Duration::from_millis(250);
/// How late a watchdog may be.
const SLACK: Duration = Duration::from_millis(250);
/// The device of a host's first watchdog, `/dev/watchdog`, has this number; every one has another of its own.
const FIRST: (u64, u64) = (10, 130);
/// What tells a watchdog that it is not to watch any more.
const MAGIC: &[u8] = b"V";
const FOOD: &[u8] = b"\0";

mod ioctl {
    // Sets the timeout in seconds, and answers with what it is then (linux/watchdog.h).
    nix::ioctl_readwrite!(set_timeout, b'W', 6, libc::c_int);
}

/// Which device, for which leases.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The device.
    pub device: PathBuf,
    /// The times of leases.
    pub settings: Settings,
}

impl Wanted {
    /// Looks at the device without opening it, which would start it.
    ///
    /// # Errors
    /// `Refused` with a remedy if it cannot serve.
    pub fn examine(&self) -> Result<()> {
        let device = self.device.display();
        let found = std::fs::metadata(&self.device).map_err(|e| {
            let report = Report::new(format!("look at the watchdog {device}")).because(e);
            Error::Refused(report.remedy("load the driver of the host's watchdog, or `modprobe softdog`"))
        })?;
        let number = (major(found.rdev()), minor(found.rdev()));
        let folder = class_folder(number).filter(|_| found.file_type().is_char_device());
        self.examine_in(&folder.ok_or_else(|| self.is_none())?)
    }

    /// What the kernel says of a watchdog in `/sys`. What it does not say is seen when it is opened.
    fn examine_in(&self, folder: &Path) -> Result<()> {
        let said = |name: &str| {
            let text = std::fs::read_to_string(folder.join(name)).ok()?;
            text.trim().parse::<u64>().ok()
        };
        if said("nowayout") == Some(1) {
            let device = self.device.display();
            let text = format!("use the watchdog {device}: once started it never stops (nowayout)");
            return Err(Error::Refused(Report::new(text).remedy(
                "load its driver with nowayout=0: it is to be stopped when no lease is held any more",
            )));
        }
        match said("min_timeout").map(Duration::from_secs).filter(|least| *least > self.timeout()) {
            Some(least) => Err(self.too_long(least)),
            None => Ok(()),
        }
    }

    fn timeout(&self) -> Duration {
        self.settings.watchdog_timeout()
    }

    fn open(&self) -> Result<File> {
        let mut file = open(&self.device)?;
        match self.adjust(&file) {
            Ok(()) => Ok(file),
            Err(error) => {
                // It counts already.
                let _ = file.write_all(MAGIC);
                Err(error)
            }
        }
    }

    fn adjust(&self, file: &File) -> Result<()> {
        let wanted = self.timeout();
        let mut seconds = libc::c_int::try_from(wanted.as_secs()).unwrap_or(libc::c_int::MAX);
        // SAFETY: the kernel reads and writes one integer, which lives through the call.
        let set = unsafe { ioctl::set_timeout(file.as_raw_fd(), &raw mut seconds) };
        match set {
            Err(nix::errno::Errno::ENOTTY) => return Err(self.is_none()),
            Err(errno) => {
                let device = self.device.display();
                let text = format!("set the watchdog {device} to {} s", wanted.as_secs());
                return Err(Error::Refused(Report::new(text).because(errno)));
            }
            Ok(_) => {}
        }
        let is = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX));
        if is > wanted { Err(self.too_long(is)) } else { Ok(()) }
    }

    fn is_none(&self) -> Error {
        let text = format!("{} is no watchdog", self.device.display());
        Error::Refused(Report::new(text).remedy("name one in cluster.watchdog, as \"/dev/watchdog\""))
    }

    fn too_long(&self, least: Duration) -> Error {
        let (device, least, wanted) = (self.device.display(), least.as_secs(), self.timeout().as_secs());
        let text = format!(
            "use the watchdog {device}: it resets the host after {least} s at the earliest, and must after {wanted} s, by \
             cluster.ttl and cluster.renew_interval"
        );
        let ttl = self.settings.ttl + Duration::from_secs(least.saturating_sub(wanted));
        let remedy = format!("make cluster.ttl at least {}", humantime::format_duration(ttl));
        Error::Refused(Report::new(text).remedy(remedy))
    }
}

/// Opens a device; from then on it counts.
type Open = Box<dyn Fn() -> Result<File> + Send>;

/// A watchdog that is fed, or closed, by what it is told.
#[derive(Debug)]
pub struct Watchdog {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// When the first of the leases that are held can be taken; nothing: none is held.
    until: Option<Moment>,
    end: Option<End>,
}

/// How the thread ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The device is closed for good.
    Orderly,
    /// It goes on counting.
    Abandoned,
}

impl Watchdog {
    /// Tries the device, and closes it again until a lease is held.
    ///
    /// # Errors
    /// `Refused` if it cannot serve; `Unavailable` if somebody else has it.
    pub fn start(wanted: Wanted) -> Result<Self> {
        wanted.examine()?;
        wanted.open()?.write_all(MAGIC).map_err(|e| {
            Error::Refused(Report::new(format!("close the watchdog {}", wanted.device.display())).because(e))
        })?;
        let timeout = wanted.timeout();
        Self::over(Box::new(move || wanted.open()), timeout)
    }

    fn over(open: Open, timeout: Duration) -> Result<Self> {
        let shared = Arc::new(Shared { timeout, state: Mutex::default(), changed: Condvar::new() });
        let thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || thread.run(&open));
        let thread =
            thread.map_err(|e| Error::Refused(Report::new("start the thread of a watchdog").because(e)))?;
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }

    /// Leases are held, the first of which can be taken at this instant; or none is.
    pub fn answer_for(&self, until: Option<Moment>) {
        self.shared.state().until = until;
        self.shared.changed.notify_one();
    }

    /// Closes the device for good: services run on, watched by nobody but their fences.
    pub fn stop(&self) {
        self.end(End::Orderly);
    }

    fn end(&self, end: End) {
        self.shared.state().end.get_or_insert(end);
        self.shared.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // What it could not do it has said.
            let _ = thread.join();
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.end(End::Abandoned);
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Changed in single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, open: &Open) {
        if let Err(error) = become_real_time() {
            tracing::warn!(%error, "the watchdog is fed with ordinary priority");
        }
        let mut device: Option<File> = None;
        loop {
            let (until, end) = {
                let state = self.state();
                (state.until, state.end)
            };
            match (end, until) {
                (Some(End::Abandoned), _) => return,
                (Some(End::Orderly), _) => return close(device.take()),
                (None, None) => close(device.take()),
                (None, Some(until)) if self.may_feed(until) => feed(&mut device, open),
                (None, Some(_)) => {}
            }
            let state = self.state();
            if (state.until, state.end) == (until, end) {
                drop(self.changed.wait_timeout(state, FEED_EVERY));
            }
        }
    }

    /// Whether it would still reset the host in time if this were the last time. Without a clock that is not known.
    fn may_feed(&self, until: Moment) -> bool {
        clock::now().is_ok_and(|now| !now.after(self.timeout + SLACK).has_passed(until))
    }
}

/// It begins to count with the first time, and not before: it could be too late otherwise.
fn feed(device: &mut Option<File>, open: &Open) {
    if device.is_none() {
        match open() {
            Ok(opened) => *device = Some(opened),
            Err(error) => return tracing::error!(%error, "the watchdog does not watch over this host"),
        }
    }
    if let Some(device) = device
        && let Err(error) = device.write_all(FOOD)
    {
        tracing::error!(%error, "the watchdog could not be fed");
    }
}

fn close(device: Option<File>) {
    if let Some(mut device) = device
        && let Err(error) = device.write_all(MAGIC)
    {
        tracing::error!(%error, "the watchdog could not be stopped, and resets this host");
    }
}

#[expect(clippy::disallowed_methods, reason = "a device, not a file of ours")]
fn open(device: &Path) -> Result<File> {
    let opened = std::fs::OpenOptions::new().write(true).open(device);
    opened.map_err(|e| {
        let busy = e.raw_os_error() == Some(libc::EBUSY);
        let report = Report::new(format!("open the watchdog {}", device.display())).because(e);
        if busy {
            let remedy = "somebody else has it; if it is systemd, set RuntimeWatchdogSec=off in /etc/systemd/system.conf";
            Error::Unavailable(report.remedy(remedy))
        } else {
            Error::Refused(report)
        }
    })
}

/// Where the kernel tells about a watchdog, by the number of its device; nothing if that is none.
fn class_folder(number: (u64, u64)) -> Option<PathBuf> {
    if number == FIRST {
        return Some("/sys/class/watchdog/watchdog0".into());
    }
    let folder = PathBuf::from(format!("/sys/dev/char/{}:{}", number.0, number.1));
    let class = std::fs::read_link(folder.join("subsystem")).ok()?;
    (class.file_name()? == "watchdog").then_some(folder)
}

#[cfg(test)]
mod tests;
