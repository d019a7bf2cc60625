//! File locks of three kinds, which others must still find taken.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use super::{Holder, ensure};

pub(super) struct Locks {
    number: u64,
    flocked: PathBuf,
    /// What looks whether the locks of `fcntl` are there. Never closed: that would end the locks of this process.
    observers: Vec<File>,
    _held: (Flock<File>, [File; 2]),
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

fn flock(file: File) -> nix::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)
}

/// The whole file, for writing.
fn whole() -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

impl Locks {
    pub(super) fn take(folder: &Path) -> io::Result<Self> {
        let path = |name: &str| folder.join(name);
        let (flocked, posix, described) = (path("flock"), path("posix"), path("ofd"));
        let held = (flock(open(&flocked)?)?, [open(&posix)?, open(&described)?]);
        fcntl(&held.1[0], FcntlArg::F_SETLK(&whole()))?;
        fcntl(&held.1[1], FcntlArg::F_OFD_SETLK(&whole()))?;
        Ok(Self { number: 0, flocked, observers: vec![open(&posix)?, open(&described)?], _held: held })
    }
}

impl Holder for Locks {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.number = number;
        Ok(())
    }

    fn get(&mut self) -> io::Result<u64> {
        let other = flock(File::open(&self.flocked)?).map(drop);
        ensure(other == Err(Errno::EWOULDBLOCK), "the lock of flock is lost")?;
        for (observer, kind) in self.observers.iter().zip(["fcntl", "open file descriptions"]) {
            let mut found = whole();
            fcntl(observer, FcntlArg::F_OFD_GETLK(&mut found))?;
            ensure(i32::from(found.l_type) == libc::F_WRLCK, &format!("the lock of {kind} is lost"))?;
        }
        Ok(self.number)
    }
}
