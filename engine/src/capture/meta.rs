//! An entry's status and attributes: read, compared, set.
//!
//! It refuses to set anything through a name that might be a link: a handle on the entry itself is used.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{
    AtFlags, Gid, Mode, StatxAttributes, StatxFlags, StatxTimestamp, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::index::{Device, Meta, Timestamp, Xattr};

/// The type of an entry as the kernel has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Directory,
    File,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// Device and inode.
pub(super) type Identity = ((u32, u32), u64);

/// What one call tells of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) kind: Type,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) inode: u64,
    pub(super) links: u32,
    pub(super) size: u64,
    /// In units of 512 bytes.
    pub(super) blocks: u64,
    /// Of a device node.
    pub(super) node: Device,
    pub(super) modified: Timestamp,
    pub(super) changed: Timestamp,
    /// The file system that it is on.
    pub(super) device: (u32, u32),
    pub(super) mount_root: bool,
}

impl Stat {
    pub(super) fn at(folder: impl AsFd, name: &CStr) -> rustix::io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::EMPTY_PATH;
        let found = rustix::fs::statx(folder, name, flags, StatxFlags::BASIC_STATS)?;
        let mode = u32::from(found.stx_mode);
        Ok(Self {
            kind: type_of(mode).ok_or(Errno::INVAL)?,
            mode: mode & 0o7777,
            uid: found.stx_uid,
            gid: found.stx_gid,
            inode: found.stx_ino,
            links: found.stx_nlink,
            size: found.stx_size,
            blocks: found.stx_blocks,
            node: Device { major: found.stx_rdev_major, minor: found.stx_rdev_minor },
            modified: stamp(found.stx_mtime),
            changed: stamp(found.stx_ctime),
            device: (found.stx_dev_major, found.stx_dev_minor),
            mount_root: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        })
    }

    /// Tells files of one tree apart, whatever names they have. The inode alone does not on overlayfs, whose layers number their own.
    pub(super) fn identity(&self) -> Identity {
        (self.device, self.inode)
    }

    pub(super) fn meta(&self, xattrs: Option<Vec<Xattr>>) -> Meta {
        Meta { mode: self.mode, uid: self.uid, gid: self.gid, modified: self.modified, xattrs }
    }

    /// Whether it differs from `meta` in anything but attributes.
    pub(super) fn differs(&self, meta: &Meta) -> bool {
        let mode_differs = self.kind != Type::Symlink && self.mode != meta.mode;
        mode_differs || (self.uid, self.gid, self.modified) != (meta.uid, meta.gid, meta.modified)
    }
}

fn type_of(mode: u32) -> Option<Type> {
    Some(match mode & libc::S_IFMT {
        libc::S_IFDIR => Type::Directory,
        libc::S_IFREG => Type::File,
        libc::S_IFLNK => Type::Symlink,
        libc::S_IFCHR => Type::CharDevice,
        libc::S_IFBLK => Type::BlockDevice,
        libc::S_IFIFO => Type::Fifo,
        libc::S_IFSOCK => Type::Socket,
        _ => return None,
    })
}

fn stamp(time: StatxTimestamp) -> Timestamp {
    Timestamp(time.tv_sec, time.tv_nsec)
}

/// All attributes of the entry at `path`, which is not followed if it is a link; ordered by name.
pub(super) fn xattrs(path: &CStr) -> rustix::io::Result<Vec<Xattr>> {
    collect(
        |buffer| rustix::fs::llistxattr(path, buffer),
        |name, buffer| rustix::fs::lgetxattr(path, name, buffer),
    )
}

fn collect(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
    get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<Xattr>> {
    let names = grown(list)?.unwrap_or_default();
    let mut found = Vec::new();
    for name in names.split(|b| *b == 0).filter(|name| !name.is_empty()) {
        // None: gone since it was listed.
        if let Some(value) = grown(|buffer| get(name, buffer))? {
            found.push(Xattr { name: name.to_vec(), value });
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Calls `read` with more room until there is enough; `None` where there are no attributes.
fn grown(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> rustix::io::Result<Option<Vec<u8>>> {
    let mut small = [0_u8; 512];
    match read(&mut small) {
        Ok(length) => return Ok(Some(small[..length].to_vec())),
        Err(Errno::NOTSUP | Errno::NODATA) => return Ok(None),
        Err(Errno::RANGE) => {}
        Err(e) => return Err(e),
    }
    // The kernel's limit for both names and values is 64 KiB.
    let mut large = vec![0; 64 * 1024];
    let length = read(&mut large)?;
    large.truncate(length);
    Ok(Some(large))
}

/// Makes owner, attributes, mode and times of an entry what `meta` says. Nothing is touched that is so already,
/// except the time of the last change of attributes, which nobody can set.
pub(super) fn apply(handle: &OwnedFd, meta: &Meta) -> rustix::io::Result<()> {
    let path = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let stat = Stat::at(handle, c"")?;
    if (stat.uid, stat.gid) != (meta.uid, meta.gid) {
        let (uid, gid) = (Uid::from_raw(meta.uid), Gid::from_raw(meta.gid));
        rustix::fs::chownat(handle, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    }
    // After the owner: the kernel drops file capabilities on chown. Before the mode: an ACL changes it.
    if let Some(xattrs) = &meta.xattrs {
        apply_xattrs(&path, xattrs)?;
    }
    let stat = Stat::at(handle, c"")?;
    if stat.kind != Type::Symlink && stat.mode != meta.mode {
        rustix::fs::chmodat(rustix::fs::CWD, &path, Mode::from_raw_mode(meta.mode), AtFlags::empty())?;
    }
    if stat.modified != meta.modified {
        let Timestamp(seconds, nanos) = meta.modified;
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: seconds, tv_nsec: nanos.into() },
        };
        rustix::fs::utimensat(rustix::fs::CWD, &path, &times, AtFlags::empty())?;
    }
    Ok(())
}

/// `path` leads to the entry itself, even if that is a link: a handle is not followed further.
fn apply_xattrs(path: &str, wanted: &[Xattr]) -> rustix::io::Result<()> {
    let found = collect(
        |buffer| rustix::fs::listxattr(path, buffer),
        |name, buffer| rustix::fs::getxattr(path, name, buffer),
    )?;
    for xattr in found.iter().filter(|f| !wanted.iter().any(|w| w.name == f.name)) {
        rustix::fs::removexattr(path, &xattr.name[..])?;
    }
    for xattr in wanted.iter().filter(|wanted| !found.contains(wanted)) {
        rustix::fs::setxattr(path, &xattr.name[..], &xattr.value, XattrFlags::empty())?;
    }
    Ok(())
}
