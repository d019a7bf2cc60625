//! A network namespace, and how to get into it: a command by `nsenter`, a connection by a thread of its own.
//!
//! Refuses to move the test's own threads: they may hold other tests.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Result;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

/// One that somebody else keeps alive.
#[derive(Debug, Clone)]
pub struct Network {
    path: PathBuf,
}

impl Network {
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The file that stands for it.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A command that runs a program inside; it is the program's process, for `nsenter` becomes it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut flag = std::ffi::OsString::from("--net=");
        flag.push(&self.path);
        let mut command = Command::new("nsenter");
        command.arg(flag).arg("--").arg(program);
        command
    }

    /// Connects from inside; a socket stays in the namespace in which it was made.
    ///
    /// # Errors
    /// Whatever keeps it from being entered, or the other side from answering.
    ///
    /// # Panics
    /// If no thread can be started.
    pub fn connect(&self, address: SocketAddr, limit: Duration) -> Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&address, limit))
    }

    /// Makes something inside, on a thread that enters the namespace for it.
    pub(crate) fn inside<T: Send>(&self, make: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let make = || {
            setns(File::open(&self.path)?, CloneFlags::CLONE_NEWNET)?;
            make()
        };
        std::thread::scope(|scope| scope.spawn(make).join().expect("what is made inside does not panic"))
    }
}
