//! The supervisor ends and takes its services with it, since it was told to or since it is process 1 of a container; the next one
//! brings them back with their state.
#![allow(missing_docs)]

use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::{
    Containers, Counter, Engine, Host, IMAGE, LIMIT, Mark, Node, Runtime, both, children, wait_until,
};

both! {
    stopped => super::stopped;
    suspended => super::suspended;
    suspended_by_hand => super::suspended_by_hand;
}

fn node(runtime: Runtime, on_stop: &str) -> Option<(Node, Counter)> {
    let host = Host::or_skip(runtime)?;
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.set_in("node", "on_stop", on_stop);
    node.set("counter", "checkpoint.on", "[\"shutdown\"]");
    Some((node, counter))
}

/// Nothing of it is left, and the next supervisor brings it back with this number.
fn comes_back(node: &mut Node, counter: Counter, number: u64) -> Mark {
    wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
    assert!(!counter.answers());
    let mark = node.mark();
    node.start();
    assert_eq!(counter.value(), number);
    counter.assert_whole();
    let back = node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(
        (back.cause.as_deref(), back.rung.as_deref()),
        (Some("from-image"), Some("restore-latest")),
        "{}",
        back.text
    );
    mark
}

fn stopped(runtime: Runtime) {
    let Some((mut node, counter)) = node(runtime, "\"stop\"") else { return };
    node.start();
    counter.count_to(5);
    node.stop();
    comes_back(&mut node, counter, 5);
    assert_eq!(counter.ask("/increment"), "6", "it goes on");
    // A stop that is asked for is another one, and lasts.
    assert_eq!(node.command(&["stop", "counter"]).code, Some(0));
    node.stop();
    node.start_only();
    assert_eq!(node.state("counter"), "stopped");
}

fn suspended(runtime: Runtime) {
    let Some((mut node, counter)) = node(runtime, "\"suspend\"") else { return };
    node.start();
    counter.count_to(7);
    let mark = node.mark();
    node.stop();
    let image = node.wait_for_event(mark, "suspended", |_| true).image;
    let mark = comes_back(&mut node, counter, 7);
    assert_eq!(node.wait_for_event(mark, "recovered", |_| true).image, image, "the image of its last moment");
}

/// Whoever suspended it wants it to stay so.
fn suspended_by_hand(runtime: Runtime) {
    let Some((mut node, counter)) = node(runtime, "\"suspend\"") else { return };
    node.start();
    counter.count_to(3);
    assert_eq!(node.command(&["suspend", "counter"]).code, Some(0));
    node.stop();
    node.start_only();
    assert_eq!(node.state("counter"), "suspended");
    assert_eq!(node.command(&["resume", "counter"]).code, Some(0));
    assert_eq!(counter.value(), 3);
}

/// The supervisor is killed in the middle of ending its services.
fn dies_in_the_middle(on_stop: &str, fail_point: &str) -> Option<(Node, Counter, Mark)> {
    let (mut node, counter) = node(Runtime::Process, on_stop)?;
    node.start_to_die_later_at(fail_point);
    node.wait_healthy("counter");
    counter.count_to(6);
    node.signal_supervisor(Signal::SIGTERM);
    node.wait_dead_at_fail_point();
    let mark = node.mark();
    Some((node, counter, mark))
}

#[test]
fn what_still_runs_is_taken_back() {
    for (on_stop, fail_point) in [("\"stop\"", "end.intended"), ("\"suspend\"", "suspend.kept")] {
        let Some((mut node, counter, mark)) = dies_in_the_middle(on_stop, fail_point) else { return };
        assert_eq!(counter.value(), 6, "{fail_point}: it runs, and nothing holds it");
        node.start();
        node.wait_for_event(mark, "adopted", |_| true);
        assert_eq!(counter.ask("/increment"), "7", "{fail_point}");
    }
}

#[test]
fn what_has_ended_is_brought_back() {
    for (on_stop, fail_point) in [("\"stop\"", "end.ended"), ("\"suspend\"", "suspend.ended")] {
        let Some((mut node, counter, _)) = dies_in_the_middle(on_stop, fail_point) else { return };
        comes_back(&mut node, counter, 6);
    }
}

#[test]
fn process_1_reaps_orphans_and_takes_its_services_with_it() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.set("counter", "checkpoint.on", "[\"shutdown\"]");
    // It escapes its probe, which kills its process group, and ends when nobody of ours waits for it.
    let pids = node.folder().join("orphans");
    let script = format!("setsid sh -c 'echo $$ >> {}' &", pids.display());
    node.set("counter", "probe.orphan.exec.command", &format!("[\"sh\", \"-c\", {script:?}]"));
    node.set("counter", "probe.orphan.interval", "\"100ms\"");
    node.set("counter", "probe.orphan.timeout", "\"100ms\"");
    node.set("counter", "probe.orphan.role", "\"readiness\"");
    node.contain();
    node.start();
    let init = node.supervisor_pid();
    let orphans = || -> Vec<String> {
        let text = fs::read_to_string(&pids).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    };
    wait_until(LIMIT, "some orphans", || orphans().len() >= 3);
    let first = orphans().remove(0);
    wait_until(LIMIT, "the first orphan is reaped", || {
        !Path::new(&format!("/proc/{init}/root/proc/{first}")).exists()
    });

    counter.count_to(5);
    node.stop();
    comes_back(&mut node, counter, 5);
    counter.count_to(8);
    // As a container is killed that does not end in time: the newest image is what is left.
    node.kill();
    wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
    node.start();
    assert_eq!(counter.value(), 5);
}

