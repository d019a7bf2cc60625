//! A dump that does not finish in time is ended, and whatever that does to the service, it is not left so.
#![allow(missing_docs)]

use system_tests::{Host, LIMIT, Node, Runtime, wait_until};

/// Large enough that CRIU is in the middle of the memory when its time is over.
const MEMORY: &str = "300000000";

fn is_not_left_so(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &["--memory", MEMORY]);
    // Each limit may cost a recovery; none of them is the image's fault.
    node.set("counter", "restart.attempts_per_image", "20");
    node.set("counter", "restart.max_attempts", "20");
    node.set("counter", "restart.stable_after", "\"100ms\"");
    node.start();
    counter.count_to(7);
    node.checkpoint("counter");
    for limit in ["50ms", "100ms", "150ms"] {
        let mark = node.mark();
        node.set("counter", "checkpoint.timeout", &format!("\"{limit}\""));
        node.write_config();
        node.wait_for_event(mark, "config-reloaded", |_| true);

        let answer = node.command(&["checkpoint", "counter"]);

        if answer.code == Some(0) {
            // A quick machine: nothing to see at this limit.
            continue;
        }
        let failed = node.wait_for_event(mark, "checkpoint-failed", |_| true);
        assert!(failed.text.contains("checkpoint.timeout"), "the remedy is named: {}", failed.text);
        wait_until(LIMIT, "it answers again, thawed or recovered", || counter.answers());
        assert!(counter.value() >= 7, "at least the image's number");
        counter.assert_whole();
        wait_until(LIMIT, "it counts as running", || node.state("counter") == "running");
    }
    let mark = node.mark();
    node.set("counter", "checkpoint.timeout", "\"30s\"");
    node.write_config();
    node.wait_for_event(mark, "config-reloaded", |_| true);
    counter.count_to(9);
    node.checkpoint("counter");
}

#[test]
fn process_dump_is_cut_off() {
    is_not_left_so(Runtime::Process);
}

#[test]
fn runc_dump_is_cut_off() {
    is_not_left_so(Runtime::Runc);
}
