//! Capturing: what is done under the freeze, and what can be done before it.
//!
//! It refuses to hash, to sync and to copy what has provably not changed.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::bytes::TreePath;
use super::index::{Content, Entry, Index, Kind, Reason, Skipped, Timestamp, TreeIndex, Xattr};
use super::meta::{self, Identity, Stat, Type};
use super::pack::{Pack, data_ranges};
use super::tree::{Place, Root, absent_is_none};
use super::walk::{Step, walk};
use super::{PACK_NAME, Parent, Tree};
use crate::durable;
use crate::error::{Error, Report, Result};

/// Trees opened for one capture. Everything that can be done before the freeze has been.
#[derive(Debug)]
pub struct Preparation {
    trees: Vec<Opened>,
    pack: Pack,
    parent_pack: Option<File>,
    out_dir: PathBuf,
    stats: Stats,
}

/// A capture whose service may run again; [`super::finish`] makes it whole.
#[derive(Debug)]
pub struct Captured {
    /// What was captured.
    pub index: Index,
    /// What it cost.
    pub stats: Stats,
    pub(super) pack: Pack,
    pub(super) parent_pack: Option<File>,
    pub(super) out_dir: PathBuf,
}

/// What a capture cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Entries recorded.
    pub entries: u64,
    /// Files whose contents were copied under the freeze.
    pub files_copied: u64,
    /// Bytes copied under the freeze.
    pub bytes_copied: u64,
    /// Bytes copied before it.
    pub bytes_copied_ahead: u64,
    /// Bytes that need no copy under the freeze, because the parent has them.
    pub bytes_same: u64,
    /// How long it took under the freeze.
    pub took: Duration,
}

#[derive(Debug)]
struct Opened {
    name: String,
    path: PathBuf,
    root: Root,
    excluded: HashSet<TreePath>,
    base: Option<Timestamp>,
    known: HashMap<TreePath, Known>,
}

/// An entry as it was at an earlier instant. A hard link stands here with what it links to.
#[derive(Debug)]
struct Known {
    entry: Entry,
    at: Timestamp,
}

/// Captures the trees into the empty folder `out_dir`, to be called under the freeze. See [`Preparation`] for doing
/// part of it before.
///
/// # Errors
/// `Invalid` for a tree that isn't a folder, `Unavailable` when the disk is full.
pub fn capture(trees: &[Tree], parent: Option<Parent<'_>>, out_dir: &Path) -> Result<Captured> {
    Preparation::open(trees, parent, out_dir)?.capture(&HashSet::new())
}

impl Preparation {
    /// Opens the trees and recalls what the parent has of them. A parent whose contents are not there is done without.
    ///
    /// # Errors
    /// As [`capture`].
    pub fn open(trees: &[Tree], parent: Option<Parent<'_>>, out_dir: &Path) -> Result<Self> {
        let parent = parent.filter(|parent| parent.index.is_finished());
        let parent_pack = parent.and_then(|parent| {
            let file = durable::open_regular(&parent.blobs_dir.join(PACK_NAME)).ok()?;
            (file.metadata().ok()?.len() == parent.index.pack_length).then_some(file)
        });
        let recalled = parent.filter(|_| parent_pack.is_some()).map(|parent| parent.index);
        let mut opened: Vec<Opened> = Vec::with_capacity(trees.len());
        for tree in trees {
            if opened.iter().any(|other| other.name == tree.name) {
                return Err(Error::Invalid(Report::new(format!("two trees of one name: {}", tree.name))));
            }
            opened.push(Opened::new(tree, trees, recalled, out_dir)?);
        }
        let pack = Pack::create(&out_dir.join(PACK_NAME))?;
        Ok(Self { trees: opened, pack, parent_pack, out_dir: out_dir.to_owned(), stats: Stats::default() })
    }

    /// Copies while the service still runs, so that under the freeze only what changes from now on must be copied.
    /// `mapped`: see [`super::mapped_writable`].
    ///
    /// # Errors
    /// As [`capture`].
    pub fn copy_ahead(&mut self, mapped: &HashSet<u64>) -> Result<()> {
        let at = Timestamp::now();
        for tree in &mut self.trees {
            let taken = Taking::new(tree, mapped, &mut self.pack, &mut self.stats).take()?;
            tree.recall(&taken, at);
        }
        let bytes_copied_ahead = self.stats.bytes_copied_ahead + self.stats.bytes_copied;
        self.stats = Stats { bytes_copied_ahead, ..Stats::default() };
        Ok(())
    }

