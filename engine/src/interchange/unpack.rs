//! Reading a tar archive that nobody vouches for.
//!
//! Every entry is handed out with its attributes read and its length kept; what stands before an entry (long names, extended
//! attributes) may have a megabyte and no more. It refuses archives without an end, and anything but zeros after it.

use std::cell::Cell;
use std::io::{self, Read};

use tar::EntryType;

use super::tree::XATTRS;
use crate::capture::{Meta, Timestamp, TreePath, Xattr};
use crate::error::{Error, Report, Result};

/// Most bytes before an entry's own.
const HEADERS_MAX: u64 = 1 << 20;
const BLOCK: u64 = 512;
/// Most bytes of zeros after the end; archives are filled up to some block.
const FILLING_MAX: u64 = 1 << 20;
const XATTR: &[u8] = b"SCHILY.xattr.";

/// One entry.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) kind: EntryType,
    pub(super) path: TreePath,
    pub(super) target: Vec<u8>,
    pub(super) size: u64,
    pub(super) meta: Meta,
}

/// Whether holes may be written as such.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holes {
    Refused,
    /// They are not looked at.
    Skipped,
}

/// What is left to be read before the next entry's own bytes, and how many zeros came last.
#[derive(Debug, Default)]
struct Guard {
    headers: Cell<Option<u64>>,
    zeros: Cell<u64>,
}

impl Guard {
    /// The zeros of a file are not those of the end.
    fn before_next(&self, allowed: u64) {
        self.headers.set(Some(allowed));
        self.zeros.set(0);
    }
}

struct Guarded<'a> {
    from: &'a mut dyn Read,
    guard: &'a Guard,
}

/// Shows all entries, in their order.
pub(super) fn each(
    from: &mut dyn Read,
    holes: Holes,
    visit: &mut dyn FnMut(Item, &mut dyn Read) -> Result<()>,
) -> Result<()> {
    let guard = Guard::default();
    let mut archive = tar::Archive::new(Guarded { from, guard: &guard });
    let entries = archive.entries().map_err(cannot_read)?;
    guard.before_next(HEADERS_MAX);
    for entry in entries {
        let mut entry = entry.map_err(cannot_read)?;
        guard.headers.set(None);
        let item = item(&mut entry)?;
        let mut allowed = HEADERS_MAX;
        if item.kind == EntryType::GNUSparse {
            if holes == Holes::Refused {
                return Err(refused(&item.path, "a file with holes written in GNU's way"));
            }
            let skipped = entry.header().entry_size().map_err(cannot_read)?;
            allowed = allowed.saturating_add(skipped);
            visit(item, &mut io::empty())?;
        } else {
            let size = item.size;
            let mut content = Counted { from: &mut entry, read: 0 };
            visit(item, &mut content)?;
            io::copy(&mut content, &mut io::sink()).map_err(cannot_read)?;
            if content.read != size {
                return Err(damaged("it ends in the middle of a file"));
            }
        }
        guard.before_next(allowed);
    }
    guard.headers.set(None);
    if guard.zeros.get() < BLOCK {
        return Err(damaged("it has no end"));
    }
    end(archive.into_inner())
}

/// The path of an entry from the root of its tree.
pub(super) fn tree_path(name: &[u8]) -> Result<TreePath> {
    let mut inside = name;
    while let Some(rest) = inside.strip_prefix(b"./") {
        inside = rest;
    }
    let inside = inside.strip_suffix(b"/").unwrap_or(inside);
    let inside = if inside == b"." { b"" } else { inside };
    TreePath::parse(inside)
        .ok_or_else(|| damaged(&format!("a path that leads out of it or cannot be: {}", name.escape_ascii())))
}

pub(super) fn refused(path: &TreePath, what: &str) -> Error {
    Error::Refused(Report::new(format!("the archive holds {what}, which is not taken over: {path}")))
}

pub(super) fn damaged(what: &str) -> Error {
    Error::Corrupt(Report::new(format!("the archive is damaged: {what}")))
}

