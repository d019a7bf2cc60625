//! Damaged images, links that lead out, mounts and exclusions.

use std::os::unix::fs::symlink;
use std::path::Path;

use super::{Bench, assert_same, listing};
use crate::Error;
use crate::capture::index::{Content, Extent, Kind, Reason};
use crate::capture::{INDEX_NAME, Index, PACK_NAME, Tree, TreePath, capture, finish, put_back, sheet};

#[test]
fn an_index_with_any_byte_changed_is_refused() {
    let bench = Bench::new();
    bench.write("file", "content");
    symlink("target", bench.tree().join("link")).expect("link");
    let (_, image) = bench.capture("image");
    let whole = std::fs::read(image.join(INDEX_NAME)).expect("read");
    let parse = |bytes: &[u8]| Index::parse(bytes, Path::new("index.json"));
    parse(&whole).expect("it is good");
    for place in 0..whole.len() {
        for flip in [1, 0x20, 0x80] {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            assert!(matches!(parse(&bytes), Err(Error::Corrupt(_) | Error::Invalid(_))), "byte {place}");
        }
        assert!(matches!(parse(&whole[..place]), Err(Error::Corrupt(_))), "cut at {place}");
    }
    let longer = [&whole[..], b" "].concat();
    assert!(matches!(parse(&longer), Err(Error::Corrupt(_))));
    assert!(matches!(parse(b""), Err(Error::Corrupt(_))));
}

#[test]
fn an_index_that_makes_no_sense_is_refused_even_if_its_checksum_is_right() {
    let bench = Bench::new();
    bench.write("a", "content");
    bench.write("b", "content");
    let (captured, _) = bench.capture("image");
    let refused = |what: &str, change: &dyn Fn(&mut Index)| {
        let mut index = captured.index.clone();
        change(&mut index);
        let bytes = sheet::seal("supervisor-files", 1, &index).expect("sealed");
        let result = Index::parse(&bytes, Path::new("index.json"));
        assert!(matches!(result, Err(Error::Corrupt(_))), "{what}: {result:?}");
    };
    refused("two roots", &|index| index.trees[0].entries[1].path = TreePath::root());
    refused("no folder", &|index| {
        index.trees[0].entries[1].path = TreePath::parse("missing/a").expect("a path");
    });
    refused("in a file", &|index| index.trees[0].entries[2].path = TreePath::parse("a/b").expect("a path"));
    refused("twice", &|index| index.trees[0].entries[2].path = TreePath::parse("a").expect("a path"));
    refused("no root", &|index| index.trees[0].entries.clear());
    refused("links to itself", &|index| index.trees[0].entries[1].kind = Kind::HardLink { to: 1 });
    refused("links ahead", &|index| index.trees[0].entries[1].kind = Kind::HardLink { to: 2 });
    refused("links to a folder", &|index| index.trees[0].entries[1].kind = Kind::HardLink { to: 0 });
    refused("outside the pack", &|index| index.pack_length = 3);
    refused("two trees", &|index| index.trees.push(index.trees[0].clone()));
    refused("a mode", &|index| index.trees[0].entries[1].meta.mode = 0o170_644);
    for (start, length, at) in [(0, 8, 0), (u64::MAX, 2, 0), (0, 2, u64::MAX), (5, 0, 0)] {
        refused("an extent", &|index| {
            let Kind::File { content: Content::Stored { extents, .. }, .. } =
                &mut index.trees[0].entries[1].kind
            else {
                panic!("a file");
            };
            *extents = vec![Extent { start, length, at }];
        });
    }
    let text = serde_json::to_string(&captured.index).expect("text");
    for (from, to) in
        [("\"path\":\"a\"", "\"path\":\"../a\""), ("\"path\":\"a\"", "\"path\":\"/etc\""), ("{", "[")]
    {
        let value: serde_json::Value = serde_json::from_str(&text.replace(from, to)).unwrap_or_default();
        let bytes = sheet::seal("supervisor-files", 1, &value).expect("sealed");
        assert!(matches!(Index::parse(&bytes, Path::new("i")), Err(Error::Corrupt(_))), "{to}");
    }
    let newer = sheet::seal("supervisor-files", 2, &captured.index).expect("sealed");
    let error = Index::parse(&newer, Path::new("i")).expect_err("a newer version");
    assert!(matches!(&error, Error::Invalid(_)) && error.to_string().contains("version 2"), "{error}");
}

