//! One supervisor a state folder.

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
    /// Takes the lock of a state folder, or says who holds it.
    pub fn take(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join("lock");
        let unusable = |e: std::io::Error| {
            Error::Refused(
                Report::new(format!("open {}", path.display()))
                    .because(e)
                    .remedy("node.state_dir must be on a writable disk"),
            )
        };
        #[expect(clippy::disallowed_methods, reason = "a lock holds no data that could be torn")]
        let file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unusable)?;
        let mut file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, _)| {
            let mut pid = String::new();
            let _ = file.read_to_string(&mut pid);
            Error::Refused(
                Report::new(format!(
                    "another supervisor (pid {}) uses the state folder {}",
                    pid.trim(),
                    state_dir.display()
                ))
                .remedy("stop it first, or give this one a node.state_dir and node.run_dir of its own"),
            )
        })?;
        file.set_len(0).and_then(|()| file.rewind()).map_err(unusable)?;
        writeln!(file, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { _file: file })
    }
}
