//! A service that says how it is by sd_notify is believed, over its whole life and ours.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use system_tests::bad_days::program;
use system_tests::{Counter, Host, LIMIT, Node, Runtime, wait_until};

/// A node with a service that speaks, and these probes of it by their roles.
fn speaking(roles: &[&str], options: &[&str]) -> Option<(Node, Counter)> {
    let mut node = Node::new(Host::or_skip(Runtime::Process)?);
    let address = node.add_service("speaker");
    node.unset("speaker", "probe.health");
    for role in roles {
        let mut set = |key: &str, value: &str| node.set("speaker", &format!("probe.{role}.{key}"), value);
        set("notify", "{}");
        set("role", &serde_json::Value::from(*role).to_string());
        set("interval", "\"500ms\"");
        set("timeout", "\"500ms\"");
        set("start_period", "\"15s\"");
    }
    command(&mut node, &program("speaker"), &address.to_string(), options);
    Some((node, Counter::at(address.port())))
}

fn command(node: &mut Node, program: &std::path::Path, address: &str, options: &[&str]) {
    let program = program.display().to_string();
    let words = [&[program.as_str(), "--listen", address], options].concat();
    node.set("speaker", "process.command", &serde_json::Value::from(words).to_string());
}

fn socket(node: &Node) -> PathBuf {
    node.run_dir().join("notify/speaker.sock")
}

/// Says something, and waits until that is known: all that was said before is then, too.
fn say(node: &Node, speaker: Counter, status: &str) {
    speaker.ask(&format!("/say/STATUS={status}"));
    wait_until(LIMIT, "what it says is shown", || node.status("speaker")["says"] == status);
}

#[test]
fn ready_opens_the_gate_and_only_the_service_itself_can_say_so() {
    let Some((mut node, speaker)) = speaking(&["startup"], &[]) else { return };
    let counter = node.add_counter("counter", Runtime::Process, &[]);
    node.set("counter", "depends_on", "[\"speaker\"]");
    node.start_only();
    say(&node, speaker, "loading");
    assert_eq!(node.status("speaker")["verdict"], "starting");

    let stranger = UnixDatagram::unbound().expect("a socket");
    for _ in 0..2000 {
        stranger.send_to(b"READY=1\nSTATUS=taken", socket(&node)).expect("everybody may speak");
    }
    say(&node, speaker, "loading-still");
    let status = node.status("speaker");
    assert_eq!((&status["verdict"], &status["ready"]), (&"starting".into(), &false.into()), "{status}");
    assert!(!counter.answers(), "it waits");

    speaker.ask("/say/READY=1;STATUS=serving");
    node.wait_healthy("speaker");
    wait_until(LIMIT, "what it says is shown", || node.status("speaker")["says"] == "serving");
    node.wait_healthy("counter");
}

#[test]
fn readiness_is_taken_back_by_stopping_and_reloading() {
    let Some((mut node, speaker)) = speaking(&["readiness"], &[]) else { return };
    node.start_only();
    let is_ready = |wanted: bool| {
        wait_until(LIMIT, &format!("ready: {wanted}"), || node.status("speaker")["ready"] == wanted);
    };
    for (words, ready) in
        [("READY=1", true), ("RELOADING=1", false), ("READY=1", true), ("STOPPING=1", false)]
    {
        speaker.ask(&format!("/say/{words}"));
        is_ready(ready);
    }
    assert_eq!(node.status("speaker")["verdict"], "healthy", "it is alive all the while");
}

#[test]
fn a_watchdog_that_is_missed_is_recovered_from_the_image() {
    let Some((mut node, speaker)) = speaking(&["liveness"], &[]) else { return };
    node.start_only();
    node.wait_healthy("speaker");
    speaker.ask("/put/4");
    let image = node.checkpoint("speaker");
    speaker.ask("/put/5");
    let (former, mark) = (node.pid("speaker").expect("it runs"), node.mark());

    speaker.ask("/beat/off");

    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "hung: liveness probes fail");
    node.wait_for_another("speaker", former);
    assert_eq!(node.wait_for_event(mark, "recovered", |_| true).image, Some(image));
    assert_eq!(speaker.ask("/get"), "4");
}

