//! The file read anew: what changed is done, what did not is not touched, a bad file changes nothing.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::bad_days::{Counter, Site};
use system_tests::{wait_for, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn what_can_be_taken_over_is_without_a_restart() {
    let Some(mut node) = Site::or_skip() else { return };
    let still = |name| Counter::new(name, &node).checkpoint("interval = \"never\"");
    let (counter, other) = (still("counter"), still("other"));
    node.configure(&format!("{}{}", counter.toml(), other.toml()));
    node.start();
    counter.healthy(&node);
    other.healthy(&node);
    let pids = (node.service_pid("counter"), node.service_pid("other"));
    let number = counter.count_to(4);

    // Cadence, probe and ladder, by a rename as editors do it.
    let changed = counter
        .clone()
        .checkpoint("interval = \"200ms\"")
        .probe("failure_threshold = 7")
        .restart("ladder = [\"cold-start\"]");
    node.replace_config(&format!("{}{}", changed.toml(), other.toml()));

    node.wait_event("counter", "image-durable");
    wait_until(LIMIT, "the cadence", || node.events_of("counter", "checkpoint-taken").len() > 3);
    assert!(counter.number() >= number);
    assert_eq!((node.service_pid("counter"), node.service_pid("other")), pids);
    let others = node.events_of("other", "").len();
    node.kill_service("counter");
    let back = node.wait_event("counter", "recovered");
    assert!(back.text.contains("cold-start"), "the new ladder: {}", back.text);
    assert_eq!(node.service_pid("other"), pids.1);
    assert_eq!(node.events_of("other", "").len(), others, "nothing happened to the other");
}

#[test]
fn another_command_is_started_in_place_of_the_old_one() {
    let Some(mut node) = Site::or_skip() else { return };
    let (counter, other) = (Counter::new("counter", &node), Counter::new("other", &node));
    node.configure(&format!("{}{}", counter.toml(), other.toml()));
    node.start();
    counter.healthy(&node);
    other.healthy(&node);
    let pids = (node.service_pid("counter"), node.service_pid("other"));

    let moved = counter.clone().memory(3 << 20);
    node.configure(&format!("{}{}", moved.toml(), other.toml()));
    node.signal(Signal::SIGHUP);

    wait_until(LIMIT, "a new process", || {
        node.service("counter")["state"] == "running"
            && node.pid_of("counter").is_some_and(|pid| pid != pids.0)
    });
    moved.healthy(&node);
    let line = std::fs::read(format!("/proc/{}/cmdline", node.service_pid("counter"))).expect("it runs");
    assert!(String::from_utf8_lossy(&line).contains(&(3 << 20).to_string()));
    assert_eq!(node.service_pid("other"), pids.1);
    assert_eq!(node.events_of("counter", "noticed").len(), 0, "a change is no crash");
}

#[test]
fn a_bad_file_changes_nothing_and_says_so() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"300ms\"");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let pid = node.service_pid("counter");

    node.configure(&counter.clone().checkpoint("intervall = \"1s\"").toml());

    let why = wait_for(LIMIT, "it is said", || node.status()["config_error"].as_str().map(str::to_owned));
    assert!(why.contains("intervall") && why.contains("interval"), "{why}");
    let refused = node.wait_node_event("config-refused");
    assert!(refused.text.contains("nothing was changed"), "{}", refused.text);
    let before = node.events_of("counter", "checkpoint-taken").len();
    wait_until(LIMIT, "the old cadence", || node.events_of("counter", "checkpoint-taken").len() > before + 1);
    assert_eq!(node.service_pid("counter"), pid);

    node.configure(&counter.toml());
    wait_until(LIMIT, "the error is over", || node.status()["config_error"] == json!(null));
    assert_eq!(node.service_pid("counter"), pid);
}

#[test]
fn services_come_and_go() {
    let Some(mut node) = Site::or_skip() else { return };
    let (first, second) = (Counter::new("first", &node), Counter::new("second", &node));
    node.configure(&first.toml());
    node.start();
    first.healthy(&node);
    let pid = node.service_pid("first");

    node.configure(&format!("{}{}", first.toml(), second.toml()));
    second.healthy(&node);
    node.wait_event("second", "image-durable");
    node.configure(&first.toml());
    node.wait_event("second", "removed");

    assert!(!second.answers());
    assert_eq!(node.service_pid("first"), pid);
    assert_eq!(node.status()["services"].as_array().map(Vec::len), Some(1));
    assert!(!node.images("second").is_empty(), "its images are kept");
}

/// Taken out and put back before the old one has ended: the old one's end must not be the new one's.
#[test]
fn a_service_that_is_taken_out_and_put_back_at_once_runs() {
    let Some(mut node) = Site::or_skip() else { return };
    let (counter, other) = (Counter::new("counter", &node).slow_to_stop(), Counter::new("other", &node));
    node.configure(&format!("{}{}", counter.toml(), other.toml()));
    node.start();
    counter.healthy(&node);
    other.healthy(&node);

    node.configure(&other.toml());
    wait_until(LIMIT, "it is being removed", || {
        node.status()["services"].as_array().map(Vec::len) == Some(1)
    });
    node.configure(&format!("{}{}", counter.toml(), other.toml()));

    node.wait_event("counter", "removed");
    wait_until(LIMIT, "it runs again", || node.service("counter")["verdict"] == "healthy");
    let pid = node.service_pid("counter");
    // What the old task did at its end has been done by now; the new one's record must be there for our next start.
    node.kill();
    node.start();
    node.wait_event("counter", "adopted");
    assert_eq!(node.service_pid("counter"), pid);
}

/// The images are those of a process; what is configured now is another: none of them may come back in its place.
#[test]
fn images_of_the_former_command_do_not_come_back() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"never\"\ntrial = false");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    assert!(node.cli(&["checkpoint", "counter"]).status.success());
    let former = node.service_pid("counter");

    let moved = counter.clone().memory(3 << 20);
    node.configure(&moved.toml());
    wait_until(LIMIT, "a new process", || {
        node.service("counter")["verdict"] == "healthy"
            && node.pid_of("counter").is_some_and(|pid| pid != former)
    });
    node.kill_service("counter");
    node.wait_event("counter", "recovered");

    moved.healthy(&node);
    let line = std::fs::read(format!("/proc/{}/cmdline", node.service_pid("counter"))).expect("it runs");
    assert!(
        String::from_utf8_lossy(&line).contains(&(3 << 20).to_string()),
        "{}",
        String::from_utf8_lossy(&line)
    );
}
