//! What is put back is exactly what was captured.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::os::unix::net::UnixListener;

use rustix::fs::{CWD, FileType, Mode, OFlags, XattrFlags};

use super::generator::{Dice, mutate};
use super::{Bench, assert_same, listing};
use crate::capture::index::{Content, Device, Kind, Reason};
use crate::capture::{Index, PACK_NAME, Pending, TreePath, pending, put_back};

#[test]
fn random_changes_are_taken_back_exactly_and_undone_exactly() {
    for seed in 0..30 {
        let bench = Bench::new();
        let mut dice = Dice::new(seed);
        mutate(&bench.tree(), &mut dice, 60);
        if seed % 2 == 0 {
            // Half of them rely on time stamps where they may, half never may.
            bench.settle();
        }
        let then = listing(&bench.tree());
        let (_, image) = bench.capture("image");
        assert_same(&listing(&bench.tree()), &then, &format!("seed {seed}: capturing"));

        mutate(&bench.tree(), &mut dice, 40);
        let changed = listing(&bench.tree());
        let index = Index::read(&image).expect("index");
        let done = put_back(&index, &image, &bench.trees(), &bench.aside()).expect("put back");
        assert_same(&listing(&bench.tree()), &then, &format!("seed {seed}: put back"));

        done.undo().expect("undone");
        assert_same(&listing(&bench.tree()), &changed, &format!("seed {seed}: undone"));
        assert!(!bench.aside().exists());

        let done = put_back(&index, &image, &bench.trees(), &bench.aside()).expect("put back again");
        done.keep().expect("kept");
        assert_same(&listing(&bench.tree()), &then, &format!("seed {seed}: kept"));
        assert!(!bench.aside().exists());
        assert_eq!(pending(&bench.aside()).expect("looked"), Pending::Nothing);
    }
}

#[test]
fn every_kind_of_entry_is_recorded() {
    let bench = Bench::new();
    let tree = bench.tree();
    bench.write("file", "content");
    std::fs::hard_link(tree.join("file"), tree.join("zz-name")).expect("hard link");
    symlink("../outside", tree.join("link")).expect("link");
    rustix::fs::mknodat(CWD, tree.join("gone"), FileType::CharacterDevice, Mode::empty(), 0)
        .expect("whiteout");
    rustix::fs::mknodat(CWD, tree.join("pipe"), FileType::Fifo, Mode::RUSR, 0).expect("fifo");
    let _listener = UnixListener::bind(tree.join("socket")).expect("socket");
    std::fs::create_dir(tree.join("opaque")).expect("folder");
    rustix::fs::setxattr(tree.join("opaque"), "trusted.overlay.opaque", b"y", XattrFlags::empty())
        .expect("attribute");

    let (captured, _) = bench.capture("image");
    let data = &captured.index.trees[0];
    let kind = |name: &str| {
        let path = TreePath::parse(name).expect("a path");
        let place = data.entries.iter().position(|entry| entry.path == path).expect("an entry");
        (place, &data.entries[place].kind)
    };
    assert!(matches!(kind("file").1, Kind::File { size: 7, content: Content::Stored { .. } }));
    let first = u32::try_from(kind("file").0).expect("small");
    assert_eq!(kind("zz-name").1, &Kind::HardLink { to: first });
    assert_eq!(kind("link").1, &Kind::Symlink { target: b"../outside".to_vec() });
    assert_eq!(kind("gone").1, &Kind::CharDevice(Device { major: 0, minor: 0 }));
    assert_eq!(kind("pipe").1, &Kind::Fifo);
    let opaque = &data.entries[kind("opaque").0].meta.xattrs.as_ref().expect("looked at")[0];
    assert_eq!((&opaque.name[..], &opaque.value[..]), (&b"trusted.overlay.opaque"[..], &b"y"[..]));
    assert_eq!(data.skipped.len(), 1);
    assert_eq!(
        (data.skipped[0].path.to_string().as_str(), data.skipped[0].reason),
        ("socket", Reason::Socket)
    );
    assert_eq!(captured.stats.bytes_copied, 7);
}

