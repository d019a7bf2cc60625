//! What people ask for on the command line, what is answered, and with which exit code.

use std::time::Duration;

use system_tests::bad_days::{Counter, Site, said};
use system_tests::wait_until;

const LIMIT: Duration = Duration::from_secs(20);
const DONE: Option<i32> = Some(0);
const FAILED: Option<i32> = Some(1);
const UNREACHABLE: Option<i32> = Some(3);
const DENIED: Option<i32> = Some(4);
const UNFINISHED: Option<i32> = Some(5);

#[test]
fn a_stop_is_no_crash_and_lasts_over_a_restart_of_the_supervisor() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node);
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);

    assert_eq!(node.cli(&["stop", "counter"]).status.code(), DONE);
    assert!(!counter.answers());
    assert_eq!(node.service("counter")["state"], "stopped");
    assert_eq!(node.cli(&["stop", "counter"]).status.code(), DONE, "it is so already");
    let denied = node.cli(&["checkpoint", "counter"]);
    assert_eq!(denied.status.code(), DENIED);
    assert!(said(&denied).contains("must be running, it is stopped"), "{}", said(&denied));

    for kill in [false, true] {
        if kill {
            node.kill();
        } else {
            node.stop();
        }
        node.start();
        wait_until(LIMIT, "its state", || node.service("counter")["state"] == "stopped");
        assert!(!counter.answers());
    }
    for noticed in ["noticed", "rung-taken", "recovered"] {
        assert_eq!(node.events_of("counter", noticed).len(), 0, "{noticed}: a stop is no crash");
    }

    let begun = node.cli(&["start", "counter"]);
    assert_eq!(begun.status.code(), DONE, "{begun:?}");
    counter.healthy(&node);
    assert_eq!(node.cli(&["start", "counter"]).status.code(), DONE, "it is so already");
}

#[test]
fn while_policies_are_held_nothing_is_done() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"200ms\"");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let number = counter.count_to(5);
    node.wait_newer_image("counter");

    assert_eq!(node.cli(&["pause", "counter"]).status.code(), DONE);
    assert_eq!(node.service("counter")["paused"], true);
    node.kill_service("counter");
    wait_until(LIMIT, "it is held", || node.service("counter")["state"] == "held");
    node.wait_event("counter", "held");
    assert_eq!(node.events_of("counter", "rung-taken").len(), 0);
    // Over our own restart too.
    node.stop();
    node.start();
    wait_until(LIMIT, "it is still held", || node.service("counter")["paused"] == true);
    assert!(!counter.answers());

    let resumed = node.cli(&["unpause", "counter"]);
    assert_eq!(resumed.status.code(), DONE, "{resumed:?}");
    node.wait_event("counter", "recovered");
    counter.healthy(&node);
    assert!(counter.number() >= number);
}

#[test]
fn a_named_image_comes_back_and_an_unknown_one_is_denied() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"never\"\ntrial = false");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let denied = node.cli(&["restore", "counter"]);
    assert_eq!(denied.status.code(), DENIED, "{denied:?}");
    assert!(said(&denied).contains("no image that may be restored"), "{}", said(&denied));
    let first = counter.count_to(10);
    let image = node.checkpoint("counter");
    counter.count_to(first + 10);
    node.checkpoint("counter");
    counter.count_to(first + 20);

    let restored = node.cli(&["restore", "counter", "--image", &image]);
    assert_eq!(restored.status.code(), DONE, "{restored:?}");
    assert_eq!(counter.number(), first);
    let restored = node.cli(&["restore", "counter"]);
    assert_eq!(restored.status.code(), DONE, "{restored:?}");
    assert_eq!(counter.number(), first + 10);
    let unknown = node.cli(&["restore", "counter", "--image", "20200101T000000.000000Z-0000"]);
    assert_eq!(unknown.status.code(), DENIED, "{unknown:?}");
    assert!(said(&unknown).contains("there is no image 20200101T000000.000000Z-0000"), "{}", said(&unknown));
    assert_eq!(counter.number(), first + 10, "nothing was done");
    // From a stopped service as well: a quick start.
    assert_eq!(node.cli(&["stop", "counter"]).status.code(), DONE);
    let restored = node.cli(&["restore", "counter", "--image", &image]);
    assert_eq!(restored.status.code(), DONE, "{restored:?}");
    assert_eq!(counter.number(), first);
}

#[test]
fn of_two_checkpoints_at_once_one_is_denied() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter =
        Counter::new("counter", &node).memory(96 << 20).checkpoint("interval = \"never\"\ntrial = false");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);

    let first =
        node.command(&["checkpoint", "counter"]).stdout(std::process::Stdio::null()).spawn().expect("runs");
    wait_until(LIMIT, "it has begun", || {
        node.service("counter")["checkpoint"]["in_flight"] == true
            || !node.events_of("counter", "checkpoint-taken").is_empty()
    });
    let second = node.cli(&["checkpoint", "counter"]);
    let first = first.wait_with_output().expect("it ends");

    assert_eq!(first.status.code(), DONE);
    assert_eq!(second.status.code(), DENIED, "{second:?}");
    assert!(said(&second).contains("a checkpoint is being taken just now"), "{}", said(&second));
    assert_eq!(node.cli(&["checkpoint", "counter"]).status.code(), DONE);
}

#[test]
fn exit_codes_tell_scripts_what_happened() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter =
        Counter::new("counter", &node).memory(64 << 20).checkpoint("interval = \"never\"\ntrial = false");
    node.configure(&counter.toml());
    let nobody = node.cli(&["status"]);
    assert_eq!(nobody.status.code(), UNREACHABLE, "{nobody:?}");
    assert!(said(&nobody).contains(&node.socket().display().to_string()), "{}", said(&nobody));
    node.start();
    counter.healthy(&node);

    assert_eq!(node.cli(&["checkpoint", "nobody"]).status.code(), DENIED);
    assert_eq!(node.cli(&["pin", "20200101T000000.000000Z-0000"]).status.code(), DENIED);
    assert_eq!(node.cli(&["checkpoint"]).status.code(), Some(2));
    let hurried = node.cli(&["checkpoint", "counter", "--wait", "1ms"]);
    assert_eq!(hurried.status.code(), UNFINISHED, "{hurried:?}");
    node.wait_event("counter", "image-durable");
    let pid = node.service_pid("counter");
    node.stop();
    assert_eq!(node.cli(&["stop", "counter"]).status.code(), UNREACHABLE);
    assert_eq!(node.pid_of("counter"), Some(pid), "it runs on");
    node.configure("[service.counter]\nproces = {}\n");
    assert_eq!(node.refused().status.code(), Some(2));
}

#[test]
fn a_checkpoint_of_a_service_that_dies_under_it_fails_and_the_service_comes_back() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).memory(96 << 20).checkpoint("interval = \"never\"");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    node.wait_event("counter", "checkpoint-taken");

    let asked =
        node.command(&["checkpoint", "counter"]).stderr(std::process::Stdio::piped()).spawn().expect("runs");
    wait_until(LIMIT, "it has begun", || {
        node.service("counter")["checkpoint"]["in_flight"] == true
            || node.events_of("counter", "checkpoint-taken").len() > 1
    });
    node.kill_service("counter");

    let asked = asked.wait_with_output().expect("it ends");
    assert!([DONE, FAILED].contains(&asked.status.code()), "{asked:?}");
    node.wait_event("counter", "recovered");
    counter.healthy(&node);
    assert_eq!(node.cli(&["checkpoint", "counter"]).status.code(), DONE);
}
