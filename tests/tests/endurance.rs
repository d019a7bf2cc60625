//! Checkpoint after checkpoint, and recovery after recovery, leave nothing behind that grows.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use system_tests::{Host, LIMIT, Node, Runtime, wait_for, wait_until};

/// Two hundred of them on a busy host.
const LONG: Duration = Duration::from_secs(180);
const KEPT: usize = 3;

#[test]
fn two_hundred_checkpoints_of_a_process() {
    checkpoints(Runtime::Process, 200);
}

#[test]
fn fifty_checkpoints_of_a_container() {
    checkpoints(Runtime::Runc, 50);
}

#[test]
fn twenty_recoveries_of_a_process() {
    recoveries(Runtime::Process, 20);
}

#[test]
fn ten_recoveries_of_a_container() {
    recoveries(Runtime::Runc, 10);
}

fn checkpoints(runtime: Runtime, count: usize) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set("counter", "checkpoint.interval", "\"5ms\"");
    node.set("counter", "checkpoint.jitter", "0");
    node.set("counter", "checkpoint.max_checkpoints", &KEPT.to_string());
    node.start();
    wait_for_checkpoints(&node, 10);
    counter.count_to(20);
    let before = at_rest(&node);
    wait_for_checkpoints(&node, count);
    let after = at_rest(&node);
    assert_grown_nowhere(&before, &after);
    assert!(node.events().iter().all(|event| event.kind != "checkpoint-failed"), "all of them worked");
    assert_eq!(counter.value(), 20);
    counter.assert_whole();
}

fn recoveries(runtime: Runtime, count: usize) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    // Each run is stable at once, so that nothing is held against the one image.
    node.set("counter", "restart.stable_after", "\"1ms\"");
    node.set("counter", "restart.backoff_max", "\"50ms\"");
    node.start();
    counter.count_to(12);
    let image = node.checkpoint("counter");
    recover(&node);
    let before = at_rest(&node);
    for _ in 0..count {
        recover(&node);
    }
    let after = at_rest(&node);
    assert_grown_nowhere(&before, &after);
    let recovered = node.events().into_iter().filter(|event| event.kind == "recovered");
    assert!(recovered.into_iter().all(|event| event.image.as_ref() == Some(&image)));
    assert_eq!(counter.value(), 12);
    counter.assert_whole();
}

fn recover(node: &Node) {
    let mark = node.mark();
    node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_event(mark, "recovered", |_| true);
    wait_until(LIMIT, "it runs", || node.pid("counter").is_some());
}

/// From where the journal ends now.
fn wait_for_checkpoints(node: &Node, count: usize) {
    let mark = node.mark();
    wait_for(LONG, &format!("{count} checkpoints"), || {
        let taken =
            node.events_since(mark).into_iter().filter(|event| event.kind == "checkpoint-taken").count();
        (taken >= count).then_some(())
    });
}

/// What there is of the node while its policies are held and nothing is under way.
fn at_rest(node: &Node) -> BTreeMap<String, usize> {
    assert_eq!(node.json(&["pause", "counter"])["outcome"], "done");
    let last = wait_for(LIMIT, "what was under way has ended", || {
        let (first, status, second) = (count(node), node.status("counter"), count(node));
        let durable = node.events().iter().rev().find(|e| e.kind == "checkpoint-taken").is_none_or(|taken| {
            node.events().iter().any(|e| e.kind == "image-durable" && e.image == taken.image)
        });
        (status["checkpoint"]["in_flight"] == false && durable && first == second).then_some(second)
    });
    assert_eq!(node.json(&["unpause", "counter"])["outcome"], "done");
    last
}

fn count(node: &Node) -> BTreeMap<String, usize> {
    let traces = node.traces();
    let shims = traces.shims();
    let entries = |path: String| fs::read_dir(path).map_or(0, Iterator::count);
    let lines = |path: String| fs::read_to_string(path).map_or(0, |text| text.lines().count());
    let supervisor = node.supervisor_pid();
    let sum = |of: &dyn Fn(i32) -> usize| shims.iter().map(|shim| of(*shim)).sum();
    let images = node.images_folder("counter");
    BTreeMap::from([
        ("descriptors of the supervisor".to_owned(), entries(format!("/proc/{supervisor}/fd"))),
        ("descriptors of the shim".to_owned(), sum(&|shim| entries(format!("/proc/{shim}/fd")))),
        ("mounts of the shim".to_owned(), sum(&|shim| lines(format!("/proc/{shim}/mountinfo")))),
        ("mounts of the host".to_owned(), traces.mounts().len()),
        ("shims".to_owned(), shims.len()),
        ("processes".to_owned(), traces.descendants().len()),
        ("members".to_owned(), traces.members().len()),
        ("cgroups".to_owned(), traces.cgroups().len()),
        ("images in memory".to_owned(), traces.hot_images().len()),
        ("folders of the store".to_owned(), entries(images.display().to_string())),
        ("marks of images".to_owned(), entries(images.join(".marks").display().to_string())),
        ("files of the run folder".to_owned(), files(&node.run_dir())),
    ])
}

fn files(folder: &std::path::Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
}

/// A connection that is just being closed is no growth; what grows with each checkpoint is seen among so many.
fn assert_grown_nowhere(before: &BTreeMap<String, usize>, after: &BTreeMap<String, usize>) {
    let grown: Vec<String> = after
        .iter()
        .filter(|(what, count)| **count > before[*what] + 3)
        .map(|(what, count)| format!("{what}: {} before, {count} after", before[what]))
        .collect();
    assert!(grown.is_empty(), "{grown:?}");
    assert!(after["images in memory"] <= 2, "{after:?}");
    assert!(after["folders of the store"] <= KEPT + 3, "{after:?}");
}
