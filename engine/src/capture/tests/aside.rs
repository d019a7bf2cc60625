//! A put-back that is cut short anywhere can be undone, and an undo that is cut short can be done again.

use std::path::{Path, PathBuf};

use super::generator::{Dice, mutate};
use super::{Bench, assert_same, listing};
use crate::Error;
use crate::capture::aside::undo_with;
use crate::capture::put::{Fuse, put_back_with};
use crate::capture::{Index, Pending, keep_pending, pending, put_back, undo_pending};

/// A tree of which half has changed since its image.
struct Changed {
    bench: Bench,
    image: PathBuf,
    index: Index,
}

fn changed(seed: u64) -> Changed {
    let bench = Bench::new();
    let mut dice = Dice::new(seed);
    mutate(&bench.tree(), &mut dice, 40);
    let (captured, image) = bench.capture("image");
    mutate(&bench.tree(), &mut dice, 30);
    Changed { bench, image, index: captured.index }
}

impl Changed {
    fn put_back(&self, aside: &Path, fuse: &Fuse) -> crate::Result<()> {
        put_back_with(&self.index, &self.image, &self.bench.trees(), aside, fuse).map(drop)
    }

    /// Stops the put-back after each of its changes in turn, then each undo of a whole one.
    fn crash_everywhere(&self, aside: &Path, seed: u64) {
        let before = listing(&self.bench.tree());
        let mut changes = 0;
        while self.put_back(aside, &Fuse::after(changes)).is_err() {
            assert_eq!(pending(aside).expect("looked"), Pending::Undecided);
            undo_pending(aside).expect("undone");
            let when = format!("seed {seed}: stopped after {changes} changes, undone");
            assert_same(&listing(&self.bench.tree()), &before, &when);
            assert!(!aside.exists());
            changes += 1;
        }
        assert!(changes > 20, "only {changes} changes");
        let mut undone = 0;
        while undo_with(aside, &Fuse::after(undone)).is_err() {
            undo_pending(aside).expect("undone");
            let when = format!("seed {seed}: undo stopped after {undone} changes, undone again");
            assert_same(&listing(&self.bench.tree()), &before, &when);
            self.put_back(aside, &Fuse::none()).expect("put back");
            undone += 1;
        }
        assert!(undone > 20, "only {undone} changes");
        assert_same(&listing(&self.bench.tree()), &before, "undone");
    }
}

#[test]
fn a_crash_after_any_change_can_be_undone() {
    for seed in [3, 8] {
        let changed = changed(seed);
        changed.crash_everywhere(&changed.bench.aside(), seed);
    }
}

#[test]
fn the_same_with_what_is_aside_on_another_file_system() {
    let Some(other) = other_file_system() else { return };
    changed(5).crash_everywhere(&other.path().join("aside"), 5);
    for seed in 100..110 {
        let changed = changed(seed);
        let aside = other.path().join("aside");
        let before = listing(&changed.bench.tree());
        changed.put_back(&aside, &Fuse::none()).expect("put back");
        undo_pending(&aside).expect("undone");
        assert_same(&listing(&changed.bench.tree()), &before, &format!("seed {seed}: undone"));
    }
}

/// A folder on tmpfs, if the other tests' folders are not there too.
fn other_file_system() -> Option<tempfile::TempDir> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let here = device(&std::env::temp_dir());
    let found = tempfile::tempdir_in("/dev/shm").ok().filter(|folder| device(folder.path()) != here);
    // Attributes of users are on tmpfs since Linux 6.6.
    let usable = found.filter(|folder| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(folder.path(), "user.note", b"", flags).is_ok()
    });
    if usable.is_none() {
        eprintln!("SKIPPED: no second file system with user attributes at /dev/shm");
    }
    usable
}

#[test]
fn what_is_kept_stays_kept_even_if_the_deletion_is_cut_short() {
    let bench = Bench::new();
    bench.write("file", "then");
    let (captured, image) = bench.capture("image");
    bench.write("file", "now");
    let then = || put_back(&captured.index, &image, &bench.trees(), &bench.aside());
    // Dropped, as by a crash: undecided.
    drop(then().expect("put back"));
    assert_eq!(pending(&bench.aside()).expect("looked"), Pending::Undecided);
    assert!(matches!(then(), Err(Error::Refused(_))), "no second one over the first");
    // Decided, but not all deleted.
    std::fs::rename(bench.aside().join("journal.json"), bench.aside().join("journal.kept.json"))
        .expect("renamed");
    assert_eq!(pending(&bench.aside()).expect("looked"), Pending::Kept);
    undo_pending(&bench.aside()).expect("swept");
    assert_eq!(bench.read("file"), b"then");
    assert!(!bench.aside().exists());

    bench.write("file", "now");
    drop(then().expect("put back"));
    keep_pending(&bench.aside()).expect("kept");
    assert_eq!(bench.read("file"), b"then");
    assert!(!bench.aside().exists());
}

#[test]
fn a_folder_without_a_journal_is_swept() {
    let bench = Bench::new();
    std::fs::create_dir(bench.aside()).expect("folder");
    std::fs::write(bench.aside().join(".tmp-1"), "half a journal").expect("written");
    assert_eq!(pending(&bench.aside()).expect("looked"), Pending::Nothing);
    undo_pending(&bench.aside()).expect("swept");
    assert!(!bench.aside().exists());
    undo_pending(&bench.aside()).expect("nothing there is fine");
}

#[test]
fn a_damaged_journal_changes_nothing() {
    let bench = Bench::new();
    bench.write("file", "then");
    let (captured, image) = bench.capture("image");
    bench.write("file", "now");
    drop(put_back(&captured.index, &image, &bench.trees(), &bench.aside()).expect("put back"));
    let journal = bench.aside().join("journal.json");
    let whole = std::fs::read(&journal).expect("read");
    for place in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        std::fs::write(&journal, &bytes).expect("written");
        assert!(
            matches!(undo_pending(&bench.aside()), Err(Error::Corrupt(_) | Error::Invalid(_))),
            "byte {place}"
        );
    }
    std::fs::write(&journal, &whole).expect("written");
    undo_pending(&bench.aside()).expect("undone");
    assert_eq!(bench.read("file"), b"now");
}
