//! Reading a service's output to where it goes.
//!
//! A full disk or an absent journal must not stop a service that writes: what cannot be written is read all the
//! same.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::errno::Errno;

use super::protocol::Output;

/// Where journald takes streams of lines.
const JOURNAL: &str = "/run/systemd/journal/stdout";

/// One pipe and where it goes.
pub(super) struct Pump {
    pipe: OwnedFd,
    output: Output,
    journal: Option<UnixStream>,
}

impl Pump {
    /// A pipe to be read.
    pub(super) fn new(pipe: OwnedFd, output: Output) -> Self {
        Self { pipe, output, journal: None }
    }

    /// Reads once what is there. Whether there may be more.
    pub(super) fn once(&mut self) -> bool {
        let mut buffer = [0_u8; 65536];
        match nix::unistd::read(&self.pipe, &mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                // Nobody could be told, and the service must not wait.
                let _ = self.write(&buffer[..length]);
                true
            }
            Err(Errno::EINTR | Errno::EAGAIN) => true,
            Err(_) => false,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &self.output {
            Output::Pumped(path) | Output::File(path) => open(path)?.write_all(bytes),
            Output::Null => Ok(()),
            Output::Journal(name) => {
                let mut stream = match self.journal.take() {
                    Some(stream) => stream,
                    None => connect(name)?,
                };
                stream.write_all(bytes)?;
                self.journal = Some(stream);
                Ok(())
            }
        }
    }
}

impl AsFd for Pump {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Opened anew each time, so that a log may be rotated by renaming it.
#[expect(clippy::disallowed_methods, reason = "the service's log, not a file of ours")]
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// journald's stream protocol: name, unit, priority, and four switches, a line each.
fn connect(name: &str) -> std::io::Result<UnixStream> {
    let mut stream = UnixStream::connect(JOURNAL)?;
    stream.write_all(format!("{name}\n\n6\n0\n0\n0\n0\n").as_bytes())?;
    // A journal that hangs must not hang the shim.
    stream.set_write_timeout(Some(std::time::Duration::from_millis(100)))?;
    Ok(stream)
}
