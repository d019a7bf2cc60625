//! The protocol of leases, every order of its events: two nodes whose clocks differ as much as they may, a store, and a network that
//! delays and loses whatever it likes. The nodes are the real state machines of `policies::lease`.
//!
//! Checked in every state that can be reached: two nodes never act at once; nobody acts in an epoch but the one who won it;
//! nothing is restored that is older than what was acknowledged as replicated. Then the protocol is broken in one place
//! at a time, and the checker must find what goes wrong.
#![allow(clippy::unwrap_used)]

mod world;

use policies::lease::Expiry;
use stateright::{Checker, Model};

use world::{Flaw, World};

/// Explores everything; answers the names of the properties for which an example or a counterexample was found.
fn found(world: World) -> Vec<&'static str> {
    let checker = world.checker().threads(2).spawn_bfs().join();
    let mut names: Vec<_> = checker.discoveries().into_keys().collect();
    names.sort_unstable();
    println!("{} states", checker.unique_state_count());
    names
}

/// What must be found where nothing is wrong: that the interesting things happen at all.
const REACHED: [&str; 3] = ["a fence stops a service", "a service is taken over", "an image is acknowledged"];

#[test]
fn a_store_that_lets_leases_expire_keeps_every_promise() {
    assert_eq!(found(World::new(Expiry::ByStore, Flaw::None)), REACHED);
}

#[test]
fn a_store_that_only_compares_and_swaps_keeps_every_promise() {
    assert_eq!(found(World::new(Expiry::ByReader, Flaw::None)), REACHED);
}

#[test]
fn a_lease_counted_from_its_answer_lets_two_act() {
    let flaw = Flaw::CountedFromAnswer;
    assert!(found(World::new(Expiry::ByStore, flaw)).contains(&world::ONE_ACTS));
}

#[test]
fn clocks_that_differ_more_than_stated_let_two_act() {
    assert!(found(World::new(Expiry::ByStore, Flaw::DriftBeyondBound)).contains(&world::ONE_ACTS));
    assert!(found(World::new(Expiry::ByReader, Flaw::DriftBeyondBound)).contains(&world::ONE_ACTS));
}

#[test]
fn a_node_that_does_not_notice_its_sleep_lets_two_act() {
    assert!(found(World::new(Expiry::ByStore, Flaw::SleepUnnoticed)).contains(&world::ONE_ACTS));
}

#[test]
fn a_fence_that_is_not_independent_lets_two_act() {
    assert!(found(World::new(Expiry::ByStore, Flaw::FenceWaitsForNode)).contains(&world::ONE_ACTS));
}

#[test]
fn a_reader_that_does_not_watch_lets_two_act() {
    assert!(found(World::new(Expiry::ByReader, Flaw::ReaderImpatient)).contains(&world::ONE_ACTS));
}

#[test]
fn a_store_that_does_not_compare_lets_two_hold_one_epoch() {
    let broken = found(World::new(Expiry::ByStore, Flaw::AcquiredWithoutComparing));
    assert!(broken.contains(&world::ONE_HOLDER_PER_EPOCH), "{broken:?}");
}

#[test]
fn a_successor_that_ignores_what_was_acknowledged_restores_something_older() {
    let broken = found(World::new(Expiry::ByStore, Flaw::AcknowledgedUnread));
    assert!(broken.contains(&world::NOTHING_OLDER), "{broken:?}");
}
