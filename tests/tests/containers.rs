//! Services that are containers of docker or podman: they come back as the engine's own, with memory and files of one instant,
//! and neither our end nor a stranger's start takes them out of our hands.
#![allow(missing_docs)]

use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use system_tests::{Container, Containers, Counter, Daemon, Engine, LIMIT, Node, PORT, engines, wait_until};

engines! {
    comes_back_as_the_engines_own => super::comes_back;
    told_right => super::told_right;
    hangs => super::hangs;
    taken_over_and_kept => super::taken_over;
    killed_while_we_are_away => super::killed_while_away;
    dies_at_fail_points => super::fail_points;
    missing => super::missing;
    with_clients => super::with_clients;
    paused_by_hand => super::paused;
    out_of_memory => super::out_of_memory;
    memory_and_files_agree => super::one_instant;
}

/// A node with a container that it creates.
fn created<'a>(containers: &'a Containers, options: &[&str]) -> (Container<'a>, Node, Counter) {
    let container = containers.reserve("service");
    let mut node = Node::new(containers.host());
    let counter = node.add_container("counter", containers, container.name(), Some(options));
    (container, node, counter)
}

fn comes_back(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (container, mut node, counter) = created(&containers, &["--volume", "/data"]);
    node.start();
    let before = containers.inspect(container.name());
    counter.count_to(7);
    node.checkpoint("counter");
    let after = containers.inspect(container.name());
    let facts = ["Pid", "StartedAt", "Status", "Paused"];
    assert_eq!(facts.map(|f| &before["State"][f]), facts.map(|f| &after["State"][f]), "it noticed nothing");
    counter.count_to(9);

    let mark = node.mark();
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);

    assert_eq!(counter.value(), 7, "the number of the image, at the published port");
    counter.assert_whole();
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert!(recovered.text.starts_with("back by restore-latest"), "{}", recovered.text);
    let restored = containers.inspect(container.name());
    assert_eq!(restored["Id"], before["Id"], "the same container");
    assert_eq!(container.state(), "running");
    assert_eq!(restored["State"]["Pid"].as_i64(), node.pid("counter").map(i64::from));
    assert_eq!(container.counter().value(), 7, "at its address too");
    let exec = containers.cli(&["exec", container.name(), "/bin/counter", "--nonsense"]);
    assert!(String::from_utf8_lossy(&exec.stderr).contains("--nonsense"), "it ran: {exec:?}");
    containers.done(&["logs", container.name()]);
    nothing_left(&containers, &container);
    assert_eq!(counter.ask("/increment"), "8", "it goes on");
}

/// No link of ours stays in the engine's folders.
fn nothing_left(containers: &Containers, container: &Container<'_>) {
    let facts = containers.inspect(container.name());
    let left = match containers.engine() {
        Engine::Docker => {
            let hostname = facts["HostnamePath"].as_str().expect("docker keeps one");
            std::path::Path::new(hostname).parent().expect("a folder").join("checkpoints/supervisor")
        }
        Engine::Podman => {
            std::path::Path::new(facts["StaticDir"].as_str().expect("podman keeps one")).join("checkpoint")
        }
    };
    assert!(std::fs::symlink_metadata(&left).is_err(), "{} is left behind", left.display());
}

fn told_right(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (_container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(2);
    node.checkpoint("counter");
    let mark = node.mark();
    let former = node.pid("counter").expect("it runs");
    counter.tell("/exit?code=3");
    node.wait_for_another("counter", former);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "crashed: exit code 3");
    assert_eq!(counter.value(), 2);
}

fn out_of_memory(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (_container, mut node, counter) = created(&containers, &["--memory", "64m"]);
    node.start();
    counter.count_to(6);
    node.checkpoint("counter");
    let mark = node.mark();
    let former = node.pid("counter").expect("it runs");
    counter.tell("/leak");
    node.wait_for_another("counter", former);
    assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "crashed: killed for want of memory");
    assert_eq!(counter.value(), 6);
}

