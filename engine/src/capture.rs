//! Files and volumes of a service: captured while it is frozen, put back before it is restored.
//!
//! CRIU keeps processes and memory; the files that these have open must be of the same instant. [`capture`] is called
//! under the freeze and does no more than it must: it looks at every entry, and copies (inside the kernel, sharing
//! blocks where the file system can) the contents that may have changed. [`finish`] does the rest after the thaw: checksums,
//! and contents that are the parent image's. [`Preparation::copy_ahead`], before the freeze, makes the first image's pause short too.
//!
//! [`put_back`] makes the trees what they were, touching only what differs. What it replaces goes aside, so that it can
//! be undone, also by the next start after a crash of ours: all of it is written down before the first change.
//!
//! ```text
//!  open -> [copy_ahead] -> freeze -> capture -> thaw -> finish           image: index.json, blobs.pack
//!  put_back -> restore -> good: keep | bad: undo                         aside: journal.json, what was replaced
//! ```
//!
//! It refuses to follow symbolic links, to cross into other mounts, to hash or sync under the freeze, to trust a time
//! stamp too young to tell two changes apart, and to interpret an index that is damaged in any byte. It writes the files of services
//! (whose names, owners and holes are theirs); its own files are written by [`crate::durable`].
//!
//! Not kept: access times, inode numbers, inode flags (`chattr`), hard links that leave a tree. Not told apart: changes on
//! a network file system whose server's clock differs from ours; such a tree must be captured without a parent.

mod aside;
mod bytes;
mod contents;
mod finish;
mod gather;
mod index;
mod journal;
mod make;
mod mapped;
mod meta;
mod pack;
mod plan;
mod put;
mod remove;
mod sheet;
mod take;
mod tree;
mod walk;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

pub use aside::{Pending, keep_pending, pending, undo_pending};
pub use bytes::TreePath;
pub(crate) use bytes::hex;
pub use contents::Contents;
pub use finish::finish;
pub use gather::{Base, Gathered, Gathering, is_opaque, is_white_out};
pub use index::{
    Checksum, Content, Device, Entry, Extent, Index, Kind, Meta, Reason, Skipped, Timestamp, TreeIndex, Xattr,
};
pub use mapped::mapped_writable;
pub use put::{PutBack, put_back};
pub use take::{Captured, Preparation, Stats, capture};

/// The name of the index in an image's folder of files.
pub const INDEX_NAME: &str = "index.json";
/// The name of the contents beside it.
pub const PACK_NAME: &str = "blobs.pack";

/// A folder whose files belong to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    /// Names it in the index; unique among the trees of a service.
    pub name: String,
    /// Where it is on this host. Must be a folder; may itself be a mount.
    pub path: PathBuf,
    /// What is left alone in it: absolute, or from its root. Other trees inside it are left alone anyway.
    pub exclude: Vec<PathBuf>,
    /// Set for files that came with the container and needn't be copied.
    pub base: Option<Baseline>,
}

/// Files not touched since this instant are expected to be in place when they are put back (a container's root file
/// system as it was created): they are recorded without contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Baseline {
    /// By the wall clock, after everything of the base was in place.
    pub taken_at: Timestamp,
}

/// The image before this one: what has not changed since is taken from it.
#[derive(Debug, Clone, Copy)]
pub struct Parent<'a> {
    /// Its finished index.
    pub index: &'a Index,
    /// The folder with its contents.
    pub blobs_dir: &'a Path,
}
