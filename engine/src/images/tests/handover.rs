//! Hand-overs: from one store's memory to another's, whole or not at all.

use super::*;
use crate::images::{Base, Given, Known, Way};

/// Pages that differ from each other.
const PAGES: usize = 700;

/// Two nodes that have the image `a-1`, and what becomes of it a moment later.
struct Two {
    here: (Fixture, Store),
    there: (Fixture, Store),
}

impl Two {
    fn new(content: &Content) -> Self {
        let two = Self { here: node(Fixture::quick()), there: node(Fixture::quick()) };
        keep(&two.here.1, "a-1", content);
        let mut archive = Vec::new();
        two.here.1.export(&image("a-1"), &mut archive).expect("exported");
        two.there.1.import(&mut archive.as_slice()).expect("imported");
        two
    }

    fn known(&self) -> Known {
        Known::of(base(&self.here.1)).expect("read")
    }

    /// What travels of this image.
    fn give(&self, content: &Content, known: Option<&Known>) -> (Vec<u8>, Given) {
        let hot = take(&self.here.1, "b-2", content);
        let mut stream = Vec::new();
        let given = self.here.1.give(&hot, known, &mut stream).expect("given");
        assert_eq!(given.sent, stream.len() as u64);
        (stream, given)
    }

    fn take(&self, base: Option<&Base>, mut stream: &[u8]) -> crate::Result<Hot> {
        self.there.1.take((&service(), &image("b-2")), Epoch(7), (base, None), &mut stream)
    }

    /// That nothing of it is there.
    fn assert_nothing(&self, what: &str) {
        assert_eq!(ids(&self.there.1), ["a-1"], "{what}");
        for folder in [self.there.0.disk.path(), self.there.0.memory.path()] {
            let left = tree(folder);
            assert!(left.iter().all(|path| !path.to_string_lossy().contains("b-2")), "{what} left {left:?}");
        }
    }
}

fn node(fixture: Fixture) -> (Fixture, Store) {
    let store = fixture.store();
    (fixture, store)
}

fn base(store: &Store) -> Base {
    store.base(&service(), &image("a-1")).expect("it is durable")
}

fn of_pages(pages: Vec<u8>) -> Content {
    let criu = [("inventory.img", noise(9, 30)), ("pages-1.img", pages)];
    Content { criu: named(criu), files: named([("index.json", b"{}".to_vec())]) }
}

#[test]
fn it_arrives_as_it_left_with_and_without_what_both_have() {
    for content in [Content::varied(2), Content::varied(3), Content::small(4)] {
        let two = Two::new(&Content::varied(2));
        let (known, there) = (two.known(), base(&two.there.1));
        let (stream, _) = two.give(&content, Some(&known));
        let hot = two.take(Some(&there), &stream).expect("taken");
        assert_eq!((&hot.service, &hot.id), (&service(), &image("b-2")));
        assert!(restored(&two.there.1, "b-2") == content);
        let record = two.there.1.list(&service()).expect("listed").remove(0);
        assert!(record.facts.hot && !record.facts.durable && record.about == Some(about("b-2")));
        // From now on it is an ordinary image.
        commit(&two.there.1, "b-2");
        two.there.1.verify(&image("b-2")).expect("whole");

        let two = Two::new(&Content::varied(2));
        let (stream, given) = two.give(&content, None);
        assert_eq!(given.referenced, 0);
        two.take(None, &stream).expect("taken");
        assert!(restored(&two.there.1, "b-2") == content);
    }
}

#[test]
fn what_both_have_is_only_named_wherever_it_lies() {
    let pages = noise(1, PAGES * 4096);
    let two = Two::new(&of_pages(pages.clone()));
    let mut later = pages.clone();
    // One page written to, some inserted, some zeroed, some moved behind the others, and a tail that is no page.
    later[5 * 4096..5 * 4096 + 8].fill(1);
    later.splice(100 * 4096..100 * 4096, noise(2, 3 * 4096));
    later[300 * 4096..310 * 4096].fill(0);
    later.extend(&pages[50 * 4096..60 * 4096]);
    later.extend(noise(3, 100));
    let later = of_pages(later);
    let (stream, given) = two.give(&later, Some(&two.known()));
    assert!(stream.len() < 6 * 4096, "{given:?}");
    assert_eq!(given.zero, 10 * 4096);
    assert_eq!(given.referenced, (PAGES as u64 - 1 - 10 + 10) * 4096, "{given:?}");
    two.take(Some(&base(&two.there.1)), &stream).expect("taken");
    assert!(restored(&two.there.1, "b-2") == later);
}

