//! `top`, and commands that take long, on a real terminal: what happens to a service is seen there, and the terminal is given back as it was.
#![allow(missing_docs)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::{Host, Node, Runtime, Terminal};

const COLOUR: &[u8] = b"\x1b[38;5;";

#[test]
fn a_fault_and_its_recovery_are_seen_and_the_terminal_is_given_back() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    node.start();
    node.checkpoint("counter");

    let mut terminal = Terminal::run(node.prepared(&["top"]));
    let screen = terminal.wait_for("counter");
    assert!(screen.contains("running") && screen.contains("live"), "{screen}");
    assert!(!screen.contains("noticed"), "{screen}");

    node.signal_service("counter", Signal::SIGKILL);

    terminal.wait_for("noticed           crashed: signal 9");
    let screen = terminal.wait_for("recovered         back by restore-latest");
    assert!(screen.contains("> counter"), "{screen}");
    // As the status says it too, a moment later.
    terminal.wait_for("restore-latest after crashed: signal 9");

    terminal.press("\r");
    terminal.wait_for("PAUSE  last");
    let mark = node.mark();
    terminal.press("c");
    terminal.wait_for("c or y: yes, else: no");
    terminal.press("n");
    terminal.wait_for("up/down images");
    assert!(node.events_since(mark).iter().all(|event| event.kind != "checkpoint-taken"));
    terminal.press("cc");
    node.wait_for_event(mark, "checkpoint-taken", |_| true);
    terminal.wait_for("2 images");

    terminal.press("q");
    assert!(terminal.ended().success());
    assert!(terminal.has_seen(COLOUR), "colours on a terminal that has them");
}

#[test]
fn a_signal_gives_the_terminal_back_and_without_colours_none_is_used() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    node.start();
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut command = node.prepared(&["top"]);
        command.env("NO_COLOR", "1");
        let mut terminal = Terminal::run(command);
        terminal.wait_for("running");
        kill(Pid::from_raw(terminal.pid()), signal).expect("our own child");
        assert!(terminal.ended().success(), "{signal}");
        assert!(!terminal.has_seen(COLOUR), "{signal}");
    }
}

/// Its stop signal says nothing to it, so that it takes a while.
#[test]
fn whoever_waits_for_an_answer_sees_that_something_goes_on() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    node.set("counter", "stop_signal", "\"WINCH\"");
    node.set("counter", "stop_timeout", "\"3s\"");
    node.start();

    let mut terminal = Terminal::run(node.prepared(&["stop", "counter"]));

    terminal.wait_for("stop counter");
    assert!(terminal.ended().success());
    let screen = terminal.wait_for("counter: ");
    assert!(!screen.contains("stop counter"), "{screen}");
}

#[test]
fn a_supervisor_that_is_restarted_is_waited_for() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    node.start();
    let mut terminal = Terminal::run(node.prepared(&["top"]));
    terminal.wait_for("live");
    node.kill();
    terminal.wait_for("away");
    node.start();
    terminal.wait_for("live");
    terminal.wait_for("reclaimed");
    terminal.press("q");
    assert!(terminal.ended().success());
}

#[test]
fn without_a_terminal_it_names_what_does_without() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let node = Node::new(host);
    node.write_config();
    let said = node.command(&["top"]);
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.stderr.contains("top needs a terminal") && said.stderr.contains("status --watch"),
        "{said:?}"
    );
}
