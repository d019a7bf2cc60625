//! Containers of docker, podman and runc that another host takes over: as containers of its own engine, with their state.
#![allow(missing_docs)]

use system_tests::pair::{Leases, Pair, lose, runs};
use system_tests::{Containers, Engine, Host, LIMIT, Node, Runtime, engines, wait_until};

engines! {
    is_taken_over => super::engine;
}

fn leases() -> Leases {
    Leases::Bucket(tempfile::tempdir().expect("a folder"))
}

/// Both nodes speak to one engine, so the containers have different names, and never both run.
fn engine(engine: Engine) {
    let Some(containers) = Containers::or_skip(engine) else { return };
    let (here, there) = (containers.reserve("here"), containers.reserve("there"));
    let mut one = Node::new(containers.host());
    let counter = one.add_container("counter", &containers, here.name(), Some(&[]));
    let mut other = Node::new(containers.host());
    other.share_container("counter", &one, &containers, there.name());
    let mut pair = Pair::of(leases(), (one, other), counter, &mut |_| {});
    follow(&mut pair);
    assert_eq!(
        (there.state().as_str(), there.counter().value()),
        ("running", 9),
        "as a container of its own"
    );
}

#[test]
fn runc_is_taken_over() {
    let Some(host) = Host::or_skip(Runtime::Runc) else { return };
    let (one, counter) = Node::with_counter(host, Runtime::Runc, &[]);
    let mut other = Node::new(host);
    other.share_bundle("counter", &one);
    let mut pair = Pair::of(leases(), (one, other), counter, &mut |_| {});
    follow(&mut pair);
}

/// A loss, and then a move back to where it was.
fn follow(pair: &mut Pair) {
    let image = pair.replicate(7);
    let mark = pair.other.mark();
    lose(&mut pair.one);
    let back = pair.other.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()), "{}", back.text);
    assert_eq!(pair.counter.value(), 7);
    pair.counter.count_to(9);
    pair.counter.assert_whole();
    assert!(!runs(&pair.one));
    pair.one.start_only();
    wait_until(LIMIT, "the first stands by", || {
        pair.one.status("counter")["lease"]["holder"] == pair.other.name()
    });
}
