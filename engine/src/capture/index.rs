//! What was captured: every entry of every tree, in words that can be put back. The format of `index.json`.
//!
//! It refuses whatever could lead a put-back astray: another version, a damaged byte, paths that leave the tree or come
//! before their folder, contents outside the pack.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::bytes::{self, TreePath};
use super::{INDEX_NAME, sheet};
use crate::durable;
use crate::error::{Error, Report, Result};

/// The version of the format. Another one is refused.
const VERSION: u32 = 1;
const WHAT: &str = "supervisor-files";
/// About two million entries.
const LENGTH_MAX: u64 = 1 << 30;
/// A time stamp younger than this may stand for two changes: the kernel's clock for files ticks every 1 to 10 ms.
const RACY: Duration = Duration::from_millis(20);
const RACY_COARSE: Duration = Duration::from_millis(2020);

/// Everything captured at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Index {
    /// When the capture began, by the wall clock: what has changed since has a younger time stamp.
    pub taken_at: Timestamp,
    /// The length of the contents beside it.
    pub pack_length: u64,
    /// The trees, as they were asked for.
    pub trees: Vec<TreeIndex>,
}

/// One tree at that instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeIndex {
    /// Its name.
    pub name: String,
    /// Where it was, for people; it may be put back elsewhere.
    #[serde(with = "bytes::host_path")]
    pub path: PathBuf,
    /// The root first, every folder before what is in it.
    pub entries: Vec<Entry>,
    /// What was seen and left out.
    pub skipped: Vec<Skipped>,
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its path.
    pub path: TreePath,
    /// What it is.
    pub kind: Kind,
    /// Owner, mode and the like.
    pub meta: Meta,
    /// When it was last changed in any way (ctime); cannot be put back, only compared.
    pub changed: Timestamp,
    /// Its inode number; cannot be put back, only compared.
    pub inode: u64,
    /// The service had it mapped writable and shared: time stamps say nothing about such a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mapped: bool,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// A folder.
    Directory,
    /// A regular file.
    File {
        /// Its length in bytes, holes included.
        size: u64,
        /// What is in it.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points to, word for word.
        #[serde(with = "bytes::text")]
        target: Vec<u8>,
    },
    /// A character device; 0:0 is overlayfs' mark of a removed file.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// Another name of an entry before it.
    HardLink {
        /// Which one, by its place in the list.
        to: u32,
    },
}

/// A device's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Content {
    /// In the pack; what no extent covers is a hole.
    Stored {
        /// In order.
        extents: Vec<Extent>,
        /// Over the bytes of all extents; there after [`super::finish`].
        blake3: Option<Checksum>,
    },
    /// In the parent's pack; until [`super::finish`] only.
    SameAsParent {
        /// In order, by their places in the parent's pack.
        extents: Vec<Extent>,
        /// The parent's checksum.
        blake3: Checksum,
    },
    /// With the container's base: not copied, and expected to be in place.
    Base,
}

/// Bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, u64)", into = "(u64, u64, u64)")]
pub struct Extent {
    /// Where in the file.
    pub start: u64,
    /// How many.
    pub length: u64,
    /// Where in the pack.
    pub at: u64,
}

/// What can be set on an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meta {
    /// Permissions with setuid, setgid and sticky; without the type.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// When its content last changed.
    pub modified: Timestamp,
    /// Extended attributes, ACLs and overlayfs' marks among them, ordered by name. `None`: not looked at (a file of the base).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub xattrs: Option<Vec<Xattr>>,
}

/// An extended attribute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Xattr {
    /// With its namespace (`user.`, `trusted.`, `security.`, `system.`).
    #[serde(with = "bytes::text")]
    pub name: Vec<u8>,
    /// Any bytes.
    #[serde(with = "bytes::hex")]
    pub value: Vec<u8>,
}

/// What was left out, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its path.
    pub path: TreePath,
    /// Why.
    pub reason: Reason,
}

/// Why an entry was left out, or is not quite what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// As asked for.
    Excluded,
    /// Another file system, or the same one mounted again.
    Mount,
    /// A socket: whoever listens makes it anew.
    Socket,
    /// It is in the index, but became shorter while it was copied: somebody outside the freeze writes to it.
    Torn,
}

/// A BLAKE3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum(pub [u8; 32]);

/// A time of the wall clock: seconds since 1970 and nanoseconds, as files have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64, pub u32);

impl Timestamp {
    /// The wall clock's now.
    pub fn now() -> Self {
        let since = crate::clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_secs()).unwrap_or(i64::MAX), since.subsec_nanos())
    }

    /// Whether a change at `instant` or later would have left another stamp than this one.
    pub(super) fn is_told_apart_at(self, instant: Self) -> bool {
        // A file system that keeps no fractions of a second (or, FAT, only even ones).
        let coarse = self.1 == 0;
        self.is_before(instant, if coarse { RACY_COARSE } else { RACY })
    }

    pub(super) fn is_before(self, instant: Self, margin: Duration) -> bool {
        let nanos = |t: Self| i128::from(t.0) * 1_000_000_000 + i128::from(t.1);
        nanos(self) + i128::try_from(margin.as_nanos()).unwrap_or(i128::MAX / 2) < nanos(instant)
    }
}

impl Index {
    /// Reads and checks the index of an image.
    ///
    /// # Errors
    /// `Corrupt` for whatever is not as [`super::finish`] wrote it, `Invalid` for another version.
    pub fn read(blobs_dir: &Path) -> Result<Self> {
        let path = blobs_dir.join(INDEX_NAME);
        let bytes = durable::read_limited(&path, LENGTH_MAX)?;
        Self::parse(&bytes, &path)
    }