#[test]
fn a_huge_sparse_file_costs_its_data_only() {
    let bench = Bench::new();
    let path = bench.tree().join("disk");
    let file =
        OpenOptions::new().create(true).truncate(true).write(true).read(true).open(&path).expect("created");
    let size = 1_u64 << 40;
    file.set_len(size).expect("sized");
    file.write_all_at(b"begin", 0).expect("written");
    file.write_all_at(&[7; 8192], size / 2).expect("written");
    let blocks = file.metadata().expect("status").blocks();
    let (captured, image) = bench.capture("image");
    assert!(std::fs::metadata(image.join(PACK_NAME)).expect("pack").len() < 1 << 20);

    file.write_all_at(b"changed", 12_345_678).expect("written");
    drop(file);
    let done = put_back(&captured.index, &image, &bench.trees(), &bench.aside()).expect("put back");
    done.keep().expect("kept");
    let found = std::fs::metadata(&path).expect("status");
    assert_eq!((found.len(), found.blocks()), (size, blocks));
    let mut read = [1; 8200];
    let file = std::fs::File::open(&path).expect("opened");
    file.read_exact_at(&mut read, size / 2 - 8).expect("read");
    assert!(read[..8] == [0; 8] && read[8..] == [7; 8192]);
    file.read_exact_at(&mut read[..5], 0).expect("read");
    assert_eq!(&read[..5], b"begin");
}

#[test]
fn a_tree_deeper_than_any_path() {
    let bench = Bench::new();
    // 60 folders of 200 bytes each: three times what one path may have.
    let name = "d".repeat(200);
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let descend = |make: bool, depth: usize| {
        let mut folder = rustix::fs::open(bench.tree(), flags, Mode::empty()).expect("tree");
        for _ in 0..depth {
            if make {
                rustix::fs::mkdirat(&folder, name.as_str(), Mode::RWXU).expect("folder");
            }
            folder = rustix::fs::openat(&folder, name.as_str(), flags, Mode::empty()).expect("opened");
        }
        folder
    };
    let bottom = descend(true, 60);
    let create = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&bottom, "leaf", create, Mode::RUSR).expect("leaf");
    rustix::io::write(&file, b"deep").expect("written");
    let (captured, image) = bench.capture("image");
    assert_eq!(captured.index.trees[0].entries.len(), 62);

    std::fs::remove_dir_all(bench.tree().join(&name)).expect("removed");
    let done = put_back(&captured.index, &image, &bench.trees(), &bench.aside()).expect("put back");
    assert_eq!(done.made, 61);
    let found = rustix::fs::openat(descend(false, 60), "leaf", OFlags::RDONLY, Mode::empty()).expect("leaf");
    let mut read = [0; 10];
    let length = rustix::io::read(found, &mut read).expect("read");
    assert_eq!(&read[..length], b"deep");
    // And all of it goes away again.
    done.undo().expect("undone");
    assert_eq!(listing(&bench.tree()).len(), 1);
}

#[test]
fn a_hole_filled_with_zeros_is_no_change_and_one_filled_with_data_is() {
    let bench = Bench::new();
    let path = bench.tree().join("file");
    bench.write("file", "x");
    let file = OpenOptions::new().write(true).open(&path).expect("opened");
    file.set_len(1_000_000).expect("sized");
    let modified = file.metadata().and_then(|found| found.modified()).expect("time");
    let (captured, image) = bench.capture("image");
    for (byte, kept) in [(0, true), (1, false)] {
        file.write_all_at(&[byte; 4096], 500_000).expect("written");
        file.set_modified(modified).expect("set");
        let done = put_back(&captured.index, &image, &bench.trees(), &bench.aside()).expect("put back");
        assert_eq!(done.made == 0, kept);
        done.keep().expect("kept");
    }
    assert!(bench.read("file")[1..].iter().all(|b| *b == 0));
}
