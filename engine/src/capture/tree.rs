//! The root of a tree on this host, and the way from it to any entry without ever following a link.
//!
//! It refuses to leave the tree: every folder is opened beneath the root by `openat2` with symbolic links, magic links
//! and other mounts refused by the kernel, so nobody can swap a folder for a link underneath.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::Tree;
use super::bytes::TreePath;
use super::meta::{Stat, Type};
use crate::durable::failed;
use crate::error::{Error, Report, Result};

/// `openat2` takes paths of at most 4095 bytes; longer ones are gone in steps.
const STEP_MAX: usize = 4000;
const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// An open tree.
#[derive(Debug)]
pub(super) struct Root {
    folder: Arc<OwnedFd>,
    path: PathBuf,
    device: (u32, u32),
    /// Entries come folder by folder.
    last: Mutex<Option<(Vec<u8>, Arc<OwnedFd>)>>,
}

/// Where an entry is: the open folder that holds it, and its name there (`.` for the root).
#[derive(Debug)]
pub(super) struct Place {
    pub(super) folder: Arc<OwnedFd>,
    pub(super) name: CString,
}

impl Root {
    /// Opens it. The path itself is the administrator's and may go through links.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let path = path.canonicalize().map_err(|e| failed("open the tree", path, e))?;
        let opened = rustix::fs::open(&path, FOLDER, Mode::empty());
        let folder = opened.map_err(|e| failed("open the tree", &path, e.into()))?;
        let stat = Stat::at(&folder, c".").map_err(|e| failed("look at", &path, e.into()))?;
        Ok(Self { folder: Arc::new(folder), path, device: stat.device, last: Mutex::new(None) })
    }

    /// Its path on this host, without links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether an entry with this status lies on the tree's own file system, not on one mounted over it, nor in a subvolume.
    ///
    /// On overlayfs only folders report its own device; files report that of the layer they are in.
    pub(super) fn owns(&self, stat: &Stat) -> bool {
        !stat.mount_root && (stat.device == self.device || stat.kind != Type::Directory)
    }

    /// Opens a folder of the tree.
    pub(super) fn folder(&self, path: &[u8]) -> rustix::io::Result<Arc<OwnedFd>> {
        if path.is_empty() {
            return Ok(Arc::clone(&self.folder));
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, folder)) = last.as_ref().filter(|(last, _)| last == path) {
            return Ok(Arc::clone(folder));
        }
        let mut folder = Arc::clone(&self.folder);
        for step in steps(path) {
            folder = Arc::new(beneath(&folder, step)?);
        }
        *last = Some((path.to_vec(), Arc::clone(&folder)));
        Ok(folder)
    }

    /// Must be called when a folder has been moved or removed.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Where an entry is; its folder must exist.
    pub(super) fn place(&self, path: &TreePath) -> rustix::io::Result<Place> {
        let name = CString::new(path.name()).map_err(|_| Errno::INVAL)?;
        Ok(Place { folder: self.folder(path.folder())?, name })
    }

    /// The status of an entry, `None` if there is none.
    pub(super) fn find(&self, path: &TreePath) -> Result<Option<Stat>> {
        let found = self.place(path).and_then(|place| place.stat());
        absent_is_none(found).map_err(|e| self.failed("look at", path, e))
    }

    /// An error about an entry.
    pub(super) fn failed(&self, tried: &str, path: &TreePath, error: Errno) -> Error {
        failed(tried, &path.under(&self.path), error.into())
    }

    /// What has to be left alone in `tree`: as it says, and the other trees in it.
    pub(super) fn exclusions(&self, tree: &Tree, trees: &[Tree]) -> Result<Vec<TreePath>> {
        let mut excluded = Vec::new();
        for path in &tree.exclude {
            let relative = if path.is_absolute() {
                let found = path.strip_prefix(&tree.path).or_else(|_| path.strip_prefix(&self.path));
                found.map_err(|_| wrong_exclusion(path, tree))?
            } else {
                path
            };
            excluded.push(tree_path(relative).ok_or_else(|| wrong_exclusion(path, tree))?);
        }
        for other in trees.iter().filter(|other| other.name != tree.name) {
            let Ok(path) = other.path.canonicalize() else { continue };
            if path == self.path {
                let text = format!("two trees at one place, {} and {}", tree.name, other.name);
                return Err(Error::Invalid(Report::new(text)));
            }
            excluded.extend(path.strip_prefix(&self.path).ok().and_then(tree_path));
        }
        Ok(excluded)
    }

    /// Our own folder must not lie where we capture or clean up. It need not exist yet; its parent must.
    pub(super) fn refuse_inside(&self, ours: &Path, excluded: &[TreePath]) -> Result<()> {
        let ours = match (ours.canonicalize(), ours.parent(), ours.file_name()) {
            (Ok(found), _, _) => found,
            (Err(_), Some(parent), Some(name)) => {
                parent.canonicalize().map_err(|e| failed("open", parent, e))?.join(name)
            }
            (Err(e), _, _) => return Err(failed("open", ours, e)),
        };
        let Some(inside) = ours.strip_prefix(&self.path).ok().and_then(tree_path) else { return Ok(()) };
        if excluded.iter().any(|path| inside.is_within(path)) {
            return Ok(());
        }
        let text = format!(
            "a folder of ours lies in the service's tree {}: {}",
            self.path.display(),
            ours.display()
        );
        Err(Error::Invalid(Report::new(text).remedy("put it elsewhere, or exclude it from the tree")))
    }
}

