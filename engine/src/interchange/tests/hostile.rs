//! Bad archives: damaged, cut off, or made to do harm. Nothing is left of any of them.

use serde_json::json;
use tar::EntryType;

use super::made::{Site, Tar, archive, definition, gzip};

fn empty() -> Tar {
    Tar::new()
}

fn whole() -> Tar {
    archive(empty(), empty())
}

/// All but what `definition` says.
fn defined(definition: &serde_json::Value) -> Vec<u8> {
    let bytes = Tar::new()
        .file("config.dump", definition.to_string())
        .file("spec.dump", "{}")
        .file("checkpoint/inventory.img", "i")
        .file("volumes/theirs.tar", empty().bytes());
    bytes.bytes()
}

#[test]
fn half_an_archive_is_none() {
    let site = Site::new();
    let bytes = archive(Tar::new().file("a", [1; 3000]), empty()).bytes();
    for cut in [600, 1024, 5000, bytes.len() / 2, bytes.len() - 1024] {
        site.refuses(&bytes[..cut], "corrupt", "");
    }
    for compressed in [gzip(&bytes), zstd::bulk::compress(&bytes, 1).expect("it fits")] {
        site.refuses(&compressed[..compressed.len() - 9], "corrupt", "");
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[1; 512]);
    site.refuses(&longer, "corrupt", "after its end");
    site.import(&bytes).expect("the whole of it is good");
}

#[test]
fn names_do_not_lead_out() {
    for name in ["../etc/passwd", "/etc/passwd", "a/../../b", "a//b", "a/./b"] {
        let site = Site::new();
        site.refuses(&whole().file(name, "x").bytes(), "corrupt", "leads out");
        site.refuses(&archive(Tar::new().file(name, "x"), empty()).bytes(), "corrupt", "leads out");
        site.refuses(
            &archive(empty(), Tar::new().link(EntryType::Link, "a", name)).bytes(),
            "corrupt",
            "leads out",
        );
        let removed = json!([format!("/x/{name}"), "/.."]).to_string();
        let archive = Tar::new().file("deleted.files", removed).bytes();
        site.refuses(&archive, "corrupt", "leads out");
    }
}

#[test]
fn nothing_is_written_through_a_link() {
    let site = Site::new();
    let through = Tar::new().link(EntryType::Symlink, "a", "/etc").file("a/passwd", "x");
    site.refuses(&archive(through, empty()).bytes(), "corrupt", "no folder");
    let shared = |tar: Tar| whole().file("devshm-checkpoint.tar", tar.bytes()).bytes();
    let through = Tar::new().link(EntryType::Symlink, "a", "/etc").file("a/passwd", "x");
    site.refuses(&shared(through), "refused", "/dev/shm");
    // Later it is a folder, but whoever unpacks it goes through the link first.
    let through = Tar::new().link(EntryType::Symlink, "a", "/etc").folder("a").file("a/passwd", "x");
    site.refuses(&shared(through), "corrupt", "twice");
    let linked = Tar::new().link(EntryType::Link, "a", "b");
    site.refuses(&shared(linked), "corrupt", "link to nothing");
}

#[test]
fn links_to_nothing_and_in_rings_are_refused() {
    let site = Site::new();
    let ring = Tar::new().link(EntryType::Link, "a", "b").link(EntryType::Link, "b", "a");
    site.refuses(&archive(ring, empty()).bytes(), "corrupt", "hard link to nothing");
    let folder = Tar::new().folder("d").link(EntryType::Link, "a", "d");
    site.refuses(&archive(folder, empty()).bytes(), "corrupt", "hard link to nothing");
    let replaced = Tar::new().file("a", "x").link(EntryType::Link, "b", "a").link(EntryType::Link, "a", "b");
    site.refuses(&archive(replaced, empty()).bytes(), "corrupt", "hard link to nothing");
}

