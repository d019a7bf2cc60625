//! Nothing that was changed is restored: every file of an image, flipped, cut, lengthened, replaced or gone.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::{Duration, Instant};

use super::super::Source;
use super::*;

/// A durable image without a hot copy.
fn durable(codec: Codec, content: &Content) -> (Fixture, Store) {
    let fixture = Fixture::quick();
    let store = fixture.store_with(|s| (s.codec, s.keep_hot) = (codec, 0));
    keep(&store, "a-1", content);
    (fixture, store)
}

/// That both ways to read it notice, that it is remembered, and that nothing of it is left where CRIU could find it.
fn assert_noticed(fixture: &Fixture, store: &Store, what: &str) {
    let verify = || store.verify(&image("a-1")).map(drop);
    let restore = || store.open_for_restore(&image("a-1")).map(drop);
    for way in [&verify as &dyn Fn() -> crate::Result<()>, &restore] {
        let error = way().expect_err(what);
        assert_eq!(error.kind(), "corrupt", "{what}: {error}");
        assert!(store.list(&service()).expect("listed")[0].facts.damaged, "{what}");
        // So that the second way has to notice by itself.
        fs::remove_file(fixture.mark("a-1.damaged")).expect("the mark was set");
    }
    assert!(!fixture.hot("a-1").exists(), "{what}: left in memory");
}

fn flip(path: &Path, at: u64, bit: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ (1 << bit)], at).expect("written");
}

#[test]
fn every_flipped_byte_of_a_small_image_is_noticed() {
    for codec in CODECS {
        let (fixture, store) = durable(codec, &Content::small(5));
        let files = contents(&fixture.image("a-1"));
        assert_eq!(
            files.keys().collect::<Vec<_>>(),
            ["files-0.seg", "files-1.seg", "manifest", "memory-0.seg", "state.seg"]
        );
        // All of them for the default; a few for the others, which differ in little.
        let step = if codec == Codec::Zstd { 1 } else { 13 };
        for (name, bytes) in &files {
            let path = fixture.image("a-1").join(name);
            for at in (0..bytes.len() as u64).step_by(step) {
                let bit = (at % 8) as u8;
                flip(&path, at, bit);
                assert_noticed(&fixture, &store, &format!("{codec:?}: bit {bit} of byte {at} of {name}"));
                flip(&path, at, bit);
            }
        }
        assert!(restored(&store, "a-1") == Content::small(5), "all was flipped back");
    }
}

#[test]
fn flipped_bytes_all_over_a_big_image_are_noticed() {
    for codec in CODECS {
        let (fixture, store) = durable(codec, &Content::varied(5));
        for (name, bytes) in contents(&fixture.image("a-1")) {
            let path = fixture.image("a-1").join(&name);
            let last = bytes.len() as u64 - 1;
            for at in (0..=4).map(|part| last * part / 4).chain([16, 17, 79, 80]).filter(|at| *at <= last) {
                flip(&path, at, 3);
                assert_noticed(&fixture, &store, &format!("{codec:?}: byte {at} of {name}"));
                flip(&path, at, 3);
            }
        }
        assert!(restored(&store, "a-1") == Content::varied(5), "all was flipped back");
    }
}

#[test]
fn every_cut_and_every_addition_is_noticed() {
    let (fixture, store) = durable(Codec::Zstd, &Content::small(5));
    for (name, bytes) in contents(&fixture.image("a-1")) {
        let path = fixture.image("a-1").join(&name);
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).expect("cut");
            assert_noticed(&fixture, &store, &format!("{name} cut to {length}"));
        }
        for more in [&b"\0"[..], b"\n", &[0; 64], &bytes] {
            fs::write(&path, [&bytes, more].concat()).expect("lengthened");
            assert_noticed(&fixture, &store, &format!("{name} lengthened"));
        }
        fs::write(&path, &bytes).expect("mended");
    }
    assert!(restored(&store, "a-1") == Content::small(5));
}

