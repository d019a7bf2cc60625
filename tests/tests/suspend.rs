//! Suspend and resume: a service is put into an image and comes back from it, also over our own restart, and its established
//! connections with it.
#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use nix::sys::signal::Signal;
use system_tests::{Containers, Engine, Host, LIMIT, Node, PORT, Runtime, both, wait_until};

both! {
    into_an_image_and_back => super::into_an_image_and_back;
    given_up => super::given_up;
}

const ESTABLISHED: (&str, &str) = ("checkpoint.tcp", "\"established\"");

fn into_an_image_and_back(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(7);

    let image = suspend(&node);
    assert!(node.traces().members().is_empty(), "nothing of it runs");
    assert_eq!(node.status("counter")["suspended_in"], image.as_str());
    for _ in 0..2 {
        node.kill();
        node.start_only();
        wait_until(LIMIT, "it is suspended still", || node.state("counter") == "suspended");
    }
    let said = node.command(&["start", "counter"]);
    assert_eq!(said.code, Some(4), "a start would lose its state: {said:?}");
    resume(&node);

    assert_eq!(counter.value(), 7);
    counter.assert_whole();
    assert_eq!(
        node.events().iter().filter(|event| event.kind == "noticed").count(),
        1,
        "the resume, and no crash"
    );
    counter.count_to(9);
    node.checkpoint("counter");
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
    assert_eq!(counter.value(), 9, "the loop goes on");
}

/// A stop gives the suspended state up, also for good.
fn given_up(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(3);
    suspend(&node);
    assert_eq!(node.json(&["stop", "counter"])["outcome"], "done");
    node.kill();
    node.start_only();
    wait_until(LIMIT, "it stays stopped", || node.state("counter") == "stopped");
    assert_eq!(node.json(&["start", "counter"])["outcome"], "done");
    assert_eq!(counter.value(), 0);
}

/// A plain process and its client stand in the same network: the packet filter holds the connection meanwhile.
#[test]
fn a_connection_of_a_process_lives_on() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.set("counter", ESTABLISHED.0, ESTABLISHED.1);
    node.start();
    let mut client = Client::of(TcpStream::connect(counter.address()).expect("it listens"));
    assert_eq!(client.ask(), "1");

    let before = tables();
    let held = || tables().difference(&before).count();
    suspend(&node);
    assert_eq!(held(), 1, "it is held: {:?}", tables());
    client.send();
    resume(&node);

    assert_eq!(client.receive(), "2", "what was sent meanwhile is answered");
    assert_eq!(client.ask(), "3");
    assert_eq!(held(), 0, "{:?}", tables());

    suspend(&node);
    assert_eq!(held(), 1);
    assert_eq!(node.json(&["stop", "counter"])["outcome"], "done");
    assert_eq!(held(), 0, "nothing is left on the host");
    assert_eq!(node.json(&["start", "counter"])["outcome"], "done");
    counter.count_to(1);
}

/// The container's network goes with it and comes back with its address; its client is on the other side of the bridge.
#[test]
fn a_connection_over_a_bridge_lives_on() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let container = containers.reserve("suspended");
    let mut node = Node::new(containers.host());
    node.add_container("counter", &containers, container.name(), Some(&[]));
    node.set("counter", ESTABLISHED.0, ESTABLISHED.1);
    node.start();
    let address = container.address();
    let stream = containers.network().connect((address, PORT).into(), LIMIT).expect("it listens");
    let mut client = Client::of(stream);
    assert_eq!(client.ask(), "1");

    suspend(&node);
    client.send();
    resume(&node);

    assert_eq!(container.address(), address);
    assert_eq!(client.receive(), "2", "what was sent meanwhile is answered");
    assert_eq!(client.ask(), "3");
}

fn suspend(node: &Node) -> String {
    let answer = node.json(&["suspend", "counter"]);
    assert_eq!(answer["outcome"], "done", "{answer}");
    assert_eq!(node.state("counter"), "suspended");
    answer["image"].as_str().expect("it names the image").to_owned()
}

fn resume(node: &Node) {
    let answer = node.json(&["resume", "counter"]);
    assert_eq!(answer["outcome"], "done", "{answer}");
}

/// CRIU's tables in the packet filter; others may be at work with it.
fn tables() -> BTreeSet<String> {
    let output = Command::new("nft").args(["list", "tables"]).output().expect("nft is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().filter(|line| line.contains("CRIU")).map(str::to_owned).collect()
}

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self) -> String {
        self.send();
        self.receive()
    }

    fn send(&mut self) {
        write!(self.0.get_mut(), "GET /increment HTTP/1.1\r\nHost: counter\r\n\r\n")
            .expect("it can be written to");
    }

    /// The body, which is one line.
    fn receive(&mut self) -> String {
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            assert_ne!(self.0.read_line(&mut line).expect("an answer comes"), 0, "it was closed");
        }
        line.clear();
        self.0.read_line(&mut line).expect("a body follows");
        line.trim_end().to_owned()
    }
}
