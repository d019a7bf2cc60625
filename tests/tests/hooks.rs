//! Hooks at work: whoever wants to know is told, and nobody waits for them.
#![allow(missing_docs)]

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::{Host, LIMIT, Node, Runtime, wait_for, wait_until};

/// A node with a counter, whose crash is to be told.
fn node(hooks: &[(&str, Value)]) -> Option<Node> {
    let host = Host::or_skip(Runtime::Process)?;
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    hooks.iter().for_each(|(key, value)| node.set_in("hooks", key, &value.to_string()));
    Some(node)
}

fn shell(script: &str) -> Value {
    Value::from(vec!["/bin/sh", "-c", script])
}

/// Writes each event as a line.
fn writes(file: &Path) -> Value {
    shell(&format!(
        "read -r event; printf '%s %s\\n' \"$SUPERVISOR_EVENT_KIND\" \"$event\" >> {}",
        file.display()
    ))
}

fn told(file: &Path) -> Vec<(String, Value)> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let whole = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.split_once(' '));
    whole.map(|(kind, event)| (kind.to_owned(), serde_json::from_str(event).expect("JSON"))).collect()
}

fn told_of(file: &Path, kind: &str) -> Value {
    wait_for(LIMIT, &format!("the hook is told of {kind}"), || {
        told(file).into_iter().find(|(found, _)| found == kind).map(|(_, event)| event)
    })
}

fn crash(node: &Node) {
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
}

#[test]
fn a_command_is_told_of_a_crash_and_of_the_recovery() {
    let Some(mut node) = node(&[("kinds", vec!["noticed", "recovered"].into())]) else { return };
    let (all, own) = (node.folder().join("all"), node.folder().join("own"));
    node.set_in("hooks", "on_event", &writes(&all).to_string());
    node.set("counter", "hooks.on_event", &writes(&own).to_string());
    node.start();
    let image = node.checkpoint("counter");

    crash(&node);

    let (noticed, recovered) = (told_of(&all, "noticed"), told_of(&all, "recovered"));
    assert_eq!(noticed["cause"], "crashed");
    for event in [&noticed, &recovered] {
        assert_eq!((&event["node"], &event["service"]), (&node.name().into(), &"counter".into()), "{event}");
    }
    let expected = ("recovered", "crashed", "restore-latest", image.as_str());
    let found = ["kind", "cause", "rung", "image"].map(|key| recovered[key].as_str().unwrap_or_default());
    assert_eq!((found[0], found[1], found[2], found[3]), expected, "{recovered}");
    assert!(recovered["took_ms"].as_f64().is_some_and(|took| took > 0.0), "{recovered}");
    let kinds: Vec<String> = told(&all).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["noticed", "recovered"], "of nothing else");
    // The service's own hook wants everything of it, and nothing of the node.
    assert_eq!(told_of(&own, "checkpoint-taken")["image"], image.as_str());
    assert!(told(&own).iter().all(|(_, event)| event["service"] == "counter"));
}

#[test]
fn a_hook_that_hangs_delays_no_recovery_and_ends_with_the_supervisor() {
    let Some((mut node, hung)) = with_hanging_hook() else { return };
    // A second crash while the hook still hangs with the first.
    crash(&node);
    assert!(hung.iter().all(is_there), "the hook was to hang: {hung:?}");
    node.stop();
    wait_until(LIMIT, "what the hook had started is gone", || !hung.iter().any(is_there));
}

#[test]
fn a_hook_that_hangs_ends_with_a_supervisor_that_is_killed() {
    let Some((mut node, hung)) = with_hanging_hook() else { return };
    node.kill();
    wait_until(LIMIT, "what the hook had started is gone", || !hung.iter().any(is_there));
}

/// A node whose hook was told of a crash and hangs, and the hook's pids.
fn with_hanging_hook() -> Option<(Node, Vec<String>)> {
    let mut node = node(&[("kinds", vec!["noticed"].into()), ("timeout", "1h".into())])?;
    let pids = node.folder().join("pids");
    node.set_in("hooks", "on_event", &hangs(&pids).to_string());
    node.start();
    node.checkpoint("counter");
    crash(&node);
    let hung = hanging(&pids);
    Some((node, hung))
}

