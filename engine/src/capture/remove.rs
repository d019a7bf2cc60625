//! Removing, moving and copying whole branches of trees, by descriptors only.
//!
//! It refuses to cross into mounts: a branch that holds one stays, and that is an error.

use std::collections::HashSet;
use std::ffi::CString;

use rustix::fs::{AtFlags, RenameFlags};
use rustix::io::Errno;

use super::bytes::TreePath;
use super::index::Timestamp;
use super::make::{Failure, copy, touch};
use super::meta::Type;
use super::tree::{Place, Root, absent_is_none};
use super::walk::{Step, walk};
use crate::error::{Error, Report, Result};

/// Removes an entry and all in it. Nothing there is fine.
pub(super) fn remove(root: &Root, path: &TreePath) -> Result<()> {
    if root.find(path)?.is_none() {
        return Ok(());
    }
    let mut found = Vec::new();
    walk(root, path, &HashSet::new(), |step| match step {
        Step::Entry(path, _, stat) => {
            found.push((path, stat.kind));
            Ok(())
        }
        Step::Skipped(path, _) => Err(mounted(root, &path)),
    })?;
    for (path, kind) in found.iter().rev() {
        let flags = if *kind == Type::Directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        let removed = root.place(path).and_then(|place| place.unlink(flags));
        absent_is_none(removed).map_err(|e| root.failed("remove", path, e))?;
    }
    root.forget();
    Ok(())
}

/// Whether a move took the entry itself, or left a copy of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moved {
    Renamed,
    /// Between two file systems. The original is still there.
    Copied,
}

/// When a copy must be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Synced {
    /// Before it bears its name: who finds it may rely on it.
    First,
    /// Whenever the caller sees to it.
    Later,
}

/// Moves an entry and all in it to a free name in another tree, or copies it where it can't be moved. The copy is made under the
/// name `unfinished` beside `to` first, so that at `to` there is all of it or nothing.
pub(super) fn bring(
    from_root: &Root,
    from: &TreePath,
    to_root: &Root,
    to: &TreePath,
    unfinished: &str,
    synced: Synced,
) -> Result<Moved> {
    let source = from_root.place(from).map_err(|e| from_root.failed("open", from, e))?;
    let target = to_root.place(to).map_err(|e| to_root.failed("open", to, e))?;
    from_root.forget();
    to_root.forget();
    match rename(&source, &target) {
        Ok(()) => return Ok(Moved::Renamed),
        Err(Errno::XDEV) => {}
        Err(e) => return Err(from_root.failed("move", from, e)),
    }
    let part = beside(to, unfinished);
    remove(to_root, &part)?;
    copy_branch(from_root, from, to_root, &part)?;
    let part_place = to_root.place(&part).map_err(|e| to_root.failed("open", &part, e))?;
    if synced == Synced::First {
        rustix::fs::syncfs(&part_place.folder).map_err(|e| to_root.failed("sync", &part, e))?;
    }
    rename(&part_place, &target).map_err(|e| to_root.failed("rename", to, e))?;
    to_root.forget();
    Ok(Moved::Copied)
}

/// A name beside an entry.
pub(super) fn beside(path: &TreePath, name: &str) -> TreePath {
    path.parent().unwrap_or_default().join(name.as_bytes())
}

/// Never over anything, and never onto another name of the same file, which rename(2) would silently not do.
pub(super) fn rename(from: &Place, to: &Place) -> rustix::io::Result<()> {
    let (from_name, to_name): (&CString, &CString) = (&from.name, &to.name);
    let renamed =
        rustix::fs::renameat_with(&from.folder, from_name, &to.folder, to_name, RenameFlags::NOREPLACE);
    match renamed {
        // A file system that doesn't know the flag: look first. Nobody else is at work here.
        Err(Errno::INVAL | Errno::NOSYS) => match absent_is_none(to.stat())? {
            None => rustix::fs::renameat(&from.folder, from_name, &to.folder, to_name),
            Some(_) => Err(Errno::EXIST),
        },
        other => other,
    }
}

fn copy_branch(from_root: &Root, from: &TreePath, to_root: &Root, to: &TreePath) -> Result<()> {
    let mut folders: Vec<(TreePath, Timestamp)> = Vec::new();
    walk(from_root, from, &HashSet::new(), |step| {
        let Step::Entry(path, place, stat) = step else { return Err(mounted(from_root, from)) };
        let target = moved_path(&path, from, to);
        let copied = match to_root.place(&target) {
            Ok(target) => copy(&place, &stat, &target),
            Err(e) => Err(Failure::System(e)),
        };
        copied.map_err(|failure| match failure {
            Failure::System(e) => from_root.failed("copy", &path, e),
            Failure::Damaged => from_root.failed("copy", &path, Errno::IO),
        })?;
        if stat.kind == Type::Directory {
            folders.push((target, stat.modified));
        }
        Ok(())
    })?;
    for (path, modified) in folders.iter().rev() {
        let touched = to_root.place(path).and_then(|place| touch(&place, *modified));
        touched.map_err(|e| to_root.failed("set the time of", path, e))?;
    }
    Ok(())
}

fn moved_path(path: &TreePath, from: &TreePath, to: &TreePath) -> TreePath {
    let rest = &path.as_bytes()[from.as_bytes().len()..];
    if rest.is_empty() { to.clone() } else { to.join(&rest[1..]) }
}

fn mounted(root: &Root, path: &TreePath) -> Error {
    let text = format!("something is mounted at {}", path.under(root.path()).display());
    Error::Refused(Report::new(text).remedy("unmount it, or exclude it from the tree"))
}
