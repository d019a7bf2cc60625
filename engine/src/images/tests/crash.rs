//! The supervisor dies at each step, by SIGKILL; the next start finds what `docs/image-format.md` says it finds.
//!
//! The step is done by a child: this test program again, running [`child`] alone with a fail point set.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use super::super::Swept;
use super::*;
use crate::failpoint;

const ACT: &str = "IMAGES_TEST_ACT";
const DISK: &str = "IMAGES_TEST_DISK";
const MEMORY: &str = "IMAGES_TEST_MEMORY";
const KEYS: &str = "IMAGES_TEST_KEYS";

/// What the next start finds of the image `a-2`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    /// Waits to be committed.
    Hot,
    Durable,
    Both,
}

/// What the child does, the point at which it dies, what is found, and what the start cleaned up:
/// staging, trash, hot, files, marks.
type Row = (&'static str, &'static str, Found, [usize; 5]);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    ("take",   "image.stage",            Found::Nothing, [0, 0, 1, 0, 0]),
    ("take",   "image.seal.before",      Found::Nothing, [0, 0, 1, 0, 0]),
    ("take",   "image.sealed",           Found::Hot,     [0, 0, 0, 0, 0]),
    ("commit", "image.staging",          Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.segment@1",        Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.segment@2",        Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.segment@3",        Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.segment@4",        Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.manifest.before",  Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.manifest.after",   Found::Hot,     [1, 0, 0, 0, 0]),
    ("commit", "image.rename.after",     Found::Both,    [0, 0, 0, 0, 0]),
    ("unpack", "image.unpack",           Found::Durable, [0, 0, 1, 0, 0]),
    ("unpack", "image.unpacked",         Found::Both,    [0, 0, 0, 0, 0]),
    ("judge",  "mark.before",            Found::Both,    [0, 0, 0, 0, 0]),
    ("judge",  "mark.after",             Found::Both,    [0, 0, 0, 0, 0]),
    ("remove", "remove.seal",            Found::Durable, [0, 0, 1, 0, 0]),
    ("remove", "remove.hot",             Found::Durable, [0, 0, 0, 0, 0]),
    ("remove", "remove.renamed",         Found::Nothing, [0, 1, 0, 0, 1]),
    ("remove", "remove.marks",           Found::Nothing, [0, 1, 0, 0, 0]),
    ("remove", "remove.done",            Found::Nothing, [0, 0, 0, 0, 0]),
    ("import", "import.manifest.before", Found::Nothing, [1, 0, 0, 0, 0]),
    ("import", "mark.after",             Found::Nothing, [1, 0, 0, 0, 1]),
    ("import", "import.rename.after",    Found::Durable, [0, 0, 0, 0, 0]),
];

/// What there is besides when images are encrypted.
#[rustfmt::skip]
const ENCRYPTED: &[Row] = &[
    ("commit", "image.key",              Found::Hot,     [1, 0, 0, 0, 0]),
    ("rekey",  "rekey.before",           Found::Both,    [0, 0, 0, 0, 0]),
    ("rekey",  "rekey.after",            Found::Both,    [0, 0, 0, 0, 0]),
    ("rekey",  "rekey.after@2",          Found::Both,    [0, 0, 0, 0, 0]),
];

#[test]
fn the_next_start_finds_a_whole_store_after_every_step() {
    finds_a_whole_store(TABLE, Fixture::new);
}

#[test]
fn the_next_start_finds_a_whole_encrypted_store_after_every_step() {
    finds_a_whole_store(&[TABLE, ENCRYPTED].concat(), || Fixture::new().encrypted(1));
}

fn finds_a_whole_store(table: &[Row], fixture: impl Fn() -> Fixture) {
    for (act, point, found, swept) in table {
        let what = format!("{act} dies at {point}");
        let mut fixture = fixture();
        prepare(&mut fixture, act);
        die(&fixture, act, point);
        let (store, cleaned) = Store::open(fixture.settings()).expect(&what);
        assert_eq!(
            [cleaned.staging, cleaned.trash, cleaned.hot, cleaned.files, cleaned.marks],
            *swept,
            "{what}"
        );
        assert_eq!(look(&store, "a-2"), *found, "{what}");
        assert_usable(&store, *found, &what);
        assert_verdict(&store, act, point);
        store.verify(&image("a-1")).expect("the older image is as it was");
        assert!(restored(&store, "a-1") == Content::small(1), "{what}: the older image");
        go_on(&store, *found, &what);
        drop(store);
        assert_eq!(
            Store::open(fixture.settings()).expect(&what).1,
            Swept::default(),
            "{what}: nothing is left over"
        );
    }
}

#[test]
fn half_written_small_files_and_orphans_are_swept() {
    let fixture = Fixture::new();
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(1));
    store.pin(&image("a-1")).expect("pinned");
    drop(store);
    fs::write(fixture.mark(".tmp-1-0"), "half").expect("written");
    fs::write(fixture.mark("a-9.pinned"), "orphan").expect("written");
    fs::create_dir(fixture.image(".files-a-9")).expect("created");
    let (store, swept) = Store::open(fixture.settings()).expect("opened");
    assert_eq!(swept, Swept { files: 1, marks: 2, ..Swept::default() });
    assert!(store.list(&service()).expect("listed")[0].facts.pinned);
}

