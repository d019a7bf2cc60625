//! Archives: whole or not at all.

use super::*;

fn archive_of(content: &Content) -> Vec<u8> {
    let fixture = Fixture::quick();
    let store = fixture.store();
    keep(&store, "a-1", content);
    store.set_verdict(&image("a-1"), ImageVerdict::Good).expect("judged");
    let mut archive = Vec::new();
    let length = store.export(&image("a-1"), &mut archive).expect("exported");
    assert_eq!(length, archive.len() as u64);
    archive
}

#[test]
fn an_image_arrives_as_it_left() {
    let archive = archive_of(&Content::varied(2));
    let fixture = Fixture::quick();
    let store = fixture.store();
    let manifest = store.import(&mut archive.as_slice()).expect("imported");
    assert_eq!((&manifest.service, &manifest.id), (&service(), &image("a-1")));
    assert!(restored(&store, "a-1") == Content::varied(2));
    let record = store.list(&service()).expect("listed").remove(0);
    assert_eq!((record.facts.verdict, record.facts.durable), (ImageVerdict::Good, true));
    assert_eq!(record.about, Some(about("a-1")));
    let error = store.import(&mut archive.as_slice()).expect_err("it is here already");
    assert_eq!(error.kind(), "invalid", "{error}");
    let mut again = Vec::new();
    store.export(&image("a-1"), &mut again).expect("exported");
    assert!(again == archive);
}

#[test]
fn every_flip_cut_and_addition_in_an_archive_is_noticed_and_leaves_nothing() {
    let archive = archive_of(&Content::small(2));
    let fixture = Fixture::quick();
    let store = fixture.store();
    let refused = |bytes: &[u8], what: &str| {
        let error = store.import(&mut &bytes[..]).expect_err(what);
        assert!(["corrupt", "invalid"].contains(&error.kind()), "{what}: {error}");
        assert_eq!(ids(&store), [""; 0], "{what}");
        let left = tree(fixture.disk.path());
        assert!(left.iter().all(|path| !path.to_string_lossy().contains("a-1")), "{what} left {left:?}");
    };
    for at in 0..archive.len() {
        let mut bytes = archive.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, &format!("byte {at} flipped"));
    }
    for length in (0..archive.len()).step_by(7) {
        refused(&archive[..length], &format!("cut to {length}"));
    }
    refused(&[&archive[..], b"\0"].concat(), "lengthened");
    store.import(&mut archive.as_slice()).expect("the archive itself is whole");
}

#[test]
fn a_damaged_image_is_not_exported() {
    let fixture = Fixture::quick();
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(2));
    let path = fixture.image("a-1").join("memory-0.seg");
    let mut bytes = fs::read(&path).expect("read");
    bytes[300] ^= 1;
    fs::write(&path, bytes).expect("damaged");
    let mut archive = Vec::new();
    assert_eq!(store.export(&image("a-1"), &mut archive).expect_err("damaged").kind(), "corrupt");
    assert!(archive.is_empty());
}

#[test]
fn an_image_that_is_only_hot_has_to_be_committed_first() {
    let fixture = Fixture::quick();
    let store = fixture.store();
    take(&store, "a-1", &Content::small(2));
    let error = store.export(&image("a-1"), &mut Vec::new()).expect_err("only hot");
    assert_eq!(error.kind(), "invalid", "{error}");
    assert_eq!(ids(&store), ["a-1"], "and isn't taken for damaged");
    assert!(!store.list(&service()).expect("listed")[0].facts.damaged);
}