#[test]
fn process_1_starts_a_supervisor_again_that_was_killed_and_services_do_not_notice() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.contain();
    node.start();
    counter.count_to(3);
    let supervisor = |node: &Node| {
        let is_it = |pid: &i32| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            name.trim() == "supervisor"
        };
        children(node.supervisor_pid()).into_iter().find(is_it)
    };
    let (former, mark) = (supervisor(&node).expect("it runs"), node.mark());

    kill(Pid::from_raw(former), Signal::SIGKILL).expect("a process of our own namespace");

    node.wait_for_event(mark, "adopted", |_| true);
    node.wait_healthy("counter");
    assert_ne!(supervisor(&node), Some(former));
    assert_eq!(counter.value(), 3, "it was not touched");
    node.stop();
}

/// A container that is made anew has its volume, and nothing else.
#[test]
fn where_nothing_is_known_a_service_starts_from_scratch_or_from_its_newest_image() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.contain();
    node.start();
    counter.count_to(4);
    let image = node.checkpoint("counter");
    for (from, number) in [("\"scratch\"", 0), ("\"image\"", 4)] {
        node.kill();
        wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
        fs::remove_dir_all(node.state_dir().join("services")).expect("it is there");
        node.set("counter", "start_from", from);
        let mark = node.mark();
        node.start();
        assert_eq!(counter.value(), number, "{from}");
        let restored = node.events_since(mark).into_iter().find(|event| event.kind == "recovered");
        assert_eq!(restored.and_then(|event| event.image), (number > 0).then(|| image.clone()), "{from}");
    }
}

/// The first container: there is no image yet.
#[test]
fn without_an_image_it_starts_from_scratch() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.set("counter", "start_from", "\"image\"");
    let mark = node.mark();
    node.start();
    assert_eq!(counter.value(), 0);
    node.wait_for_event(mark, "started", |_| true);
}

/// podman runs it in a privileged container that has the host's programs, the test's network, and the node's folder as its volume.
fn run_in(containers: &Containers, node: &Node, name: &str) {
    let host = node.host();
    let mut arguments = vec!["run", "--detach", "--name", name, "--privileged", "--ulimit", "host"];
    // Profiles of engines forbid `vmsplice(2)`, by which CRIU takes memory.
    arguments.extend(["--security-opt", "seccomp=unconfined"]);
    arguments.extend(["--network", "host"]);
    let folder_of = |program: &Path| program.parent().expect("programs lie in folders").display().to_string();
    let (programs, criu) = (folder_of(&host.supervisor), folder_of(&host.criu));
    let folder = node.folder().display().to_string();
    let mut volumes: Vec<_> =
        ["/usr", "/lib", "/lib64", &programs, &criu].map(|folder| format!("{folder}:{folder}:ro")).into();
    volumes.push(format!("{folder}:{folder}"));
    arguments.extend(volumes.iter().flat_map(|volume| ["--volume", volume]));
    let (criu, supervisor) =
        (format!("SUPERVISOR_CRIU={}", host.criu.display()), host.supervisor.display().to_string());
    let config = node.config_file().display().to_string();
    arguments.extend(["--env", &criu, "--entrypoint", &supervisor, IMAGE, "--config", &config]);
    containers.done(&arguments);
    wait_until(LIMIT, "it is up", || node.command(&["status"]).code == Some(0));
    node.wait_healthy("counter");
}

#[test]
fn in_a_container_that_is_made_anew_it_goes_on() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let mut node = Node::new(containers.host());
    let port = node.add_counter("counter", Runtime::Process, &[]).port();
    node.move_to(containers.network());
    let counter = Counter::inside(containers.network(), ([127, 0, 0, 1], port).into());
    node.set_in("node", "on_stop", "\"suspend\"");
    node.write_config();
    let inside = containers.reserve("inside");

    run_in(&containers, &node, inside.name());
    counter.count_to(5);
    containers.done(&["stop", "--time", "30", inside.name()]);
    assert!(!counter.answers());
    containers.remove(inside.name());
    run_in(&containers, &node, inside.name());
    assert_eq!(counter.value(), 5, "suspended by the one, brought back by the other");
    counter.count_to(7);
    node.checkpoint("counter");
    counter.count_to(9);
    // No time for anything.
    containers.done(&["kill", "--signal", "KILL", inside.name()]);
    containers.remove(inside.name());
    run_in(&containers, &node, inside.name());
    assert_eq!(counter.value(), 7, "its newest image");
    counter.assert_whole();
}
