//! A full disk, real: a small tmpfs in a mount namespace of the test's own thread.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

/// Runs `test` with a file system of `size` mounted at the store's folder; says so when this host doesn't allow it.
fn with_small_disk(fixture: &Fixture, size: &str, test: impl FnOnce() + Send) {
    let folder = fixture.disk.path().join("store");
    fs::create_dir(&folder).expect("created");
    std::thread::scope(|scope| {
        let outcome = scope.spawn(move || match mount_alone(&folder, size) {
            Ok(()) => test(),
            // Said aloud: nothing was tested.
            Err(error) => eprintln!("SKIPPED: cannot mount a small file system here: {error}"),
        });
        outcome.join().expect("the test on the small disk");
    });
}

/// Only this thread and its children see the mount, and it ends with them.
fn mount_alone(folder: &Path, size: &str) -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(format!("size={size}").as_str()))
}

fn heavy() -> Content {
    let mut content = Content::small(9);
    content.criu.insert("pages-2.img".to_owned(), noise(9, 6 * MIB));
    content
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_commit_loses_nothing() {
    let fixture = Fixture::new();
    with_small_disk(&fixture, "8m", || {
        let store = fixture.store();
        // Zeros: the store learns that images of this service are tiny, and lets the heavy one begin.
        let mut light = Content::small(1);
        light.criu.insert("pages-2.img".to_owned(), vec![0; 10 * MIB]);
        keep(&store, "a-1", &light);
        fs::write(fixture.disk.path().join("store/filler"), noise(0, 4 * MIB)).expect("room for the filler");
        take(&store, "a-2", &heavy());
        let error = store.commit(&image("a-2"), &AtomicBool::new(false)).expect_err("6 MiB in 4");
        assert!(error.kind() == "unavailable" && error.to_string().contains("write"), "{error}");
        assert!(error.report().remedy_text().is_some());
        assert!(!fixture.image(".staging-a-2").exists() && !fixture.image("a-2").exists());
        store.verify(&image("a-1")).expect("the last good image is as it was");
        assert!(restored(&store, "a-2") == heavy(), "the hot copy is as it was");
        fs::remove_file(fixture.disk.path().join("store/filler")).expect("room again");
        commit(&store, "a-2");
        store.verify(&image("a-2")).expect("whole");
    });
}

#[test]
fn a_disk_that_is_too_small_is_known_before_anything_is_written() {
    let fixture = Fixture::new();
    with_small_disk(&fixture, "2m", || {
        let store = fixture.store();
        take(&store, "a-1", &heavy());
        let error = store.commit(&image("a-1"), &AtomicBool::new(false)).expect_err("too small");
        assert!(error.kind() == "unavailable" && error.to_string().contains("not enough space"), "{error}");
        let needs = StageNeeds { memory: 0, files: 3 << 20 };
        let error =
            store.stage(&service(), &image("a-2"), needs).expect_err("too small for the captured files");
        assert_eq!(error.kind(), "unavailable", "{error}");
        assert!(restored(&store, "a-1") == heavy());
    });
}

#[test]
fn a_read_only_disk_is_refused_with_a_remedy() {
    let fixture = Fixture::new();
    with_small_disk(&fixture, "2m", || {
        let store = fixture.store();
        take(&store, "a-1", &Content::small(1));
        let folder = fixture.disk.path().join("store");
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &folder, None::<&str>, flags, None::<&str>).expect("remounted");
        let error = store.commit(&image("a-1"), &AtomicBool::new(false)).expect_err("read-only");
        assert!(error.kind() == "refused" && error.report().remedy_text().is_some(), "{error}");
        assert!(restored(&store, "a-1") == Content::small(1), "a hot image needs no disk");
    });
}

#[test]
fn an_archive_that_does_not_fit_leaves_nothing() {
    let (from, to) = (Fixture::new(), Fixture::new());
    let store = from.store();
    keep(&store, "a-1", &heavy());
    let mut archive = Vec::new();
    store.export(&image("a-1"), &mut archive).expect("exported");
    with_small_disk(&to, "2m", || {
        let store = to.store();
        let error = store.import(&mut archive.as_slice()).expect_err("too small");
        assert_eq!(error.kind(), "unavailable", "{error}");
        assert_eq!(ids(&store), [""; 0]);
        assert!(!to.image(".staging-a-1").exists());
    });
}
