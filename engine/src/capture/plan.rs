//! What has to be done to make a tree what it was, found out without changing anything.
//!
//! It refuses what could not be done, before anything is begun: a file of the base that is gone or other, a mount or an excluded path
//! in the way.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use super::Tree;
use super::bytes::TreePath;
use super::index::{Content, Entry, Index, Kind, Reason, Timestamp, TreeIndex};
use super::journal::{Former, Step, TreeJournal};
use super::make::present;
use super::meta::{Identity, Stat, Type};
use super::pack::has_content;
use super::tree::Root;
use super::walk::{self, walk};
use crate::error::{Error, Report, Result};

/// The plan for one tree.
pub(super) struct Plan<'a> {
    pub(super) root: Root,
    pub(super) index: &'a TreeIndex,
    pub(super) journal: TreeJournal,
    /// Entries that are as they were, content and all.
    pub(super) kept: u64,
}

/// What stands in a tree now.
struct Standing {
    order: Vec<TreePath>,
    by_path: HashMap<TreePath, Stat>,
    /// Folders that can't be moved as a whole: something in them must be left alone.
    pinned: HashSet<TreePath>,
}

/// How an entry stands to its record.
enum Difference {
    None,
    /// Owner, mode, attributes or times.
    Meta,
    /// It has to be made anew.
    All,
}

impl<'a> Plan<'a> {
    /// Compares a tree with its record. `slots` numbers what goes aside.
    pub(super) fn new(
        index: &'a Index,
        number: usize,
        trees: &[Tree],
        aside: &Path,
        slots: &mut u64,
    ) -> Result<Self> {
        let recorded = &index.trees[number];
        let tree = trees.iter().find(|tree| tree.name == recorded.name).ok_or_else(|| {
            let text = format!("the image has a tree that the service doesn't: {}", recorded.name);
            Error::Invalid(
                Report::new(text).remedy("declare the volume again, or restore an image without it"),
            )
        })?;
        let root = Root::open(&tree.path)?;
        let excluded = root.exclusions(tree, trees)?;
        root.refuse_inside(aside, &excluded)?;
        let standing = Standing::look(&root, recorded, excluded)?;
        let journal = TreeJournal {
            path: root.path().to_owned(),
            steps: Vec::new(),
            formers: Vec::new(),
            links: Vec::new(),
        };
        let plan = Self { root, index: recorded, journal, kept: 0 };
        Planning { plan, standing, taken_at: index.taken_at, slots, gone: HashSet::new() }.plan()
    }
}

impl Standing {
    fn look(root: &Root, recorded: &TreeIndex, excluded: Vec<TreePath>) -> Result<Self> {
        let left_out =
            recorded.skipped.iter().filter(|s| matches!(s.reason, Reason::Excluded | Reason::Mount));
        let excluded: HashSet<TreePath> =
            excluded.into_iter().chain(left_out.map(|s| s.path.clone())).collect();
        let mut standing = Self { order: Vec::new(), by_path: HashMap::new(), pinned: HashSet::new() };
        walk(root, &TreePath::root(), &excluded, |step| {
            match step {
                walk::Step::Entry(path, _, stat) => {
                    standing.by_path.insert(path.clone(), stat);
                    standing.order.push(path);
                }
                walk::Step::Skipped(path, _) => {
                    let above = std::iter::successors(path.parent(), TreePath::parent);
                    standing.pinned.extend(above);
                    standing.pinned.insert(path);
                }
            }
            Ok(())
        })?;
        Ok(standing)
    }
}

struct Planning<'a, 'b> {
    plan: Plan<'a>,
    standing: Standing,
    taken_at: Timestamp,
    slots: &'b mut u64,
    /// What goes aside, with all that is below.
    gone: HashSet<TreePath>,
}

