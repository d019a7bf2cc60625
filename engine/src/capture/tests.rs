//! Capturing and putting back, on real files. They need root: owners, devices and `trusted.` attributes.

#![expect(clippy::disallowed_methods, reason = "the files of these tests are a service's, not ours")]

mod aside;
mod exact;
mod generator;
mod hostile;
mod unchanged;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::index::Timestamp;
use super::{Captured, Parent, Tree, capture, finish};

/// Callers do these on other threads.
const fn goes_to_other_threads<T: Send>() {}
const _: () = goes_to_other_threads::<(super::Preparation, Captured, super::PutBack)>();

/// A tree and the folders around it.
struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().expect("a folder") };
        std::fs::create_dir(bench.tree()).expect("a tree");
        bench
    }

    fn tree(&self) -> PathBuf {
        self.folder.path().join("tree")
    }

    fn aside(&self) -> PathBuf {
        self.folder.path().join("aside")
    }

    fn trees(&self) -> Vec<Tree> {
        vec![Tree { name: "data".to_owned(), path: self.tree(), exclude: Vec::new(), base: None }]
    }

    /// A new empty folder for an image.
    fn image(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::create_dir(&path).expect("a folder for the image");
        path
    }

    /// A finished capture.
    fn capture(&self, name: &str) -> (Captured, PathBuf) {
        self.capture_from(name, None)
    }

    fn capture_from(&self, name: &str, parent: Option<Parent<'_>>) -> (Captured, PathBuf) {
        let out = self.image(name);
        let mut captured = capture(&self.trees(), parent, &out).expect("captured");
        finish(&mut captured).expect("finished");
        (captured, out)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        std::fs::write(self.tree().join(name), content).expect("written");
    }

    fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.tree().join(name)).expect("read")
    }

    /// Until time stamps of all that was done so far are old enough to prove something.
    fn settle(&self) {
        let limit = Instant::now() + Duration::from_secs(20);
        let newest = listing(&self.tree()).values().map(|line| line.changed).max().expect("a root");
        while !newest.is_before(Timestamp::now(), Duration::from_millis(40)) {
            assert!(Instant::now() < limit, "the wall clock stands still");
            std::thread::yield_now();
        }
    }
}

/// All that can be said of an entry and can be put back.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    content: Vec<u8>,
    /// The first name of the same file.
    same_as: Vec<u8>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    changed: Ignored,
}

/// Not compared: nobody can put it back.
type Ignored = Timestamp;

/// What a tree looks like, found out by other means than those under test.
fn listing(root: &Path) -> BTreeMap<Vec<u8>, Line> {
    let mut lines = BTreeMap::new();
    let mut waiting = vec![PathBuf::new()];
    while let Some(path) = waiting.pop() {
        let full = if path.as_os_str().is_empty() { root.to_owned() } else { root.join(&path) };
        let found = std::fs::symlink_metadata(&full).expect("status");
        let kind = found.file_type();
        let mut content = Vec::new();
        let name = if kind.is_dir() {
            let names = std::fs::read_dir(&full).expect("list");
            waiting.extend(names.map(|entry| path.join(entry.expect("entry").file_name())));
            "folder"
        } else if kind.is_file() {
            content = std::fs::read(&full).expect("read");
            "file"
        } else if kind.is_symlink() {
            content = std::fs::read_link(&full).expect("target").into_os_string().into_vec();
            "link"
        } else if kind.is_socket() {
            "socket"
        } else if kind.is_fifo() {
            "fifo"
        } else {
            content = found.rdev().to_ne_bytes().to_vec();
            if kind.is_char_device() { "char" } else { "block" }
        };
        let line = Line {
            kind: name,
            mode: found.mode(),
            owner: (found.uid(), found.gid()),
            modified: (found.mtime(), found.mtime_nsec()),
            content,
            same_as: found.ino().to_ne_bytes().to_vec(),
            xattrs: xattrs(&full),
            changed: Timestamp(found.ctime(), u32::try_from(found.ctime_nsec()).expect("nanoseconds")),
        };
        lines.insert(path.into_os_string().into_vec(), line);
    }
    let mut first: HashMap<Vec<u8>, Vec<u8>> = HashMap::new();
    for (path, line) in &mut lines {
        line.same_as = first.entry(line.same_as.clone()).or_insert_with(|| path.clone()).clone();
    }
    lines
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut names[..]).expect("attributes");
    let name_list = names[..length].split(|b| *b == 0).filter(|name| !name.is_empty());
    let value_of = |name: &[u8]| {
        let mut value = vec![0; 64 * 1024];
        let name = CString::new(name).expect("a name");
        let length = rustix::fs::lgetxattr(path, &name, &mut value[..]).expect("value");
        value[..length].to_vec()
    };
    name_list.map(|name| (name.to_vec(), value_of(name))).collect()
}

/// Compares two listings entry by entry, so that a failure names the first one that differs.
fn assert_same(found: &BTreeMap<Vec<u8>, Line>, wanted: &BTreeMap<Vec<u8>, Line>, when: &str) {
    let shown = |path: &Vec<u8>| OsStr::from_bytes(path).to_owned();
    for (path, wanted) in wanted {
        let found = found.get(path).unwrap_or_else(|| panic!("{when}: {:?} is missing", shown(path)));
        let (mut found, mut wanted) = (found.clone(), wanted.clone());
        (found.changed, wanted.changed) = (Timestamp(0, 0), Timestamp(0, 0));
        assert!(found.content == wanted.content, "{when}: {:?} has other content", shown(path));
        (found.content, wanted.content) = (Vec::new(), Vec::new());
        assert_eq!(found, wanted, "{when}: {:?}", shown(path));
    }
    let surplus: Vec<_> = found.keys().filter(|path| !wanted.contains_key(*path)).map(shown).collect();
    assert!(surplus.is_empty(), "{when}: {surplus:?} should not be there");
}
