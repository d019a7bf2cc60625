//! A captured tree as the tar archive that podman would have made of it.
//!
//! podman's archives know no layers: what a container has removed stands in a list of its own (`deleted.files`), and a folder that was
//! made anew over an older one is written as a file first, because whoever unpacks it then takes the older one away.

use std::io::{self, Write};

use super::body::{Body, Head};
use crate::capture::{
    self, Content, Contents, Device, Entry, Kind, Meta, Timestamp, TreeIndex, TreePath, Xattr,
};
use crate::error::{Error, Report, Result};

/// Attributes that podman keeps in its archives, or puts back from them.
pub(super) const XATTRS: [&str; 5] =
    ["user.", "security.capability", "security.ima", "system.posix_acl_access", "system.posix_acl_default"];
/// overlayfs' marks of an entry that is not whole without the layers below.
const PARTIAL: [&[u8]; 2] = [b"trusted.overlay.metacopy", b"trusted.overlay.redirect"];

/// Whose tree it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// A container's writable layer.
    Layer,
    /// A volume, with its own root.
    Volume,
}

/// Where the contents come from.
#[derive(Clone, Copy)]
pub(super) enum From<'a> {
    /// Nowhere: only the archive's length matters.
    Zeros,
    /// The image.
    Image(&'a Contents),
}

/// Whether podman's archives can hold it.
pub(super) fn check(tree: &TreeIndex) -> Result<()> {
    let refused = |entry: &Entry, why: &str| {
        Err(Error::Refused(Report::new(format!("write {} of {} for others: {why}", entry.path, tree.name))))
    };
    for entry in &tree.entries {
        let xattrs = entry.meta.xattrs.iter().flatten();
        if xattrs.into_iter().any(|xattr| PARTIAL.contains(&xattr.name.as_slice())) {
            return refused(
                entry,
                "the storage keeps only part of it in the container's layer (metacopy, redirect)",
            );
        }
        if let Kind::File { content: Content::Base | Content::SameAsParent { .. }, .. } = &entry.kind {
            return refused(entry, "its content is not in the image");
        }
    }
    Ok(())
}

/// The paths of what a container has removed.
pub(super) fn removed(tree: &TreeIndex) -> Vec<String> {
    let gone = tree.entries.iter().filter(|entry| is_removed(tree, entry));
    gone.map(|entry| format!("/{}", String::from_utf8_lossy(entry.path.as_bytes()))).collect()
}

/// Writes a tree; the archive's length.
pub(super) fn write(tree: &TreeIndex, of: Of, from: From<'_>, to: &mut dyn Write) -> Result<u64> {
    let mut body = Body::new(to);
    for entry in tree.entries.iter().filter(|entry| !is_removed(tree, entry)) {
        if entry.path.is_root() && of == Of::Layer {
            continue;
        }
        write_entry(&mut body, tree, entry, from)?;
    }
    body.finish()
}

fn write_entry(body: &mut Body<'_>, tree: &TreeIndex, entry: &Entry, from: From<'_>) -> Result<()> {
    let head = |kind| head(kind, &entry.path, &entry.meta);
    match &entry.kind {
        Kind::Directory => {
            if capture::is_opaque(&entry.meta) {
                body.entry(&head(tar::EntryType::Regular))?;
            }
            body.entry(&head(tar::EntryType::Directory))
        }
        Kind::File { size, content } => {
            let head = Head { size: *size, ..head(tar::EntryType::Regular) };
            match (from, content) {
                (From::Image(contents), Content::Stored { extents, .. }) => {
                    body.copied(&head, &mut contents.read(*size, extents))
                }
                (From::Zeros | From::Image(_), _) => {
                    body.copied(&head, &mut io::Read::take(io::repeat(0), *size))
                }
            }
        }
        Kind::Symlink { target } => {
            body.entry(&Head { target: target.clone(), ..head(tar::EntryType::Symlink) })
        }
        Kind::HardLink { to } => {
            let target = tree.entries[*to as usize].path.as_bytes().to_vec();
            body.entry(&Head { target, ..head(tar::EntryType::Link) })
        }
        Kind::Fifo => body.entry(&head(tar::EntryType::Fifo)),
        Kind::CharDevice(Device { major, minor }) => {
            body.entry(&Head { device: (*major, *minor), ..head(tar::EntryType::Char) })
        }
        Kind::BlockDevice(Device { major, minor }) => {
            body.entry(&Head { device: (*major, *minor), ..head(tar::EntryType::Block) })
        }
    }
}

fn head(kind: tar::EntryType, path: &TreePath, meta: &Meta) -> Head {
    let name = if path.is_root() { b"./".to_vec() } else { path.as_bytes().to_vec() };
    let kept = |xattr: &&Xattr| {
        let name = String::from_utf8_lossy(&xattr.name);
        XATTRS.iter().any(|known| if known.ends_with('.') { name.starts_with(known) } else { name == *known })
    };
    let xattrs = meta.xattrs.iter().flatten().filter(kept);
    Head {
        kind,
        mode: meta.mode,
        owner: (meta.uid, meta.gid),
        xattrs: xattrs.map(|xattr| (xattr.name.clone(), xattr.value.clone())).collect(),
        ..Head::file(name, 0, Timestamp(meta.modified.0, meta.modified.1))
    }
}

/// overlayfs may make all its marks of removed entries names of one.
fn is_removed(tree: &TreeIndex, entry: &Entry) -> bool {
    match &entry.kind {
        Kind::HardLink { to } => capture::is_white_out(&tree.entries[*to as usize].kind),
        kind => capture::is_white_out(kind),
    }
}
