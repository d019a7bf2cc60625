//! Probes hold still while the service is frozen: what stands still for a checkpoint is not hung.

use std::time::Duration;

use system_tests::bad_days::{Counter, Site};
use system_tests::wait_until;

#[test]
fn a_big_service_is_never_judged_by_its_checkpoints() {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node)
        .memory(320 << 20)
        .checkpoint("interval = \"1s\"\njitter = 0.0\nmax_checkpoints = 2")
        // A pause of 320 MiB is as long as two of these together, and more on a busy host.
        .probe("interval = \"100ms\"\ntimeout = \"100ms\"\nfailure_threshold = 2\nstart_period = \"20s\"");
    node.configure(&format!("[store]\ncompression = \"lz4\"\n{}", counter.toml()));
    node.start();
    counter.is_judged_healthy(&node);
    let pid = node.service_pid("counter");

    wait_until(Duration::from_secs(60), "six checkpoints", || {
        node.events_of("counter", "checkpoint-taken").len() >= 6
    });

    let longest =
        node.events_of("counter", "checkpoint-taken").iter().filter_map(|e| e.pause_ms).fold(0.0, f64::max);
    assert!(longest > 100.0, "the pauses ({longest} ms at most) were too short to show anything");
    let sick: Vec<_> =
        node.events_of("counter", "verdict").into_iter().filter(|e| e.text.ends_with("unhealthy")).collect();
    assert!(sick.is_empty(), "{sick:?}");
    assert_eq!(node.events_of("counter", "noticed").len(), 0);
    assert_eq!(node.service_pid("counter"), pid);
}
