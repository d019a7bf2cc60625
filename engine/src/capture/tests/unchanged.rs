//! What need not be copied is not, and what must be is.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;

use super::{Bench, assert_same, listing};
use crate::Error;
use crate::capture::index::{Content, Kind, Timestamp};
use crate::capture::{Baseline, Index, PACK_NAME, Parent, Preparation, capture, finish, put_back};

#[test]
fn nothing_is_copied_under_the_freeze_if_nothing_has_changed() {
    let bench = Bench::new();
    bench.write("a", vec![1; 100_000]);
    bench.write("b", vec![2; 3000]);
    std::fs::hard_link(bench.tree().join("a"), bench.tree().join("c")).expect("hard link");
    bench.settle();
    let (first, first_image) = bench.capture("first");
    assert_eq!(first.stats.bytes_copied, 103_000);

    // Restoring now would cost nothing: nothing is made, nothing goes aside.
    let done = put_back(&first.index, &first_image, &bench.trees(), &bench.aside()).expect("put back");
    assert_eq!((done.kept, done.made, done.moved_aside, bench.aside().exists()), (4, 0, 0, false));
    done.keep().expect("kept");

    let parent = Parent { index: &first.index, blobs_dir: &first_image };
    let (second, second_image) = bench.capture_from("second", Some(parent));
    assert_eq!((second.stats.bytes_copied, second.stats.files_copied), (0, 0));
    assert_eq!(second.stats.bytes_same, 103_000);

    // It stands alone.
    std::fs::remove_dir_all(&first_image).expect("removed");
    let then = listing(&bench.tree());
    std::fs::remove_file(bench.tree().join("a")).expect("removed");
    bench.write("b", "other");
    let index = Index::read(&second_image).expect("index");
    assert_eq!(index, second.index);
    let done = put_back(&index, &second_image, &bench.trees(), &bench.aside()).expect("put back");
    assert_same(&listing(&bench.tree()), &then, "put back");
    done.keep().expect("kept");
}

#[test]
fn only_what_has_changed_is_copied() {
    let bench = Bench::new();
    bench.write("same", vec![1; 5000]);
    bench.write("other", vec![1; 700]);
    bench.settle();
    let (first, image) = bench.capture("first");
    let modified =
        std::fs::metadata(bench.tree().join("other")).and_then(|found| found.modified()).expect("time");
    bench.write("other", vec![2; 700]);
    let file = std::fs::File::options().write(true).open(bench.tree().join("other")).expect("opened");
    // The same length, inode and time of modification: the time of change remains.
    file.set_modified(modified).expect("set");
    let parent = Parent { index: &first.index, blobs_dir: &image };
    let (second, _) = bench.capture_from("second", Some(parent));
    assert_eq!((second.stats.bytes_copied, second.stats.bytes_same), (700, 5000));
}

#[test]
fn a_time_stamp_too_young_proves_nothing_to_a_capture() {
    let bench = Bench::new();
    bench.write("file", vec![1; 700]);
    let out = bench.image("first");
    let mut first = capture(&bench.trees(), None, &out).expect("captured");
    finish(&mut first).expect("finished");
    let changed = first.index.trees[0].entries[1].changed;
    // On a machine that was busy for more than the margin, the stamp is old enough by now: say that it wasn't.
    first.index.taken_at = changed;
    let again = |name: &str, index: &Index| {
        let parent = Parent { index, blobs_dir: &out };
        bench.capture_from(name, Some(parent)).0.stats.bytes_copied
    };
    assert_eq!(again("second", &first.index), 700);
    first.index.taken_at = Timestamp(changed.0 + 1, 0);
    first.index.trees[0].entries[1].changed = Timestamp(changed.0 + 1, 0);
    assert_eq!(again("third", &first.index), 700);
    first.index.trees[0].entries[1].changed = changed;
    first.index.taken_at = Timestamp(changed.0 + 1, changed.1);
    assert_eq!(again("fourth", &first.index), 0);
}

