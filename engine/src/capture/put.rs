//! Putting back: compare, write down, change.
//!
//! It refuses to begin before everything needed to undo it is on disk, and never leaves a tree half-way without saying so.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::aside::{self, Pending, keep_pending, pending, undo_with};
use super::bytes::TreePath;
use super::index::{Entry, Index, Kind, Timestamp};
use super::journal::{Journal, Step};
use super::make::{Body, Failure, make};
use super::meta;
use super::plan::Plan;
use super::remove::{Moved, Synced, beside, bring, remove, rename};
use super::tree::Root;
use super::{PACK_NAME, Tree};
use crate::durable;
use crate::error::{Error, Report, Result};

/// Trees that are what they were at the image's instant. Ends by [`PutBack::keep`] or [`PutBack::undo`]; what is dropped without
/// is decided by the next start ([`super::pending`]).
#[derive(Debug)]
#[must_use = "what was replaced is still aside"]
pub struct PutBack {
    aside_dir: PathBuf,
    /// Entries that were as they should be.
    pub kept: u64,
    /// Entries made anew.
    pub made: u64,
    /// Entries moved aside, each with all that is in it.
    pub moved_aside: u64,
    /// Bytes of files written.
    pub bytes_written: u64,
}

impl PutBack {
    /// The restore was good: what was replaced is deleted.
    ///
    /// # Errors
    /// As of removing a folder; [`super::keep_pending`] tries again.
    pub fn keep(self) -> Result<()> {
        keep_pending(&self.aside_dir)
    }

    /// The restore was not good: brings the former entries back. What a service has written since into files that were
    /// left in place stays written.
    ///
    /// # Errors
    /// As of writing; [`super::undo_pending`] tries again.
    pub fn undo(self) -> Result<()> {
        aside::undo_pending(&self.aside_dir)
    }
}

/// Makes `trees` what they were when `index` was captured. To be called before the processes are restored, with none
/// of the service's running. `aside_dir` takes what is replaced (best on the trees' own file system: then nothing is copied); it
/// is created if anything is, and its parent must exist.
///
/// # Errors
/// `Refused` for a file of the base that is gone, or while an earlier put-back there is undecided; `Corrupt` for damaged contents.
/// After an error the trees are what they were, unless it says otherwise.
pub fn put_back(index: &Index, blobs_dir: &Path, trees: &[Tree], aside_dir: &Path) -> Result<PutBack> {
    put_back_with(index, blobs_dir, trees, aside_dir, &Fuse::none())
}

pub(super) fn put_back_with(
    index: &Index,
    blobs_dir: &Path,
    trees: &[Tree],
    aside_dir: &Path,
    fuse: &Fuse,
) -> Result<PutBack> {
    let pack = open_pack(index, blobs_dir)?;
    refuse_undecided(aside_dir)?;
    let mut slots = 0;
    let plans = (0..index.trees.len())
        .map(|number| Plan::new(index, number, trees, aside_dir, &mut slots))
        .collect::<Result<Vec<Plan<'_>>>>()?;
    let mut done = PutBack {
        aside_dir: aside_dir.to_owned(),
        kept: plans.iter().map(|plan| plan.kept).sum(),
        made: 0,
        moved_aside: 0,
        bytes_written: 0,
    };
    if plans.iter().all(|plan| plan.journal.is_empty()) {
        return Ok(done);
    }
    durable::remove_tree(aside_dir)?;
    durable::create_new_dir(aside_dir)?;
    let journal = Journal { token: token(), trees: plans.iter().map(|plan| plan.journal.clone()).collect() };
    journal.write(aside_dir)?;
    let aside = Root::open(aside_dir)?;
    for (number, plan) in plans.iter().enumerate() {
        let carrying = CarryOut { plan, number, journal: &journal, aside: &aside, pack: &pack, fuse };
        if let Err(error) = carrying.out(&mut done) {
            return Err(if fuse.has_blown() { error } else { undone(error, aside_dir) });
        }
    }
    Ok(done)
}

/// Nobody gets a tree that is half the one and half the other.
fn undone(error: Error, aside_dir: &Path) -> Error {
    let Err(again) = undo_with(aside_dir, &Fuse::none()) else { return error };
    let text = format!("the files are half put back, and could not be brought back: {again}");
    let remedy =
        format!("free what the errors name; the next start tries again from {}", aside_dir.display());
    Error::Refused(Report::new(text).because(error).remedy(remedy))
}

fn open_pack(index: &Index, blobs_dir: &Path) -> Result<File> {
    let path = blobs_dir.join(PACK_NAME);
    let pack = durable::open_regular(&path)?;
    let length = pack.metadata().map_err(|e| durable::failed("look at", &path, e))?.len();
    if length == index.pack_length && index.is_finished() {
        return Ok(pack);
    }
    let text = format!(
        "the contents have {length} bytes, the index knows {}: {}",
        index.pack_length,
        path.display()
    );
    Err(Error::Corrupt(Report::new(text)))
}

