//! Trees that come from elsewhere, entry by entry, made into what a capture would have left: an index and a pack.
//!
//! Entries may come in any order, and a later one of the same path replaces the earlier one with all that is below, as archives
//! have it. Contents go straight into the pack; what is kept in memory is names and attributes, and those are limited. It refuses
//! links to nothing, and anything below what is no folder.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::PACK_NAME;
use super::bytes::TreePath;
use super::index::{Content, Device, Entry, Index, Kind, Meta, Timestamp, TreeIndex, Xattr};
use super::pack::Pack;
use crate::error::{Error, Report, Result};

/// Most entries of one tree.
const ENTRIES_MAX: usize = 1_000_000;
/// Most bytes of names, targets and attributes of one tree.
const NAMES_MAX: usize = 256 << 20;
/// overlayfs' mark of a folder that hides what is below it in other layers.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";
/// overlayfs' mark of a removed entry.
const REMOVED: Device = Device { major: 0, minor: 0 };

/// An index and a pack that are being made.
#[derive(Debug)]
pub struct Gathering {
    pack: Pack,
    out_dir: PathBuf,
    taken_at: Timestamp,
    trees: Vec<TreeIndex>,
}

/// One tree of them.
#[derive(Debug, Default)]
pub struct Gathered {
    nodes: BTreeMap<TreePath, Node>,
    names: usize,
}

#[derive(Debug)]
enum Node {
    Made(Kind, Meta),
    /// Another name of that one.
    Link(TreePath),
}

/// What is found at a path of the tree's base, for folders that an archive takes for granted.
pub type Base<'a> = &'a dyn Fn(&TreePath) -> Option<Meta>;

impl Gathering {
    /// Begins in an empty folder.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn create(out_dir: &Path, taken_at: Timestamp) -> Result<Self> {
        let pack = Pack::create(&out_dir.join(PACK_NAME))?;
        Ok(Self { pack, out_dir: out_dir.to_owned(), taken_at, trees: Vec::new() })
    }

    /// Takes a file's content in. What fails to come is `failed`'s to say.
    ///
    /// # Errors
    /// By what the disk says, and `failed`.
    pub fn content(
        &mut self,
        size: u64,
        from: &mut dyn Read,
        failed: &dyn Fn(std::io::Error) -> Error,
    ) -> Result<Kind> {
        let (extents, blake3) = self.pack.append_stream(from, size, failed)?;
        Ok(Kind::File { size, content: Content::Stored { extents, blake3: Some(blake3) } })
    }

    /// A tree is whole.
    ///
    /// # Errors
    /// `Corrupt` when it makes no sense.
    pub fn add(&mut self, name: String, path: &Path, tree: Gathered, base: Base<'_>) -> Result<()> {
        let entries = tree.entries(base)?;
        self.trees.push(TreeIndex { name, path: path.to_owned(), entries, skipped: Vec::new() });
        Ok(())
    }

    /// Writes the index.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn finish(self) -> Result<()> {
        let pack_length = self.pack.close_gap()?;
        Index { taken_at: self.taken_at, pack_length, trees: self.trees }.write(&self.out_dir)
    }
}

impl Gathered {
    /// An entry with its attributes. One that takes the place of something that is no folder is new in all layers.
    ///
    /// # Errors
    /// `Corrupt` when there are too many.
    pub fn insert(&mut self, path: TreePath, kind: Kind, mut meta: Meta) -> Result<()> {
        let is_folder = matches!(kind, Kind::Directory);
        match self.nodes.get(&path) {
            Some(Node::Made(Kind::Directory, former)) if is_folder => {
                if is_opaque(former) {
                    hide_below(&mut meta);
                }
            }
            Some(_) if is_folder => {
                self.remove(&path);
                hide_below(&mut meta);
            }
            _ => self.remove(&path),
        }
        self.count(&path, &meta, &kind)?;
        self.nodes.insert(path, Node::Made(kind, meta));
        Ok(())
    }

