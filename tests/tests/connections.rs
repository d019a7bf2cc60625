//! Clients do not keep a service from being checkpointed, whatever their connections are at, and its checkpoints
//! do not disturb them.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, both};

both! {
    one_that_is_open => super::one_that_is_open;
    come_and_go => super::come_and_go;
    one_that_was_closed_since => super::one_that_was_closed_since;
}

fn one_that_is_open(runtime: Runtime) {
    let Some((node, counter)) = patient(runtime) else { return };
    let mut open = connect(counter);
    assert_eq!(ask(&mut open, "/increment"), "1");

    node.checkpoint("counter");

    assert_eq!(ask(&mut open, "/increment"), "2", "the client noticed nothing");
    come_back(&node);
    assert_eq!(counter.value(), 1);
}

/// What a client has begun and the service has not accepted yet is called in flight by CRIU, and is refused by it unless told
/// otherwise. Probes are clients too.
fn come_and_go(runtime: Runtime) {
    let Some((node, counter)) = patient(runtime) else { return };
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // Some are turned away while it stands still; that is theirs to bear.
                    let _ = counter.get("/increment");
                }
            });
        }
        let taken = (0..15).map(|_| node.command(&["checkpoint", "counter"]));
        let failed: Vec<_> = taken.filter(|said| said.code != Some(0)).collect();
        over.store(true, Ordering::Relaxed);
        assert!(failed.is_empty(), "every checkpoint is taken: {failed:?}");
    });
    let reached = counter.value();
    node.checkpoint("counter");
    come_back(&node);
    assert_eq!(counter.value(), reached);
    counter.assert_whole();
}

/// The service has gone on with its connections since the image was taken. Brought back with it, one that its client has closed would end a
/// second time when the service crashes again, hear from the kernel that it is over already, and for minutes keep anything from being
/// brought back in its place.
fn one_that_was_closed_since(runtime: Runtime) {
    let Some((node, counter)) = patient(runtime) else { return };
    let mut open = connect(counter);
    assert_eq!(ask(&mut open, "/increment"), "1");
    node.checkpoint("counter");
    drop(open);
    for _ in 0..3 {
        let mark = node.mark();

        come_back(&node);

        node.wait_for_event(mark, "recovered", |_| true);
        let events = node.events_since(mark).into_iter();
        let failed: Vec<_> = events.filter(|event| event.kind == "rung-failed").collect();
        assert!(failed.is_empty(), "the first attempt brings it back: {failed:?}");
        assert_eq!(counter.value(), 1);
    }
}

/// A node whose probe lets a service stand still for a while, with the connections' settings as they come.
fn patient(runtime: Runtime) -> Option<(Node, Counter)> {
    let host = Host::or_skip(runtime)?;
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set("counter", "probe.health.failure_threshold", "30");
    // Crashes are not its images' fault here.
    node.set("counter", "restart.attempts_per_image", "20");
    node.start();
    Some((node, counter))
}

fn come_back(node: &Node) {
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
}

fn connect(counter: Counter) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", counter.port())).expect("the kernel accepts for it");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
    BufReader::new(stream)
}

fn ask(stream: &mut BufReader<TcpStream>, path: &str) -> String {
    write_request(stream, path);
    read_answer(stream)
}

fn write_request(stream: &mut BufReader<TcpStream>, path: &str) {
    stream.get_mut().set_write_timeout(Some(Duration::from_secs(2))).expect("a limit can be set");
    write!(stream.get_mut(), "GET {path} HTTP/1.1\r\nHost: counter\r\n\r\n").expect("it can be written to");
}

/// The body, which for numbers is one line.
fn read_answer(stream: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        assert_ne!(stream.read_line(&mut line).expect("an answer comes"), 0, "it was closed");
    }
    line.clear();
    stream.read_line(&mut line).expect("a body follows");
    line.trim_end().to_owned()
}