/// The same stamps though the content is another: what a change within one tick of the kernel's clock looks like.
#[test]
fn a_time_stamp_too_young_proves_nothing_to_a_put_back() {
    let bench = Bench::new();
    bench.write("file", "then");
    let (captured, image) = bench.capture("image");
    bench.write("file", "now!");
    let found = std::fs::metadata(bench.tree().join("file")).expect("status");
    let mut index = captured.index;
    let entry = &mut index.trees[0].entries[1];
    entry.changed = Timestamp(found.ctime(), u32::try_from(found.ctime_nsec()).expect("nanoseconds"));
    entry.meta.modified = Timestamp(found.mtime(), u32::try_from(found.mtime_nsec()).expect("nanoseconds"));
    assert_eq!(entry.inode, found.ino());
    let changed = entry.changed;

    // Old enough: trusted without reading. This is what makes restoring with unchanged files free.
    index.taken_at = Timestamp(changed.0 + 1, changed.1);
    let done = put_back(&index, &image, &bench.trees(), &bench.aside()).expect("put back");
    assert_eq!((done.made, bench.read("file").as_slice()), (0, &b"now!"[..]));
    done.keep().expect("kept");
    // A mapped file is read all the same.
    index.trees[0].entries[1].mapped = true;
    let done = put_back(&index, &image, &bench.trees(), &bench.aside()).expect("put back");
    assert_eq!((done.made, bench.read("file").as_slice()), (1, &b"then"[..]));
    done.undo().expect("undone");
    index.trees[0].entries[1].mapped = false;
    // Too young: read, and found out.
    index.taken_at = changed;
    let done = put_back(&index, &image, &bench.trees(), &bench.aside()).expect("put back");
    assert_eq!((done.made, bench.read("file").as_slice()), (1, &b"then"[..]));
    done.keep().expect("kept");
}

#[test]
fn stamps_without_fractions_need_more_distance() {
    let at = |seconds, nanos| Timestamp(seconds, nanos);
    assert!(!at(100, 5).is_told_apart_at(at(100, 20_000_005)));
    assert!(at(100, 5).is_told_apart_at(at(100, 20_000_006)));
    assert!(!at(100, 0).is_told_apart_at(at(102, 0)));
    assert!(at(100, 0).is_told_apart_at(at(102, 20_000_001)));
    // A clock that was set back.
    assert!(!at(100, 5).is_told_apart_at(at(90, 0)));
}

#[test]
fn files_mapped_writable_are_always_copied() {
    let bench = Bench::new();
    bench.write("database", vec![1; 9000]);
    bench.settle();
    let inode = std::fs::metadata(bench.tree().join("database")).expect("status").ino();
    let mapped = HashSet::from([inode]);
    let take = |name: &str, parent: Option<Parent<'_>>, mapped: &HashSet<u64>| {
        let out = bench.image(name);
        let mut preparation = Preparation::open(&bench.trees(), parent, &out).expect("opened");
        preparation.copy_ahead(mapped).expect("copied ahead");
        let mut captured = preparation.capture(mapped).expect("captured");
        finish(&mut captured).expect("finished");
        (captured, out)
    };
    let (first, image) = take("first", None, &mapped);
    assert_eq!(first.stats.bytes_copied, 9000, "copied ahead, but again under the freeze");
    // Unmapped since: pages written before that have no stamp either.
    let parent = Parent { index: &first.index, blobs_dir: &image };
    let (second, image) = take("second", Some(parent), &HashSet::new());
    assert_eq!(second.stats.bytes_copied + second.stats.bytes_copied_ahead, 9000);
    let (third, _) = take("third", Some(Parent { index: &second.index, blobs_dir: &image }), &HashSet::new());
    assert_eq!(third.stats.bytes_copied + third.stats.bytes_copied_ahead, 0);
}

