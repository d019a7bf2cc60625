//! Encrypted images: nothing of them can be read on disk, nothing that was changed or exchanged is restored, and a wrong key is a wrong
//! key, not a damaged image.

use std::os::unix::fs::PermissionsExt;

use super::super::envelope;
use super::*;

const SECRET: &[u8] = b"the launch code is 0000, do not tell anybody about it";

/// Every kind of file with a secret in it, not compressed.
fn telling() -> Content {
    let mut content = Content::varied(7);
    for bytes in content.criu.values_mut().chain(content.files.values_mut()) {
        bytes.extend_from_slice(SECRET);
    }
    content
}

/// One durable encrypted image without a hot copy.
fn durable_image(content: &Content) -> (Fixture, Store) {
    let fixture = Fixture::quick().encrypted(1);
    let store = fixture.store_with(|s| s.keep_hot = 0);
    keep(&store, "a-1", content);
    (fixture, store)
}

/// That both ways to read it notice, and nothing of it is left where CRIU could find it.
fn assert_noticed(fixture: &Fixture, store: &Store, what: &str) -> String {
    let verify = || store.verify(&image("a-1")).map(drop);
    let restore = || store.open_for_restore(&image("a-1")).map(drop);
    let mut said = String::new();
    for way in [&verify as &dyn Fn() -> crate::Result<()>, &restore] {
        let error = way().expect_err(what);
        assert_eq!(error.kind(), "corrupt", "{what}: {error}");
        said = error.to_string();
        // So that the second way has to notice by itself.
        fs::remove_file(fixture.mark("a-1.damaged")).expect("the mark was set");
    }
    assert!(!fixture.hot("a-1").exists(), "{what}: left in memory");
    said
}

fn holds(folder: &Path, needle: &[u8]) -> Vec<PathBuf> {
    let files = tree(folder).into_iter().filter(|path| folder.join(path).is_file());
    let has = |path: &PathBuf| {
        let bytes = fs::read(folder.join(path)).expect("read");
        bytes.windows(needle.len()).any(|window| window == needle)
    };
    files.filter(has).collect()
}

#[test]
fn every_codec_gives_back_what_was_dumped() {
    for codec in CODECS {
        let fixture = Fixture::new().encrypted(1);
        let store = fixture.store_with(|s| (s.codec, s.keep_hot) = (codec, 0));
        keep(&store, "a-1", &Content::varied(3));
        store.verify(&image("a-1")).expect("whole");
        assert!(restored(&store, "a-1") == Content::varied(3), "{codec:?}");
        let record = store.list(&service()).expect("listed").remove(0);
        assert_eq!(record.about, Some(about("a-1")), "with the key all is known");
        assert!(record.key.is_some() && record.facts.usable(), "{record:?}");
    }
}