fn refuse_undecided(aside_dir: &Path) -> Result<()> {
    match pending(aside_dir)? {
        Pending::Nothing | Pending::Kept => Ok(()),
        Pending::Undecided => {
            let text = format!("an earlier put-back is neither kept nor undone: {}", aside_dir.display());
            Err(Error::Refused(Report::new(text).remedy("undo it first, as the next start does")))
        }
    }
}

/// No two put-backs share one.
fn token() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let Timestamp(seconds, nanos) = Timestamp::now();
    format!("{seconds:x}{nanos:08x}{:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Lets a test stop the work after any change, as a crash would.
#[derive(Debug)]
pub(super) struct Fuse(Cell<Option<u64>>);

impl Fuse {
    pub(super) fn none() -> Self {
        Self(Cell::new(None))
    }

    #[cfg(test)]
    pub(super) fn after(changes: u64) -> Self {
        Self(Cell::new(Some(changes)))
    }

    fn has_blown(&self) -> bool {
        self.0.get() == Some(0)
    }

    /// Stands before every change.
    pub(super) fn burn(&self) -> Result<()> {
        match self.0.get() {
            None => Ok(()),
            Some(0) => Err(Error::Internal(Report::new("stopped by a test"))),
            Some(left) => {
                self.0.set(Some(left - 1));
                Ok(())
            }
        }
    }
}

struct CarryOut<'a> {
    plan: &'a Plan<'a>,
    number: usize,
    journal: &'a Journal,
    aside: &'a Root,
    pack: &'a File,
    fuse: &'a Fuse,
}

impl CarryOut<'_> {
    fn out(&self, done: &mut PutBack) -> Result<()> {
        for (number, step) in self.plan.journal.steps.iter().enumerate() {
            if let Some(slot) = step.slot {
                self.move_aside(&step.path, slot)?;
                done.moved_aside += 1;
            }
            if let Some(made) = step.made {
                let unfinished = self.journal.unfinished(self.number, number);
                done.bytes_written += self.make(step, &self.plan.index.entries[made], &unfinished)?;
                done.made += 1;
            }
        }
        self.settle()
    }

    fn move_aside(&self, path: &TreePath, slot: u64) -> Result<()> {
        self.fuse.burn()?;
        let root = &self.plan.root;
        let slot = slot.to_string();
        let place = TreePath::root().join(slot.as_bytes());
        let part = format!("{slot}.part");
        // What is removed from one file system must be safe on the other.
        if bring(root, path, self.aside, &place, &part, Synced::First)? == Moved::Copied {
            self.fuse.burn()?;
            remove(root, path)?;
        }
        Ok(())
    }

    /// Makes an entry under a name of ours, whole, and gives it its own.
    fn make(&self, step: &Step, entry: &Entry, unfinished: &str) -> Result<u64> {
        self.fuse.burn()?;
        let root = &self.plan.root;
        let failed = |e| root.failed("put back", &entry.path, e);
        let part = root.place(&beside(&step.path, unfinished)).map_err(failed)?;
        let linked_to = match &entry.kind {
            Kind::HardLink { to } => {
                Some(root.place(&self.plan.index.entries[*to as usize].path).map_err(failed)?)
            }
            _ => None,
        };
        let body = linked_to.as_ref().map(Body::Link).or_else(|| Body::of(&entry.kind, self.pack));
        let body = body.ok_or_else(|| {
            Error::Internal(Report::new(format!("put back a file without contents: {}", entry.path)))
        })?;
        let made = make(&part, &body, &entry.meta).map_err(|failure| match failure {
            Failure::System(e) => failed(e),
            Failure::Damaged => Error::Corrupt(Report::new(format!(
                "the image's copy of a file is damaged: {}",
                entry.path.under(root.path()).display()
            ))),
        })?;
        self.fuse.burn()?;
        let target = root.place(&step.path).map_err(failed)?;
        rename(&part, &target).map_err(failed)?;
        root.forget();
        Ok(made)
    }

    /// Attributes of what stayed in place, and times of folders: last, since all before changes them.
    fn settle(&self) -> Result<()> {
        let formers = self.plan.journal.formers.iter().map(|former| &former.path);
        let steps = self.plan.journal.steps.iter().filter(|step| step.made.is_some()).map(|step| &step.path);
        let touched: HashSet<&TreePath> = formers.chain(steps).collect();
        let recorded: HashSet<&TreePath> = self.plan.index.entries.iter().map(|entry| &entry.path).collect();
        for entry in self.plan.index.entries.iter().rev().filter(|entry| touched.contains(&entry.path)) {
            self.fuse.burn()?;
            let handle = self.plan.root.place(&entry.path).and_then(|place| place.handle());
            let applied = handle.and_then(|handle| meta::apply(&handle, &entry.meta));
            applied.map_err(|e| self.plan.root.failed("set attributes of", &entry.path, e))?;
        }
        // A folder that is none of the image's, and only stays because of what is mounted or excluded in it.
        for former in self.plan.journal.formers.iter().filter(|former| !recorded.contains(&former.path)) {
            let handle = self.plan.root.place(&former.path).and_then(|place| place.handle());
            let applied = handle.and_then(|handle| meta::apply(&handle, &former.meta));
            applied.map_err(|e| self.plan.root.failed("set attributes of", &former.path, e))?;
        }
        Ok(())
    }
}
