//! A service that dies comes back with its state, by whatever it died.
#![allow(missing_docs)]

use nix::sys::signal::Signal;
use system_tests::{Host, Node, Runtime};

fn comes_back_after(runtime: Runtime, cause: &str, kill: impl Fn(&Node, system_tests::Counter)) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(7);
    let image = node.checkpoint("counter");
    counter.count_to(9);
    let former = node.pid("counter").expect("it runs");
    let mark = node.mark();

    kill(&node, counter);

    node.wait_for_another("counter", former);
    assert_eq!(counter.value(), 7, "the number of the image, not one more and not one less");
    counter.assert_whole();
    let noticed = node.wait_for_event(mark, "noticed", |_| true);
    assert!(noticed.text.contains(cause), "{}", noticed.text);
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(recovered.image, Some(image));
    assert!(recovered.text.starts_with("back by restore-latest"), "{}", recovered.text);
    assert!(recovered.took_ms.is_some_and(|ms| ms > 0.0 && ms < 30_000.0), "{recovered:?}");
    assert_eq!(counter.ask("/increment"), "8", "it goes on");
}

#[test]
fn process_killed() {
    comes_back_after(Runtime::Process, "signal 9", |node, _| {
        node.signal_service("counter", Signal::SIGKILL);
    });
}
#[test]
fn runc_killed() {
    comes_back_after(Runtime::Runc, "signal 9", |node, _| {
        node.signal_service("counter", Signal::SIGKILL);
    });
}