    /// Captures, under the freeze. `mapped`: see [`super::mapped_writable`].
    ///
    /// # Errors
    /// As [`capture`].
    pub fn capture(mut self, mapped: &HashSet<u64>) -> Result<Captured> {
        let (begun, taken_at) = (Instant::now(), Timestamp::now());
        let mut trees = Vec::with_capacity(self.trees.len());
        for tree in &self.trees {
            trees.push(Taking::new(tree, mapped, &mut self.pack, &mut self.stats).take()?);
        }
        self.stats.took = begun.elapsed();
        let index = Index { taken_at, pack_length: 0, trees };
        let Self { pack, parent_pack, out_dir, stats, .. } = self;
        Ok(Captured { index, stats, pack, parent_pack, out_dir })
    }
}

impl Opened {
    fn new(tree: &Tree, trees: &[Tree], parent: Option<&Index>, out_dir: &Path) -> Result<Self> {
        let root = Root::open(&tree.path)?;
        let excluded = root.exclusions(tree, trees)?;
        root.refuse_inside(out_dir, &excluded)?;
        let mut opened = Self {
            name: tree.name.clone(),
            path: tree.path.clone(),
            root,
            excluded: excluded.into_iter().collect(),
            base: tree.base.map(|base| base.taken_at),
            known: HashMap::new(),
        };
        if let Some((parent, index)) = parent.and_then(|index| Some((index.tree(&tree.name)?, index))) {
            opened.recall(parent, index.taken_at);
            opened.known.values_mut().for_each(|known| leave_in_parent(&mut known.entry.kind));
        }
        Ok(opened)
    }

    fn recall(&mut self, tree: &TreeIndex, at: Timestamp) {
        let resolved = tree.entries.iter().map(|entry| {
            let kind = match &entry.kind {
                Kind::HardLink { to } => tree.entries[*to as usize].kind.clone(),
                kind => kind.clone(),
            };
            (entry.path.clone(), Known { entry: Entry { kind, ..entry.clone() }, at })
        });
        self.known = resolved.collect();
    }
}

fn leave_in_parent(kind: &mut Kind) {
    let Kind::File { content, .. } = kind else { return };
    if let Content::Stored { extents, blake3: Some(blake3) } = content {
        *content = Content::SameAsParent { extents: std::mem::take(extents), blake3: *blake3 };
    }
}

impl Known {
    /// Whether the entry is provably what it was then.
    fn is_still(&self, stat: &Stat, mapped: &HashSet<u64>) -> bool {
        let Entry { kind, meta, changed, inode, mapped: was_mapped, .. } = &self.entry;
        let same_kind = match kind {
            Kind::File { size, .. } => stat.kind == Type::File && stat.size == *size,
            Kind::Directory => stat.kind == Type::Directory,
            Kind::Symlink { .. } => stat.kind == Type::Symlink,
            Kind::CharDevice(_) => stat.kind == Type::CharDevice,
            Kind::BlockDevice(_) => stat.kind == Type::BlockDevice,
            Kind::Fifo => stat.kind == Type::Fifo,
            Kind::HardLink { .. } => false,
        };
        let same_stamps = (*inode, *changed, meta.modified) == (stat.inode, stat.changed, stat.modified);
        let told_by_stamps = !was_mapped && !mapped.contains(inode) && changed.is_told_apart_at(self.at);
        same_kind && same_stamps && told_by_stamps
    }
}

/// One pass over one tree.
struct Taking<'a> {
    tree: &'a Opened,
    mapped: &'a HashSet<u64>,
    pack: &'a mut Pack,
    stats: &'a mut Stats,
    entries: Vec<Entry>,
    skipped: Vec<Skipped>,
    /// The first entry of files with several names.
    links: HashMap<Identity, u32>,
    /// What went wrong on our side of a copy, a full disk mostly.
    failure: Option<Error>,
}

impl<'a> Taking<'a> {
    fn new(tree: &'a Opened, mapped: &'a HashSet<u64>, pack: &'a mut Pack, stats: &'a mut Stats) -> Self {
        let entries = Vec::with_capacity(tree.known.len());
        Self { tree, mapped, pack, stats, entries, skipped: Vec::new(), links: HashMap::new(), failure: None }
    }

