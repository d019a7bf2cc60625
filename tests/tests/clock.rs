//! The system's clock is set, forward and back, by hand or by NTP: the image that was taken last is the newest all the same.
#![allow(missing_docs)]

use nix::sys::signal::Signal;
use system_tests::{Host, Node, Runtime, both};

both! {
    set_back_and_forward => super::set_back_and_forward;
}

fn set_back_and_forward(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set("counter", "restart.attempts_per_image", "20");
    node.start();
    let mut images = Vec::new();
    for (number, seconds) in [(3, 0), (4, -3600), (5, -7200), (6, 1800), (7, 0)] {
        node.step_clock(seconds);
        counter.count_to(number);
        images.push(node.checkpoint("counter"));
        counter.count_to(number + 10);
        let mark = node.mark();
        let former = node.signal_service("counter", Signal::SIGKILL);
        node.wait_for_another("counter", former);
        let recovered = node.wait_for_event(mark, "recovered", |_| true);
        assert_eq!(recovered.image.as_ref(), images.last(), "{}", recovered.text);
        assert_eq!(counter.value(), number);
    }
    assert!(images.is_sorted(), "{images:?}");
}
