//! A service that the kernel kills for want of memory is told from one that somebody killed, and comes back.
#![allow(missing_docs)]

use std::fs;
use std::path::PathBuf;

use system_tests::{Host, Node, Runtime, both};

both! {
    limit_of_the_cgroup => super::limit_of_the_cgroup;
}

const LIMIT_BYTES: &str = "67108864";

fn limit_of_the_cgroup(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    let Some(file) = limit_file(&node) else {
        return eprintln!("SKIPPED: this host has no memory controller for cgroups");
    };
    fs::write(&file, LIMIT_BYTES).unwrap_or_else(|e| panic!("limit {}: {e}", file.display()));
    counter.count_to(6);
    let image = node.checkpoint("counter");
    let (former, mark) = (node.pid("counter").expect("it runs"), node.mark());

    counter.tell("/leak");

    node.wait_for_another("counter", former);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "crashed: killed for want of memory");
    assert_eq!(node.wait_for_event(mark, "recovered", |_| true).image, Some(image));
    assert_eq!(counter.value(), 6);
    counter.assert_whole();

    // And a kill after it is a kill again.
    let mark = node.mark();
    let former = node.signal_service("counter", nix::sys::signal::Signal::SIGKILL);
    node.wait_for_another("counter", former);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "crashed: signal 9");
}

/// v2's name of it, else v1's.
fn limit_file(node: &Node) -> Option<PathBuf> {
    let cgroups = node.traces().cgroups_of("counter");
    let mut files =
        cgroups.iter().flat_map(|folder| [folder.join("memory.max"), folder.join("memory.limit_in_bytes")]);
    files.find(|file| file.exists())
}