impl<'a> Planning<'a, '_> {
    fn plan(mut self) -> Result<Plan<'a>> {
        self.surplus()?;
        let changed = self.differences()?;
        self.formers(&changed)?;
        self.broken_links();
        Ok(self.plan)
    }

    /// What was not there then goes aside.
    fn surplus(&mut self) -> Result<()> {
        let recorded: HashMap<&TreePath, &Kind> =
            self.plan.index.entries.iter().map(|entry| (&entry.path, &entry.kind)).collect();
        let sockets: HashSet<&TreePath> =
            self.plan.index.skipped.iter().map(|skipped| &skipped.path).collect();
        for path in std::mem::take(&mut self.standing.order) {
            let kind = self.standing.by_path[&path].kind;
            let below_gone =
                !path.is_root() && path.parent().is_some_and(|parent| self.gone.contains(&parent));
            let pinned = self.standing.pinned.contains(&path);
            match recorded.get(&path) {
                _ if below_gone => {
                    self.gone.insert(path);
                }
                // It is replaced later, and what is in it goes with it.
                Some(recorded) if kind == Type::Directory && !matches!(recorded, Kind::Directory) => {
                    if pinned {
                        return Err(in_the_way(&self.plan.root, &path));
                    }
                    self.gone.insert(path);
                }
                Some(_) => {}
                None if kind == Type::Socket && sockets.contains(&path) => {}
                None if pinned => {}
                None => {
                    self.step(path.clone(), true, None);
                    self.gone.insert(path);
                }
            }
        }
        Ok(())
    }

    fn step(&mut self, path: TreePath, stands: bool, made: Option<usize>) {
        let slot = stands.then_some(*self.slots);
        *self.slots += u64::from(stands);
        self.plan.journal.steps.push(Step { path, slot, made });
    }

    /// Steps for what must be made; returns the entries whose attributes alone differ.
    fn differences(&mut self) -> Result<HashSet<TreePath>> {
        let mut changed = HashSet::new();
        // Which file (by its first entry) an inode that stays in place serves, and the other way round.
        let (mut serves, mut stays): (HashMap<Identity, usize>, HashMap<usize, Identity>) =
            Default::default();
        let index = self.plan.index;
        for (number, entry) in index.entries.iter().enumerate() {
            let stat = self.standing.by_path.get(&entry.path).copied();
            if stat.is_none() && self.standing.pinned.contains(&entry.path) {
                return Err(in_the_way(&self.plan.root, &entry.path));
            }
            let (first, difference) = match (&entry.kind, stat) {
                (Kind::HardLink { to }, stat) => {
                    let same = stat.is_some_and(|stat| stays.get(&(*to as usize)) == Some(&stat.identity()));
                    (*to as usize, if same { Difference::None } else { Difference::All })
                }
                (_, Some(stat)) => (number, self.difference(entry, &stat)?),
                (_, None) => (number, missing(&self.plan.root, entry)?),
            };
            // Two files then, two names of one file now: only one of them can keep it.
            let inode = stat.filter(|stat| stat.kind != Type::Directory).map(|stat| stat.identity());
            let taken = inode.is_some_and(|inode| serves.get(&inode).is_some_and(|other| *other != first));
            match difference {
                Difference::None | Difference::Meta if !taken => {
                    if let Some(inode) = inode {
                        serves.insert(inode, first);
                        stays.insert(first, inode);
                    }
                    self.plan.kept += 1;
                    if matches!(difference, Difference::Meta) {
                        changed.insert(entry.path.clone());
                    }
                }
                Difference::None | Difference::Meta | Difference::All => {
                    if matches!(&entry.kind, Kind::File { content: Content::Base, .. }) {
                        return Err(base_changed(&self.plan.root, entry));
                    }
                    self.step(entry.path.clone(), stat.is_some(), Some(number));
                    self.gone.insert(entry.path.clone());
                }
            }
        }
        Ok(changed)
    }

    fn difference(&self, entry: &Entry, stat: &Stat) -> Result<Difference> {
        let stamps =
            (stat.inode, stat.changed, stat.modified) == (entry.inode, entry.changed, entry.meta.modified);
        let told_by_stamps = !entry.mapped && entry.changed.is_told_apart_at(self.taken_at);
        let same = match &entry.kind {
            Kind::Directory => stat.kind == Type::Directory,
            Kind::File { size, content } => {
                let alike = stat.kind == Type::File && stat.size == *size;
                if alike && stamps && told_by_stamps {
                    true
                } else {
                    alike && self.same_file(entry, content, stat)?
                }
            }
            Kind::Symlink { target } => stat.kind == Type::Symlink && self.target(&entry.path)? == *target,
            Kind::CharDevice(device) => stat.kind == Type::CharDevice && stat.node == *device,
            Kind::BlockDevice(device) => stat.kind == Type::BlockDevice && stat.node == *device,
            Kind::Fifo => stat.kind == Type::Fifo,
            Kind::HardLink { .. } => false,
        };
        match same {
            false => Ok(Difference::All),
            true if stamps && told_by_stamps => Ok(Difference::None),
            true if self.meta_differs(entry, stat)? => Ok(Difference::Meta),
            true => Ok(Difference::None),
        }
    }

    fn same_file(&self, entry: &Entry, content: &Content, stat: &Stat) -> Result<bool> {
        match content {
            Content::Base => Ok(stat.modified == entry.meta.modified),
            Content::Stored { extents, blake3: Some(wanted) } => {
                let failed = |e| self.plan.root.failed("read", &entry.path, e);
                let opened = self.plan.root.place(&entry.path).and_then(|place| place.open_file());
                let file: File = opened.map_err(failed)?;
                has_content(&file, stat.size, stat.blocks, extents, *wanted).map_err(|e| {
                    failed(rustix::io::Errno::from_io_error(&e).unwrap_or(rustix::io::Errno::IO))
                })
            }
            Content::Stored { blake3: None, .. } | Content::SameAsParent { .. } => Ok(false),
        }
    }

    fn target(&self, path: &TreePath) -> Result<Vec<u8>> {
        let place = self.plan.root.place(path);
        let target = place.and_then(|place| rustix::fs::readlinkat(&place.folder, &place.name, Vec::new()));
        target.map(std::ffi::CString::into_bytes).map_err(|e| self.plan.root.failed("read", path, e))
    }

    fn meta_differs(&self, entry: &Entry, stat: &Stat) -> Result<bool> {
        if stat.differs(&entry.meta) {
            return Ok(true);
        }
        let Some(wanted) = &entry.meta.xattrs else { return Ok(false) };
        let found =
            self.plan.root.place(&entry.path).and_then(|place| super::meta::xattrs(&place.proc_path()));
        found
            .map(|found| found != *wanted)
            .map_err(|e| self.plan.root.failed("read attributes of", &entry.path, e))
    }

    /// What the entries are now that change without going aside: those in `changed`, and folders in which something is done.
    fn formers(&mut self, changed: &HashSet<TreePath>) -> Result<()> {
        let folders = self.plan.journal.steps.iter().filter_map(|step| step.path.parent());
        let mut touched: Vec<TreePath> = folders.chain(changed.iter().cloned()).collect();
        touched.sort_unstable();
        touched.dedup();
        for path in touched {
            // A folder that is itself made anew has no former self in place.
            let Some(stat) = self.standing.by_path.get(&path).filter(|_| !self.gone.contains(&path)) else {
                continue;
            };
            let meta = self.plan.root.place(&path).and_then(|place| present(&place, stat));
            let meta = meta.map_err(|e| self.plan.root.failed("read attributes of", &path, e))?;
            self.plan.journal.formers.push(Former { path, meta });
        }
        Ok(())
    }

    fn broken_links(&mut self) {
        let mut names: HashMap<Identity, Vec<&TreePath>> = HashMap::new();
        for (path, stat) in &self.standing.by_path {
            if stat.links > 1 && stat.kind != Type::Directory {
                names.entry(stat.identity()).or_default().push(path);
            }
        }
        for mut paths in names.into_values() {
            if paths.len() > 1 && paths.iter().any(|path| self.gone.contains(*path)) {
                // One that stays in place comes first: the others are linked to it.
                paths.sort_unstable_by_key(|path| (self.gone.contains(*path), *path));
                self.plan.journal.links.push(paths.into_iter().cloned().collect());
            }
        }
        self.plan.journal.links.sort_unstable();
    }
}

fn missing(root: &Root, entry: &Entry) -> Result<Difference> {
    match &entry.kind {
        Kind::File { content: Content::Base, .. } => Err(base_changed(root, entry)),
        _ => Ok(Difference::All),
    }
}

fn base_changed(root: &Root, entry: &Entry) -> Error {
    let path = entry.path.under(root.path());
    let text = format!(
        "a file that came with the container is gone or has changed since the image: {}",
        path.display()
    );
    Error::Refused(Report::new(text).remedy("create the container's root file system anew, or start it cold"))
}

fn in_the_way(root: &Root, path: &TreePath) -> Error {
    let path = path.under(root.path());
    let text = format!("a mount or an excluded path is in the way of what was at {}", path.display());
    Error::Refused(Report::new(text).remedy("unmount it, or take it off the exclusions"))
}