#[test]
fn devices_and_strange_attributes_are_refused() {
    let site = Site::new();
    for kind in [EntryType::Char, EntryType::Block, EntryType::new(b'?')] {
        let layer = Tar::new().entry(kind, "dev", "", b"");
        site.refuses(&archive(layer, empty()).bytes(), "refused", "device");
    }
    for name in ["trusted.overlay.redirect", "trusted.overlay.opaque", "security.selinux"] {
        let layer = Tar::new().attribute(&format!("SCHILY.xattr.{name}"), b"y").folder("a");
        site.refuses(&archive(layer, empty()).bytes(), "refused", "attribute");
    }
}

#[test]
fn what_stands_before_an_entry_costs_no_memory() {
    let site = Site::new();
    let long =
        Tar::new().entry(EntryType::GNULongName, "././@LongLink", "", &vec![b'a'; 3 << 20]).file("a", "x");
    site.refuses(&long.bytes(), "corrupt", "too long");
    let long = Tar::new().attribute("SCHILY.xattr.user.a", &vec![1; 3 << 20]).file("a", "x");
    site.refuses(&archive(long, empty()).bytes(), "corrupt", "too long");
    let json = whole().file("network.status", " ".repeat(5 << 20));
    site.refuses(&json.bytes(), "refused", "too long");
    // A length that nothing follows.
    let mut lies = whole().bytes();
    lies.truncate(512);
    site.refuses(&lies, "corrupt", "");
}

#[test]
fn only_files_of_criu_come_to_criu() {
    let site = Site::new();
    for name in ["checkpoint/config.dump", "checkpoint/a/b", "checkpoint/.hidden"] {
        site.refuses(&whole().file(name, "x").bytes(), "refused", "CRIU does not write");
    }
    let link = whole().link(EntryType::Symlink, "checkpoint/pages-2.img", "/etc/shadow");
    site.refuses(&link.bytes(), "refused", "no plain file");
    let parent = whole().link(EntryType::Symlink, "checkpoint/parent", "../pre-checkpoint");
    site.refuses(&parent.bytes(), "refused", "earlier one");
    for name in ["checkpoint/pages-1.img", "config.dump", "rootfs-diff.tar"] {
        let content = if name == "config.dump" { "{}".into() } else { empty().bytes() };
        site.refuses(&whole().file(name, content).bytes(), "corrupt", "twice");
    }
}

#[test]
fn another_containers_archive_is_refused() {
    let site = Site::new();
    let with = |field: &str, value: serde_json::Value| {
        let mut definition = definition();
        definition[field] = value;
        defined(&definition)
    };
    site.refuses(&with("rootfsImageID", json!("other")), "refused", "made of");
    site.refuses(&with("pod", json!("a pod")), "refused", "pod");
    site.refuses(&with("Dependencies", json!(["another"])), "refused", "pod");
    site.refuses(
        &with("namedVolumes", json!([{ "volumeName": "v", "dest": "/other" }])),
        "refused",
        "/other",
    );
    site.refuses(&with("namedVolumes", json!([])), "refused", "/data");
    site.refuses(
        &with("namedVolumes", json!([{ "volumeName": "x", "dest": "/data" }])),
        "refused",
        "volume x",
    );
    let error = site.import_as("docker", &whole().bytes()).map(|_| ()).expect_err("not podman's");
    assert_eq!(error.kind(), "refused");
}

#[test]
fn what_lacks_something_is_no_checkpoint() {
    let site = Site::new();
    for without in ["config.dump", "spec.dump", "checkpoint/inventory.img"] {
        let mut tar = Tar::new();
        for (name, content) in [
            ("config.dump", definition().to_string()),
            ("spec.dump", "{}".to_owned()),
            ("checkpoint/inventory.img", "i".to_owned()),
        ] {
            if name != without {
                tar = tar.file(name, content);
            }
        }
        let name = without.trim_start_matches("checkpoint/");
        site.refuses(&tar.bytes(), "corrupt", name);
    }
    site.refuses(&whole().file("deleted.files", "{").bytes(), "corrupt", "not JSON");
}