#[test]
fn missing_swapped_and_linked_files_are_noticed() {
    let (fixture, store) = durable(Codec::Zstd, &Content::small(5));
    let folder = fixture.image("a-1");
    for name in contents(&folder).into_keys() {
        let (path, aside) = (folder.join(&name), fixture.disk.path().join("aside"));
        fs::rename(&path, &aside).expect("moved");
        if name == "manifest" {
            // Without its manifest it is no image: there is nothing to quarantine for, but it is seen as damaged.
            assert!(store.list(&service()).expect("listed")[0].facts.damaged);
        }
        assert_noticed(&fixture, &store, &format!("{name} is missing"));
        symlink(&aside, &path).expect("linked");
        assert_noticed(&fixture, &store, &format!("{name} is a link"));
        fs::remove_file(&path).expect("removed");
        fs::rename(&aside, &path).expect("moved back");
    }
    let (one, two) = (folder.join("files-0.seg"), folder.join("files-1.seg"));
    let (first, second) = (fs::read(&one).expect("read"), fs::read(&two).expect("read"));
    fs::write(&one, second).expect("swapped");
    fs::write(&two, first).expect("swapped");
    assert_noticed(&fixture, &store, "two segments swapped");
}

#[test]
fn an_image_in_another_ones_folder_is_noticed() {
    let (fixture, store) = durable(Codec::Zstd, &Content::small(5));
    keep(&store, "a-2", &Content::small(6));
    fs::remove_dir_all(fixture.image("a-1")).expect("removed");
    fs::rename(fixture.image("a-2"), fixture.image("a-1")).expect("renamed");
    assert_noticed(&fixture, &store, "a whole image under a wrong name");
}

#[test]
fn a_damaged_image_is_never_offered_again() {
    let (fixture, store) = durable(Codec::Zstd, &Content::small(5));
    flip(&fixture.image("a-1").join("memory-0.seg"), 200, 0);
    store.open_for_restore(&image("a-1")).expect_err("damaged");
    flip(&fixture.image("a-1").join("memory-0.seg"), 200, 0);
    drop(store);
    let store = fixture.store();
    let error = store.open_for_restore(&image("a-1")).expect_err("remembered");
    assert!(error.kind() == "corrupt" && error.to_string().contains("memory-0.seg"), "{error}");
    let record = store.list(&service()).expect("listed").remove(0);
    assert!(record.facts.damaged && !record.facts.usable() && record.damage.is_some());
    assert!(fixture.image("a-1").join("manifest").exists(), "kept for inspection");
    assert_eq!(store.remove(&[image("a-1")]).expect("removed").removed, [image("a-1")]);
}

#[test]
fn a_mark_that_was_changed_is_believed_to_say_what_is_safe() {
    let (fixture, store) = durable(Codec::Zstd, &Content::small(5));
    store.set_verdict(&image("a-1"), ImageVerdict::Good).expect("judged");
    store.pin(&image("a-1")).expect("pinned");
    for (name, expected) in
        [("a-1.verdict", (ImageVerdict::Suspect, true)), ("a-1.pinned", (ImageVerdict::Good, true))]
    {
        let length = fs::metadata(fixture.mark(name)).expect("there").len();
        for at in 0..length {
            flip(&fixture.mark(name), at, 1);
            let facts = store.list(&service()).expect("listed").remove(0).facts;
            assert_eq!((facts.verdict, facts.pinned), expected, "byte {at} of {name}");
            flip(&fixture.mark(name), at, 1);
        }
    }
}

