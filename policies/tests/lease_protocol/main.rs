//! The protocol of leases, every order of its events: two nodes whose clocks differ as much as they may, a store, and a network that
//! delays and loses whatever it likes. The nodes are the real state machines of `policies::lease`.
//!
//! Checked in every state that can be reached: two nodes never act at once; nobody acts in an epoch but the one who won it;
//! nothing is restored that is older than what was acknowledged as replicated. Then the protocol is broken in one place
//! at a time, and the checker must find what goes wrong.
#![allow(clippy::unwrap_used)]

mod simulation;
mod world;

use policies::lease::Expiry;
use stateright::{Checker, HasDiscoveries, Model};

use world::{Events, Flaw, NOTHING_OLDER, ONE_ACTS, ONE_HOLDER_PER_EPOCH, World};

/// Explores everything; answers what was found: examples of what shall be possible, counterexamples of what shall not.
fn found(expiry: Expiry, events: Events) -> Vec<&'static str> {
    let checker = World::new(expiry, events, Flaw::None).checker().threads(2).spawn_bfs().join();
    let mut names: Vec<_> = checker.discoveries().into_keys().collect();
    names.sort_unstable();
    println!("{} states", checker.unique_state_count());
    names
}

/// Explores until something goes wrong; answers what.
fn broken(expiry: Expiry, events: Events, flaw: Flaw) -> Vec<&'static str> {
    let world = World::new(expiry, events, flaw);
    let checker = world.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{} states", checker.unique_state_count());
    let wrong = [ONE_ACTS, ONE_HOLDER_PER_EPOCH, NOTHING_OLDER];
    checker.discoveries().into_keys().filter(|name| wrong.contains(name)).collect()
}

/// That the interesting things happen at all.
const REACHED: [&str; 2] = ["a fence stops a service", "a service is taken over"];
const REACHED_WITH_IMAGES: [&str; 3] =
    ["a fence stops a service", "a service is taken over", "an image is acknowledged"];

#[test]
fn a_store_that_lets_leases_expire_keeps_every_promise() {
    assert_eq!(found(Expiry::ByStore, Events::Sleep), REACHED);
}

#[test]
fn a_store_that_only_compares_and_swaps_keeps_every_promise() {
    assert_eq!(found(Expiry::ByReader, Events::Sleep), REACHED);
}

#[test]
fn no_image_older_than_what_was_acknowledged_is_restored() {
    assert_eq!(found(Expiry::ByStore, Events::Images), REACHED_WITH_IMAGES);
}

#[test]
fn a_lease_counted_from_its_answer_lets_two_act() {
    assert_eq!(broken(Expiry::ByStore, Events::Sleep, Flaw::CountedFromAnswer), [ONE_ACTS]);
}

#[test]
fn clocks_that_differ_more_than_stated_let_two_act() {
    assert_eq!(broken(Expiry::ByStore, Events::Sleep, Flaw::DriftBeyondBound), [ONE_ACTS]);
    assert_eq!(broken(Expiry::ByReader, Events::Sleep, Flaw::DriftBeyondBound), [ONE_ACTS]);
}

#[test]
fn a_node_that_does_not_notice_its_sleep_lets_two_act() {
    assert_eq!(broken(Expiry::ByStore, Events::Sleep, Flaw::SleepUnnoticed), [ONE_ACTS]);
}

#[test]
fn a_fence_that_is_not_independent_lets_two_act() {
    assert_eq!(broken(Expiry::ByStore, Events::Sleep, Flaw::FenceWaitsForNode), [ONE_ACTS]);
}

#[test]
fn a_reader_that_does_not_watch_lets_two_act() {
    assert_eq!(broken(Expiry::ByReader, Events::Sleep, Flaw::ReaderImpatient), [ONE_ACTS]);
}

#[test]
fn a_store_that_does_not_count_up_lets_two_act_in_one_epoch() {
    assert_eq!(broken(Expiry::ByStore, Events::Sleep, Flaw::EpochReused), [ONE_HOLDER_PER_EPOCH]);
}

#[test]
fn a_successor_that_ignores_what_was_acknowledged_restores_something_older() {
    assert_eq!(broken(Expiry::ByStore, Events::Images, Flaw::AcknowledgedUnread), [NOTHING_OLDER]);
}
