//! What a put-back has replaced: deleted once the restore is judged good, brought back if it is not. By us, or by the
//! next start.
//!
//! ```text
//!  found by the next start                 means                             what it may do
//!  no folder, or one without a journal     nothing was changed, or undone    nothing (undo_pending sweeps)
//!  journal.json                            neither kept nor undone           undo_pending, or keep_pending
//!  journal.kept.json                       kept, not all deleted             keep_pending
//! ```
//!
//! It refuses to guess: a damaged journal is an error, and everything stays where it is.

use std::path::Path;

use super::bytes::TreePath;
use super::journal::{self, Journal, Step, TreeJournal};
use super::make::touch;
use super::meta;
use super::put::Fuse;
use super::remove::{Moved, Synced, beside, bring, remove};
use super::tree::Root;
use crate::durable;
use crate::error::Result;

/// What an earlier put-back has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pending {
    /// Nothing that matters.
    Nothing,
    /// The trees may be anything between what they were and what the image says.
    Undecided,
    /// The image's; only rubbish is left.
    Kept,
}

/// What is in `aside_dir`.
///
/// # Errors
/// As of looking into a folder.
pub fn pending(aside_dir: &Path) -> Result<Pending> {
    let there = |name: &str| {
        let path = aside_dir.join(name);
        path.try_exists().map_err(|e| durable::failed("look at", &path, e))
    };
    if there(journal::KEPT_NAME)? {
        return Ok(Pending::Kept);
    }
    Ok(if there(journal::NAME)? { Pending::Undecided } else { Pending::Nothing })
}

/// Deletes what is aside. The trees stay as they are.
///
/// # Errors
/// As of removing a folder; may be tried again.
pub fn keep_pending(aside_dir: &Path) -> Result<()> {
    if pending(aside_dir)? == Pending::Undecided {
        // From here on an undo would find slots missing: the name says that there is none.
        durable::rename(&aside_dir.join(journal::NAME), &aside_dir.join(journal::KEPT_NAME))?;
    }
    // Cut short, it leaves a folder that looks kept, or (the journal gone first) like nothing: both may be swept.
    durable::remove_tree(aside_dir)
}

/// Makes the trees what they were before an undecided put-back, however far that or an earlier undo had come, and removes the
/// folder. A put-back that was kept stays kept.
///
/// # Errors
/// `Corrupt` for a damaged journal; otherwise as of writing. May be tried again.
pub fn undo_pending(aside_dir: &Path) -> Result<()> {
    undo_with(aside_dir, &Fuse::none())
}

pub(super) fn undo_with(aside_dir: &Path, fuse: &Fuse) -> Result<()> {
    if pending(aside_dir)? == Pending::Undecided {
        let journal = Journal::read(aside_dir)?;
        let aside = Root::open(aside_dir)?;
        for (number, tree) in journal.trees.iter().enumerate() {
            Undo { journal: &journal, number, tree, root: Root::open(&tree.path)?, aside: &aside, fuse }
                .tree()?;
        }
        fuse.burn()?;
        durable::remove_file(&aside_dir.join(journal::NAME))?;
    }
    durable::remove_tree(aside_dir)
}

struct Undo<'a> {
    journal: &'a Journal,
    number: usize,
    tree: &'a TreeJournal,
    root: Root,
    aside: &'a Root,
    fuse: &'a Fuse,
}

impl Undo<'_> {
    fn tree(&self) -> Result<()> {
        let mut copied = false;
        for (number, step) in self.tree.steps.iter().enumerate().rev() {
            copied |= self.step(number, step)? == Some(Moved::Copied);
        }
        for names in &self.tree.links {
            self.link_again(names)?;
        }
        for former in &self.tree.formers {
            self.fuse.burn()?;
            let handle = self.root.place(&former.path).and_then(|place| place.handle());
            let applied = handle.and_then(|handle| meta::apply(&handle, &former.meta));
            applied.map_err(|e| self.root.failed("set attributes of", &former.path, e))?;
        }
        // What went back must be safe before the journal goes. Renames are in the file system's journal, which any fsync
        // flushes; the contents of copies are not.
        let top = TreePath::root();
        let folder = self.root.folder(b"").map_err(|e| self.root.failed("open", &top, e))?;
        let synced = if copied { rustix::fs::syncfs(folder) } else { rustix::fs::fsync(folder) };
        synced.map_err(|e| self.root.failed("sync", &top, e))
    }

    /// Says how the former entry came back, if there was one.
    fn step(&self, number: usize, step: &Step) -> Result<Option<Moved>> {
        let unfinished = self.journal.unfinished(self.number, number);
        self.fuse.burn()?;
        remove(&self.root, &beside(&step.path, &unfinished))?;
        let Some(slot) = step.slot else {
            self.fuse.burn()?;
            return remove(&self.root, &step.path).map(|()| None);
        };
        let slot = TreePath::root().join(slot.to_string().as_bytes());
        if self.aside.find(&slot)?.is_none() {
            return Ok(None);
        }
        self.fuse.burn()?;
        remove(&self.root, &step.path)?;
        self.fuse.burn()?;
        // A copy stays aside until all is undone: undoing it again then finds the same.
        bring(self.aside, &slot, &self.root, &step.path, &unfinished, Synced::Later).map(Some)
    }

    /// Names of one file that went aside by copy, and so have become several files.
    fn link_again(&self, names: &[TreePath]) -> Result<()> {
        let [first, others @ ..] = names else { return Ok(()) };
        let Some(wanted) = self.root.find(first)? else { return Ok(()) };
        for (number, name) in others.iter().enumerate() {
            let unfinished = self.journal.unfinished(self.number, self.tree.steps.len() + number);
            let part = beside(name, &unfinished);
            remove(&self.root, &part)?;
            let Some(found) = self.root.find(name)? else { continue };
            if found.inode == wanted.inode {
                continue;
            }
            self.fuse.burn()?;
            let failed = |e| self.root.failed("link again", name, e);
            let to = self.root.place(first).map_err(failed)?;
            let part = self.root.place(&part).map_err(failed)?;
            let flags = rustix::fs::AtFlags::empty();
            // The folder may have come back as a copy, with its time already right.
            let folder = self.root.place(&name.parent().unwrap_or_default()).map_err(failed)?;
            let modified = folder.stat().map_err(failed)?.modified;
            let place = self.root.place(name).map_err(failed)?;
            rustix::fs::linkat(&to.folder, &to.name, &part.folder, &part.name, flags).map_err(failed)?;
            rustix::fs::renameat(&part.folder, &part.name, &place.folder, &place.name).map_err(failed)?;
            touch(&folder, modified).map_err(failed)?;
        }
        Ok(())
    }
}