    /// Another name of an entry, which may still be to come.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn link(&mut self, path: TreePath, to: TreePath) -> Result<()> {
        self.remove(&path);
        self.names += path.as_bytes().len() + to.as_bytes().len();
        self.limit()?;
        self.nodes.insert(path, Node::Link(to));
        Ok(())
    }

    /// What the base has there is gone.
    ///
    /// # Errors
    /// As [`Self::insert`].
    pub fn white_out(&mut self, path: TreePath) -> Result<()> {
        let meta = Meta { mode: 0, uid: 0, gid: 0, modified: Timestamp(0, 0), xattrs: Some(Vec::new()) };
        self.insert(path, Kind::CharDevice(REMOVED), meta)
    }

    fn remove(&mut self, path: &TreePath) {
        let below = |range: &TreePath| range.is_within(path);
        // Names between a folder and what is in it ("a-b" between "a" and "a/b") are not below it.
        let first = (Bound::Included(path.clone()), Bound::Unbounded);
        let near = self.nodes.range(first).map(|(path, _)| path);
        let prefix = path.as_bytes();
        let gone = near.take_while(|near| near.as_bytes().starts_with(prefix)).filter(|near| below(near));
        for path in gone.cloned().collect::<Vec<_>>() {
            self.nodes.remove(&path);
        }
    }

    fn count(&mut self, path: &TreePath, meta: &Meta, kind: &Kind) -> Result<()> {
        let attributes = meta.xattrs.iter().flatten().map(|x| x.name.len() + x.value.len()).sum::<usize>();
        let target = if let Kind::Symlink { target } = kind { target.len() } else { 0 };
        self.names += path.as_bytes().len() + attributes + target;
        self.limit()
    }

    fn limit(&self) -> Result<()> {
        if self.nodes.len() < ENTRIES_MAX && self.names <= NAMES_MAX {
            return Ok(());
        }
        Err(Error::Refused(Report::new(format!(
            "a tree has more than {ENTRIES_MAX} entries, or more than {NAMES_MAX} bytes of names and attributes"
        ))))
    }

    /// The list of an index: the root first, every folder before what is in it, the first name of a file before its others.
    fn entries(mut self, base: Base<'_>) -> Result<Vec<Entry>> {
        self.fill_in(base)?;
        let firsts = self.firsts()?;
        let mut places: HashMap<&TreePath, u32> = HashMap::new();
        let mut entries = Vec::with_capacity(self.nodes.len());
        for path in self.nodes.keys() {
            let first = firsts.get(path).copied().unwrap_or(path);
            let place = u32::try_from(entries.len()).expect("entries are limited");
            let Some(Node::Made(kind, meta)) = self.nodes.get(first) else {
                return Err(nonsense("a link to nothing", path));
            };
            let kind = match places.get(first) {
                Some(to) => Kind::HardLink { to: *to },
                None => kind.clone(),
            };
            places.entry(first).or_insert(place);
            let (meta, changed) = (meta.clone(), Timestamp(0, 0));
            entries.push(Entry { path: path.clone(), kind, meta, changed, inode: 0, mapped: false });
        }
        Ok(entries)
    }

    /// Folders that nobody mentioned but something is in.
    fn fill_in(&mut self, base: Base<'_>) -> Result<()> {
        let above: Vec<TreePath> = self.nodes.keys().filter_map(TreePath::parent).collect();
        let root = std::iter::once(TreePath::root());
        for folder in above.into_iter().chain(root) {
            for folder in std::iter::successors(Some(folder), TreePath::parent) {
                match self.nodes.get(&folder) {
                    Some(Node::Made(Kind::Directory, _)) => break,
                    Some(_) => return Err(nonsense("something in what is no folder", &folder)),
                    None => {
                        let meta = base(&folder).unwrap_or_else(plain_folder);
                        self.nodes.insert(folder, Node::Made(Kind::Directory, meta));
                    }
                }
            }
        }
        self.limit()
    }

    /// What each further name is a name of.
    fn firsts(&self) -> Result<HashMap<&TreePath, &TreePath>> {
        let mut firsts = HashMap::new();
        for (path, node) in &self.nodes {
            let Node::Link(to) = node else { continue };
            let mut to = to;
            // A chain of links is no longer than there are links, or it is a ring.
            let mut steps = 0_usize;
            loop {
                match self.nodes.get_key_value(to) {
                    Some((_, Node::Link(next))) if steps < 64 => to = next,
                    Some((_, Node::Made(Kind::Directory, _)) | (_, Node::Link(_))) | None => {
                        return Err(nonsense("a hard link to nothing", path));
                    }
                    Some((first, Node::Made(..))) => {
                        firsts.insert(path, first);
                        break;
                    }
                }
                steps += 1;
            }
        }
        Ok(firsts)
    }
}

/// Whether overlayfs shows nothing of the layers below in this folder.
pub fn is_opaque(meta: &Meta) -> bool {
    meta.xattrs.iter().flatten().any(|xattr| xattr.name == OPAQUE && xattr.value == b"y")
}

/// Whether it is overlayfs' mark of a removed entry.
pub fn is_white_out(kind: &Kind) -> bool {
    matches!(kind, Kind::CharDevice(device) if *device == REMOVED)
}

fn hide_below(meta: &mut Meta) {
    let xattrs = meta.xattrs.get_or_insert_default();
    xattrs.push(Xattr { name: OPAQUE.to_vec(), value: b"y".to_vec() });
    xattrs.sort_unstable();
    xattrs.dedup();
}

fn plain_folder() -> Meta {
    Meta { mode: 0o755, uid: 0, gid: 0, modified: Timestamp(0, 0), xattrs: Some(Vec::new()) }
}

fn nonsense(what: &str, path: &TreePath) -> Error {
    Error::Corrupt(Report::new(format!("the archive has {what}: {path}")))
}