#[test]
fn nothing_of_an_image_can_be_read_on_disk() {
    let needles = |content: &Content| {
        let all = content.criu.values().chain(content.files.values());
        let hashes = all.map(|bytes| blake3::hash(bytes).to_hex().to_string().into_bytes());
        let words = [SECRET, b"tmpfs-dev-1.tar.gz.img", b"runtime_state\": {", b"/data"].map(<[u8]>::to_vec);
        words.into_iter().chain(hashes).collect::<Vec<_>>()
    };
    for fixture in [Fixture::new().encrypted(1), Fixture::new()] {
        let encrypted = !fixture.keys.is_empty();
        let store = fixture.store_with(|s| s.codec = Codec::None);
        take(&store, "a-1", &telling());
        let found = holds(fixture.disk.path(), SECRET);
        assert_eq!(found.is_empty(), encrypted, "captured files of a hot image: {found:?}");
        commit(&store, "a-1");
        drop(store.open_for_restore(&image("a-1")).expect("hot"));
        fs::remove_dir_all(fixture.hot("a-1")).expect("as after a reboot");
        drop(store);
        let store = fixture.store_with(|s| s.codec = Codec::None);
        assert!(restored(&store, "a-1") == telling());
        for needle in needles(&telling()) {
            let found = holds(fixture.disk.path(), &needle);
            let needle = String::from_utf8_lossy(&needle);
            assert_eq!(found.is_empty(), encrypted, "{needle} in {found:?}, encrypted: {encrypted}");
        }
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_noticed() {
    let (fixture, store) = durable_image(&Content::small(5));
    let files = contents(&fixture.image("a-1"));
    assert_eq!(
        files.keys().collect::<Vec<_>>(),
        ["files-0.seg", "files-1.seg", "key", "manifest", "memory-0.seg", "state.seg"]
    );
    for (name, bytes) in &files {
        let path = fixture.image("a-1").join(name);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1 << (at % 8);
            fs::write(&path, &bad).expect("flipped");
            assert_noticed(&fixture, &store, &format!("byte {at} of {name}"));
            if at % 5 == 0 {
                fs::write(&path, &bytes[..at]).expect("cut");
                assert_noticed(&fixture, &store, &format!("{name} cut to {at}"));
            }
        }
        fs::write(&path, [bytes, &b"\0"[..]].concat()).expect("lengthened");
        assert_noticed(&fixture, &store, &format!("{name} lengthened"));
        fs::remove_file(&path).expect("removed");
        assert_noticed(&fixture, &store, &format!("{name} is missing"));
        fs::write(&path, bytes).expect("mended");
    }
    assert!(restored(&store, "a-1") == Content::small(5), "all was mended");
}

#[test]
fn a_part_of_another_image_is_noticed() {
    let (fixture, store) = durable_image(&Content::small(5));
    // The same bytes of the same service under the same key: only the image differs.
    keep(&store, "a-2", &Content::small(5));
    let (one, other) = (fixture.image("a-1"), fixture.image("a-2"));
    let whole = contents(&one);
    for (name, bytes) in &whole {
        fs::copy(other.join(name), one.join(name)).expect("exchanged");
        assert_noticed(&fixture, &store, &format!("{name} of another image"));
        fs::write(one.join(name), bytes).expect("mended");
    }
    for pair in [
        &["manifest", "key"][..],
        &["manifest", "key", "state.seg", "memory-0.seg", "files-0.seg", "files-1.seg"],
    ] {
        for name in pair {
            fs::copy(other.join(name), one.join(name)).expect("exchanged");
        }
        assert_noticed(&fixture, &store, &format!("{pair:?} of another image"));
    }
    for (name, bytes) in &whole {
        fs::write(one.join(name), bytes).expect("mended");
    }
    let (first, second) = (fs::read(one.join("files-0.seg")), fs::read(one.join("files-1.seg")));
    fs::write(one.join("files-0.seg"), second.expect("read")).expect("swapped");
    fs::write(one.join("files-1.seg"), first.expect("read")).expect("swapped");
    assert_noticed(&fixture, &store, "two segments swapped");
}

#[test]
fn blocks_in_another_order_do_not_open() {
    let mut content = Content::small(5);
    content.criu.insert("pages-1.img".to_owned(), noise(1, 3 * MIB));
    let (fixture, store) = durable_image(&content);
    let path = fixture.image("a-1").join("memory-0.seg");
    let bytes = fs::read(&path).expect("read");
    // Three full blocks that no codec makes smaller are of one length.
    let (header, blocks) = bytes.split_at(16);
    let length = blocks.len() / 3;
    assert_eq!((blocks.len() % 3, length), (0, 24 + 64 + MIB));
    let [one, two, three] = [0, 1, 2].map(|n| &blocks[n * length..(n + 1) * length]);
    for order in [[two, one, three], [one, three, two], [one, one, three]] {
        fs::write(&path, [header, order[0], order[1], order[2]].concat()).expect("written");
        let said = assert_noticed(&fixture, &store, "another order");
        assert!(said.contains("encrypted block is not the one written there"), "{said}");
    }
}

#[test]
fn the_readable_part_is_believed_only_with_the_rest() {
    let (fixture, store) = durable_image(&Content::small(5));
    let path = fixture.image("a-1").join("manifest");
    let bytes = fs::read(&path).expect("read");
    let content = &bytes[bytes.iter().position(|b| *b == b'\n').expect("a first line") + 1..];
    let end = content.iter().position(|b| *b == b'\n').expect("a readable line");
    let line = std::str::from_utf8(&content[..end]).expect("text");
    for (was, is) in [("\"unjudged\"", "\"good\""), ("node-1", "node-2"), ("\"taken_at\":", "\"taken_at\":1")]
    {
        assert!(line.contains(was), "{was} is not in {line}");
        let forged = [line.replace(was, is).as_bytes(), &content[end..]].concat();
        fs::write(&path, envelope::seal("supervisor-image", 2, &forged)).expect("forged");
        let said = assert_noticed(&fixture, &store, is);
        assert!(said.contains("encrypted manifest is not the one of this image"), "{said}");
        assert!(store.list(&service()).expect("listed")[0].facts.damaged, "in a list, too");
    }
}

#[test]
fn a_wrong_key_is_said_and_damages_nothing() {
    let (mut fixture, store) = durable_image(&Content::small(5));
    drop((restored(&store, "a-1"), store));
    fs::remove_dir_all(fixture.hot("a-1")).expect("as after a reboot");
    let right = std::mem::take(&mut fixture.keys);
    for key in [None, Some(9)] {
        fixture.keys.clear();
        key.into_iter().for_each(|key| fixture.use_key(key));
        let store = fixture.store_with(|s| s.keep_hot = 0);
        let mut archive = Vec::new();
        let tries = [
            store.open_for_restore(&image("a-1")).map(drop),
            store.verify(&image("a-1")).map(drop),
            store.export(&image("a-1"), &mut archive).map(drop),
            store.commit(&image("a-1"), &AtomicBool::new(false)).map(drop),
        ];
        for tried in tries {
            let error = tried.expect_err("a wrong key");
            assert_eq!(error.kind(), "refused", "{error}");
            assert!(error.report().remedy_text().is_some_and(|r| r.contains("encryption_")), "{error}");
        }
        let record = store.list(&service()).expect("listed").remove(0);
        assert!(archive.is_empty() && !fixture.mark("a-1.damaged").exists());
        assert!(record.facts.locked && !record.facts.damaged && !record.facts.usable(), "{record:?}");
        assert!(record.facts.incompatible.is_some_and(|why| why.contains("which is not configured")));
        assert_eq!(record.facts.taken_at, about("a-1").taken_at, "what retention needs is known");
        assert_eq!(store.encryption().expect("looked").locked.len(), 1);
        keep(&store, "a-2", &Content::small(6));
        assert_eq!(store.remove(&[image("a-2")]).expect("removed").removed.len(), 1);
    }
    fixture.keys = right;
    let store = fixture.store();
    assert!(store.list(&service()).expect("listed")[0].facts.usable());
    assert!(restored(&store, "a-1") == Content::small(5));
}

#[test]
fn keys_are_rotated_by_wrapping_data_keys_anew() {
    let (mut fixture, store) = durable_image(&Content::small(5));
    keep(&store, "a-2", &Content::small(6));
    let segments = || contents(&fixture.image("a-1")).into_iter().filter(|(name, _)| name != "key");
    let before: BTreeMap<_, _> = segments().collect();
    drop(store);
    fixture.use_key(2);
    let store = fixture.store();
    assert!(restored(&store, "a-1") == Content::small(5), "under the former key");
    let found = store.encryption().expect("looked");
    assert_eq!((found.current, found.former), (0, 2));
    let outcome = store.rekey().expect("wrapped anew");
    assert_eq!((outcome.done.len(), outcome.already, outcome.left.len()), (2, 0, 0));
    assert_eq!(Some(&outcome.key), store.encryption().expect("looked").key.as_ref());
    let again = store.rekey().expect("done again");
    assert_eq!((again.done.len(), again.already), (0, 2));
    assert_eq!(before, contents(&fixture.image("a-1")).into_iter().filter(|(n, _)| n != "key").collect());
    drop(store);
    fixture.keys.truncate(1);
    let store = fixture.store_with(|s| s.keep_hot = 0);
    store.verify(&image("a-2")).expect("the former key is not needed any more");
    fs::remove_dir_all(fixture.hot("a-1")).expect("as after a reboot");
    assert!(restored(&store, "a-1") == Content::small(5));
}

#[test]
fn a_rotation_goes_on_past_what_it_cannot_open() {
    let (mut fixture, store) = durable_image(&Content::small(5));
    drop(store);
    fixture.keys.clear();
    let plain = fixture.store();
    keep(&plain, "a-2", &Content::small(6));
    assert_eq!(plain.rekey().expect_err("no key").kind(), "refused");
    drop(plain);
    fixture.use_key(3);
    let store = fixture.store();
    keep(&store, "a-3", &Content::small(7));
    let outcome = store.rekey().expect("as far as it goes");
    assert_eq!((outcome.done.len(), outcome.already, outcome.plain), (0, 1, 1));
    assert!(outcome.left[0].0 == image("a-1") && outcome.left[0].1.contains("not configured"));
    assert!(restored(&store, "a-2") == Content::small(6), "images of before stay readable");
}

#[test]
fn a_passphrase_is_a_key_too() {
    let fixture = Fixture::new();
    let file = |name: &str, words: &str| {
        let path = fixture.memory.path().join(name);
        durable::atomic_write_volatile(&path, words.as_bytes(), 0o600).expect("written");
        Some(KeySource::Passphrase(path))
    };
    let right = file("right", "correct horse battery staple\n");
    let open = |source: &Option<KeySource>| {
        let keys = Keyring::load(source.as_ref(), &[]).expect("a passphrase");
        fixture.store_with(|s| (s.keys, s.keep_hot) = (keys.clone(), 0))
    };
    let store = open(&right);
    keep(&store, "a-1", &Content::small(1));
    let key = store.encryption().expect("looked").key;
    drop(store);
    let store = open(&right);
    assert_eq!(store.encryption().expect("looked").key, key, "the salt is kept");
    assert!(restored(&store, "a-1") == Content::small(1));
    store.commit(&image("a-1"), &AtomicBool::new(false)).expect("it is durable");
    drop(store);
    let store = open(&file("wrong", "incorrect horse battery staple"));
    assert_eq!(store.verify(&image("a-1")).expect_err("another passphrase").kind(), "refused");
}

#[test]
fn unencrypted_bytes_stay_in_memory_or_are_not_made() {
    let fixture = Fixture::new().encrypted(1);
    let store = fixture.store_with(|s| s.hot_max_size = Some(1000));
    let stage = |bytes| store.stage(&service(), &image("a-1"), StageNeeds { memory: bytes, files: 0 });
    let error = stage(1001).expect_err("it does not fit");
    assert!(error.kind() == "unavailable" && error.report().remedy_text().is_some(), "{error}");
    let needs = StageNeeds { memory: 1, files: 1000 };
    assert_eq!(store.stage(&service(), &image("a-1"), needs).expect_err("nor this").kind(), "unavailable");
    let staging = stage(1000).expect("it fits");
    assert!(staging.files_dir().starts_with(fixture.memory.path()));
    drop(staging);
    assert_eq!(tree(fixture.disk.path()), [PathBuf::from("store")]);

    keep(&store, "a-1", &Content::varied(1));
    assert!(!fixture.hot("a-1").exists(), "it takes too much memory to stay");
    let error = store.open_for_restore(&image("a-1")).expect_err("it does not fit");
    assert_eq!(error.kind(), "unavailable", "{error}");
    assert!(!fixture.mark("a-1.damaged").exists());
    let error = Store::open(Settings { hot: None, ..fixture.settings() }).expect_err("nowhere to put them");
    assert!(error.kind() == "refused" && error.report().remedy_text().is_some(), "{error}");
}

#[test]
fn what_lay_on_disk_before_encryption_goes_once_it_is_encrypted() {
    let mut fixture = Fixture::new();
    let store = fixture.store_with(|s| s.codec = Codec::None);
    keep(&store, "a-1", &Content::small(1));
    take(&store, "a-2", &telling());
    drop(store);
    fixture.use_key(1);
    let store = fixture.store();
    assert!(restored(&store, "a-2") == telling(), "still hot, with its files");
    assert!(!holds(&fixture.image(".files-a-2"), SECRET).is_empty());
    commit(&store, "a-2");
    assert!(!fixture.image(".files-a-2").exists());
    assert_eq!(holds(fixture.disk.path(), SECRET), Vec::<PathBuf>::new());
    assert!(restored(&store, "a-2") == telling());
    assert!(restored(&store, "a-1") == Content::small(1));
}

#[test]
fn an_archive_is_as_encrypted_as_the_image() {
    let (fixture, store) = durable_image(&telling());
    let mut archive = Vec::new();
    store.export(&image("a-1"), &mut archive).expect("exported");
    assert!(!archive.windows(SECRET.len()).any(|window| window == SECRET));
    for (key, expected) in [(None, Some("refused")), (Some(2), Some("refused")), (Some(1), None)] {
        let mut to = Fixture::quick();
        key.into_iter().for_each(|key| to.use_key(key));
        let there = to.store();
        let imported = there.import(&mut archive.as_slice());
        assert_eq!(imported.as_ref().err().map(|e| e.kind()), expected, "{key:?}");
        if imported.is_ok() {
            assert!(restored(&there, "a-1") == telling());
            let mut again = Vec::new();
            there.export(&image("a-1"), &mut again).expect("exported");
            assert!(again == archive);
        } else {
            assert_eq!(tree(&to.disk.path().join("store")), Vec::<PathBuf>::new(), "nothing is left");
        }
    }
    for at in (0..archive.len()).step_by(archive.len() / 60) {
        let mut bad = archive.clone();
        bad[at] ^= 1;
        let there = Fixture::quick().encrypted(1);
        let error = there.store().import(&mut bad.as_slice()).expect_err("flipped");
        assert!(["corrupt", "invalid"].contains(&error.kind()), "byte {at}: {error}");
    }
    drop(fixture);
}

#[test]
fn the_same_bytes_are_encrypted_differently_each_time() {
    let (fixture, store) = durable_image(&Content::varied(5));
    keep(&store, "a-2", &Content::varied(5));
    let blocks = |id: &str| fs::read(fixture.image(id).join("memory-0.seg")).expect("read").split_off(16 + 8);
    let (one, other) = (blocks("a-1"), blocks("a-2"));
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!(same < one.len() / 100, "{same} of {} bytes are the same", one.len());
}

#[test]
fn nobody_else_can_read_a_key() {
    let (fixture, _store) = durable_image(&Content::small(1));
    let found = fs::metadata(fixture.image("a-1").join("key")).expect("there");
    assert_eq!(found.permissions().mode() & 0o7777, 0o600);
}
