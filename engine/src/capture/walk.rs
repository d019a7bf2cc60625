//! Every entry of a tree, folders before what is in them, ordered by name in each folder.
//!
//! It refuses to enter what is excluded, other mounts, and anything through a link. Folders are opened one at a time
//! from the root, so that depth costs neither stack nor descriptors.

use std::collections::HashSet;
use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::RawDir;

use super::bytes::TreePath;
use super::index::Reason;
use super::meta::{Stat, Type};
use super::tree::{Place, Root, absent_is_none};
use crate::error::Result;

const LISTING: usize = 64 * 1024;

/// What a walk comes by.
pub(super) enum Step {
    Entry(TreePath, Place, Stat),
    /// Not entered.
    Skipped(TreePath, Reason),
}

/// Walks what is at `start` and below.
pub(super) fn walk(
    root: &Root,
    start: &TreePath,
    excluded: &HashSet<TreePath>,
    mut visit: impl FnMut(Step) -> Result<()>,
) -> Result<()> {
    let place = root.place(start).map_err(|e| root.failed("open", start, e))?;
    let stat = place.stat().map_err(|e| root.failed("look at", start, e))?;
    visit(Step::Entry(start.clone(), place, stat))?;
    let mut folders = if stat.kind == Type::Directory { vec![start.clone()] } else { Vec::new() };
    let mut listing = vec![MaybeUninit::uninit(); LISTING];
    while let Some(path) = folders.pop() {
        // Without a freeze, or by somebody outside of it, anything may vanish meanwhile.
        let opened = absent_is_none(root.folder(path.as_bytes()));
        let Some(folder) = opened.map_err(|e| root.failed("open", &path, e))? else { continue };
        let first = folders.len();
        for name in names(&folder, &mut listing).map_err(|e| root.failed("list", &path, e))? {
            let place = Place { folder: Arc::clone(&folder), name };
            let entry = path.join(place.name.as_bytes());
            let found = absent_is_none(place.stat()).map_err(|e| root.failed("look at", &entry, e))?;
            let Some(stat) = found else { continue };
            if excluded.contains(&entry) {
                visit(Step::Skipped(entry, Reason::Excluded))?;
            } else if !root.owns(&stat) {
                visit(Step::Skipped(entry, Reason::Mount))?;
            } else {
                if stat.kind == Type::Directory {
                    folders.push(entry.clone());
                }
                visit(Step::Entry(entry, place, stat))?;
            }
        }
        folders[first..].reverse();
    }
    Ok(())
}

/// A folder's entries may be listed through any descriptor of it, but the position is the descriptor's.
fn names(folder: &Arc<OwnedFd>, listing: &mut [MaybeUninit<u8>]) -> rustix::io::Result<Vec<CString>> {
    rustix::fs::seek(folder, rustix::fs::SeekFrom::Start(0))?;
    let mut entries = RawDir::new(folder, listing);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}
