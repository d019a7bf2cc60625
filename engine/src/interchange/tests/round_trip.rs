//! Good archives: each entry becomes what it was, and leaves again as it came.

use tar::EntryType;

use super::super::{Format, export};
use super::made::{Site, Tar, archive, gzip};
use crate::capture::{Content, Index, Kind, TreeIndex, is_opaque, is_white_out};
use crate::images::Prepared;

fn layer() -> Tar {
    // podman leaves out folders of which nothing but the content has changed.
    Tar::new()
        .file("etc/conf", "changed")
        .attribute("SCHILY.xattr.user.note", b"kept")
        .folder("new")
        .file("new/a", vec![9; 200_000])
        .link(EntryType::Link, "first", "new/a")
        .link(EntryType::Symlink, "new/link", "../../../etc/passwd")
        .file("replaced", "")
        .folder("replaced")
        .file("replaced/b", "b")
        .file(&"n".repeat(90), [0; 300_000])
}

fn volume() -> Tar {
    Tar::new().folder("./").file("./kept", "of the volume").entry(EntryType::Fifo, "./pipe", "", b"")
}

fn imported(site: &Site, bytes: &[u8]) -> Prepared {
    site.import(bytes).expect("it is whole");
    site.store.open_for_restore(&site.id).expect("it is whole")
}

fn names(tree: &TreeIndex) -> Vec<String> {
    tree.entries.iter().map(|entry| entry.path.to_string()).collect()
}

#[test]
fn an_archive_becomes_an_image_of_the_services_own_container() {
    let site = Site::new();
    let etc = site.layout.lower[0].join("etc");
    std::fs::create_dir(&etc).expect("a folder");
    let image = imported(&site, &archive(layer(), volume()).bytes());
    let index = Index::read(image.files_dir()).expect("it makes sense");
    let tree = index.tree("rootfs").expect("the container's");
    let long = "n".repeat(90);
    let wanted = [
        ".",
        "etc",
        "etc/conf",
        "first",
        "gone",
        "new",
        "new/a",
        "new/link",
        &long,
        "replaced",
        "replaced/b",
    ];
    let mut sorted = wanted.map(str::to_owned).to_vec();
    sorted.sort_unstable_by_key(|name| if name == "." { String::new() } else { name.clone() });
    assert_eq!(names(tree), sorted);
    let entry = |path: &str| tree.entries.iter().find(|e| e.path.to_string() == path).expect("it is there");
    assert!(is_white_out(&entry("gone").kind));
    assert!(is_opaque(&entry("replaced").meta) && !is_opaque(&entry("new").meta));
    assert!(matches!(entry("first").kind, Kind::File { size: 200_000, .. }), "the first of its names");
    assert!(matches!(entry("new/a").kind, Kind::HardLink { .. }));
    let conf = &entry("etc/conf").meta;
    assert_eq!((conf.mode, conf.uid, conf.gid, conf.modified.0), (0o640, 7, 8, 1_700_000_000));
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&etc).expect("it is there"));
    assert_eq!(entry("etc").meta.mode, mode & 0o7777, "as the layer below has it");
    assert_eq!(entry("new").meta.xattrs.as_ref().map(Vec::len), Some(1));
    let volume = index.tree(&site.layout.volumes[0].source.display().to_string()).expect("the service's");
    assert_eq!(names(volume), [".", "kept", "pipe"]);
    assert!(
        image.criu_dir().join("pages-1.img").exists() && image.criu_dir().join("network.status").exists()
    );
    assert_eq!(image.about().taken_at.as_unix_nanos(), 1_700_000_000_000_000_000);
    let listed = site.store.list(&site.service).expect("a list");
    assert!(listed[0].facts.pinned && listed[0].facts.durable);
}

#[test]
fn what_came_leaves_as_it_came() {
    let (one, two) = (Site::new(), Site::new());
    let image = imported(&one, &archive(layer(), volume()).bytes());
    let mut written = Vec::new();
    export(&image, Format::Podman, &mut written).expect("it can leave");
    let again = imported(&two, &written);
    let trees = |image: &Prepared| {
        let trees = Index::read(image.files_dir()).expect("it makes sense").trees;
        trees.into_iter().map(|tree| tree.entries).collect::<Vec<_>>()
    };
    let (before, after) = (trees(&image), trees(&again));
    // Where contents lie in the pack is nobody's business.
    let plain = |trees: Vec<Vec<crate::capture::Entry>>| {
        let entry = |e: crate::capture::Entry| match e.kind {
            Kind::File { size, content: Content::Stored { blake3, .. } } => {
                (e.path, e.meta, format!("{size} {blake3:?}"))
            }
            kind => (e.path, e.meta, format!("{kind:?}")),
        };
        // The time of a tree's own folder is no archive's.
        let inside = |e: &crate::capture::Entry| !e.path.is_root();
        trees.into_iter().flatten().filter(inside).map(entry).collect::<Vec<_>>()
    };
    assert_eq!(plain(before), plain(after));
    let mut twice = Vec::new();
    export(&image, Format::Podman, &mut twice).expect("it can leave again");
    assert!(written == twice, "the same bytes each time");
}

#[test]
fn compressed_ones_are_recognized() {
    let bytes = archive(layer(), volume()).bytes();
    for compressed in [gzip(&bytes), zstd::bulk::compress(&bytes, 1).expect("it fits"), bytes] {
        let site = Site::new();
        assert_eq!(site.import(&compressed).expect("it is whole").service, site.service);
    }
}

#[test]
fn the_image_is_put_back_as_it_was() {
    let site = Site::new();
    let image = imported(&site, &archive(layer(), volume()).bytes());
    let index = Index::read(image.files_dir()).expect("it makes sense");
    let tree = |name: &str, path: &std::path::Path| crate::capture::Tree {
        name: name.to_owned(),
        path: path.to_owned(),
        exclude: Vec::new(),
        base: None,
    };
    let source = &site.layout.volumes[0].source;
    // A mark of overlayfs needs privileges; the volume shows the rest.
    let only = Index { trees: index.trees.iter().filter(|t| t.name != "rootfs").cloned().collect(), ..index };
    let trees = [tree(&source.display().to_string(), source)];
    crate::durable::atomic_write_volatile(&source.join("later"), b"x", 0o600).expect("written");
    let aside = site.folder.path().join("aside");
    let done = crate::capture::put_back(&only, image.files_dir(), &trees, &aside).expect("it can be");
    done.keep().expect("it can be");
    assert_eq!(std::fs::read(source.join("kept")).expect("it is there"), b"of the volume");
    assert!(source.join("pipe").exists() && !source.join("later").exists());
}
