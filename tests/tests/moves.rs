//! A service that goes to another host: because somebody wants it so, or because nothing helped where it was.
#![allow(missing_docs)]

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::pair::{Leases, Pair, lose, runs, seen, wait_ready};
use system_tests::{Etcd, LIMIT, Node, wait_for, wait_until};

fn bucket() -> Leases {
    Leases::Bucket(tempfile::tempdir().expect("a folder"))
}

fn holder(node: &Node) -> Value {
    node.status("counter")["lease"]["holder"].clone()
}

#[test]
fn moved_by_hand_it_goes_on_where_it_was_sent() {
    let Some(pair) = Pair::running() else { return };
    pair.replicate(4);
    pair.counter.count_to(11);

    let nowhere = pair.one.command(&["migrate", "counter", "nowhere"]);
    assert_eq!(nowhere.code, Some(4), "{nowhere:?}");
    assert!(nowhere.stderr.contains("no node nowhere is there"), "{nowhere:?}");
    let not_held = pair.other.command(&["migrate", "counter", pair.one.name()]);
    assert_eq!(not_held.code, Some(4), "{not_held:?}");
    assert!(not_held.stderr.contains("not held by this node"), "{not_held:?}");

    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert!(runs(&pair.other) && !runs(&pair.one));
    assert_eq!(pair.counter.value(), 11);
    pair.counter.assert_whole();

    // And back.
    pair.counter.count_to(12);
    let image = pair.other.checkpoint("counter");
    wait_ready(&pair.other, &pair.one, &image);
    pair.counter.count_to(12);
    let moved = pair.other.command(&["migrate", "counter", pair.one.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert_eq!(pair.counter.value(), 12);
    assert_eq!(pair.one.status("counter")["lease"]["epoch"], 3);
}

#[test]
fn whom_it_was_sent_to_stands_still_and_it_is_brought_back_where_it_was() {
    let Some(pair) = Pair::running() else { return };
    pair.replicate(6);
    pair.counter.count_to(7);
    let mark = pair.one.mark();
    let moved = std::thread::scope(|scope| {
        let moving = scope.spawn(|| pair.one.command(&["migrate", "counter", pair.other.name()]));
        pair.one.wait_for_event(mark, "handing-over", |_| true);
        pair.other.signal_supervisor(Signal::SIGSTOP);
        moving.join().expect("no panic")
    });
    assert_eq!(moved.code, Some(1), "{moved:?}");
    assert!(moved.stderr.contains("did not take the service"), "{moved:?}");
    pair.one.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(pair.counter.value(), 7, "the image of the last moment");
    pair.other.signal_supervisor(Signal::SIGCONT);
    wait_until(LIMIT, "the other stands by", || holder(&pair.other) == pair.one.name());
    assert!(runs(&pair.one) && !runs(&pair.other));
}

#[test]
fn a_drained_node_has_nothing_and_takes_nothing() {
    let Some(mut pair) = Pair::with(bucket(), |_| {}) else { return };
    pair.replicate(3);
    pair.counter.count_to(8);

    let drained = pair.one.command(&["drain"]);
    assert_eq!(drained.code, Some(0), "{drained:?}");
    assert_eq!(pair.counter.value(), 8);
    assert!(runs(&pair.other) && !runs(&pair.one));
    wait_until(LIMIT, "the other hears of it", || {
        seen(&pair.other, pair.one.name()).is_some_and(|said| said["draining"] == true)
    });
    let back = pair.other.command(&["migrate", "counter", pair.one.name()]);
    assert_eq!(back.code, Some(4), "{back:?}");
    assert!(back.stderr.contains("it drains"), "{back:?}");

    // Over a restart, too.
    pair.one.kill();
    pair.one.start_only();
    wait_until(LIMIT, "it stands by", || holder(&pair.one) == pair.other.name());
    let image = pair.other.checkpoint("counter");
    wait_ready(&pair.other, &pair.one, &image);
    let forgotten = pair.one.command(&["forget", pair.other.name()]);
    assert!(forgotten.code == Some(4) && forgotten.stderr.contains("is there"), "{forgotten:?}");
    lose(&mut pair.other);
    // The lease of a bucket does not go by itself: it is seen that nobody renews it, and still nobody takes it.
    wait_until(LIMIT, "the other is missed", || {
        seen(&pair.one, pair.other.name()).is_some_and(|said| said["there"] == false)
    });
    wait_for_ttl(&pair.one);
    assert!(!runs(&pair.one), "it drains");

    let mark = pair.one.mark();
    assert_eq!(pair.one.command(&["undrain"]).code, Some(0));
    let back = pair.one.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()), "{}", back.text);
    assert_eq!(pair.counter.value(), 8);

    assert_eq!(pair.one.command(&["forget", pair.other.name()]).code, Some(0));
    assert_eq!(seen(&pair.one, pair.other.name()), None, "it is gone for good");
    assert_eq!(pair.one.command(&["forget", pair.other.name()]).code, Some(4));
    pair.other.start_only();
    wait_until(LIMIT, "or comes back", || seen(&pair.one, pair.other.name()).is_some());
}