/// Memory, writable layer, a named volume and a bind mount, written hundreds of times a second: whichever image it comes back from.
fn one_instant(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let container = containers.reserve("sequence");
    let mut node = Node::new(containers.host());
    let bound = node.folder().join("bound");
    std::fs::create_dir(&bound).expect("a folder");
    let (volume, bind) =
        (format!("{}-volume:/volume", container.name()), format!("{}:/bound", bound.display()));
    let options = ["--entrypoint", "/bin/sequence", "--volume", &volume, "--volume", &bind];
    let sequence = node.add_container("sequence", &containers, container.name(), Some(&options));
    let command = r#"["--listen", "0.0.0.0:8080", "/data", "/volume", "/bound"]"#;
    node.set("sequence", &format!("{}.command", containers.kind()), command);
    node.set("sequence", "checkpoint.volumes", r#"["/bound"]"#);
    node.start();
    let number = || {
        let text = sequence.ask("/");
        let number = text.split_whitespace().find_map(|pair| pair.strip_prefix("number="));
        number.and_then(|number| number.parse::<u64>().ok()).expect("it says its number")
    };
    let goes_on = || {
        let now = number();
        wait_until(LIMIT, "sequence goes on", || number() > now + 20);
    };
    let mut images = Vec::new();
    for _ in 0..4 {
        goes_on();
        images.push((node.checkpoint("sequence"), number()));
    }

    let former = node.signal_service("sequence", Signal::SIGKILL);
    node.wait_for_another("sequence", former);
    goes_on();
    assert_eq!(sequence.get("/check").expect("it answers"), (200, sequence.ask("/check")));
    for (image, _) in images.iter().rev().chain(&images) {
        let asked = node.command(&["restore", "sequence", "--image", image]);
        assert_eq!(asked.code, Some(0), "{image}: {asked:?}");
        node.wait_healthy("sequence");
        goes_on();
        let (status, body) = sequence.get("/check").expect("it answers");
        assert_eq!(status, 200, "{image}: {body}");
        assert!(sequence.ask("/").contains("started=0 torn=0"), "{}", sequence.ask("/"));
    }
    assert!(images.first().map(|image| image.1) < images.last().map(|image| image.1));
    drop(container);
    containers.done(&["volume", "rm", volume.trim_end_matches(":/volume")]);
}

fn hangs(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (_container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(4);
    node.checkpoint("counter");
    let mark = node.mark();
    let former = node.signal_service("counter", Signal::SIGSTOP);
    node.wait_for_another("counter", former);
    assert!(node.wait_for_event(mark, "noticed", |_| true).text.contains("hung"));
    assert_eq!(counter.value(), 4);
}

fn taken_over(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let container = containers.reserve("stranger");
    let mut node = Node::new(containers.host());
    let counter = node.add_container("counter", &containers, container.name(), None);
    let publish = format!("{}:8080", counter.address());
    let listen = ["--listen", "0.0.0.0:8080"];
    let options = ["create", "--name", container.name(), "--restart", "always", "--publish", &publish];
    containers.done(&[&options[..], &[system_tests::IMAGE], &listen].concat());
    container.start();
    counter.count_to(3);
    let pid = container.pid();

    node.start();
    assert_eq!((node.pid("counter"), counter.value()), (pid, 3), "taken over as it runs");
    node.stop();
    node.start();
    assert_eq!((node.pid("counter"), counter.value()), (pid, 3), "and after a stop of ours");
    node.kill();
    node.start();
    assert_eq!((node.pid("counter"), counter.value()), (pid, 3), "and after a death of ours");
    node.checkpoint("counter");
}

fn killed_while_away(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(5);
    node.checkpoint("counter");
    node.kill();
    container.kill();
    node.start();
    assert_eq!(counter.value(), 5, "brought back by the next supervisor");
}

/// We die in the middle; the next of us brings the service back or finds it running, never frozen.
fn fail_points(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(5);
    node.checkpoint("counter");
    for point in ["checkpoint.frozen", "checkpoint.dumped", "image.sealed"] {
        node.stop();
        node.start_to_die_at(point);
        wait_until(LIMIT, "the supervisor answers or is dead", || {
            let asked = node.command(&["checkpoint", "counter", "--wait", "5s"]);
            node.exited().is_some() || asked.code == Some(0)
        });
        node.wait_dead_at_fail_point();
        wait_until(LIMIT, "it answers without us", || counter.answers());
        node.start();
    }
    for point in ["restore.prepared", "restore.restored", "restore.intended"] {
        node.stop();
        node.start_to_die_at(point);
        wait_until(LIMIT, "it is killed, and we with it", || {
            if node.exited().is_some() {
                return true;
            }
            if node.command(&["status"]).code == Some(0) && container.pid().is_some() {
                let _ = containers.cli(&["kill", container.name()]);
            }
            false
        });
        node.wait_dead_at_fail_point();
        node.start();
        assert_eq!(counter.value(), 5, "after {point}");
    }
    nothing_left_after_a_restore(&containers, &container, &mut node);
}

fn nothing_left_after_a_restore(containers: &Containers, container: &Container<'_>, node: &mut Node) {
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
    nothing_left(containers, container);
}

fn missing(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let mut node = Node::new(containers.host());
    node.add_container("counter", &containers, "nobody-has-made-this", None);
    node.set("counter", "restart.max_attempts", "1");
    node.start_only();
    wait_until(LIMIT, "it has failed", || node.state("counter") == "failed");
    let told: Vec<String> = node.events().into_iter().map(|event| event.text).collect();
    let said = |words: &str| told.iter().any(|text| text.contains(words));
    assert!(said("container nobody-has-made-this") && said("set `image`"), "{told:?}");
}

/// Connections that are open at the checkpoint are in nobody's way.
fn with_clients(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(6);
    let address = std::net::SocketAddr::new(container.address(), system_tests::PORT);
    let client = containers.network().connect(address, LIMIT).expect("it listens");
    node.checkpoint("counter");
    drop(client);
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
    assert_eq!(counter.value(), 6);
    assert_eq!(container.counter().ask("/increment"), "7");
}

fn paused(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    node.set("counter", "probe.health.failure_threshold", "100");
    node.start();
    containers.done(&["pause", container.name()]);
    let refused = node.command(&["checkpoint", "counter"]);
    assert_ne!(refused.code, Some(0));
    assert!(refused.stderr.contains("paused"), "{refused:?}");
    assert_eq!(container.state(), "paused", "what somebody has paused stays paused");
    containers.done(&["unpause", container.name()]);
    counter.count_to(1);
}

/// podman takes 70 ms for each word with it: a recovery asks for the restore, and what else it needs it sees by itself.
#[test]
fn podman_is_asked_once_in_a_recovery() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    let (script, list) = (node.folder().join("podman"), node.folder().join("asked"));
    let (program, place) = (script.display(), containers.place().display());
    std::fs::write(
        &script,
        format!("#!/bin/sh\necho \"$@\" >>'{}'\nexec '{place}' \"$@\"\n", list.display()),
    )
    .and_then(|()| std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)))
    .expect("a script");
    node.set("counter", "podman.program", &format!("\"{program}\""));
    node.start();
    let id = containers.inspect(container.name())["Id"].as_str().expect("it has one").to_owned();
    let recover = |node: &mut Node, number| {
        counter.count_to(number);
        node.checkpoint("counter");
        let asked =
            || std::fs::read_to_string(&list).expect("it was asked").lines().map(str::to_owned).collect();
        let before: Vec<String> = asked();
        let mark = node.mark();
        let former = node.signal_service("counter", Signal::SIGKILL);
        node.wait_for_another("counter", former);
        assert_eq!(node.wait_for_event(mark, "noticed", |_| true).text, "crashed: signal 9");
        assert_eq!(counter.value(), number);
        let asked: Vec<String> = asked();
        let [restore] = &asked[before.len()..] else {
            panic!("more than once: {:?}", &asked[before.len()..])
        };
        assert!(restore.starts_with("container restore ") && restore.ends_with(&id), "{restore}");
    };
    recover(&mut node, 3);
    recover(&mut node, 5);
    // What was taken back without a word with podman is known from the next checkpoint on.
    node.kill();
    node.start();
    recover(&mut node, 7);
}

