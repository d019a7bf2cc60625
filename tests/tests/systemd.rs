//! What systemd is told: READY=1, STATUS=, RELOADING=1 and READY=1 again, WATCHDOG=1, STOPPING=1.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use system_tests::bad_days::{Counter, Site};

/// The socket that systemd would hold.
struct Systemd {
    socket: UnixDatagram,
    heard: Vec<String>,
}

impl Systemd {
    fn listen(node: &mut Site) -> Self {
        let path = node.folder().join("notify.sock");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
        node.env("NOTIFY_SOCKET", path);
        Self { socket, heard: Vec::new() }
    }

    /// Waits until a message has a line that is wanted, after what was heard so far.
    fn hears(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let limit = Instant::now() + Duration::from_secs(20);
        let mut bytes = [0; 4096];
        while Instant::now() < limit {
            let Ok(length) = self.socket.recv(&mut bytes) else { continue };
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            self.heard.push(text.clone());
            if text.lines().any(&wanted) {
                return text;
            }
        }
        panic!("systemd never heard {what}; it heard {:?}", self.heard);
    }
}

#[test]
fn systemd_hears_of_a_whole_life() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node);
    node.configure(&counter.toml());
    let mut systemd = Systemd::listen(&mut node);
    node.env("WATCHDOG_USEC", "400000");
    node.start();

    systemd.hears("READY", |line| line == "READY=1");
    counter.healthy(&node);
    systemd.hears("how many run", |line| line.starts_with("STATUS=") && line.contains("1 of 1"));
    for _ in 0..3 {
        systemd.hears("the watchdog's ping", |line| line == "WATCHDOG=1");
    }
    node.configure(&counter.clone().restart("max_attempts = 9").toml());
    let reloading = systemd.hears("RELOADING", |line| line == "RELOADING=1");
    assert!(reloading.lines().any(|line| line.starts_with("MONOTONIC_USEC=")), "{reloading}");
    systemd.hears("READY after the reload", |line| line == "READY=1");
    node.stop();
    systemd.hears("STOPPING", |line| line == "STOPPING=1");
    assert!(counter.answers(), "the service runs on");
}

/// `systemctl reload` of a unit with `Type=notify-reload` waits for READY=1 after the signal, whatever came of it.
#[test]
fn a_reload_that_changes_nothing_or_fails_is_answered_too() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node);
    node.configure(&counter.toml());
    let mut systemd = Systemd::listen(&mut node);
    node.start();
    systemd.hears("READY", |line| line == "READY=1");
    counter.healthy(&node);

    node.signal(Signal::SIGHUP);
    systemd.hears("RELOADING", |line| line == "RELOADING=1");
    systemd.hears("READY", |line| line == "READY=1");

    node.configure("not toml");
    systemd.hears("RELOADING", |line| line == "RELOADING=1");
    systemd.hears("READY", |line| line == "READY=1");
}