#[test]
fn what_was_copied_ahead_is_copied_again_only_if_it_changed() {
    let bench = Bench::new();
    bench.write("large", vec![1; 300_000]);
    bench.write("log", vec![2; 200_000]);
    bench.settle();
    let out = bench.image("image");
    let mut preparation = Preparation::open(&bench.trees(), None, &out).expect("opened");
    preparation.copy_ahead(&HashSet::new()).expect("copied ahead");
    bench.write("log", vec![3; 200_001]);
    bench.write("new", "new");
    let mut captured = preparation.capture(&HashSet::new()).expect("captured");
    assert_eq!(captured.stats.bytes_copied_ahead, 500_000);
    assert_eq!(captured.stats.bytes_copied, 200_004);
    finish(&mut captured).expect("finished");
    // The first copy of the log takes no space any more.
    let blocks = std::fs::metadata(out.join(PACK_NAME)).expect("pack").blocks() * 512;
    assert!(blocks < 600_000, "{blocks}");

    let then = listing(&bench.tree());
    for name in ["large", "log", "new"] {
        std::fs::remove_file(bench.tree().join(name)).expect("removed");
    }
    let done = put_back(&captured.index, &out, &bench.trees(), &bench.aside()).expect("put back");
    assert_same(&listing(&bench.tree()), &then, "put back");
    done.keep().expect("kept");
}

#[test]
fn files_of_the_base_are_expected_in_place() {
    let bench = Bench::new();
    bench.write("program", vec![1; 50_000]);
    std::os::unix::fs::symlink("program", bench.tree().join("link")).expect("link");
    bench.settle();
    let mut trees = bench.trees();
    trees[0].base = Some(Baseline { taken_at: Timestamp::now() });
    bench.write("data", "mine");
    let out = bench.image("image");
    let mut captured = capture(&trees, None, &out).expect("captured");
    finish(&mut captured).expect("finished");
    assert_eq!(captured.stats.bytes_copied, 4);
    let program = captured.index.trees[0].entries.iter().find(|entry| entry.path.to_string() == "program");
    assert!(matches!(program.expect("recorded").kind, Kind::File { size: 50_000, content: Content::Base }));

    bench.write("data", "changed");
    std::fs::remove_file(bench.tree().join("link")).expect("removed");
    let done = put_back(&captured.index, &out, &trees, &bench.aside()).expect("put back");
    done.keep().expect("kept");
    assert_eq!(bench.read("data"), b"mine");
    assert!(bench.tree().join("link").exists());

    bench.write("data", "changed");
    let program = bench.tree().join("program");
    let refused = |what: &str| {
        let before = listing(&bench.tree());
        let error = put_back(&captured.index, &out, &trees, &bench.aside()).expect_err(what);
        assert!(matches!(error, Error::Refused(_)), "{error}");
        assert!(error.to_string().contains(&program.display().to_string()), "{error}");
        assert_same(&listing(&bench.tree()), &before, what);
    };
    bench.write("program", vec![2; 50_000]);
    refused("another program");
    std::fs::remove_file(&program).expect("removed");
    refused("no program");
}

#[test]
fn a_parent_whose_contents_are_damaged_is_noticed_and_one_without_is_done_without() {
    let bench = Bench::new();
    bench.write("file", vec![1; 5000]);
    bench.settle();
    let (first, image) = bench.capture("first");
    let pack = image.join(PACK_NAME);
    let mut bytes = std::fs::read(&pack).expect("read");
    bytes[4000] ^= 1;
    std::fs::write(&pack, &bytes).expect("written");
    let parent = Parent { index: &first.index, blobs_dir: &image };
    let out = bench.image("second");
    let mut second = capture(&bench.trees(), Some(parent), &out).expect("captured");
    assert!(matches!(finish(&mut second), Err(Error::Corrupt(_))));
    assert!(Index::read(&out).is_err(), "there must be no index");

    std::fs::remove_file(&pack).expect("removed");
    let (third, _) = bench.capture_from("third", Some(parent));
    assert_eq!(third.stats.bytes_copied, 5000);
}
