//! The kinds of probes at work: what they find sick is recovered, and what they find well is left alone.
#![allow(missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, wait_until};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

/// A node whose only probe is this one.
fn probed_by(host: &'static Host, key: &str, value: &str) -> (Node, Counter) {
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.unset("counter", "probe.health.http");
    node.set("counter", &format!("probe.health.{key}"), &serde_json::Value::from(value).to_string());
    (node, counter)
}

/// Sick from `sicken` on until `heal`: noticed, and brought back.
fn comes_back(node: &mut Node, sicken: impl FnOnce(&Node), heal: impl FnOnce()) {
    node.start();
    node.wait_healthy("counter");
    let (former, mark) = (node.pid("counter").expect("it runs"), node.mark());

    sicken(node);

    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "hung: liveness probes fail");
    heal();
    node.wait_for_another("counter", former);
    node.wait_for_event(mark, "recovered", |_| true);
}

#[test]
fn grpcs_health_service_is_listened_to() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (reporter, address) = runtime.block_on(serve_health());
    let report = |status: ServingStatus| runtime.block_on(reporter.set_service_status("shop.Cart", status));
    report(ServingStatus::Serving);
    let (mut node, _) = probed_by(host, "grpc.address", &address);
    node.set("counter", "probe.health.grpc.service", "\"shop.Cart\"");

    comes_back(&mut node, |_| report(ServingStatus::NotServing), || report(ServingStatus::Serving));
}

async fn serve_health() -> (HealthReporter, String) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(TcpIncoming::from(listener)));
    (reporter, address)
}

#[test]
fn a_heartbeat_that_stops_is_missed() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let mut node = Node::new(host);
    let file = node.folder().join("alive");
    // The counter beats for nobody; a shell does.
    let script = format!("while :; do : > {}; sleep 0.05; done", file.display());
    node.add_service("counter");
    node.unset("counter", "probe.health.tcp");
    let text = |text: &str| serde_json::Value::from(text).to_string();
    node.set("counter", "process.command", &format!("[\"/bin/sh\", \"-c\", {}]", text(&script)));
    node.set("counter", "probe.health.heartbeat.file", &text(&file.display().to_string()));

    comes_back(
        &mut node,
        |node| {
            node.signal_service("counter", Signal::SIGSTOP);
        },
        || {},
    );
}

/// The command sees the processes of the run that it is asked about, also after that was restored.
#[test]
fn a_command_is_run_inside_of_the_service() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    let (seen, sick) = (node.folder().join("seen"), node.folder().join("sick"));
    let script = format!(
        "set -- $(readlink /proc/self/ns/pid /proc/self/ns/mnt); echo $* >> {}; test ! -e {}",
        seen.display(),
        sick.display()
    );
    node.unset("counter", "probe.health.http");
    let command = serde_json::json!(["/bin/sh", "-c", script]).to_string();
    node.set("counter", "probe.health.exec", &format!("{{ command = {command}, inside = true }}"));
    let namespaces = |node: &Node| {
        let pid = node.pid("counter").expect("it runs");
        let of = |kind| fs::read_link(format!("/proc/{pid}/ns/{kind}")).expect("it has one");
        format!("{} {}", of("pid").display(), of("mnt").display())
    };
    node.start();
    let former = namespaces(&node);
    let was_seen =
        |wanted: &str| fs::read_to_string(&seen).is_ok_and(|seen| seen.lines().any(|line| line == wanted));
    wait_until(LIMIT, "the first run is looked at from inside", || was_seen(&former));
    node.checkpoint("counter");
    let (pid, mark) = (node.pid("counter").expect("it runs"), node.mark());

    fs::write(&sick, "").expect("a file");
    node.wait_for_event(mark, "noticed", |event| event.cause.as_deref() == Some("hung"));
    fs::remove_file(&sick).expect("a file");

    node.wait_for_another("counter", pid);
    fs::write(&seen, "").expect("a file");
    let later = namespaces(&node);
    wait_until(LIMIT, "the restored run is looked at from inside", || was_seen(&later));
}

/// Where the program lies is known inside only.
#[test]
fn a_command_is_run_with_the_root_of_a_container() {
    let Some(host) = Host::or_skip(Runtime::Runc) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Runc, &[]);
    let inside = Path::new("/bin/well-inside");
    assert!(!inside.exists(), "{} is on the host, too", inside.display());
    fs::copy("/bin/true", node.folder().join("bundle-counter/rootfs/bin/well-inside")).expect("a program");
    node.unset("counter", "probe.health.http");
    let command = serde_json::json!([inside]).to_string();
    node.set("counter", "probe.health.exec", &format!("{{ command = {command}, inside = true }}"));
    node.start();
    node.checkpoint("counter");
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
}

#[test]
fn an_answer_over_a_unix_socket_is_read() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    // Nothing but the body tells: the status is 200 all the while.
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("api.sock");
    let well = answer_on(&socket);
    let (mut node, _) = probed_by(host, "http.socket", &socket.display().to_string());
    node.set("counter", "probe.health.http.path", "\"/livez\"");
    node.set("counter", "probe.health.http.body", "\"well\"");

    comes_back(&mut node, |_| well.store(false, Ordering::SeqCst), || well.store(true, Ordering::SeqCst));
}

/// Says how it is until the test's process ends.
fn answer_on(socket: &Path) -> Arc<AtomicBool> {
    let listener = UnixListener::bind(socket).expect("a socket");
    let well = Arc::new(AtomicBool::new(true));
    let how = Arc::clone(&well);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            let body = if how.load(Ordering::SeqCst) { "well" } else { "sick" };
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}");
        }
    });
    well
}
