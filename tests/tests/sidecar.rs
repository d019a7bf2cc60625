//! A sidecar says how an application is: to whoever asks it, and to the node's supervisor, which recovers the service.
#![allow(missing_docs)]

use std::process::{Command, Stdio};

use serde_json::Value;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, Sidecar, wait_until};

/// A node whose service nobody probes but a sidecar.
fn node() -> Option<(Node, Counter)> {
    let host = Host::or_skip(Runtime::Process)?;
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.unset("counter", "probe.health");
    node.set("counter", "probe.outside.report", "{}");
    node.set("counter", "probe.outside.failure_threshold", "1");
    node.start();
    Some((node, counter))
}

fn outside(node: &Node) -> Value {
    node.status("counter")["probes"][0]["verdict"].clone()
}

#[test]
fn a_hang_that_only_a_sidecar_sees_is_recovered_from_once() {
    let Some((mut node, counter)) = node() else { return };
    assert_eq!(outside(&node), "starting", "nobody has said anything yet, and the service is healthy");
    let sidecar = Sidecar::beside(&mut node, "counter");
    sidecar.wait_for("/livez", 200);
    assert!(sidecar.wait_for("/readyz", 200).contains("health (liveness): healthy: http status 200"));
    wait_until(LIMIT, "its reports are counted", || outside(&node) == "healthy");
    counter.count_to(4);
    node.checkpoint("counter");
    let mark = node.mark();

    counter.tell("/hang");

    sidecar.wait_for("/livez", 503);
    let reported = node.wait_for_event(mark, "reported", |_| true);
    assert!(reported.text.contains("health: no answer within 200ms"), "{}", reported.text);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "hung: liveness probes fail");
    node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(counter.value(), 4);

    // What it had found of the former run is held against nobody: the next it says is of the new one.
    sidecar.wait_for("/readyz", 200);
    wait_until(LIMIT, "its reports are counted again", || outside(&node) == "healthy");
    let noticed = node.events_since(mark).into_iter().filter(|event| event.kind == "noticed").count();
    assert_eq!(noticed, 1);
    let metrics = sidecar.wait_for("/metrics", 200);
    assert!(metrics.contains("supervisor_sidecar_live 1"), "{metrics}");
    assert!(metrics.contains("supervisor_sidecar_probe_results_total{probe=\"health\",result=\"failed\"}"));
    sidecar.stop();
}

#[test]
fn a_sidecar_that_falls_silent_neither_kills_nor_keeps_healthy() {
    let Some((mut node, counter)) = node() else { return };
    let sidecar = Sidecar::beside(&mut node, "counter");
    wait_until(LIMIT, "its reports are counted", || outside(&node) == "healthy");
    let (pid, mark) = (node.pid("counter"), node.mark());

    sidecar.kill();

    wait_until(LIMIT, "its last report is over", || outside(&node) == "starting");
    let status = node.status("counter");
    assert_eq!((&status["verdict"], &status["state"]), (&Value::from("healthy"), &Value::from("running")));
    assert_eq!(node.pid("counter"), pid);
    assert!(node.events_since(mark).iter().all(|event| event.kind != "noticed"));

    // One that comes back is heard again.
    let sidecar = Sidecar::beside(&mut node, "counter");
    wait_until(LIMIT, "its reports are counted", || outside(&node) == "healthy");
    counter.tell("/hang");
    node.wait_for_event(mark, "noticed", |_| true);
    sidecar.stop();
}

#[test]
fn a_supervisor_that_is_away_is_told_when_it_is_back() {
    let Some((mut node, _)) = node() else { return };
    let sidecar = Sidecar::beside(&mut node, "counter");
    wait_until(LIMIT, "its reports are counted", || outside(&node) == "healthy");
    node.kill();
    sidecar.wait_for("/readyz", 200);
    node.start();
    wait_until(LIMIT, "its reports are counted again", || outside(&node) == "healthy");
    sidecar.stop();
}

#[test]
fn what_cannot_be_is_said() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let node = Node::new(host);
    node.write_config();
    let none = node.command(&["sidecar"]);
    assert_eq!(none.code, Some(2), "{none:?}");
    assert!(none.stderr.contains("has no `[sidecar]`"), "{none:?}");
    let mut unnamed = Command::new(&host.supervisor);
    let unnamed = unnamed.arg("sidecar").env_remove("SUPERVISOR_CONFIG").stdin(Stdio::null()).output();
    let unnamed = unnamed.expect("it can be run");
    assert_eq!(unnamed.status.code(), Some(2), "{unnamed:?}");
}