/// Longer than a lease of 3 s holds, with the reader's part.
fn wait_for_ttl(node: &Node) {
    let begun = std::time::Instant::now();
    wait_for(LIMIT, "a lease's time", || (begun.elapsed() > Duration::from_secs(5)).then_some(()));
    assert_eq!(node.status("counter")["lease"]["role"], "standby");
}

#[test]
fn a_bucket_holds_leases_too_and_a_lost_host_is_followed() {
    let Some(mut pair) = Pair::with(bucket(), |_| {}) else { return };
    let image = pair.replicate(5);
    let mark = pair.other.mark();
    lose(&mut pair.one);
    let back = pair.other.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()));
    assert_eq!(pair.counter.value(), 5);
}

#[test]
fn what_nothing_helps_here_is_brought_back_by_a_standby() {
    let leases = match Etcd::or_skip() {
        Some(etcd) => Leases::Etcd(etcd),
        None => return,
    };
    let mut number = 0;
    let Some(mut pair) = Pair::with(leases, |node| {
        number += 1;
        if number == 1 {
            node.set("counter", "restart.ladder", "[\"fail-over\", \"restore-latest\"]");
        }
    }) else {
        return;
    };
    let image = pair.replicate(9);
    let (one, other) = (pair.one.mark(), pair.other.mark());
    pair.one.signal_service("counter", Signal::SIGKILL);
    let back = pair.other.wait_for_event(other, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()));
    assert_eq!(pair.counter.value(), 9);
    assert!(
        pair.one
            .events_since(one)
            .iter()
            .any(|event| event.kind == "rung-taken" && event.text == "fail-over")
    );
    wait_until(LIMIT, "the first says why it is not ready", || {
        let why = pair.one.status("counter")["lease"]["not_ready"].clone();
        why.as_str().is_some_and(|why| why.contains("could not be brought back here"))
    });

    // Alone again it is better than nobody.
    let newest = pair.other.checkpoint("counter");
    wait_ready(&pair.other, &pair.one, &newest);
    let mark = pair.one.mark();
    lose(&mut pair.other);
    let back = pair.one.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(newest.as_str()));
    // And with nobody to have it, the rung is passed over.
    wait_until(LIMIT, "the other is missed", || {
        seen(&pair.one, pair.other.name()).is_some_and(|said| said["there"] == false)
    });
    let mark = pair.one.mark();
    pair.one.signal_service("counter", Signal::SIGKILL);
    let back = pair.one.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.text.split(' ').nth(2), Some("restore-latest"), "{}", back.text);
}

#[test]
fn a_service_that_fails_again_and_again_is_moved_to_a_healthy_host() {
    let leases = match Etcd::or_skip() {
        Some(etcd) => Leases::Etcd(etcd),
        None => return,
    };
    let Some(pair) = Pair::with(leases, |node| {
        node.set("counter", "failover.migration_threshold", "1");
        node.set("counter", "restart.stable_after", "\"10m\"");
    }) else {
        return;
    };
    pair.replicate(2);
    let mark = pair.one.mark();
    pair.one.signal_service("counter", Signal::SIGKILL);
    pair.one.wait_for_event(mark, "recovered", |_| true);
    assert!(!runs(&pair.other), "once is not often");
    let mark = pair.other.mark();
    pair.one.signal_service("counter", Signal::SIGKILL);
    pair.other.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(pair.counter.value(), 2);
    assert!(!runs(&pair.one));
}

