//! The life of an image when all goes well, and when somebody is in the way.

use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc;

use super::super::Source;
use super::*;

#[test]
fn every_codec_gives_back_what_was_dumped() {
    for codec in CODECS {
        let fixture = Fixture::new();
        let store = fixture.store_with(|s| (s.codec, s.keep_hot) = (codec, 0));
        let content = Content::varied(3);
        keep(&store, "a-1", &content);
        assert!(!fixture.hot("a-1").exists(), "no hot copy is kept");
        let prepared = store.open_for_restore(&image("a-1")).expect("it can be restored");
        assert_eq!(prepared.source(), Source::Unpacked);
        assert!(Content::of(&prepared) == content, "{codec:?}");
        assert_eq!(prepared.about(), &about("a-1"));
        drop(prepared);
        let again = store.open_for_restore(&image("a-1")).expect("it can be restored");
        assert_eq!(again.source(), Source::Hot, "what was unpacked is hot");
        let verified = store.verify(&image("a-1")).expect("whole");
        let raw: usize = content.criu.values().chain(content.files.values()).map(Vec::len).sum();
        assert_eq!((verified.files, verified.sizes.raw), (9, raw as u64));
    }
}

#[test]
fn zeros_take_no_space_on_disk_whatever_the_codec() {
    for codec in CODECS {
        let fixture = Fixture::new();
        let store = fixture.store_with(|s| s.codec = codec);
        let mut content = Content::small(1);
        content.criu.insert("pages-2.img".to_owned(), vec![0; 20 * MIB]);
        keep(&store, "a-1", &content);
        let stored = store.list(&service()).expect("listed")[0].facts.size;
        assert!(stored < 20_000, "{codec:?}: {stored}");
    }
}

#[test]
fn a_hot_image_is_used_as_it_is_and_without_a_copy() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let hot = take(&store, "a-1", &Content::varied(1));
    assert_eq!(hot.id, image("a-1"));
    let prepared = store.open_for_restore(&image("a-1")).expect("it can be restored");
    assert_eq!((prepared.source(), prepared.criu_dir()), (Source::Hot, &*fixture.hot("a-1").join("criu")));
    assert!(Content::of(&prepared) == Content::varied(1));
    assert_eq!(store.uncommitted(&service()).expect("listed"), [image("a-1")]);
}

#[test]
fn a_staging_without_a_seal_leaves_nothing() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let staging = store.stage(&service(), &image("a-1"), StageNeeds::default()).expect("staged");
    Content::small(1).write(&staging.criu_dir(), &staging.files_dir());
    assert_eq!(ids(&store), [""; 0], "not an image yet");
    assert_eq!(
        store.stage(&service(), &image("a-1"), StageNeeds::default()).expect_err("taken").kind(),
        "invalid"
    );
    drop(staging);
    assert_eq!(tree(fixture.memory.path()), [PathBuf::from("hot"), "hot/web".into()]);
    assert_eq!(tree(fixture.disk.path()), [PathBuf::from("store"), "store/web".into()]);
}

#[test]
fn only_plain_files_are_sealed() {
    let fixture = Fixture::new();
    let store = fixture.store();
    let seal = |prepare: &dyn Fn(&Path)| {
        let staging = store.stage(&service(), &image("a-1"), StageNeeds::default()).expect("staged");
        prepare(&staging.criu_dir());
        staging.seal(about("a-1")).expect_err("it cannot be sealed").kind()
    };
    assert_eq!(seal(&|_| ()), "invalid", "nothing was dumped");
    assert_eq!(seal(&|criu| fs::create_dir(criu.join("folder")).expect("created")), "invalid");
    assert_eq!(
        seal(&|criu| std::os::unix::fs::symlink("/etc/passwd", criu.join("link")).expect("linked")),
        "invalid"
    );
    assert_eq!(seal(&|criu| fs::write(criu.join(".hidden"), "x").expect("written")), "invalid");
    take(&store, "a-1", &Content::small(1));
}

#[test]
fn nobody_else_can_read_an_image() {
    let fixture = Fixture::new();
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(1));
    store.pin(&image("a-1")).expect("pinned");
    for root in [fixture.disk.path().join("store"), fixture.memory.path().join("hot")] {
        for path in tree(&root).iter().map(|path| root.join(path)).chain([root.clone()]) {
            let found = fs::symlink_metadata(&path).expect("there");
            let expected = if found.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(found.permissions().mode() & 0o7777, expected, "{}", path.display());
        }
    }
}

#[test]
fn only_the_newest_durable_image_stays_hot() {
    let fixture = Fixture::new();
    let store = fixture.store();
    for id in ["a-1", "a-2"] {
        keep(&store, id, &Content::small(1));
    }
    take(&store, "a-3", &Content::small(1));
    let hot = |store: &Store| {
        let records = store.list(&service()).expect("listed");
        records.iter().map(|r| (r.facts.id.to_string(), r.facts.hot, r.facts.durable)).collect::<Vec<_>>()
    };
    let row = |id: &str, hot, durable| (id.to_owned(), hot, durable);
    assert_eq!(hot(&store), [row("a-3", true, false), row("a-2", true, true), row("a-1", false, true)]);
    let prepared = store.open_for_restore(&image("a-2")).expect("hot");
    commit(&store, "a-3");
    assert_eq!(hot(&store)[1], row("a-2", true, true), "in use");
    drop(prepared);
    keep(&store, "a-4", &Content::small(1));
    let expected =
        [row("a-4", true, true), row("a-3", false, true), row("a-2", false, true), row("a-1", false, true)];
    assert_eq!(hot(&store), expected);
    assert_eq!(
        tree(&fixture.disk.path().join("store/web")).iter().filter(|p| p.starts_with(".files-a-3")).count(),
        0
    );
}