/// The base's pages lie already where the image will: whatever became of them, it is as it was sent.
#[test]
fn what_is_planted_beforehand_is_overwritten_where_it_has_changed() {
    let pages = noise(1, 6 * MIB + 8192);
    let written = |from: usize, to: usize, byte: u8| {
        let mut pages = pages.clone();
        pages[from..to].fill(byte);
        pages
    };
    let cases = [
        ("unchanged", pages.clone()),
        ("a block written to", written(MIB + 5, MIB + 9000, 3)),
        ("a block of zeros", written(2 * MIB, 3 * MIB, 0)),
        ("some zeros", written(2 * MIB, 2 * MIB + 40_960, 0)),
        ("the tail", written(6 * MIB + 4096, 6 * MIB + 8192, 9)),
        ("longer", [&pages[..], &noise(2, 3 * MIB)].concat()),
        ("shorter, at a block's end", pages[..4 * MIB].to_vec()),
        ("shorter, inside of a block", pages[..4 * MIB + 4096].to_vec()),
        ("no page at its end", pages[..4 * MIB + 4097].to_vec()),
        ("one block", pages[..MIB].to_vec()),
        ("less", pages[..5000].to_vec()),
        ("nothing", Vec::new()),
        ("moved", pages[4096..].to_vec()),
        ("blocks exchanged", [&pages[3 * MIB..4 * MIB], &pages[MIB..3 * MIB], &pages[..MIB]].concat()),
    ];
    for (what, later) in cases {
        let two = Two::new(&of_pages(pages.clone()));
        let later = of_pages(later);
        let (stream, _) = two.give(&later, Some(&two.known()));
        let there = base(&two.there.1);
        let seed = two.there.1.seed(&service(), &there).expect("there is room");
        let of = (&service(), &image("b-2"));
        let taken = two.there.1.take(of, Epoch(7), (Some(&there), Some(seed)), &mut &stream[..]);
        taken.unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(restored(&two.there.1, "b-2") == later, "{what}");
        let left = tree(two.there.0.memory.path());
        assert!(left.iter().all(|path| !path.to_string_lossy().contains("seed-")), "{what}: {left:?}");
        commit(&two.there.1, "b-2");
        two.there.1.verify(&image("b-2")).expect(what);
    }
}

#[test]
fn a_start_sweeps_what_was_planted_and_nobody_came_for() {
    let two = Two::new(&of_pages(noise(1, 2 * MIB)));
    let there = base(&two.there.1);
    std::mem::forget(two.there.1.seed(&service(), &there).expect("there is room"));
    let seeds = || {
        tree(&two.there.0.memory.path().join("hot/web"))
            .iter()
            .filter(|p| p.to_string_lossy().starts_with(".seed-a-1"))
            .count()
    };
    assert_eq!(seeds(), 2);
    two.there.0.store();
    assert_eq!(seeds(), 0);
}

#[test]
fn zeros_take_no_room_there() {
    let two = Two::new(&Content::small(1));
    let (stream, given) = two.give(&of_pages(vec![0; 8 * MIB]), None);
    assert!(stream.len() < 8192 && given.zero >= 8 << 20, "{given:?}");
    two.take(None, &stream).expect("taken");
    let found = fs::metadata(two.there.0.hot("b-2").join("criu/pages-1.img")).expect("there");
    assert_eq!(found.len(), 8 << 20);
    assert_eq!(std::os::unix::fs::MetadataExt::blocks(&found), 0);
}

#[test]
fn every_flip_cut_exchange_and_addition_is_refused_and_leaves_nothing() {
    let mut later = noise(1, 40 * 4096);
    later[4096..8192].fill(7);
    later[3 * 4096..5 * 4096].fill(0);
    let two = Two::new(&of_pages(noise(1, 40 * 4096)));
    let there = base(&two.there.1);
    let (stream, _) = two.give(&of_pages(later), Some(&two.known()));
    let refused = |bytes: &[u8], what: &str| {
        let error = two.take(Some(&there), bytes).expect_err(what);
        assert_ne!(error.kind(), "internal", "{what}: {error}");
        two.assert_nothing(what);
    };
    for at in 0..stream.len() {
        let mut bytes = stream.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, &format!("byte {at} flipped"));
    }
    for length in (0..stream.len()).step_by(3) {
        refused(&stream[..length], &format!("cut to {length}"));
    }
    refused(&[&stream[..], b"\0"].concat(), "lengthened");
    // Two records that each are right, in each other's place.
    let zeros = [&[0_u8][..], &8192_u32.to_le_bytes()].concat();
    let at = stream.windows(5).position(|found| found == zeros).expect("there are zeros");
    let before = 1 + 4 + 4 + 8;
    let mut exchanged = stream.clone();
    exchanged[at - before..at + 5].rotate_left(before);
    assert_ne!(exchanged, stream);
    refused(&exchanged, "exchanged");
    refused(&[&stream[..at], &[9][..], &stream[at + 1..]].concat(), "an unknown form");
    two.take(Some(&there), &stream).expect("the stream itself is whole");
}

