//! The files of a group's image: those of all dumps in one folder, each behind its member's name. CRIU wants a folder for each.

use std::path::{Path, PathBuf};

use crate::durable;
use crate::error::Result;
use crate::images::MEMBER_MARK;
use crate::runtime::links;

/// The folder of one member's dump.
pub(super) fn make(images: &Path, member: &str) -> Result<PathBuf> {
    let folder = images.join(member);
    durable::create_dir(&folder)?;
    Ok(folder)
}

/// Once it is dumped: its files to the others'.
pub(super) fn flatten(folder: &Path, member: &str) -> Result<()> {
    let images = folder.parent().unwrap_or(folder);
    for name in names_in(folder)? {
        durable::rename(&folder.join(&name), &images.join(format!("{member}{MEMBER_MARK}{name}")))?;
    }
    durable::remove_tree(folder)
}

/// A folder that shows the files of one member under the names that CRIU gave them.
pub(super) fn link(images: &Path, member: &str, folder: &Path) -> Result<()> {
    durable::remove_tree(folder)?;
    durable::create_dir_all(folder)?;
    links::to_all(images, folder, |name| name.strip_prefix(member)?.strip_prefix(MEMBER_MARK))
}

fn names_in(folder: &Path) -> Result<Vec<String>> {
    let names = std::fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    });
    names.map_err(|e| durable::failed("read", folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_member_finds_its_own_files_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let images = folder.path().join("criu");
        durable::create_dir(&images).expect("made");
        for (member, content) in [("web", "one"), ("web2", "two")] {
            let own = make(&images, member).expect("made");
            durable::atomic_write_volatile(&own.join("pages-1.img"), content.as_bytes(), 0o600)
                .expect("written");
            flatten(&own, member).expect("flattened");
        }
        let mut names = names_in(&images).expect("read");
        names.sort();
        assert_eq!(names, ["web2~pages-1.img", "web~pages-1.img"]);
        for (member, content) in [("web", "one"), ("web2", "two")] {
            let links = folder.path().join("links").join(member);
            link(&images, member, &links).expect("linked");
            assert_eq!(names_in(&links).expect("read"), ["pages-1.img"]);
            assert_eq!(std::fs::read_to_string(links.join("pages-1.img")).expect("read"), content);
            link(&images, member, &links).expect("again, after a restore that was cut off");
        }
    }
}
