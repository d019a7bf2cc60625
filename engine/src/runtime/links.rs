//! An image's files made visible in another folder, without a copy.
//!
//! The links are relative, with more steps upwards than any folder is deep: CRIU opens the pages after it has entered a container's mount
//! namespace, where an absolute link would be looked for inside of it. What is relative starts at the link's own folder, wherever an engine
//! has unpacked it.

use std::path::Path;

use crate::durable::failed;
use crate::error::Result;

/// Above the root there is nothing.
const UP: usize = 40;

/// A link to each of the files, under the name that is made of its own; none for those of which none is made.
pub(super) fn to_all(images: &Path, folder: &Path, named: impl Fn(&str) -> Option<&str>) -> Result<()> {
    let images = std::path::absolute(images).map_err(|e| failed("find", images, e))?;
    let below = images.strip_prefix("/").unwrap_or(&images);
    for entry in std::fs::read_dir(&images).map_err(|e| failed("read", &images, e))? {
        let name = entry.map_err(|e| failed("read", &images, e))?.file_name();
        let Some(shown) = name.to_str().and_then(&named) else { continue };
        let (target, link) = (Path::new(&"../".repeat(UP)).join(below).join(&name), folder.join(shown));
        std::os::unix::fs::symlink(target, &link).map_err(|e| failed("link", &link, e))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;

    #[test]
    fn links_lead_to_the_image_from_wherever_they_are_unpacked() {
        let (images, folder) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        durable::atomic_write_volatile(&images.path().join("pages-1.img"), b"pages", 0o600).expect("written");
        to_all(images.path(), folder.path(), |name| Some(name)).expect("linked");
        let target = std::fs::read_link(folder.path().join("pages-1.img")).expect("a link");
        assert!(target.is_relative(), "an absolute one would be looked for inside the container: {target:?}");
        let deep = folder.path().join("deeper/still");
        durable::create_dir_all(&deep).expect("made");
        std::os::unix::fs::symlink(&target, deep.join("pages-1.img")).expect("as it is unpacked");
        assert_eq!(std::fs::read(deep.join("pages-1.img")).expect("it leads there"), b"pages");
    }
}