#[test]
fn what_was_stopped_on_purpose_stays_so_on_the_other_host() {
    let Some(mut pair) = Pair::running() else { return };
    pair.replicate(4);
    assert_eq!(pair.one.command(&["stop", "counter"]).code, Some(0));
    let mark = pair.other.mark();
    wait_until(LIMIT, "the next renewal says so", || {
        pair.other.status("counter")["lease"]["stopped"] == true
    });
    lose(&mut pair.one);
    pair.other.wait_for_event(mark, "taken-over", |_| true);
    wait_until(LIMIT, "it is stopped there", || pair.other.state("counter") == "stopped");
    assert!(!runs(&pair.other));
    // Over a restart, too.
    pair.other.kill();
    pair.other.start_only();
    wait_until(LIMIT, "it is stopped still", || pair.other.state("counter") == "stopped");
    assert_eq!(pair.other.command(&["start", "counter"]).code, Some(0));
    pair.other.wait_healthy("counter");
}

/// Its state waits in the image, on whichever host.
#[test]
fn what_was_suspended_is_so_on_the_other_host() {
    let Some(mut pair) = Pair::running() else { return };
    pair.replicate(4);
    pair.counter.count_to(6);
    let suspended = pair.one.json(&["suspend", "counter"]);
    let image = suspended["image"].as_str().expect("its state is in an image").to_owned();
    let mark = pair.other.mark();
    wait_until(LIMIT, "the other has that image, and knows", || {
        let lease = pair.other.status("counter")["lease"].clone();
        lease["suspended"] == true && lease["prepared"] == image.as_str()
    });
    lose(&mut pair.one);
    pair.other.wait_for_event(mark, "taken-over", |_| true);
    wait_until(LIMIT, "it is suspended there", || pair.other.state("counter") == "suspended");
    assert!(!runs(&pair.other));
    // Over a restart, too.
    pair.other.kill();
    pair.other.start_only();
    wait_until(LIMIT, "it is suspended still", || pair.other.state("counter") == "suspended");
    assert_eq!(pair.other.command(&["resume", "counter"]).code, Some(0));
    pair.other.wait_healthy("counter");
    assert_eq!(pair.counter.value(), 6);
}

/// No folder and no bucket: each brings its images to the other.
#[test]
fn images_at_peers_are_enough() {
    let Some(mut pair) = Pair::of_peers(bucket(), |_| {}) else { return };
    let image = pair.replicate(6);
    let mark = pair.other.mark();
    lose(&mut pair.one);
    let back = pair.other.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(back.image.as_deref(), Some(image.as_str()));
    pair.counter.count_to(8);

    // It comes back with an older image than the other has by now, and is brought the newest.
    pair.one.start_only();
    let newest = pair.other.checkpoint("counter");
    wait_ready(&pair.other, &pair.one, &newest);
    let moved = pair.other.command(&["migrate", "counter", pair.one.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    assert_eq!(pair.counter.value(), 8);
    assert!(runs(&pair.one) && !runs(&pair.other));
}

/// The supervisor dies when the service is in its last image and has ended, but the lease is not let go: it comes back where it was.
#[test]
fn killed_in_the_middle_of_a_move_the_service_comes_back_where_it_was() {
    let Some(mut pair) = Pair::with(bucket(), |node| node.set_in("cluster", "ttl", "\"20s\"")) else {
        return;
    };
    pair.one.stop();
    pair.one.start_to_die_later_at("suspend.ended");
    pair.one.wait_healthy("counter");
    pair.replicate(5);
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_ne!(moved.code, Some(0), "{moved:?}");
    pair.one.wait_dead_at_fail_point();
    pair.one.start_only();
    pair.one.wait_healthy("counter");
    assert_eq!(pair.counter.value(), 5);
    assert!(runs(&pair.one) && !runs(&pair.other));
}
