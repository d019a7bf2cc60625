//! The root file system of Debian's packages that set-up has brought, and what is added to it for a cell.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::bad_days::program;
use crate::host::{cache_folder, skip};

/// The tree.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    root: PathBuf,
}

/// Ours, which are in no package.
const PROGRAMS: [&str; 3] = ["features", "stubborn", "tokio_server"];
const SCRIPTS: [(&str, &str); 2] = [
    ("server.py", include_str!("../../services/server.py")),
    ("nginx.conf", include_str!("../../services/nginx.conf")),
];
/// An argument of node's, which has no folder of ours as a plain process.
pub(super) const SERVER_JS: &str = include_str!("../../services/server.js");
/// Who may be named by a service in a container.
const USERS: &str = "root:x:0:0::/:/bin/sh\n";
const GROUPS: &str = "root:x:0:\n";

impl Tree {
    /// It, or nothing after having said why this test is skipped.
    pub(super) fn or_skip() -> Option<Self> {
        let root = cache_folder().join("unpacked/services");
        if root.join("usr/bin").is_dir() {
            return Some(Self { root });
        }
        skip(&format!("{} is not there: run `cargo xtask setup`", root.display()));
        None
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The words before a program of the tree that is started outside of it: the tree's own loader and libraries.
    pub(super) fn loader(&self) -> Vec<String> {
        let text = |path: PathBuf| path.display().to_string();
        let loader =
            entry(&self.root.join("usr/lib64"), "ld-linux").expect("a C library comes with its loader");
        let libraries = entry(&self.root.join("usr/lib"), "-linux-gnu")
            .expect("libraries are in a folder of their machine");
        vec![text(loader), "--library-path".to_owned(), text(libraries)]
    }
}

fn entry(folder: &Path, part: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    entries.map(|entry| entry.path()).find(|path| path.display().to_string().contains(part))
}

/// Our scripts, with what they are to know of their cell.
pub(super) fn write_scripts(folder: &Path, fill: impl Fn(&str) -> String) {
    fs::create_dir_all(folder).expect("a folder for scripts");
    for (name, text) in SCRIPTS {
        fs::write(folder.join(name), fill(text)).expect("a script is written");
    }
}

/// What a container's root has beside the tree: our programs, scripts and users, and folders to be mounted on and written to.
pub(super) fn write_rest(root: &Path, fill: impl Fn(&str) -> String) {
    for name in ["proc", "dev", "sys", "tmp", "run", "etc", "data", "volume", "outside"] {
        fs::create_dir_all(root.join(name)).expect("a folder of a container's root");
    }
    fs::write(root.join("etc/passwd"), USERS).expect("written");
    fs::write(root.join("etc/group"), GROUPS).expect("written");
    write_scripts(&root.join("srv"), fill);
    for name in PROGRAMS {
        fs::copy(program(name), root.join("srv").join(name)).expect("a program is copied");
    }
}

/// A root into which the tree's `usr` is to be mounted: the rest, and the links into `usr` that the tree has.
pub(super) fn write_around_usr(root: &Path, fill: impl Fn(&str) -> String) {
    write_rest(root, fill);
    fs::create_dir_all(root.join("usr")).expect("a folder to be mounted on");
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(name), root.join(name)).expect("a link");
    }
}