#[test]
fn memory_that_is_full_sends_an_image_to_disk_and_it_works_there() {
    let fixture = Fixture::new();
    let store = fixture.store_with(|s| (s.hot_max_size, s.keep_hot) = (Some(0), 1));
    let staging = store.stage(&service(), &image("a-1"), StageNeeds { memory: 1, files: 0 }).expect("staged");
    assert!(staging.criu_dir().starts_with(fixture.disk.path()));
    Content::varied(1).write(&staging.criu_dir(), &staging.files_dir());
    staging.seal(about("a-1")).expect("sealed");
    commit(&store, "a-1");
    assert!(restored(&store, "a-1") == Content::varied(1));
}

#[test]
fn what_is_in_use_is_removed_later_and_all_of_it() {
    let fixture = Fixture::new();
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(1));
    store.set_verdict(&image("a-1"), ImageVerdict::Good).expect("judged");
    let all = [image("a-1"), image("a-9")];
    let prepared = store.open_for_restore(&image("a-1")).expect("hot");
    let outcome = store.remove(&all).expect("tried");
    assert_eq!((outcome.in_use, outcome.absent), (vec![image("a-1")], vec![image("a-9")]));
    assert!(Content::of(&prepared) == Content::small(1));
    drop(prepared);
    assert_eq!(store.remove(&all).expect("removed").removed, [image("a-1")]);
    assert_eq!(tree(&fixture.disk.path().join("store/web")), [PathBuf::from(".marks")]);
    assert!(tree(&fixture.memory.path().join("hot/web")).is_empty());
    assert_eq!(store.open_for_restore(&image("a-1")).expect_err("gone").kind(), "invalid");
}

#[test]
fn judgements_and_pins_are_kept_beside_the_image() {
    let fixture = Fixture::new();
    let store = fixture.store();
    take(&store, "a-1", &Content::small(1));
    let facts = |store: &Store| store.list(&service()).expect("listed").remove(0).facts;
    assert_eq!((facts(&store).verdict, facts(&store).pinned), (ImageVerdict::Unjudged, false));
    store.set_verdict(&image("a-1"), ImageVerdict::Good).expect("judged while it is only hot");
    store.pin(&image("a-1")).expect("pinned");
    commit(&store, "a-1");
    assert_eq!((facts(&store).verdict, facts(&store).pinned), (ImageVerdict::Good, true));
    store.set_verdict(&image("a-1"), ImageVerdict::Suspect).expect("judged again");
    store.unpin(&image("a-1")).expect("unpinned");
    drop(store);
    let store = fixture.store();
    assert_eq!((facts(&store).verdict, facts(&store).pinned), (ImageVerdict::Suspect, false));
    store.verify(&image("a-1")).expect("whole, whatever is thought of it");
    assert_eq!(store.pin(&image("a-2")).expect_err("absent").kind(), "invalid");
}

#[test]
fn a_cancelled_commit_leaves_the_hot_image_and_nothing_else() {
    let fixture = Fixture::new();
    let store = fixture.store();
    take(&store, "a-1", &Content::varied(1));
    let error = store.commit(&image("a-1"), &AtomicBool::new(true)).expect_err("cancelled");
    assert_eq!(error.kind(), "unavailable");
    assert!(!fixture.image("a-1").exists() && !fixture.image(".staging-a-1").exists());
    assert!(restored(&store, "a-1") == Content::varied(1));
    let manifest = commit(&store, "a-1");
    assert_eq!(commit(&store, "a-1"), manifest, "a second commit changes nothing");
}

#[test]
fn two_who_restore_the_same_image_unpack_it_once() {
    let fixture = Fixture::new();
    let store = fixture.store_with(|s| s.keep_hot = 0);
    keep(&store, "a-1", &Content::varied(1));
    let (sender, sources) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let prepared = store.open_for_restore(&image("a-1")).expect("it can be restored");
                assert!(Content::of(&prepared) == Content::varied(1));
                let inode =
                    std::os::unix::fs::MetadataExt::ino(&fs::metadata(prepared.criu_dir()).expect("there"));
                sender.send(inode).expect("the test waits");
            });
        }
    });
    drop(sender);
    let inodes: std::collections::BTreeSet<u64> = sources.iter().collect();
    assert_eq!(inodes.len(), 1, "one folder served all");
}

#[test]
fn the_newest_hot_image_serves_the_next_capture() {
    let fixture = Fixture::new();
    let store = fixture.store();
    assert!(store.newest_hot(&service()).expect("looked").is_none());
    keep(&store, "a-1", &Content::small(1));
    let newest = store.newest_hot(&service()).expect("looked").expect("hot");
    assert_eq!(newest.id(), &image("a-1"));
    keep(&store, "a-2", &Content::small(2));
    assert_eq!(contents(newest.files_dir()), Content::small(1).files, "held, so kept");
}

#[test]
fn limits_are_kept_before_anything_is_written() {
    let fixture = Fixture::new();
    let store = fixture.store_with(|s| s.max_total_size = Some(5000));
    take(&store, "a-1", &Content::varied(1));
    let error = store.commit(&image("a-1"), &AtomicBool::new(false)).expect_err("too big");
    assert!(error.kind() == "unavailable" && error.report().remedy_text().is_some(), "{error}");
    let store = fixture.store_with(|s| s.min_free = u64::MAX);
    let error = store.commit(&image("a-1"), &AtomicBool::new(false)).expect_err("no disk is that free");
    assert!(error.kind() == "unavailable" && error.report().remedy_text().is_some(), "{error}");
    assert!(!fixture.image("a-1").exists());
    assert!(restored(&store, "a-1") == Content::varied(1), "restoring goes on");
}