/// A way to touch one of the sealed files, and what it is called.
type Touch = (&'static str, fn(&Path));
const TOUCHES: [Touch; 7] = [
    ("a byte changed in place", |path| flip(path, 0, 0)),
    ("a byte changed and changed back", |path| {
        flip(path, 0, 0);
        flip(path, 0, 0);
    }),
    ("lengthened", |path| {
        let length = fs::metadata(path).expect("there").len();
        File::options().write(true).open(path).and_then(|f| f.write_all_at(b"x", length)).expect("written");
    }),
    ("cut", |path| File::options().write(true).open(path).and_then(|f| f.set_len(1)).expect("cut")),
    ("replaced by a copy", |path| {
        let copy = path.with_file_name("copy");
        fs::copy(path, &copy).and_then(|_| fs::rename(copy, path)).expect("replaced");
    }),
    ("removed", |path| fs::remove_file(path).expect("removed")),
    ("joined by another", |path| fs::write(path.with_file_name("stats-restore"), "x").expect("written")),
];

/// Until the clock of the file system has moved on: on kernels before 6.13 changes within one tick have the same time.
fn wait_for_a_tick(file: &Path, scratch: &Path) {
    let changed = |path: &Path| {
        let found = fs::metadata(path).expect("there");
        (found.ctime(), found.ctime_nsec())
    };
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        fs::write(scratch, "x").expect("written");
        if changed(scratch) > changed(file) {
            break;
        }
        assert!(Instant::now() < limit, "the clock stands still");
    }
}

#[test]
fn a_hot_copy_that_was_touched_is_replaced_by_the_durable_one() {
    for (touched, touch) in TOUCHES {
        for name in ["criu/pages-1.img", "criu/inventory.img", "files/blobs.pack"] {
            let fixture = Fixture::quick();
            let store = fixture.store();
            keep(&store, "a-1", &Content::small(4));
            let path = match name.strip_prefix("files/") {
                Some(file) => fixture.image(".files-a-1").join(file),
                None => fixture.hot("a-1").join(name),
            };
            wait_for_a_tick(&path, &fixture.memory.path().join("scratch"));
            touch(&path);
            let prepared = store.open_for_restore(&image("a-1")).expect("the durable copy serves");
            assert_eq!(prepared.source(), Source::Unpacked, "{name} {touched}");
            assert!(Content::of(&prepared) == Content::small(4), "{name} {touched}");
        }
    }
}

#[test]
fn a_hot_copy_that_was_touched_and_has_no_other_is_damaged() {
    for (touched, touch) in TOUCHES {
        let fixture = Fixture::quick();
        let store = fixture.store();
        take(&store, "a-1", &Content::small(4));
        let path = fixture.hot("a-1").join("criu/pages-1.img");
        wait_for_a_tick(&path, &fixture.memory.path().join("scratch"));
        touch(&path);
        let error = store.commit(&image("a-1"), &AtomicBool::new(false)).expect_err(touched);
        assert_eq!(error.kind(), "corrupt", "{touched}: {error}");
        assert!(!fixture.image("a-1").exists(), "{touched}: made durable");
        assert_eq!(store.open_for_restore(&image("a-1")).expect_err(touched).kind(), "corrupt");
        assert!(store.list(&service()).expect("listed")[0].facts.damaged, "{touched}");
        assert_eq!(store.uncommitted(&service()).expect("listed"), [], "{touched}: offered for a commit");
    }
}

#[test]
fn a_damaged_seal_is_no_seal() {
    let fixture = Fixture::quick();
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(4));
    let seal = fixture.hot("a-1").join("seal");
    let mut at = 0;
    // Looked at anew: it is written again each time, and its times have more or fewer digits.
    while at < fs::metadata(&seal).expect("there").len() {
        flip(&seal, at, 2);
        let prepared = store.open_for_restore(&image("a-1")).expect("the durable copy serves");
        assert_eq!(prepared.source(), Source::Unpacked, "byte {at}");
        at += 1;
    }
    assert!(restored(&store, "a-1") == Content::small(4));
}

#[test]
fn opening_a_mode_or_an_owner_counts_as_a_touch() {
    let fixture = Fixture::quick();
    let store = fixture.store();
    take(&store, "a-1", &Content::small(4));
    let path = fixture.hot("a-1").join("criu/core-1.img");
    wait_for_a_tick(&path, &fixture.memory.path().join("scratch"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("opened");
    assert_eq!(store.open_for_restore(&image("a-1")).expect_err("touched").kind(), "corrupt");
}
