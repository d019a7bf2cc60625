//! Services in the host's pid namespace (`isolation = "none"`): they come back under their old pid, if nobody has taken it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use system_tests::bad_days::{Counter, Site, program};

#[test]
fn a_service_comes_back_under_its_pid() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).isolation_none();
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let pid = node.service_pid("counter");
    for round in 1..=2 {
        let number = counter.count_to(10 * round);
        node.wait_newer_image("counter");
        node.kill_service("counter");
        node.wait_for_events("counter", "recovered", round as usize);
        assert_eq!(node.service_pid("counter"), pid);
        assert!(counter.number() >= number);
    }
}

#[test]
fn a_pid_that_is_taken_is_said_and_a_cold_start_follows() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node)
        .isolation_none()
        .restart("backoff_initial = \"10ms\"\nattempts_per_image = 1");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let pid = node.service_pid("counter");
    counter.count_to(10);
    node.wait_newer_image("counter");
    // Held, so that there is time to take the pid.
    assert!(node.cli(&["pause", "counter"]).status.success());
    node.kill_service("counter");
    node.wait_event("counter", "held");
    let thief = Thief::take(pid);

    assert!(node.cli(&["unpause", "counter"]).status.success());
    let failed = node.wait_event("counter", "rung-failed");
    let back = node.wait_event("counter", "recovered");

    assert!(failed.text.contains(&pid.to_string()), "{}", failed.text);
    assert!(failed.text.contains("isolation = \"pid\""), "a remedy: {}", failed.text);
    assert!(back.text.contains("cold-start"), "{}", back.text);
    counter.healthy(&node);
    assert_ne!(node.service_pid("counter"), pid);
    thief.lives();
}

/// Somebody who has the pid.
struct Thief(Child, i32);

impl Thief {
    fn take(pid: i32) -> Self {
        let mut holder = std::process::Command::new(program("hold_pid"))
            .arg(pid.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hold_pid runs");
        let mut line = String::new();
        let stdout = holder.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says how it went");
        assert_eq!(line.trim(), "held", "the pid {pid} could not be had");
        Self(holder, pid)
    }

    /// Whoever has the pid is none of ours, and was not harmed.
    fn lives(&self) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.1)).expect("it lives");
        assert!(status.contains("hold_pid"), "{status}");
    }
}

impl Drop for Thief {
    fn drop(&mut self) {
        // It lets go when nobody holds its input any more.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