    pub(super) fn parse(bytes: &[u8], shown: &Path) -> Result<Self> {
        let index: Self = sheet::open(WHAT, VERSION, bytes, shown)?;
        index.check().map_err(|why| {
            Error::Corrupt(Report::new(format!("the index makes no sense ({why}): {}", shown.display())))
        })?;
        Ok(index)
    }

    pub(super) fn write(&self, blobs_dir: &Path) -> Result<()> {
        let bytes = sheet::seal(WHAT, VERSION, self)?;
        durable::atomic_write_volatile(&blobs_dir.join(INDEX_NAME), &bytes, durable::FILE_MODE)
    }

    /// The tree with this name.
    pub fn tree(&self, name: &str) -> Option<&TreeIndex> {
        self.trees.iter().find(|tree| tree.name == name)
    }

    /// Whether every content has been resolved.
    pub fn is_finished(&self) -> bool {
        let open = |content: &Content| match content {
            Content::Stored { blake3, .. } => blake3.is_none(),
            Content::SameAsParent { .. } => true,
            Content::Base => false,
        };
        let entries = self.trees.iter().flat_map(|tree| &tree.entries);
        !entries.into_iter().any(|entry| matches!(&entry.kind, Kind::File { content, .. } if open(content)))
    }

    /// Everything that a checksum does not say: an index may have been made by a mistake, or by somebody.
    fn check(&self) -> std::result::Result<(), &'static str> {
        let mut names: Vec<&str> = self.trees.iter().map(|tree| tree.name.as_str()).collect();
        names.sort_unstable();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("two trees of one name");
        }
        if !self.is_finished() {
            return Err("it was never finished");
        }
        self.trees.iter().try_for_each(|tree| tree.check(self.pack_length))
    }
}

impl TreeIndex {
    fn check(&self, pack_length: u64) -> std::result::Result<(), &'static str> {
        let mut seen: HashMap<&[u8], bool> = HashMap::with_capacity(self.entries.len());
        for (place, entry) in self.entries.iter().enumerate() {
            let in_folder = seen.get(entry.path.folder()).copied().unwrap_or(false);
            if entry.path.is_root() != (place == 0) || (place > 0 && !in_folder) {
                return Err("an entry before its folder");
            }
            let is_folder = matches!(entry.kind, Kind::Directory);
            if place == 0 && !is_folder {
                return Err("a root that is not a folder");
            }
            if seen.insert(entry.path.as_bytes(), is_folder).is_some() {
                return Err("a path twice");
            }
            self.check_kind(place, entry, pack_length)?;
            check_meta(&entry.meta)?;
        }
        if self.entries.is_empty() { Err("a tree without a root") } else { Ok(()) }
    }

    fn check_kind(
        &self,
        place: usize,
        entry: &Entry,
        pack_length: u64,
    ) -> std::result::Result<(), &'static str> {
        match &entry.kind {
            Kind::File { size, content: Content::Stored { extents, .. } } => {
                check_extents(*size, extents, pack_length)
            }
            Kind::File { content: Content::SameAsParent { .. }, .. } => Err("contents left in the parent"),
            Kind::HardLink { to } => {
                let first =
                    usize::try_from(*to).ok().filter(|to| *to < place).map(|to| &self.entries[to].kind);
                match first {
                    None | Some(Kind::HardLink { .. } | Kind::Directory) => Err("a hard link to nothing"),
                    Some(_) => Ok(()),
                }
            }
            Kind::Symlink { target } if target.is_empty() || target.contains(&0) => {
                Err("a link without target")
            }
            Kind::File { content: Content::Base, .. }
            | Kind::Directory
            | Kind::Symlink { .. }
            | Kind::CharDevice(_)
            | Kind::BlockDevice(_)
            | Kind::Fifo => Ok(()),
        }
    }
}

fn check_extents(size: u64, extents: &[Extent], pack_length: u64) -> std::result::Result<(), &'static str> {
    let mut end = 0;
    for extent in extents {
        let inside = |start: u64, limit: u64| start.checked_add(extent.length).is_some_and(|e| e <= limit);
        if extent.length == 0 || extent.start < end || !inside(extent.start, size) {
            return Err("contents that don't fit their file");
        }
        if !inside(extent.at, pack_length) {
            return Err("contents outside the pack");
        }
        end = extent.start + extent.length;
    }
    if i64::try_from(size).is_err() { Err("a file longer than any") } else { Ok(()) }
}

fn check_meta(meta: &Meta) -> std::result::Result<(), &'static str> {
    if meta.mode & !0o7777 != 0 || meta.modified.1 >= 1_000_000_000 {
        return Err("a mode or time that none can have");
    }
    let nul = |xattr: &Xattr| xattr.name.is_empty() || xattr.name.contains(&0);
    if meta.xattrs.iter().flatten().any(nul) { Err("an attribute without a name") } else { Ok(()) }
}

impl From<(u64, u64, u64)> for Extent {
    fn from((start, length, at): (u64, u64, u64)) -> Self {
        Self { start, length, at }
    }
}

impl From<Extent> for (u64, u64, u64) {
    fn from(extent: Extent) -> Self {
        (extent.start, extent.length, extent.at)
    }
}

impl TryFrom<String> for Checksum {
    type Error = &'static str;

    fn try_from(text: String) -> std::result::Result<Self, Self::Error> {
        let hash = blake3::Hash::from_hex(text.as_bytes()).map_err(|_| "not a checksum")?;
        Ok(Self(*hash.as_bytes()))
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        blake3::Hash::from_bytes(checksum.0).to_hex().to_string()
    }
}