    fn take(mut self) -> Result<TreeIndex> {
        let tree = self.tree;
        walk(&tree.root, &TreePath::root(), &tree.excluded, |step| match step {
            Step::Skipped(path, reason) => {
                self.skipped.push(Skipped { path, reason });
                Ok(())
            }
            Step::Entry(path, _, stat) if stat.kind == Type::Socket => {
                self.skipped.push(Skipped { path, reason: Reason::Socket });
                Ok(())
            }
            Step::Entry(path, place, stat) => {
                let taken = absent_is_none(self.entry(&path, &place, stat));
                let failed = |e| self.failure.take().unwrap_or_else(|| tree.root.failed("capture", &path, e));
                self.entries.extend(taken.map_err(failed)?);
                Ok(())
            }
        })?;
        self.stats.entries += self.entries.len() as u64;
        let Self { entries, skipped, .. } = self;
        Ok(TreeIndex { name: tree.name.clone(), path: tree.path.clone(), entries, skipped })
    }

    fn entry(&mut self, path: &TreePath, place: &Place, mut stat: Stat) -> rustix::io::Result<Entry> {
        let tree = self.tree;
        let linked = stat.links > 1 && stat.kind != Type::Directory;
        let first = if linked { self.links.get(&stat.identity()).copied() } else { None };
        let known = tree.known.get(path).filter(|known| known.is_still(&stat, self.mapped));
        let mapped = self.mapped.contains(&stat.inode);
        let base = tree.base.is_some_and(|at| stat.changed.is_told_apart_at(at)) && !mapped;
        let kind = match (first, stat.kind) {
            (Some(to), _) => Kind::HardLink { to },
            (None, Type::File) => self.file(path, place, &mut stat, known, base)?,
            (None, other) => special(other, place, &stat, known)?,
        };
        let xattrs = if base && stat.kind != Type::Directory { None } else { Some(xattrs(place, known)?) };
        if linked && first.is_none() {
            let number = u32::try_from(self.entries.len()).map_err(|_| Errno::OVERFLOW)?;
            self.links.insert(stat.identity(), number);
        }
        let meta = stat.meta(xattrs);
        Ok(Entry { path: path.clone(), kind, meta, changed: stat.changed, inode: stat.inode, mapped })
    }

    /// `stat` becomes that of the file which was opened, if it had to be.
    fn file(
        &mut self,
        path: &TreePath,
        place: &Place,
        stat: &mut Stat,
        known: Option<&Known>,
        base: bool,
    ) -> rustix::io::Result<Kind> {
        if base {
            return Ok(Kind::File { size: stat.size, content: Content::Base });
        }
        if let Some(Kind::File { size, content }) = known.map(|known| &known.entry.kind) {
            match content {
                Content::SameAsParent { .. } => {
                    self.stats.bytes_same += size;
                    return Ok(Kind::File { size: *size, content: content.clone() });
                }
                Content::Stored { .. } => return Ok(Kind::File { size: *size, content: content.clone() }),
                // The tree has no base any more.
                Content::Base => {}
            }
        }
        let file = place.open_file()?;
        *stat = Stat::at(&file, c"")?;
        if stat.kind != Type::File {
            return Err(Errno::NOENT);
        }
        let ranges = data_ranges(&file, stat.size, stat.blocks)?;
        let appended = self.pack.append(&file, &ranges);
        let (extents, copied) = appended.map_err(|error| {
            self.failure = Some(error);
            Errno::IO
        })?;
        if copied < ranges.iter().map(|range| range.length).sum() {
            self.skipped.push(Skipped { path: path.clone(), reason: Reason::Torn });
        }
        self.stats.files_copied += 1;
        self.stats.bytes_copied += copied;
        Ok(Kind::File { size: stat.size, content: Content::Stored { extents, blake3: None } })
    }
}

fn special(kind: Type, place: &Place, stat: &Stat, known: Option<&Known>) -> rustix::io::Result<Kind> {
    Ok(match kind {
        Type::Directory => Kind::Directory,
        Type::CharDevice => Kind::CharDevice(stat.node),
        Type::BlockDevice => Kind::BlockDevice(stat.node),
        Type::Fifo => Kind::Fifo,
        Type::Symlink => match known.map(|known| &known.entry.kind) {
            Some(known @ Kind::Symlink { .. }) => known.clone(),
            _ => {
                let target = rustix::fs::readlinkat(&place.folder, &place.name, Vec::new())?;
                Kind::Symlink { target: target.into_bytes() }
            }
        },
        Type::File | Type::Socket => return Err(Errno::INVAL),
    })
}

fn xattrs(place: &Place, known: Option<&Known>) -> rustix::io::Result<Vec<Xattr>> {
    match known.and_then(|known| known.entry.meta.xattrs.as_ref()) {
        Some(xattrs) => Ok(xattrs.clone()),
        None => meta::xattrs(&place.proc_path()),
    }
}
