//! A service that stands still without dying is noticed by its probe and brought back.
#![allow(missing_docs)]

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, Node, Runtime, both};

both! {
    deadlocked => super::deadlocked;
    stopped_by_a_signal => super::stopped_by_a_signal;
    stopped_while_checkpoints_are_due => super::stopped_while_checkpoints_are_due;
}

/// Connections are accepted, no request is ever answered.
fn deadlocked(runtime: Runtime) {
    comes_back_after(runtime, |_, counter| counter.tell("/hang"));
}

fn stopped_by_a_signal(runtime: Runtime) {
    comes_back_after(runtime, |node, _| {
        node.signal_service("counter", Signal::SIGSTOP);
    });
}

fn comes_back_after(runtime: Runtime, hang: impl Fn(&Node, Counter)) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(4);
    let image = node.checkpoint("counter");
    counter.count_to(6);
    let (former, mark) = (node.pid("counter").expect("it runs"), node.mark());

    hang(&node, counter);

    node.wait_for_another("counter", former);
    assert_eq!(counter.value(), 4);
    counter.assert_whole();
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "hung: liveness probes fail");
    assert_eq!(node.wait_for_event(mark, "recovered", |_| true).image, Some(image));
}

/// Where the freezer is v1's, CRIU waits for ever for what is stopped and frozen at once; and what fails while a checkpoint is
/// under way is not held against the service.
fn stopped_while_checkpoints_are_due(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set("counter", "checkpoint.interval", "\"300ms\"");
    node.start();
    counter.count_to(4);
    let mark = node.mark();
    let image = node.wait_for_event(mark, "checkpoint-taken", |_| true);
    node.wait_for_event(mark, "image-judged", |event| event.image == image.image);
    let mark = node.mark();

    let former = node.signal_service("counter", Signal::SIGSTOP);

    node.wait_for_another("counter", former);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "hung: liveness probes fail");
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert!(recovered.image.is_some(), "by an image: {}", recovered.text);
    assert_eq!(counter.value(), 4);
    counter.assert_whole();
}