#[test]
fn a_hot_image_of_another_boot_is_no_image() {
    let fixture = Fixture::new();
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(1));
    take(&store, "a-2", &Content::small(2));
    drop(store);
    for id in ["a-1", "a-2"] {
        let path = fixture.hot(id).join("seal");
        let mut seal =
            super::super::hot::Seal::read(&fixture.hot(id), &crate::compat::boot_id().expect("a boot"))
                .expect("sealed in this boot");
        seal.boot_id = "another".to_owned();
        let json = serde_json::to_vec(&seal).expect("written");
        fs::write(path, super::super::envelope::seal("supervisor-seal", 1, &json)).expect("written");
    }
    let (store, swept) = Store::open(fixture.settings()).expect("opened");
    assert_eq!(swept.hot, 2);
    assert_eq!(ids(&store), ["a-1"], "what was durable is left");
    assert!(restored(&store, "a-1") == Content::small(1));
}

/// What has to be there before the act.
fn prepare(fixture: &mut Fixture, act: &str) {
    let store = fixture.store();
    keep(&store, "a-1", &Content::small(1));
    match act {
        "take" => {}
        "commit" => drop(take(&store, "a-2", &Content::small(2))),
        "unpack" | "judge" | "remove" | "rekey" => {
            keep(&store, "a-2", &Content::small(2));
            store.set_verdict(&image("a-2"), ImageVerdict::Good).expect("judged");
        }
        "import" => {
            keep(&store, "a-2", &Content::small(2));
            let mut archive = Vec::new();
            store.export(&image("a-2"), &mut archive).expect("exported");
            fs::write(fixture.disk.path().join("archive"), archive).expect("written");
            store.remove(&[image("a-2")]).expect("removed");
        }
        other => panic!("unknown act: {other}"),
    }
    drop(store);
    if act == "rekey" {
        fixture.use_key(2);
    }
    if act == "unpack" {
        fs::remove_dir_all(fixture.hot("a-2")).expect("as after a reboot");
    }
}

/// Does the act in a child that dies at the point.
fn die(fixture: &Fixture, act: &str, point: &str) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command.args(["--exact", "images::tests::crash::child", "--nocapture"]);
    command.env(ACT, act).env(DISK, fixture.disk.path()).env(MEMORY, fixture.memory.path());
    let keys = std::env::join_paths(&fixture.keys).expect("paths without colons");
    let output = command.env(KEYS, keys).env(failpoint::VARIABLE, point).output().expect("started");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(
        output.status.signal(),
        Some(libc::SIGKILL),
        "{act} passed {point}: {}\n{text}",
        output.status
    );
}

/// Not a test of its own: the part of the child. Without the variables it has nothing to do.
#[test]
fn child() {
    let Ok(act) = std::env::var(ACT) else { return };
    let folder = |name: &str| PathBuf::from(std::env::var(name).expect("given with the act"));
    let keys: Vec<PathBuf> = std::env::split_paths(&std::env::var(KEYS).expect("given with the act"))
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    let settings = settings_in(&folder(DISK), &folder(MEMORY), &keys);
    let (store, id) = (Store::open(settings).expect("opened").0, image("a-2"));
    match act.as_str() {
        "take" => drop(take(&store, "a-2", &Content::small(2))),
        "commit" => drop(commit(&store, "a-2")),
        "unpack" => drop(store.open_for_restore(&id).expect("restored")),
        "judge" => store.set_verdict(&id, ImageVerdict::Suspect).expect("judged"),
        "remove" => drop(store.remove(&[id]).expect("removed")),
        "rekey" => drop(store.rekey().expect("wrapped anew")),
        "import" => {
            let mut archive = fs::File::open(folder(DISK).join("archive")).expect("an archive");
            store.import(&mut archive).expect("imported");
        }
        other => panic!("unknown act: {other}"),
    }
}

fn look(store: &Store, id: &str) -> Found {
    let records = store.list(&service()).expect("listed");
    let record = records.iter().find(|record| record.facts.id == image(id));
    match record.map(|record| (record.facts.hot, record.facts.durable)) {
        None => Found::Nothing,
        Some((true, false)) => Found::Hot,
        Some((false, true)) => Found::Durable,
        Some((true, true)) => Found::Both,
        Some((false, false)) => panic!("listed, but nowhere"),
    }
}

fn assert_usable(store: &Store, found: Found, what: &str) {
    let waiting = store.uncommitted(&service()).expect("listed");
    assert_eq!(waiting, if found == Found::Hot { vec![image("a-2")] } else { vec![] }, "{what}");
    match found {
        Found::Nothing => drop(store.open_for_restore(&image("a-2")).expect_err(what)),
        Found::Hot | Found::Durable | Found::Both => {
            assert!(restored(store, "a-2") == Content::small(2), "{what}")
        }
    }
    if matches!(found, Found::Durable | Found::Both) {
        store.verify(&image("a-2")).expect(what);
    }
}

/// A judgement is the old one or the new one, never anything else.
fn assert_verdict(store: &Store, act: &str, point: &str) {
    if act == "judge" {
        let expected = if point == "mark.after" { ImageVerdict::Suspect } else { ImageVerdict::Good };
        assert_eq!(store.list(&service()).expect("listed")[0].facts.verdict, expected, "{point}");
    }
}

/// The interrupted act, or what comes after it, can be done now.
fn go_on(store: &Store, found: Found, what: &str) {
    match found {
        Found::Nothing => keep(store, "a-2", &Content::small(2)),
        Found::Hot => drop(commit(store, "a-2")),
        Found::Durable | Found::Both => {}
    }
    store.verify(&image("a-2")).expect(what);
    assert_eq!(store.remove(&[image("a-2")]).expect(what).removed, [image("a-2")], "{what}");
}
