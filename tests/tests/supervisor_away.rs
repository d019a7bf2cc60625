//! The supervisor's own end, asked for or not, never stops a service, and nothing that happens meanwhile is lost.
#![allow(missing_docs)]

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, both, wait_until};

both! {
    stopped => super::stopped;
    killed => super::killed;
    service_dies_meanwhile => super::service_dies_meanwhile;
    service_finishes_meanwhile => super::service_finishes_meanwhile;
}

fn stopped(runtime: Runtime) {
    service_runs_on(runtime, Node::stop);
}

fn killed(runtime: Runtime) {
    service_runs_on(runtime, Node::kill);
}

fn service_runs_on(runtime: Runtime, end: impl Fn(&mut Node)) {
    let Some((mut node, counter)) = counting(runtime) else { return };
    let pid = node.pid("counter").expect("it runs");

    end(&mut node);
    assert_eq!(counter.ask("/increment"), "7", "it runs on without a supervisor");

    let mark = node.mark();
    node.start();
    node.wait_for_event(mark, "adopted", |_| true);
    assert_eq!(node.pid("counter"), Some(pid), "the same process");
    assert_eq!(counter.value(), 7, "untouched");
    let image = node.checkpoint("counter");

    // Its parent is the shim, so how it ends is known to a supervisor that never was its parent.
    let mark = node.mark();
    counter.tell("/exit?code=4");
    node.wait_for_another("counter", pid);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "crashed: exit code 4");
    assert_eq!(node.wait_for_event(mark, "recovered", |_| true).image, Some(image));
    assert_eq!(counter.value(), 7);
}

fn service_dies_meanwhile(runtime: Runtime) {
    let Some((mut node, counter)) = counting(runtime) else { return };
    node.kill();
    let pid = node.signal_service("counter", Signal::SIGKILL);
    wait_until(LIMIT, "it is dead", || node.pid("counter").is_none());

    let mark = node.mark();
    node.start();

    node.wait_for_another("counter", pid);
    assert_eq!(
        node.wait_for_event(mark, "noticed", |_| true).text,
        "died while the supervisor was away: signal 9"
    );
    node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(counter.value(), 5, "the image's number");
    counter.assert_whole();
}

fn service_finishes_meanwhile(runtime: Runtime) {
    let Some((mut node, counter)) = counting(runtime) else { return };
    node.stop();
    node.set("counter", "restart.policy", "\"on-failure\"");
    node.start();
    node.stop();
    counter.tell("/exit?code=0");
    wait_until(LIMIT, "it has ended", || node.pid("counter").is_none());

    let mark = node.mark();
    node.start_only();

    wait_until(LIMIT, "it is seen as stopped", || node.state("counter") == "stopped");
    let kinds: Vec<String> = node.events_since(mark).into_iter().map(|event| event.kind).collect();
    assert!(!kinds.iter().any(|kind| kind == "rung-taken"), "it had done its work: {kinds:?}");
}

/// An image of 5, the number 6.
fn counting(runtime: Runtime) -> Option<(Node, Counter)> {
    let host = Host::or_skip(runtime)?;
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(5);
    node.checkpoint("counter");
    counter.count_to(6);
    Some((node, counter))
}
