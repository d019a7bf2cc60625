//! One supervisor a folder.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::error::{Error, Report, Result};

/// Held as long as this lives; the kernel lets go when we die.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock of the folder that is configured under this key, or says who holds it.
    pub fn take(folder: &Path, key: &str) -> Result<Self> {
        let path = folder.join(".lock");
        let unusable = |e: std::io::Error| unusable(&path, key, e);
        let file = open(&path).map_err(unusable)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, _)| {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Error::Refused(
                Report::new(format!(
                    "another supervisor (pid {}) uses the folder {}",
                    pid.trim(),
                    folder.display()
                ))
                .remedy(format!("stop it first, or give this one a {key} of its own")),
            )
        })?;
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }

    /// Takes the lock of a folder that others use too, when they let go. Blocks.
    pub fn wait(folder: &Path) -> Result<Self> {
        let path = folder.join(".lock");
        let unusable = |e: std::io::Error| unusable(&path, "a replica", e);
        let file = open(&path).map_err(unusable)?;
        let file = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| unusable(errno.into()))?;
        Ok(Self { _file: file })
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    #[expect(clippy::disallowed_methods, reason = "a lock holds no data that could be torn")]
    let options = File::options().create(true).read(true).write(true).truncate(false).mode(0o600).open(path);
    options
}

fn unusable(path: &Path, key: &str, error: std::io::Error) -> Error {
    let report = Report::new(format!("open {}", path.display())).because(error);
    Error::Refused(report.remedy(format!("{key} must be on a writable disk")))
}
