//! A service that goes to a peer from memory to memory; what is refused, and whoever dies in the middle of it.
#![allow(missing_docs)]

use system_tests::pair::{Leases, Pair, quoted, runs, wait_ready};
use system_tests::{LIMIT, Node, wait_for, wait_until};

/// Memory of the service, MiB: random bytes, which it checks.
const MEMORY: u64 = 48;

fn bucket() -> Leases {
    Leases::Bucket(tempfile::tempdir().expect("a folder"))
}

fn pair(mut more: impl FnMut(&mut Node)) -> Option<Pair> {
    Pair::of_peers(bucket(), |node| {
        node.set_in("cluster", "ttl", "\"20s\"");
        let counter = node.counter("counter").address().to_string();
        let program = node.host().counter.display().to_string();
        let command = [&program, "--listen", &counter, "--memory", &(MEMORY << 20).to_string()].map(quoted);
        node.set("counter", "process.command", &format!("[{}]", command.join(", ")));
        more(node);
    })
}

/// What the event of a hand-over says of it.
fn handed_over(from: &Node, mark: system_tests::Mark) -> String {
    from.wait_for_event(mark, "handed-over", |_| true).text
}

/// The number before these words, MiB.
fn mib(text: &str, words: &str) -> f64 {
    let before = text.split(words).next().filter(|before| before.len() < text.len());
    let number =
        before.and_then(|before| before.trim_end().trim_end_matches("MiB").split_whitespace().next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no {words:?} in {text:?}"))
}

#[test]
fn only_what_has_changed_travels_and_both_have_it_on_disk_afterwards() {
    let Some(pair) = pair(|_| {}) else { return };
    pair.replicate(4);
    pair.counter.count_to(9);
    let (one, other) = (pair.one.mark(), pair.other.mark());
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let text = handed_over(&pair.one, one);
    assert!(mib(&text, " sent") < 4.0, "{text}");
    assert!(mib(&text, " named as pages") >= MEMORY as f64, "{text}");
    assert_eq!(pair.counter.value(), 9);
    pair.counter.assert_whole();
    assert!(runs(&pair.other) && !runs(&pair.one));
    let restored = pair.other.wait_for_event(other, "recovered", |_| true).image.expect("from an image");
    assert!(text.contains(&restored), "{text}: {restored}");
    for (node, mark) in [(&pair.one, one), (&pair.other, other)] {
        // The former holder commits it, or is sent it by the new one, whatever is first.
        wait_until(LIMIT, "it is on disk", || {
            node.events_since(mark).iter().any(|event| {
                ["image-durable", "image-received"].contains(&event.kind.as_str())
                    && event.image.as_deref() == Some(&restored)
                    && node.images_folder("counter").join(&restored).join("manifest").exists()
            })
        });
    }

    // And back: where it came from has an older image to begin with, and everything of the newest one.
    pair.counter.count_to(11);
    let image = pair.other.checkpoint("counter");
    wait_ready(&pair.other, &pair.one, &image);
    let mark = pair.other.mark();
    let moved = pair.other.command(&["migrate", "counter", pair.one.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let text = handed_over(&pair.other, mark);
    assert!(mib(&text, " sent") < 4.0, "{text}");
    assert_eq!(pair.counter.value(), 11);
    pair.counter.assert_whole();
}

#[test]
fn a_peer_that_keeps_nothing_in_memory_gets_it_by_the_disk() {
    let mut number = 0;
    let made = pair(|node| {
        number += 1;
        if number == 2 {
            node.set_in("store", "hot", "\"disk\"");
        }
    });
    let Some(pair) = made else { return };
    pair.replicate(6);
    let mark = pair.one.mark();
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let text = handed_over(&pair.one, mark);
    assert!(!text.contains("sent"), "{text}");
    assert_eq!(pair.counter.value(), 6);
    pair.counter.assert_whole();
    assert!(runs(&pair.other) && !runs(&pair.one));
}

/// Whoever gives dies: the service is thawed by its shim, and the next supervisor goes on with it.
fn giver_dies_at(point: &str) {
    let Some(mut pair) = pair(|_| {}) else { return };
    pair.one.stop();
    pair.one.start_to_die_later_at(point);
    pair.one.wait_healthy("counter");
    pair.replicate(5);
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_ne!(moved.code, Some(0), "{moved:?}");
    pair.one.wait_dead_at_fail_point();
    wait_until(LIMIT, "it is not left frozen", || pair.counter.get("/counter").is_ok());
    assert_eq!(pair.counter.value(), 5);
    pair.one.start_only();
    pair.one.wait_healthy("counter");
    assert!(runs(&pair.one) && !runs(&pair.other), "{point}");
    works_on(&pair);
}

/// Whoever takes dies: the service runs on where it was.
fn taker_dies_at(point: &str) {
    let Some(mut pair) = pair(|_| {}) else { return };
    pair.other.stop();
    pair.other.start_to_die_later_at(point);
    pair.replicate(5);
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_eq!(moved.code, Some(1), "{moved:?}");
    assert!(moved.stderr.contains("the service stays here"), "{moved:?}");
    pair.other.wait_dead_at_fail_point();
    pair.one.wait_healthy("counter");
    assert_eq!(pair.counter.value(), 5);
    pair.other.start_only();
    assert!(runs(&pair.one) && !runs(&pair.other), "{point}");
    works_on(&pair);
}

/// Nothing half is left at the other, and the next move succeeds.
fn works_on(pair: &Pair) {
    wait_until(LIMIT, "no half image is left there", || {
        let hot = pair.other.traces().hot_images();
        let images = hot
            .iter()
            .filter(|path| path.file_name().is_some_and(|name| !name.as_encoded_bytes().starts_with(b".")));
        images.into_iter().all(|image| image.join("seal").exists())
    });
    pair.counter.count_to(7);
    let image = pair.one.checkpoint("counter");
    wait_ready(&pair.one, &pair.other, &image);
    let mark = pair.one.mark();
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_eq!(moved.code, Some(0), "{moved:?}");
    let text = handed_over(&pair.one, mark);
    assert!(text.contains(", hot: "), "{text}");
    assert_eq!(pair.counter.value(), 7);
    pair.counter.assert_whole();
    assert!(runs(&pair.other) && !runs(&pair.one));
    let hot = pair.other.traces().hot_images();
    assert!(hot.iter().all(|path| !path.display().to_string().contains("seed-")), "{hot:?}");
}

#[test]
fn the_giver_dies_before_it_sends() {
    giver_dies_at("handover.before");
}

#[test]
fn the_giver_dies_in_the_middle() {
    giver_dies_at("handover.half");
}

#[test]
fn the_giver_dies_before_the_service_ends() {
    giver_dies_at("handover.answered");
}

/// Nothing runs, and the lease is not let go: the next supervisor brings it back from memory.
#[test]
fn the_giver_dies_when_the_service_has_ended() {
    let Some(mut pair) = ended_in_the_middle("20s") else { return };
    pair.one.start_only();
    pair.one.wait_healthy("counter");
    assert_eq!(pair.counter.value(), 5);
    assert!(runs(&pair.one) && !runs(&pair.other));
    works_on(&pair);
}

/// What was handed over is newer than what the lease says, and is what it goes on with.
#[test]
fn the_giver_dies_when_the_service_has_ended_and_does_not_come_back() {
    let Some(pair) = ended_in_the_middle("3s") else { return };
    let recovered = || pair.other.events().into_iter().find(|event| event.kind == "recovered");
    let back = wait_for(LIMIT, "the other brings it back", recovered);
    let given = pair.other.events().into_iter().rfind(|event| event.kind == "image-received");
    assert_eq!(back.image, given.expect("it was handed over").image);
    assert_eq!(pair.counter.value(), 5);
    pair.counter.assert_whole();
}

/// It is in its last image, which the other has, and its supervisor is dead.
fn ended_in_the_middle(ttl: &str) -> Option<Pair> {
    let mut pair = pair(|node| node.set_in("cluster", "ttl", &quoted(ttl)))?;
    pair.one.stop();
    pair.one.start_to_die_later_at("suspend.ended");
    pair.one.wait_healthy("counter");
    pair.replicate(5);
    let moved = pair.one.command(&["migrate", "counter", pair.other.name()]);
    assert_ne!(moved.code, Some(0), "{moved:?}");
    pair.one.wait_dead_at_fail_point();
    Some(pair)
}

#[test]
fn the_taker_dies_in_the_middle() {
    taker_dies_at("handover.taken-half");
}

#[test]
fn the_taker_dies_before_it_answers() {
    taker_dies_at("handover.sealed");
}