/// No interval has to pass for it.
#[test]
fn a_call_for_help_is_answered_at_once() {
    let Some((mut node, speaker)) = speaking(&["liveness"], &[]) else { return };
    node.set("speaker", "probe.liveness.interval", "\"1h\"");
    node.start_only();
    node.wait_healthy("speaker");
    let (former, mark) = (node.pid("speaker").expect("it runs"), node.mark());

    speaker.ask("/say/WATCHDOG=trigger");

    node.wait_for_event(mark, "noticed", |event| event.cause.as_deref() == Some("hung"));
    node.wait_for_another("speaker", former);
}

/// Its shim hears it meanwhile; more than fits into a socket's queue would otherwise hold the service up.
#[test]
fn what_is_said_while_no_supervisor_lives_is_neither_lost_nor_in_the_way() {
    let Some((mut node, speaker)) = speaking(&["startup", "liveness"], &["--connected"]) else { return };
    node.start_only();
    say(&node, speaker, "loading");
    let pid = node.pid("speaker").expect("it runs");
    node.kill();

    assert_eq!(speaker.ask("/flood/3000"), "3000");
    speaker.ask("/say/READY=1;STATUS=alone");

    let mark = node.mark();
    node.start_only();
    node.wait_for_event(mark, "adopted", |_| true);
    node.wait_healthy("speaker");
    assert_eq!((node.pid("speaker"), node.status("speaker")["says"].as_str()), (Some(pid), Some("alone")));
    let mark = node.mark();
    speaker.ask("/beat/off");
    node.wait_for_event(mark, "noticed", |event| event.cause.as_deref() == Some("hung"));
}

#[test]
fn one_that_had_said_ready_is_ready_when_it_is_restored() {
    restored(&[]);
}

/// The connection is made again by CRIU, to the socket that is there then.
#[test]
fn one_that_holds_a_connection_is_checkpointed_and_restored_with_it() {
    restored(&["--connected"]);
}

fn restored(options: &[&str]) {
    let Some((mut node, speaker)) = speaking(&["startup", "readiness", "liveness"], options) else { return };
    node.start_only();
    speaker.ask("/say/READY=1");
    node.wait_healthy("speaker");
    speaker.ask("/put/7");
    let image = node.checkpoint("speaker");
    // Over our own death and a further restore, too.
    for round in 0..2 {
        speaker.ask("/put/8");
        let mark = node.mark();
        let former = node.signal_service("speaker", Signal::SIGKILL);
        node.wait_for_another("speaker", former);
        assert_eq!(node.wait_for_event(mark, "recovered", |_| true).image.as_ref(), Some(&image));
        assert_eq!(speaker.ask("/get"), "7");
        wait_until(LIMIT, "it is ready", || node.status("speaker")["ready"] == true);
        say(&node, speaker, &format!("round-{round}"));
        node.kill();
        node.start_only();
        node.wait_healthy("speaker");
    }
    node.checkpoint("speaker");
}

#[test]
fn one_that_is_suspended_before_it_is_ready_is_not_ready_afterwards() {
    let Some((mut node, speaker)) = speaking(&["startup"], &[]) else { return };
    node.set("speaker", "checkpoint.require_healthy", "false");
    node.start_only();
    say(&node, speaker, "loading");
    assert_eq!(node.json(&["suspend", "speaker"])["outcome"], "done");
    let resumed = std::thread::scope(|scope| {
        let resuming = scope.spawn(|| node.json(&["resume", "speaker"]));
        say(&node, speaker, "loading-again");
        assert_ne!(node.status("speaker")["verdict"], "healthy");
        speaker.ask("/say/READY=1");
        resuming.join().expect("it is answered")
    });
    assert_eq!(resumed["outcome"], "done", "{resumed}");
    node.wait_healthy("speaker");
}

/// Our own folders are closed to other users; the way to the socket is not.
#[test]
fn a_service_of_another_user_is_heard_and_others_cannot_speak() {
    let Some((mut node, speaker)) = speaking(&["startup"], &[]) else { return };
    fs::set_permissions(node.folder(), fs::Permissions::from_mode(0o711)).expect("ours");
    let own = node.folder().join("speaker");
    fs::copy(program("speaker"), &own).expect("a program");
    command(&mut node, &own, &speaker.address().to_string(), &[]);
    node.set("speaker", "process.user", "\"65534:65534\"");
    node.start_only();
    speaker.ask("/say/READY=1");
    node.wait_healthy("speaker");
    let mode = |path: PathBuf| fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(socket(&node)), 0o600);
    assert_eq!((mode(node.run_dir()), mode(node.run_dir().join("services"))), (0o711, 0o700));
}