#[test]
fn damaged_contents_are_noticed_and_the_tree_is_as_before() {
    let bench = Bench::new();
    bench.write("a", vec![1; 5000]);
    bench.write("z", vec![2; 5000]);
    let (captured, image) = bench.capture("image");
    let pack = image.join(PACK_NAME);
    let mut bytes = std::fs::read(&pack).expect("read");
    bytes[9000] ^= 1;
    std::fs::write(&pack, &bytes).expect("written");
    bench.write("a", "changed");
    bench.write("z", "changed");
    let before = listing(&bench.tree());
    let put = || put_back(&captured.index, &image, &bench.trees(), &bench.aside());
    let error = put().expect_err("damaged");
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert!(error.to_string().contains("tree/z"), "{error}");
    assert_same(&listing(&bench.tree()), &before, "after the error");
    assert!(!bench.aside().exists());

    bytes.truncate(9999);
    std::fs::write(&pack, &bytes).expect("written");
    assert!(matches!(put(), Err(Error::Corrupt(_))));
    assert_same(&listing(&bench.tree()), &before, "after the error");
}

#[test]
fn links_are_never_followed() {
    let bench = Bench::new();
    let outside = bench.folder.path().join("outside");
    std::fs::create_dir(&outside).expect("folder");
    std::fs::write(outside.join("file"), "not yours").expect("written");
    std::fs::create_dir(bench.tree().join("folder")).expect("folder");
    bench.write("folder/file", "then");
    bench.write("plain", "then");
    symlink(&outside, bench.tree().join("way-out")).expect("link");
    let then = listing(&bench.tree());
    let (captured, image) = bench.capture("image");
    assert!(
        captured.index.trees[0].entries.iter().all(|entry| !entry.path.to_string().starts_with("way-out/"))
    );

    std::fs::remove_dir_all(bench.tree().join("folder")).expect("removed");
    symlink(&outside, bench.tree().join("folder")).expect("link");
    std::fs::remove_file(bench.tree().join("plain")).expect("removed");
    symlink(outside.join("file"), bench.tree().join("plain")).expect("link");
    let changed = listing(&bench.tree());
    let outside_before = listing(&outside);
    let done = put_back(&captured.index, &image, &bench.trees(), &bench.aside()).expect("put back");
    assert_same(&listing(&bench.tree()), &then, "put back");
    assert_same(&listing(&outside), &outside_before, "outside");
    done.undo().expect("undone");
    assert_same(&listing(&bench.tree()), &changed, "undone");
    assert_same(&listing(&outside), &outside_before, "outside");
}

#[test]
fn exclusions_are_neither_captured_nor_touched() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.tree().join("cache/inner")).expect("folders");
    bench.write("cache/inner/file", "then");
    bench.write("other", "then");
    let mut trees = bench.trees();
    trees[0].exclude = vec!["cache/inner".into(), bench.tree().join("ignored")];
    let out = bench.image("image");
    let mut captured = capture(&trees, None, &out).expect("captured");
    finish(&mut captured).expect("finished");
    let data = &captured.index.trees[0];
    assert_eq!(data.entries.iter().map(|e| e.path.to_string()).collect::<Vec<_>>(), [".", "cache", "other"]);
    assert_eq!(data.skipped[0].reason, Reason::Excluded);

    bench.write("cache/inner/file", "now");
    bench.write("cache/extra", "now");
    bench.write("ignored", "now");
    bench.write("other", "now");
    // Asked for by the image even if the service has forgotten it.
    trees[0].exclude.remove(0);
    let put = || put_back(&captured.index, &out, &trees, &bench.aside());
    put().expect("put back").keep().expect("kept");
    assert_eq!((bench.read("cache/inner/file"), bench.read("ignored")), (b"now".to_vec(), b"now".to_vec()));
    assert_eq!(bench.read("other"), b"then");
    assert!(!bench.tree().join("cache/extra").exists());

    // A folder that was not there then stays if something in it must be left alone.
    std::fs::create_dir(bench.tree().join("new")).expect("folder");
    bench.write("new/kept", "now");
    bench.write("new/extra", "now");
    trees[0].exclude.push("new/kept".into());
    put_back(&captured.index, &out, &trees, &bench.aside()).expect("put back").keep().expect("kept");
    assert!(bench.tree().join("new/kept").exists() && !bench.tree().join("new/extra").exists());

    for wrong in ["../other", "/etc", ""] {
        trees[0].exclude = vec![wrong.into()];
        assert!(matches!(capture(&trees, None, &out), Err(Error::Invalid(_))), "{wrong}");
    }
}

