//! A small disk that can be filled up.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// A file system of a test's own.
#[derive(Debug)]
pub struct Tmpfs {
    path: PathBuf,
    size: String,
}

impl Tmpfs {
    /// Mounts one of this size (as mount(8) writes it) at a folder, which is made. Says aloud that the test is skipped if that
    /// isn't possible here.
    pub fn mount(path: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(path).expect("a folder to mount at");
        let options = format!("size={size},mode=0700");
        if let Err(error) =
            mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
        {
            eprintln!("SKIPPED: a tmpfs cannot be mounted here: {error}");
            return None;
        }
        Some(Self { path: path.to_owned(), size: size.to_owned() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// From now on nothing can be written to it.
    pub fn make_read_only(&self) {
        let options = format!("size={},mode=0700", self.size);
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, &self.path, None::<&str>, flags, Some(options.as_str())).expect("remounted");
    }

    /// Takes all the space that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.filling()).expect("a file");
        for block in [1 << 16, 1 << 12] {
            let zeros = vec![0; block];
            // Until there is no space left.
            while file.write_all(&zeros).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn empty(&self) {
        fs::remove_file(self.filling()).expect("it was filled");
    }

    fn filling(&self) -> PathBuf {
        self.path.join("filling")
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // A process that still has a file of it open keeps it until it ends.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}