#[test]
fn docker_goes_away_and_comes_back() {
    let Some(shared) = Containers::or_skip(Engine::Docker) else { return };
    let mut daemon = Daemon::start(&shared);
    let containers = daemon.containers();
    let (container, mut node, counter) = created(&containers, &["--network", "host"]);
    let listen = format!("[\"--listen\", \"{}\"]", counter.address());
    node.set("counter", "docker.command", &listen);
    node.start();
    counter.count_to(3);
    let mark = node.mark();

    daemon.end();
    node.checkpoint("counter");
    counter.count_to(5);
    node.checkpoint("counter");
    assert!(node.events_since(mark).iter().all(|event| event.kind != "noticed"), "it never stopped");
    daemon.begin();
    node.checkpoint("counter");

    daemon.end();
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_event(mark, "noticed", |_| true);
    daemon.begin();
    node.wait_for_another("counter", former);
    assert_eq!(counter.value(), 5, "its state is back");
    assert_eq!(container.state(), "running");
}

/// What was seen of a container says nothing of another one that has taken its name since.
#[test]
fn another_container_of_that_name_is_not_taken_for_the_one_that_ended() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(3);
    node.checkpoint("counter");
    let former = (node.pid("counter").expect("it runs"), containers.inspect(container.name()));

    node.signal_supervisor(Signal::SIGSTOP);
    make_another(&containers, &container, &counter);
    node.signal_supervisor(Signal::SIGCONT);
    node.wait_for_another("counter", former.0);

    assert_eq!(counter.value(), 3, "the state, in the new one");
    let now = containers.inspect(container.name());
    assert_ne!(now["Id"], former.1["Id"]);
    assert_eq!(now["State"]["Pid"].as_i64(), node.pid("counter").map(i64::from));
}

/// We die while podman holds a container ready that has never run: the next of us restores into it, and nothing of that is left.
#[test]
fn dies_while_a_new_container_is_made_ready() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let (container, mut node, counter) = created(&containers, &[]);
    node.start();
    counter.count_to(3);
    node.checkpoint("counter");
    node.kill();
    make_another(&containers, &container, &counter);

    node.start_to_die_at("restore.described");
    node.wait_dead_at_fail_point();
    node.start();
    assert_eq!(counter.value(), 3, "the state, in the new one");
    nothing_left_after_a_restore(&containers, &container, &mut node);
}

/// Another container in the place of this one; it has never run.
fn make_another(containers: &Containers, container: &Container<'_>, counter: &Counter) {
    containers.done(&["rm", "--force", "--time", "0", container.name()]);
    let publish = format!("{}:{PORT}", counter.address());
    let create = ["create", "--name", container.name(), "--publish", &publish, system_tests::IMAGE];
    containers.done(&[&create[..], &["--listen", &format!("0.0.0.0:{PORT}")]].concat());
}
