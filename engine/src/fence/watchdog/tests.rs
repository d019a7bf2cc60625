//! The protocol on a pipe with a name in the place of a device: there is hardly a host whose tests may reset it. What the kernel says of real
//! ones is tried on folders like its own; setting a timeout on what is none.

use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use tempfile::TempDir;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

/// A device that remembers what was written to it.
struct Device {
    folder: TempDir,
    reader: File,
    heard: Vec<u8>,
}

impl Device {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("watchdog");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let mut options = File::options();
        let reader = options.read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("its reader");
        Self { folder, reader, heard: Vec::new() }
    }

    fn watchdog(&self) -> Watchdog {
        let path = self.folder.path().join("watchdog");
        Watchdog::over(Box::new(move || open(&path)), TIMEOUT).expect("a thread")
    }

    /// Reads what is there; false at the end: nobody has it open for writing.
    fn listen(&mut self) -> bool {
        let mut bytes = [0; 64];
        match self.reader.read(&mut bytes) {
            Ok(0) => false,
            Ok(length) => {
                self.heard.extend_from_slice(&bytes[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => true,
            Err(error) => panic!("{error}"),
        }
    }

    fn hears(&mut self, what: &str, enough: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !enough(self) {
            assert!(begun.elapsed() < LIMIT, "{what}: {:?}", self.heard);
            self.listen();
            std::thread::yield_now();
        }
    }
}

fn soon(span: Duration) -> Option<Moment> {
    Some(clock::now().expect("a clock").after(span))
}

#[test]
fn it_is_fed_while_leases_hold_and_closed_when_none_is_held() {
    let mut device = Device::new();
    let watchdog = device.watchdog();
    watchdog.answer_for(None);
    assert!(!device.listen(), "nobody has opened it");
    watchdog.answer_for(soon(Duration::from_secs(3600)));
    device.hears("three times food", |device| device.heard == b"\0\0\0");
    watchdog.answer_for(None);
    device.hears("the magic", |device| device.heard.ends_with(MAGIC));
    let begun = Instant::now();
    while device.listen() {
        assert!(begun.elapsed() < LIMIT, "it is closed");
    }
    // And again.
    watchdog.answer_for(soon(Duration::from_secs(3600)));
    device.hears("food", |device| device.heard.ends_with(FOOD));
    watchdog.stop();
    device.hears("the magic", |device| device.heard.ends_with(MAGIC));
}

#[test]
fn it_is_not_fed_when_that_could_be_too_late() {
    let mut device = Device::new();
    let watchdog = device.watchdog();
    // Shorter than its own timeout: not even started, or it would count too long.
    watchdog.answer_for(soon(TIMEOUT / 2));
    let limit = soon(TIMEOUT + SLACK + FEED_EVERY * 3).expect("an instant");
    watchdog.answer_for(Some(limit));
    device.hears("food", |device| !device.heard.is_empty());
    // Nobody renews. From a timeout before the limit on it is left alone, open.
    let last = limit.monotonic;
    let quiet_from = last.since(policies::time::Instant::START).saturating_sub(TIMEOUT);
    let now = || clock::now().expect("a clock").monotonic.since(policies::time::Instant::START);
    while now() < quiet_from {
        device.listen();
    }
    let fed = device.heard.len();
    while now() < quiet_from + TIMEOUT {
        assert!(device.listen(), "it is not closed");
    }
    assert_eq!(device.heard.len(), fed);
    assert!(device.heard.iter().all(|byte| *byte == 0), "it was not told to stop");
    // Whoever lets go of it otherwise than in order leaves it counting.
    drop(watchdog);
    assert!(!device.listen(), "nobody has it");
    assert!(!device.heard.ends_with(MAGIC));
}

fn wanted(device: &str) -> Wanted {
    Wanted { device: device.into(), settings: Settings::default() }
}

#[test]
fn what_is_no_watchdog_is_refused_with_a_remedy() {
    let refused = |error: Error, expected: &str| {
        assert!(matches!(error, Error::Refused(_)) && error.to_string().contains(expected), "{error}");
    };
    refused(wanted("/dev/null").examine().expect_err("none"), "/dev/null is no watchdog");
    refused(wanted("/proc/self/stat").examine().expect_err("none"), "is no watchdog");
    refused(wanted("/nonexistent").examine().expect_err("none"), "modprobe softdog");
    let null = open(Path::new("/dev/null")).expect("it can be written to");
    refused(wanted("/dev/null").adjust(&null).expect_err("it has no timeout"), "is no watchdog");
    if Path::new("/dev/watchdog").exists() {
        wanted("/dev/watchdog").examine().expect("as the kernel describes it");
    } else {
        eprintln!("SKIPPED in part: there is no /dev/watchdog; setting its timeout is tried on what is none");
    }
}

#[test]
fn one_that_cannot_be_stopped_or_is_too_slow_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let say = |name: &str, value: &str| {
        let text = format!("{value}\n");
        crate::durable::atomic_write_volatile(&folder.path().join(name), text.as_bytes(), 0o600)
            .expect("room");
    };
    let examined = || wanted("/dev/watchdog").examine_in(folder.path());
    examined().expect("an old kernel says nothing");
    say("nowayout", "0");
    say("min_timeout", "5");
    examined().expect("10 s of lease, renewed every 2 s: 5 s are left");
    say("min_timeout", "30");
    let slow = examined().expect_err("too slow").to_string();
    assert!(slow.contains("after 30 s at the earliest, and must after 5 s"), "{slow}");
    assert!(slow.contains("make cluster.ttl at least 35s"), "{slow}");
    say("nowayout", "1");
    let endless = examined().expect_err("it never stops").to_string();
    assert!(endless.contains("nowayout=0"), "{endless}");
}