pub(super) fn cannot_read(error: io::Error) -> Error {
    match error.raw_os_error() {
        None => Error::Corrupt(Report::new("the archive is damaged").because(error)),
        Some(_) => Error::Unavailable(Report::new("cannot read the archive").because(error)),
    }
}

fn item<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Item> {
    let path = tree_path(&entry.path_bytes())?;
    let target = entry.link_name_bytes().map(|target| target.into_owned()).unwrap_or_default();
    let (mut xattrs, mut fraction) = (Vec::new(), 0);
    if let Some(extensions) = entry.pax_extensions().map_err(cannot_read)? {
        for extension in extensions {
            let extension = extension.map_err(cannot_read)?;
            let key = extension.key_bytes();
            if let Some(name) = key.strip_prefix(XATTR) {
                xattrs.push(Xattr { name: name.to_vec(), value: extension.value_bytes().to_vec() });
            } else if key.starts_with(b"GNU.sparse.") {
                return Err(refused(&path, "a file with holes written in GNU's way"));
            } else if key == b"mtime" {
                fraction = nanoseconds(extension.value_bytes());
            }
        }
    }
    xattrs.sort_unstable();
    check_xattrs(&path, &xattrs)?;
    let header = entry.header();
    let number = |found: io::Result<u64>| -> Result<u64> { found.map_err(cannot_read) };
    let id = |found: u64| u32::try_from(found).map_err(|_| damaged("an owner that cannot be"));
    let seconds = i64::try_from(number(header.mtime())?).unwrap_or(0);
    let meta = Meta {
        mode: header.mode().map_err(cannot_read)? & 0o7777,
        uid: id(number(header.uid())?)?,
        gid: id(number(header.gid())?)?,
        modified: Timestamp(seconds, fraction),
        xattrs: Some(xattrs),
    };
    Ok(Item { kind: header.entry_type(), path, target, size: entry.size(), meta })
}

fn check_xattrs(path: &TreePath, xattrs: &[Xattr]) -> Result<()> {
    for pair in xattrs.windows(2) {
        if pair[0].name == pair[1].name {
            return Err(damaged(&format!("an attribute twice: {path}")));
        }
    }
    let known = |xattr: &&Xattr| {
        XATTRS.iter().any(|name| {
            let whole = xattr.name == name.as_bytes();
            whole || (name.ends_with('.') && xattr.name.starts_with(name.as_bytes()))
        })
    };
    match xattrs.iter().find(|xattr| !known(xattr)) {
        Some(other) => Err(refused(path, &format!("the attribute {}", other.name.escape_ascii()))),
        None => Ok(()),
    }
}

/// Of `1700000000.25`; what is no such number counts as none.
fn nanoseconds(text: &[u8]) -> u32 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    let digits: String = text.split_once('.').map_or("", |(_, after)| after).chars().take(9).collect();
    format!("{digits:0<9}").parse().unwrap_or(0)
}

/// After the end nothing is read but what fills the last block.
fn end(mut rest: Guarded<'_>) -> Result<()> {
    let mut buffer = [0; 8192];
    let mut filled = 0;
    loop {
        let read = rest.read(&mut buffer).map_err(cannot_read)?;
        if read == 0 {
            return Ok(());
        }
        filled += read as u64;
        if filled > FILLING_MAX || buffer[..read].iter().any(|byte| *byte != 0) {
            return Err(damaged("something stands after its end"));
        }
    }
}

impl Read for Guarded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = match self.guard.headers.get() {
            Some(0) => return Err(io::Error::other("an entry's names and attributes are too long")),
            Some(left) => usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len())),
            None => buffer.len(),
        };
        let read = self.from.read(&mut buffer[..most])?;
        if let Some(left) = self.guard.headers.get() {
            self.guard.headers.set(Some(left - read as u64));
        }
        let zeros = buffer[..read].iter().rev().take_while(|byte| **byte == 0).count();
        let before = if zeros == read { self.guard.zeros.get() } else { 0 };
        self.guard.zeros.set(before + zeros as u64);
        Ok(read)
    }
}

struct Counted<'a> {
    from: &'a mut dyn Read,
    read: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}
