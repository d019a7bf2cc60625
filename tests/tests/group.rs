//! Groups: several services as one, frozen, checkpointed and restored at one instant.
#![allow(missing_docs)]

use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use system_tests::{Containers, Counter, Engine, Host, LIMIT, Node, Runtime, engines, wait_until};

engines! {
    of_containers => super::containers;
}

const GROUP: &str = "shop";

/// A front that sends numbers to a back.
struct Scene {
    node: Node,
    front: Counter,
    back: Counter,
}

impl Scene {
    fn or_skip() -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let mut node = Node::new(host);
        let ports = [(); 3].map(|()| node.take_port());
        let [front, back, between] = ports.map(|port| format!("127.0.0.1:{port}"));
        let courier = host.counter.with_file_name("courier");
        for (name, http, depends_on) in [("front", &front, "[\"back\"]"), ("back", &back, "[]")] {
            let table = format!("service.{name}");
            node.set_in(&table, "group", &quoted(GROUP));
            node.set_in(&table, "depends_on", depends_on);
            node.set_in(&table, "process.command", &command(&courier, &[name, &between, http]));
            node.set_in(&table, "probe.health.http.url", &quoted(&format!("http://{http}/state")));
            node.set_in(&table, "probe.health.start_period", "\"15s\"");
            node.set_in(&table, "probe.health.interval", "\"500ms\"");
            node.set_in(&table, "probe.health.timeout", "\"500ms\"");
        }
        configure(&mut node);
        Some(Self { node, front: Counter::at(ports[0]), back: Counter::at(ports[1]) })
    }

    fn start(&mut self) {
        self.node.start_only();
        self.node.wait_healthy(GROUP);
        self.flows();
    }

    /// Sent, connections, how often the back was ahead; received, gaps.
    fn state(&self) -> [u64; 5] {
        let numbers = |of: Counter| -> Vec<u64> {
            of.ask("/state").split(' ').map(|number| number.parse().expect("a number")).collect()
        };
        let (back, front) = (numbers(self.back), numbers(self.front));
        [front[0], front[1], front[2], back[0], back[1]]
    }

    /// Numbers arrive.
    fn flows(&self) {
        let received = self.state()[3];
        wait_until(LIMIT, "numbers arrive", || self.state()[3] > received + 20);
    }

    /// They know of each other what they can, and not more.
    fn agree(&self) {
        self.flows();
        let [sent, connections, ahead, received, gaps] = self.state();
        assert_eq!((ahead, gaps), (0, 0), "sent {sent}, received {received}, {connections} connections");
    }

    fn member(&self, name: &str) -> i32 {
        let record = self.node.record(GROUP).expect("it runs");
        record.handle.and_then(|handle| handle.member(name).map(|member| member.pid)).expect("it runs")
    }

    fn kill_member(&self, name: &str) {
        kill(Pid::from_raw(self.member(name)), Signal::SIGKILL).expect("it is ours");
    }
}