#[test]
fn a_hook_that_hangs_is_killed_in_time_and_that_is_said() {
    let Some(mut node) = node(&[("kinds", vec!["noticed"].into()), ("timeout", "2s".into())]) else { return };
    let pids = node.folder().join("pids");
    node.set_in("hooks", "on_event", &hangs(&pids).to_string());
    node.start();
    let mark = node.mark();

    crash(&node);

    let hung = hanging(&pids);
    let failed = node.wait_for_event(mark, "hook-failed", |_| true);
    assert!(failed.text.starts_with("on_event was not told of `noticed`"), "{}", failed.text);
    assert!(failed.text.contains("did not finish within 2s"), "{}", failed.text);
    assert!(!hung.iter().any(is_there), "{hung:?}");
}

/// Writes the pids of itself and of a child into a file, and stays.
fn hangs(pids: &Path) -> Value {
    let new = pids.with_extension("new");
    let (new, pids) = (new.display(), pids.display());
    shell(&format!("sleep 10000 & echo $$ $! > {new}; mv {new} {pids}; wait"))
}

fn hanging(pids: &PathBuf) -> Vec<String> {
    let written = wait_for(LIMIT, "the hook has begun", || fs::read_to_string(pids).ok());
    written.split_whitespace().map(str::to_owned).collect()
}

/// A process of this pid that has not ended.
fn is_there(pid: &String) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

#[test]
fn a_webhook_is_told_again_until_it_has_heard() {
    let Some(mut node) = node(&[("kinds", vec!["noticed", "recovered"].into())]) else { return };
    let (address, requests) = receiver(&["503 Busy", "200 OK", "204 No Content"]);
    node.set_in("hooks", "webhook", &format!("\"http://{address}/told?token=secret\""));
    node.set_in("hooks", "webhook_headers", "{ X-Scene = \"test\" }");
    node.start();
    node.checkpoint("counter");

    crash(&node);

    let next = || requests.recv_timeout(LIMIT).expect("a request in time");
    let (first, again, last) = (next(), next(), next());
    assert_eq!(first, again, "what was not heard is told again");
    assert_eq!((&first["kind"], &last["kind"]), (&"noticed".into(), &"recovered".into()));
    assert_eq!(last["rung"], "restore-latest", "{last}");
    assert!(last["seq"].as_u64() > first["seq"].as_u64(), "in order");
}

#[test]
fn a_hook_that_is_written_into_the_file_is_told_from_then_on() {
    let Some(mut node) = node(&[]) else { return };
    node.start();
    let (file, mark) = (node.folder().join("told"), node.mark());
    node.set_in("hooks", "on_event", &writes(&file).to_string());
    node.set_in("hooks", "kinds", "[\"config-reloaded\", \"noticed\"]");
    node.write_config();
    let reloaded = node.wait_for_event(mark, "config-reloaded", |_| true);
    assert_eq!(reloaded.text, "configuration read: 0 added, 0 changed, 0 removed; hooks changed");

    crash(&node);

    assert_eq!(told_of(&file, "noticed")["service"], "counter");
}

/// A server that answers requests with these statuses, one after the other, and hands on what was posted.
fn receiver(statuses: &'static [&'static str]) -> (String, mpsc::Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let (hand_on, posted) = mpsc::channel();
    let mut statuses: VecDeque<_> = statuses.iter().collect();
    std::thread::spawn(move || {
        while let Some(status) = statuses.pop_front() {
            let (stream, _) = listener.accept().expect("a connection");
            let body = answer(stream, status);
            hand_on.send(serde_json::from_slice(&body).expect("JSON")).expect("the test listens");
        }
    });
    (address, posted)
}

fn answer(mut stream: TcpStream, status: &str) -> Vec<u8> {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line of the head");
        if line.trim().is_empty() {
            break;
        }
        head.push(line.trim().to_lowercase());
    }
    assert_eq!(head[0], "post /told?token=secret http/1.1");
    assert!(head.contains(&"x-scene: test".to_owned()), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    reader.read_exact(&mut body).expect("the body");
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").expect("an answer");
    body
}
