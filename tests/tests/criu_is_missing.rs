//! Without a CRIU that works services still run; `status` says what is lacking and how to mend it, and a crash is answered by a cold
//! start.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use system_tests::bad_days::{Counter, Site, said};
use system_tests::wait_for;

/// The service runs, is degraded for a reason with these words, and comes back cold after a crash.
fn runs_degraded(criu: impl FnOnce(&Site) -> PathBuf, words: &[&str]) {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"300ms\"");
    node.configure(&counter.toml());
    let criu = criu(&node);
    node.env("SUPERVISOR_CRIU", criu);
    node.start();
    counter.healthy(&node);
    counter.count_to(7);

    let why = wait_for(Duration::from_secs(20), "degraded", || {
        node.service("counter")["degraded"].as_str().map(str::to_owned)
    });

    let status = node.status();
    let node_says = status["criu"].as_str().unwrap_or_default();
    for word in words {
        assert!(why.contains(word), "{word} is not in the service's reason: {why}");
        assert!(node_says.contains(word), "{word} is not in the node's: {node_says}");
    }
    assert!(why.contains("remedy:"), "{why}");
    let asked = node.cli(&["checkpoint", "counter"]);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(said(&asked).contains("remedy:"), "{}", said(&asked));

    node.kill_service("counter");
    node.wait_event("counter", "recovered");
    assert_eq!(node.service("counter")["last_recovery"]["rung"], "cold-start");
    counter.healthy(&node);
    assert_eq!(counter.number(), 0, "a cold start begins anew");
}

#[test]
fn criu_that_is_not_there() {
    let nowhere = |_: &Site| PathBuf::from("/nonexistent/criu");
    runs_degraded(nowhere, &["/nonexistent/criu", "cannot be run", "install criu"]);
}

#[test]
fn criu_that_exits_with_1() {
    let words = ["criu", "does not say its version", "install criu"];
    runs_degraded(|node| script(node, "exit 1"), &words);
}

#[test]
fn criu_that_fails_its_own_check() {
    let lines = "case $1 in --version) echo 'Version: 4.1.1';; check) echo 'Error (vdso): no such thing' >&2; exit 1;; *) exit 1;; esac";
    let words = ["check CRIU 4.1.1 on this kernel", "install a CRIU that knows this kernel", "no such thing"];
    runs_degraded(|node| script(node, lines), &words);
}

fn script(node: &Site, lines: &str) -> PathBuf {
    let path = node.folder().join("criu");
    std::fs::write(&path, format!("#!/bin/sh\n{lines}\n")).expect("a script is written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("and may be run");
    path
}