fn configure(node: &mut Node) {
    let table = format!("group.{GROUP}");
    for (key, value) in [
        ("checkpoint.interval", "\"never\""),
        ("checkpoint.trial", "false"),
        ("checkpoint.on", "[]"),
        ("restart.backoff_initial", "\"50ms\""),
        ("restart.backoff_max", "\"200ms\""),
    ] {
        node.set_in(&table, key, value);
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn command(program: &Path, arguments: &[&str]) -> String {
    let program = program.display().to_string();
    let words: Vec<_> =
        std::iter::once(program.as_str()).chain(arguments.iter().copied()).map(quoted).collect();
    format!("[{}]", words.join(", "))
}

#[test]
fn what_one_has_received_the_other_has_sent_after_every_restore() {
    let Some(mut scene) = Scene::or_skip() else { return };
    scene.start();
    let mut images = Vec::new();
    for _ in 0..8 {
        let before = scene.state();
        let image = scene.node.checkpoint(GROUP);
        scene.flows();
        images.push((before, image));
    }
    scene.agree();
    for (before, image) in images.iter().rev().chain(&images) {
        let restored = scene.node.json(&["restore", GROUP, "--image", image]);
        assert_eq!(restored["outcome"], "done", "{restored}");
        let [sent, .., received, _] = scene.state();
        assert!(sent >= before[0] && received >= before[3], "{sent}, {received}: {before:?}");
        scene.agree();
    }
}

#[test]
fn a_member_that_dies_takes_all_back_to_one_instant() {
    let Some(mut scene) = Scene::or_skip() else { return };
    scene.start();
    for victim in ["front", "back"] {
        scene.node.checkpoint(GROUP);
        let before = ["front", "back"].map(|name| scene.member(name));
        let mark = scene.node.mark();
        scene.kill_member(victim);
        let recovered = scene.node.wait_for_event(mark, "recovered", |_| true);
        assert_eq!(recovered.rung.as_deref(), Some("restore-latest"), "{recovered:?}");
        let now = ["front", "back"].map(|name| scene.member(name));
        assert!(now[0] != before[0] && now[1] != before[1], "{now:?}, {before:?}");
        scene.agree();
    }
}

#[test]
fn in_order_of_what_they_depend_on_and_one_policy() {
    let Some(mut scene) = Scene::or_skip() else { return };
    scene.start();
    let record = scene.node.record(GROUP).expect("it runs");
    let handle = record.handle.expect("it runs");
    let names: Vec<_> = handle.members.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["back", "front"], "the back is started first");
    let status = scene.node.status(GROUP);
    assert_eq!(status["runtime"], "group");
    assert_eq!(status["members"]["front"], scene.member("front"));
    let probes: Vec<_> =
        status["probes"].as_array().expect("a list").iter().map(|probe| &probe["name"]).collect();
    assert_eq!(probes, ["back/health", "front/health"]);
    let alone = scene.node.command(&["checkpoint", "front"]);
    assert_eq!(alone.code, Some(4), "{alone:?}");
}

#[test]
fn over_the_end_of_the_supervisor() {
    let Some(mut scene) = Scene::or_skip() else { return };
    scene.start();
    scene.node.checkpoint(GROUP);
    let before = ["front", "back"].map(|name| scene.member(name));

    scene.node.kill();
    scene.node.start_only();
    scene.node.wait_healthy(GROUP);
    assert_eq!(["front", "back"].map(|name| scene.member(name)), before, "taken back as they run");
    scene.agree();

    scene.node.kill();
    kill(Pid::from_raw(before[0]), Signal::SIGKILL).expect("it is ours");
    scene.node.start_only();
    wait_until(LIMIT, "both are others", || {
        let handle = scene.node.record(GROUP).and_then(|record| record.handle);
        handle.is_some_and(|handle| {
            handle.is_alive() && handle.members.iter().all(|(_, member)| !before.contains(&member.pid))
        })
    });
    scene.node.wait_healthy(GROUP);
    scene.agree();
}

#[test]
fn whatever_moment_of_a_checkpoint_we_die_at_they_run_on() {
    let Some(mut scene) = Scene::or_skip() else { return };
    scene.start();
    for point in ["checkpoint.before-freeze", "checkpoint.frozen", "checkpoint.complete", "checkpoint.dumped"]
    {
        scene.node.kill();
        scene.node.start_to_die_later_at(point);
        scene.node.wait_healthy(GROUP);
        let before = ["front", "back"].map(|name| scene.member(name));
        // It dies of it.
        let _ = scene.node.command(&["checkpoint", GROUP]);
        scene.node.wait_dead_at_fail_point();
        scene.agree();
        scene.node.start_only();
        scene.node.wait_healthy(GROUP);
        assert_eq!(["front", "back"].map(|name| scene.member(name)), before, "{point}");
        scene.agree();
    }
    scene.node.checkpoint(GROUP);
}

#[test]
fn suspended_and_resumed_their_connection_lives_on() {
    let Some(mut scene) = Scene::or_skip() else { return };
    scene.node.set_in("group.shop", "checkpoint.tcp", "\"established\"");
    scene.start();
    let connections = scene.state()[1];
    for _ in 0..2 {
        let [sent, .., received, _] = scene.state();
        let suspended = scene.node.json(&["suspend", GROUP]);
        assert_eq!(suspended["outcome"], "done", "{suspended}");
        assert!(scene.node.traces().members().is_empty(), "nothing of them runs");
        let resumed = scene.node.json(&["resume", GROUP]);
        assert_eq!(resumed["outcome"], "done", "{resumed}");
        let now = scene.state();
        assert!(now[0] >= sent && now[3] >= received, "{now:?}");
        scene.agree();
    }
    assert_eq!(scene.state()[1], connections, "they had no need to connect again");
}

#[test]
fn members_of_several_runtimes() {
    let Some(host) = Host::or_skip(Runtime::Runc) else { return };
    let mut node = Node::new(host);
    let counters = [("one", Runtime::Process), ("two", Runtime::Runc)].map(|(name, runtime)| {
        let counter = node.add_counter(name, runtime, &[]);
        join(&mut node, name);
        counter
    });
    configure(&mut node);
    node.start_only();
    node.wait_healthy(GROUP);
    goes_back_together(&node, counters);
    let stopped = node.json(&["stop", GROUP]);
    assert_eq!(stopped["outcome"], "done");
    assert!(node.traces().members().is_empty());
}

/// Each member has a socket of its own to speak to.
#[test]
fn members_that_say_themselves_when_they_are_ready() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let mut node = Node::new(host);
    let counter = node.add_counter("counter", Runtime::Process, &[]);
    let address = node.add_service("speaker");
    let speaker = Counter::at(address.port());
    node.unset("speaker", "probe.health");
    for (key, value) in [("notify", "{}"), ("role", "\"startup\""), ("start_period", "\"15s\"")] {
        node.set("speaker", &format!("probe.ready.{key}"), value);
    }
    let program = host.counter.with_file_name("speaker");
    node.set("speaker", "process.command", &command(&program, &["--listen", &address.to_string()]));
    ["counter", "speaker"].into_iter().for_each(|member| join(&mut node, member));
    configure(&mut node);
    node.start_only();
    let says = |wanted: &str| {
        wait_until(LIMIT, &format!("it says {wanted}"), || node.status(GROUP)["says"] == wanted);
    };
    wait_until(LIMIT, "it runs", || speaker.answers());
    speaker.ask("/say/STATUS=loading");
    says("speaker: loading");
    assert_eq!(node.status(GROUP)["verdict"], "starting");
    speaker.ask("/say/READY=1;STATUS=serving");
    node.wait_healthy(GROUP);
    says("speaker: serving");

    counter.count_to(3);
    speaker.ask("/put/4");
    node.checkpoint(GROUP);
    speaker.ask("/put/5");
    let mark = node.mark();
    counter.tell("/abort");
    node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!((counter.value(), speaker.ask("/get").as_str()), (3, "4"), "ready as it was in the image");
    speaker.ask("/say/STATUS=back");
    says("speaker: back");
}

fn containers(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let guards = ["one", "two"].map(|name| containers.reserve(name));
    let mut node = Node::new(containers.host());
    let counters = guards.each_ref().map(|guard| {
        let service = guard.name();
        let counter = node.add_container(service, &containers, service, Some(&[]));
        join(&mut node, service);
        counter
    });
    configure(&mut node);
    node.start_only();
    node.wait_healthy(GROUP);
    goes_back_together(&node, counters);
}

/// A counter that was added becomes a member.
fn join(node: &mut Node, service: &str) {
    for key in ["checkpoint", "restart"] {
        node.unset(service, key);
    }
    node.set(service, "group", &quoted(GROUP));
}

fn goes_back_together(node: &Node, counters: [Counter; 2]) {
    for (counter, number) in counters.iter().zip([5, 7]) {
        counter.count_to(number);
    }
    node.checkpoint(GROUP);
    for counter in counters {
        counter.count_to(20);
    }
    let mark = node.mark();
    counters[1].tell("/abort");
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(recovered.rung.as_deref(), Some("restore-latest"), "{recovered:?}");
    assert_eq!(counters.map(Counter::value), [5, 7], "both, not only the one that died");
    counters.iter().for_each(|counter| counter.assert_whole());
}
