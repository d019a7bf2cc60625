//! Docker and podman as the other tests find them: containers run and answer in a network of their own, and the engines'
//! own checkpoints work with our CRIU.
#![allow(missing_docs)]

use std::fs;

use system_tests::{Container, Containers, Engine, Node, engines};

const LISTEN: [&str; 2] = ["--listen", "0.0.0.0:8080"];

engines! {
    a_container_answers_on_its_address => super::answers;
    the_engines_own_checkpoint_is_restored => super::checkpoint;
    a_container_is_gone_when_dropped => super::dropped;
    a_node_is_put_into_the_network => super::node;
}

fn answers(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let container = started(&containers);
    container.counter().count_to(3);
    assert_eq!(container.counter().value(), 3);

    // From our own network there is no way: the host's has no such bridge.
    let ours = fs::read_link("/proc/self/ns/net").expect("a process has a network");
    let theirs = fs::read_link(containers.network().path()).expect("the engines' network is there");
    assert_ne!(ours, theirs);
}

fn checkpoint(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let container = started(&containers);
    container.counter().count_to(3);
    container.checkpoint();
    let former = container.pid().expect("it runs on");
    container.counter().count_to(5);

    container.kill();
    assert_eq!(container.pid(), None);
    container.restore();
    assert_eq!(container.counter().value(), 3, "the number of the checkpoint");
    assert_ne!(container.pid(), Some(former));
}

fn dropped(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let container = started(&containers);
    let name = container.name().to_owned();
    drop(container);
    let output = containers.cli(&["container", "inspect", &name]);
    assert!(!output.status.success(), "it is still there: {output:?}");
}

fn node(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let mut node = Node::new(containers.host());
    node.move_to(containers.network());
    node.start_only();
    let its = fs::read_link(format!("/proc/{}/ns/net", node.supervisor_pid())).expect("it runs");
    assert_eq!(its, fs::read_link(containers.network().path()).expect("the engines' network is there"));
    node.stop();
}

fn started(containers: &Containers) -> Container<'_> {
    let container = containers.create("setup", &[], &LISTEN);
    container.start();
    container
}