impl Place {
    pub(super) fn stat(&self) -> rustix::io::Result<Stat> {
        Stat::at(&self.folder, &self.name)
    }

    /// Opens a regular file for reading, without leaving a trace on its access time.
    pub(super) fn open_file(&self) -> rustix::io::Result<File> {
        // O_NONBLOCK: should it have become a FIFO meanwhile, we must not hang.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty());
        match open(flags | OFlags::NOATIME) {
            Err(Errno::PERM) => open(flags),
            other => other,
        }
        .map(File::from)
    }

    /// A handle that stays with the entry whatever happens to its name; for links the link itself.
    pub(super) fn handle(&self) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.folder, &self.name, flags, Mode::empty())
    }

    /// A path for calls that take nothing else.
    pub(super) fn proc_path(&self) -> CString {
        let mut path = format!("/proc/self/fd/{}/", self.folder.as_raw_fd()).into_bytes();
        path.extend_from_slice(self.name.as_bytes());
        CString::new(path).expect("a name of an entry holds no NUL")
    }

    pub(super) fn unlink(&self, flags: AtFlags) -> rustix::io::Result<()> {
        rustix::fs::unlinkat(&self.folder, &self.name, flags)
    }
}

/// Nothing there, or something on the way that isn't a folder any more.
pub(super) fn absent_is_none<T>(found: rustix::io::Result<T>) -> rustix::io::Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e),
    }
}

fn beneath(folder: &OwnedFd, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_XDEV
        | ResolveFlags::NO_MAGICLINKS;
    match rustix::fs::openat2(folder.as_fd(), path, FOLDER, Mode::empty(), resolve) {
        // Older than Linux 5.6, or hidden by a seccomp filter.
        Err(Errno::NOSYS | Errno::PERM) => {}
        other => return other,
    }
    let mut folder = folder.try_clone().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    for name in path.split(|b| *b == b'/') {
        folder = rustix::fs::openat(&folder, name, FOLDER, Mode::empty())?;
    }
    Ok(folder)
}

/// Cuts a long path at slashes.
fn steps(mut path: &[u8]) -> Vec<&[u8]> {
    let mut steps = Vec::new();
    while path.len() > STEP_MAX {
        let end = path[..STEP_MAX].iter().rposition(|b| *b == b'/').expect("no name is that long");
        steps.push(&path[..end]);
        path = &path[end + 1..];
    }
    steps.push(path);
    steps
}

fn tree_path(relative: &Path) -> Option<TreePath> {
    use std::os::unix::ffi::OsStrExt;
    let clean: PathBuf = relative.components().collect();
    TreePath::parse(clean.as_os_str().as_bytes()).filter(|path| !path.is_root())
}

fn wrong_exclusion(path: &Path, tree: &Tree) -> Error {
    let text = format!("exclude from the tree {} at {}: {}", tree.name, tree.path.display(), path.display());
    Error::Invalid(Report::new(text).remedy("name something inside the tree, without `..`"))
}