#[test]
fn a_tree_inside_another_belongs_to_itself_and_our_own_folders_are_refused_there() {
    let bench = Bench::new();
    std::fs::create_dir(bench.tree().join("volume")).expect("folder");
    bench.write("volume/file", "then");
    bench.write("file", "then");
    let mut trees = bench.trees();
    let inner = bench.tree().join("volume");
    trees.push(Tree { name: "volume".to_owned(), path: inner, exclude: Vec::new(), base: None });
    let then = listing(&bench.tree());
    let out = bench.image("image");
    let mut captured = capture(&trees, None, &out).expect("captured");
    finish(&mut captured).expect("finished");
    assert_eq!(captured.index.trees.iter().map(|tree| tree.entries.len()).collect::<Vec<_>>(), [2, 2]);
    bench.write("volume/file", "now");
    bench.write("volume/extra", "now");
    bench.write("file", "now");
    let changed = listing(&bench.tree());
    let done = put_back(&captured.index, &out, &trees, &bench.aside()).expect("put back");
    let mut found = listing(&bench.tree());
    // The volume's root belongs to the volume; that it is named in the outer tree's folder changes nothing there.
    assert_same(&found, &then, "put back");
    done.undo().expect("undone");
    found = listing(&bench.tree());
    assert_same(&found, &changed, "undone");

    let ours = bench.tree().join("ours");
    std::fs::create_dir(&ours).expect("folder");
    assert!(matches!(capture(&trees, None, &ours), Err(Error::Invalid(_))));
    let aside = ours.join("aside");
    assert!(matches!(put_back(&captured.index, &out, &trees, &aside), Err(Error::Invalid(_))));
    let missing = vec![Tree { path: bench.folder.path().join("missing"), ..bench.trees().remove(0) }];
    assert!(matches!(capture(&missing, None, &out), Err(Error::Invalid(_))));
}

/// Unmounts on every way out.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn mounts_are_not_entered() {
    use nix::mount::MsFlags;
    let bench = Bench::new();
    for folder in ["tmpfs", "bind"] {
        std::fs::create_dir(bench.tree().join(folder)).expect("folder");
    }
    let elsewhere = bench.image("elsewhere");
    std::fs::write(elsewhere.join("file"), "mounted").expect("written");
    let none: Option<&str> = None;
    let tmpfs = bench.tree().join("tmpfs");
    let mounted = nix::mount::mount(Some("none"), &tmpfs, Some("tmpfs"), MsFlags::empty(), none);
    if let Err(error) = mounted {
        eprintln!("SKIPPED: nothing can be mounted here: {error}");
        return;
    }
    let _tmpfs = Mounted(tmpfs);
    // The same file system once more: the device alone does not tell.
    let bind = bench.tree().join("bind");
    nix::mount::mount(Some(&elsewhere), &bind, none, MsFlags::MS_BIND, none).expect("bound");
    let _bind = Mounted(bind);
    bench.write("tmpfs/file", "mounted");
    bench.write("own", "then");

    let (captured, image) = bench.capture("image");
    let data = &captured.index.trees[0];
    assert_eq!(data.entries.iter().map(|e| e.path.to_string()).collect::<Vec<_>>(), [".", "own"]);
    assert_eq!(data.skipped.iter().map(|s| s.reason).collect::<Vec<_>>(), [Reason::Mount, Reason::Mount]);
    bench.write("own", "now");
    bench.write("bind/file", "now");
    bench.write("tmpfs/file", "now");
    put_back(&captured.index, &image, &bench.trees(), &bench.aside())
        .expect("put back")
        .keep()
        .expect("kept");
    assert_eq!(bench.read("own"), b"then");
    assert_eq!((bench.read("bind/file"), bench.read("tmpfs/file")), (b"now".to_vec(), b"now".to_vec()));
}

/// Overlayfs reports another device for files than for folders unless all of its layers are on one.
#[test]
fn files_of_an_overlay_are_its_own() {
    use nix::mount::{MsFlags, mount};
    let bench = Bench::new();
    let (lower, other) = (bench.image("lower"), bench.image("other"));
    std::fs::write(lower.join("old"), "below").expect("written");
    let none: Option<&str> = None;
    if let Err(error) = mount(Some("none"), &other, Some("tmpfs"), MsFlags::empty(), none) {
        eprintln!("SKIPPED: nothing can be mounted here: {error}");
        return;
    }
    let _other = Mounted(other.clone());
    for folder in ["upper", "work"] {
        std::fs::create_dir(other.join(folder)).expect("folder");
    }
    let place = |path: &std::path::Path| path.display().to_string();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        place(&lower),
        place(&other.join("upper")),
        place(&other.join("work"))
    );
    mount(Some("overlay"), &bench.tree(), Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .expect("an overlay");
    let _overlay = Mounted(bench.tree());
    bench.write("new", "above");
    std::fs::hard_link(bench.tree().join("new"), bench.tree().join("newer")).expect("linked");

    let (captured, image) = bench.capture("image");
    let data = &captured.index.trees[0];
    let names: Vec<_> = data.entries.iter().map(|e| e.path.to_string()).collect();
    assert_eq!((names, data.skipped.len()), ([".", "new", "newer", "old"].map(str::to_owned).to_vec(), 0));
    bench.write("new", "changed");
    bench.write("old", "changed");
    let put_back = put_back(&captured.index, &image, &bench.trees(), &bench.aside());
    put_back.expect("put back").keep().expect("kept");
    assert_eq!((bench.read("new"), bench.read("old")), (b"above".to_vec(), b"below".to_vec()));
    assert_eq!(bench.read("newer"), b"above", "still the same file");
}
