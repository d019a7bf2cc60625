//! Making one entry: of an index, or as a copy of another one.
//!
//! It refuses to write over anything: the name must be free.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Mode, OFlags};

use super::index::{Checksum, Content, Device, Extent, Kind, Meta, Timestamp};
use super::meta::{self, Stat, Type};
use super::pack::{copy_out, data_ranges};
use super::tree::Place;

/// What to make.
pub(super) enum Body<'a> {
    Directory,
    File {
        size: u64,
        from: &'a File,
        extents: &'a [Extent],
        wanted: Option<Checksum>,
    },
    Symlink(&'a [u8]),
    Node(FileType, Device),
    /// Another name of this entry.
    Link(&'a Place),
}

/// Why it could not be made.
#[derive(Debug)]
pub(super) enum Failure {
    System(rustix::io::Errno),
    /// The bytes are not those that the index promises.
    Damaged,
}

impl From<rustix::io::Errno> for Failure {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        // A pack that is shorter than its index says.
        if error.kind() == std::io::ErrorKind::UnexpectedEof {
            return Self::Damaged;
        }
        Self::System(rustix::io::Errno::from_io_error(&error).unwrap_or(rustix::io::Errno::IO))
    }
}

impl<'a> Body<'a> {
    /// What an index's entry is made of; `None` for what can only be in place already, or is a link.
    pub(super) fn of(kind: &'a Kind, pack: &'a File) -> Option<Self> {
        Some(match kind {
            Kind::Directory => Self::Directory,
            Kind::File { size, content: Content::Stored { extents, blake3 } } => {
                Self::File { size: *size, from: pack, extents, wanted: *blake3 }
            }
            Kind::Symlink { target } => Self::Symlink(target),
            Kind::CharDevice(device) => Self::Node(FileType::CharacterDevice, *device),
            Kind::BlockDevice(device) => Self::Node(FileType::BlockDevice, *device),
            Kind::Fifo => Self::Node(FileType::Fifo, Device { major: 0, minor: 0 }),
            Kind::File { content: Content::Base | Content::SameAsParent { .. }, .. }
            | Kind::HardLink { .. } => {
                return None;
            }
        })
    }
}

/// Makes the entry, with its owner, mode, attributes and times. Returns the bytes copied.
pub(super) fn make(place: &Place, body: &Body<'_>, meta: &Meta) -> Result<u64, Failure> {
    let (folder, name): (&OwnedFd, &CStr) = (&place.folder, &place.name);
    let mut copied = 0;
    match body {
        Body::Directory => rustix::fs::mkdirat(folder, name, Mode::RWXU)?,
        Body::Symlink(target) => rustix::fs::symlinkat(*target, folder, name)?,
        Body::Node(kind, device) => {
            let device = rustix::fs::makedev(device.major, device.minor);
            rustix::fs::mknodat(folder, name, *kind, Mode::RUSR | Mode::WUSR, device)?;
        }
        Body::File { size, from, extents, wanted } => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = File::from(rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?);
            file.set_len(*size)?;
            let found = copy_out(from, extents, &file)?;
            if wanted.is_some_and(|wanted| wanted != found) {
                return Err(Failure::Damaged);
            }
            copied = extents.iter().map(|extent| extent.length).sum();
        }
        Body::Link(to) => {
            // It is the other name's inode, attributes and all.
            return Ok(rustix::fs::linkat(&to.folder, &to.name, folder, name, AtFlags::empty()).map(|()| 0)?);
        }
    }
    meta::apply(&place.handle()?, meta)?;
    Ok(copied)
}

/// Makes `to` a copy of `from`, which is not a folder with anything in it that matters.
pub(super) fn copy(from: &Place, stat: &Stat, to: &Place) -> Result<(), Failure> {
    let meta = stat.meta(Some(meta::xattrs(&from.proc_path())?));
    let none = Device { major: 0, minor: 0 };
    match stat.kind {
        Type::Directory => make(to, &Body::Directory, &meta),
        Type::CharDevice => make(to, &Body::Node(FileType::CharacterDevice, stat.node), &meta),
        Type::BlockDevice => make(to, &Body::Node(FileType::BlockDevice, stat.node), &meta),
        Type::Fifo => make(to, &Body::Node(FileType::Fifo, none), &meta),
        Type::Socket => make(to, &Body::Node(FileType::Socket, none), &meta),
        Type::Symlink => {
            let target = rustix::fs::readlinkat(&from.folder, &from.name, Vec::new())?;
            make(to, &Body::Symlink(target.as_bytes()), &meta)
        }
        Type::File => {
            let file = from.open_file()?;
            let extents = data_ranges(&file, stat.size, stat.blocks)?;
            make(to, &Body::File { size: stat.size, from: &file, extents: &extents, wanted: None }, &meta)
        }
    }
    .map(drop)
}

/// The attributes that an entry has now.
pub(super) fn present(place: &Place, stat: &Stat) -> rustix::io::Result<Meta> {
    Ok(stat.meta(Some(meta::xattrs(&place.proc_path())?)))
}

/// Sets only the time of a folder: what was done in it has changed that.
pub(super) fn touch(place: &Place, modified: Timestamp) -> rustix::io::Result<()> {
    let stat = place.stat()?;
    meta::apply(&place.handle()?, &Meta { modified, ..stat.meta(None) })
}