/// Each node commits it under a key of its own making; then one sends it to the other, as it sends any image.
#[test]
fn what_both_have_committed_is_the_same_image() {
    let two = Two { here: node(Fixture::quick().encrypted(1)), there: node(Fixture::quick().encrypted(1)) };
    let (stream, _) = two.give(&Content::varied(2), None);
    two.take(None, &stream).expect("taken");
    for store in [&two.here.1, &two.there.1] {
        commit(store, "b-2");
    }
    let sent = two.there.1.outgoing(&image("b-2")).expect("durable");
    let own = two.here.1.outgoing(&image("b-2")).expect("durable");
    assert_ne!(sent.manifest().segments, own.manifest().segments);
    let again = two.here.1.incoming(sent.head().bytes(), Way::Sent).expect("the same");
    assert!(again.is_none(), "it is there");
}

#[test]
fn a_base_that_is_another_is_refused() {
    let two = Two::new(&Content::varied(2));
    let (stream, _) = two.give(&Content::varied(2), Some(&two.known()));
    let error = two.take(None, &stream).expect_err("it is not there");
    assert_eq!(error.kind(), "refused", "{error}");
    let other = Fixture::quick();
    let store = other.store();
    keep(&store, "a-1", &Content::varied(3));
    let error = two.take(Some(&base(&store)), &stream).expect_err("another of the same name");
    assert_eq!(error.kind(), "refused", "{error}");
    two.assert_nothing("another base");
}

#[test]
fn another_image_epoch_or_name_is_refused() {
    let two = Two::new(&Content::small(1));
    let (stream, _) = two.give(&Content::small(2), None);
    let take = |id: &str, epoch, mut stream: &[u8]| {
        two.there.1.take((&service(), &image(id)), Epoch(epoch), (None, None), &mut stream)
    };
    assert_eq!(take("b-3", 7, &stream).expect_err("another id").kind(), "invalid");
    assert_eq!(take("b-2", 8, &stream).expect_err("another epoch").kind(), "refused");
    for name in ["../core-.img", "/etc/core-x", ".seal-core.x"] {
        let from = b"\"core-1.img\"";
        let to = format!("\"{name}\"");
        let at = stream.windows(from.len()).position(|found| found == from).expect("it is named");
        let mut head = stream.clone();
        head.splice(at..at + from.len(), to.bytes());
        let length = u32::from_le_bytes(head[12..16].try_into().expect("four bytes"));
        let longer = i64::from(length) + to.len() as i64 - from.len() as i64;
        head[12..16].copy_from_slice(&u32::try_from(longer).expect("short").to_le_bytes());
        assert_eq!(take("b-2", 7, &head).expect_err(name).kind(), "invalid", "{name}");
    }
    two.assert_nothing("refusals");
}

#[test]
fn without_room_in_memory_it_is_refused() {
    let two = Two::new(&Content::small(1));
    let (stream, _) = two.give(&Content::varied(2), None);
    let take = |store: &Store| {
        store
            .take((&service(), &image("b-2")), Epoch(7), (None, None), &mut &stream[..])
            .expect_err("no room")
            .kind()
    };
    assert_eq!(
        take(&two.there.0.store_with(|settings| settings.hot_max_size = Some(MIB as u64))),
        "unavailable"
    );
    assert_eq!(take(&two.there.0.store_with(|settings| settings.hot = None)), "unavailable");
    two.assert_nothing("no room");
    two.take(None, &stream).expect("with room it is taken");
    let again = two.take(None, &stream).expect_err("it is here");
    assert_eq!(again.kind(), "invalid", "{again}");
}

#[test]
fn what_was_taken_for_nothing_goes_when_something_newer_is_there() {
    let two = Two::new(&Content::small(1));
    let (stream, _) = two.give(&Content::small(2), None);
    two.take(None, &stream).expect("taken");
    two.there.1.forget_overtaken(&service(), &image("a-1")).expect("looked");
    assert_eq!(ids(&two.there.1), ["b-2", "a-1"], "nothing newer is there");
    keep(&two.there.1, "c-3", &Content::small(3));
    two.there.1.forget_overtaken(&service(), &image("c-3")).expect("looked");
    assert_eq!(ids(&two.there.1), ["c-3", "a-1"]);
}
