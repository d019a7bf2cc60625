//! A service that dies comes back with its state, whatever it died of; one that has done its work does not.
#![allow(missing_docs)]

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, both, wait_until};

both! {
    killed => super::killed;
    aborted => super::aborted;
    failed => super::failed;
    finished => super::finished;
    not_wanted_back => super::not_wanted_back;
}

fn killed(runtime: Runtime) {
    comes_back_after(runtime, "crashed: signal 9", |node, _| {
        node.signal_service("counter", Signal::SIGKILL);
    });
}

/// A container's first process cannot die of its own SIGABRT, so the C library makes it die of SIGSEGV.
fn aborted(runtime: Runtime) {
    let cause = match runtime {
        Runtime::Process => "crashed: signal 6",
        Runtime::Runc => "crashed: signal 11",
    };
    comes_back_after(runtime, cause, |_, counter| counter.tell("/abort"));
}

fn failed(runtime: Runtime) {
    comes_back_after(runtime, "crashed: exit code 3", |_, counter| counter.tell("/exit?code=3"));
}

fn comes_back_after(runtime: Runtime, cause: &str, end: impl Fn(&Node, Counter)) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(7);
    let image = node.checkpoint("counter");
    counter.count_to(9);
    let (former, mark) = (node.pid("counter").expect("it runs"), node.mark());

    end(&node, counter);

    node.wait_for_another("counter", former);
    assert_eq!(counter.value(), 7, "the number of the image, not one more and not one less");
    counter.assert_whole();
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, cause);
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(recovered.image, Some(image));
    assert!(recovered.text.starts_with("back by restore-latest"), "{}", recovered.text);
    assert_eq!(
        (recovered.cause.as_deref(), recovered.rung.as_deref()),
        (Some("crashed"), Some("restore-latest"))
    );
    let mttr = recovered.took_ms.expect("a recovery says how long it took");
    assert!(mttr > 0.0 && mttr < LIMIT.as_secs_f64() * 1e3, "{mttr} ms");
    assert_eq!(counter.ask("/increment"), "8", "it goes on");
}

fn finished(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set("counter", "restart.policy", "\"on-failure\"");
    node.start();
    node.checkpoint("counter");
    let mark = node.mark();

    counter.tell("/exit?code=0");

    node.wait_for_event(mark, "stopped", |_| true);
    assert_eq!(node.state("counter"), "stopped");
    assert_eq!(node.pid("counter"), None);
    let kinds: Vec<String> = node.events_since(mark).into_iter().map(|event| event.kind).collect();
    assert!(!kinds.iter().any(|kind| kind == "rung-taken"), "nothing to recover from: {kinds:?}");
    wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
}

fn not_wanted_back(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set("counter", "restart.policy", "\"never\"");
    node.start();
    node.checkpoint("counter");
    let mark = node.mark();

    counter.tell("/exit?code=3");

    let gave_up = node.wait_for_event(mark, "gave-up", |_| true);
    assert!(gave_up.text.contains("exit code 3; restart policy is never"), "{}", gave_up.text);
    assert_eq!(node.state("counter"), "failed");
}

/// Rust's runtime takes the first SIGSEGV for a stack overflow, looks, and waits for it to come again.
#[test]
fn process_that_hits_bad_memory() {
    comes_back_after(Runtime::Process, "crashed: signal 11", |node, _| {
        let pid = node.pid("counter").expect("it runs");
        wait_until(LIMIT, "it dies of SIGSEGV", || {
            if node.pid("counter") != Some(pid) {
                return true;
            }
            node.signal_service("counter", Signal::SIGSEGV);
            false
        });
    });
}

/// Before anybody could look at the process.
#[test]
fn what_ends_as_it_starts_has_ended_with_its_exit_code() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    for (code, kind, text) in [(0, "stopped", ""), (3, "gave-up", "exit code 3; restart policy is never")] {
        let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
        node.set("counter", "process.command", &format!("[\"/bin/sh\", \"-c\", \"exit {code}\"]"));
        node.set("counter", "restart.policy", if code == 0 { "\"on-failure\"" } else { "\"never\"" });
        let mark = node.mark();

        node.start_only();

        let said = node.wait_for_event(mark, kind, |_| true);
        assert!(said.text.contains(text), "{}", said.text);
    }
}
