//! What a unit starts in the place of its own command when it is to be restored: our own program, as root, in the unit's cgroup.
//!
//! It has CRIU restore the image, writes the pid file by which systemd knows the main process, and ends: then the restored processes are
//! systemd's children. Its own output goes where the unit's does, and becomes that of the restored processes. An order is carried out once.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::criu::{Criu, Options, Start, Worker};
use crate::durable;
use crate::error::{Error, Report, Result};

/// The word by which our program is told.
pub(super) const COMMAND: &str = "restore-unit";
/// Longer than any order or report.
const LENGTH_MAX: u64 = 1 << 20;

/// A restore, as the supervisor orders it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Order {
    pub(super) criu: Criu,
    pub(super) images: PathBuf,
    /// Where CRIU's logs go.
    pub(super) work: PathBuf,
    pub(super) options: Options,
    pub(super) streams: Vec<Stream>,
    pub(super) limit: Duration,
    /// What systemd reads.
    pub(super) pid_file: PathBuf,
    /// What the supervisor reads.
    pub(super) report: PathBuf,
}

/// A descriptor of the main process that is a connection to the outside: its output, which goes to the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stream {
    pub(super) descriptor: i32,
    pub(super) inode: u64,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
enum Told {
    Restored { pid: i32 },
    Failed { refused: bool, text: String },
}

impl Order {
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        for old in [&self.pid_file, &self.report] {
            durable::remove_file(old)?;
        }
        let text = serde_json::to_vec(self)
            .map_err(|e| Error::Internal(Report::new("write down a restore").because(e)))?;
        durable::atomic_write_volatile(path, &text, durable::FILE_MODE)
    }

    /// The restored main process, or why there is none; nothing if nobody has tried.
    pub(super) fn reported(&self) -> Option<Result<i32>> {
        let text = durable::read_limited(&self.report, LENGTH_MAX).ok()?;
        Some(match serde_json::from_slice(&text).ok()? {
            Told::Restored { pid } => Ok(pid),
            Told::Failed { refused: true, text } => Err(Error::Refused(Report::new(text))),
            Told::Failed { refused: false, text } => Err(Error::Unavailable(Report::new(text))),
        })
    }

    fn tell(&self, restored: &Result<i32>) -> Result<()> {
        let told = match restored {
            Ok(pid) => Told::Restored { pid: *pid },
            Err(error) => {
                Told::Failed { refused: matches!(error, Error::Refused(_)), text: error.to_string() }
            }
        };
        let text = serde_json::to_vec(&told)
            .map_err(|e| Error::Internal(Report::new("report a restore").because(e)))?;
        durable::atomic_write_volatile(&self.report, &text, durable::FILE_MODE)
    }

    async fn carry_out(&self) -> Result<i32> {
        let start = Start { inherited: self.inherited()?, ..Start::at(&self.images, &self.work) };
        let worker = Worker::start_as_child(&self.criu, start)?;
        let pid = worker.restore(&self.options, self.limit).await?;
        durable::atomic_write_volatile(&self.pid_file, format!("{pid}\n").as_bytes(), 0o644)?;
        Ok(pid)
    }

    /// Our own output in the place of the connections of the image.
    fn inherited(&self) -> Result<Vec<(String, OwnedFd)>> {
        let mut inherited: Vec<(String, OwnedFd)> = Vec::new();
        for stream in &self.streams {
            let key = format!("socket:[{}]", stream.inode);
            if inherited.iter().any(|(known, _)| *known == key) {
                continue;
            }
            let own = match stream.descriptor {
                2 => std::io::stderr().as_fd().try_clone_to_owned(),
                _ => std::io::stdout().as_fd().try_clone_to_owned(),
            };
            let own = own.map_err(|e| Error::Unavailable(Report::new("copy our output").because(e)))?;
            inherited.push((key, own));
        }
        Ok(inherited)
    }
}

/// The connections behind the output of a process.
pub(super) fn streams(pid: i32) -> Vec<Stream> {
    let stream = |descriptor: i32| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some(Stream { descriptor, inode })
    };
    [1, 2].into_iter().filter_map(stream).collect()
}

/// Whether a unit's command is this.
pub(super) fn is_ours(command: &[String]) -> bool {
    command.get(1).is_some_and(|word| word == COMMAND)
}

/// `supervisor restore-unit ORDER`, which only a drop-in of ours says. `None`: these are other arguments. Must be called while the process
/// has one thread.
pub fn main(arguments: impl Iterator<Item = String>) -> Option<ExitCode> {
    let arguments: Vec<String> = arguments.skip(1).collect();
    let [command, order] = arguments.as_slice() else { return None };
    (command == COMMAND).then(|| match run(Path::new(order)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervisor: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run(path: &Path) -> Result<()> {
    let order = take(path)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Error::Internal(Report::new("start the runtime").because(e)))?;
    let restored = runtime.block_on(order.carry_out());
    order.tell(&restored)?;
    restored.map(drop)
}

/// An order is there for one start: a unit that is started by somebody else must not bring back what is old by then.
fn take(path: &Path) -> Result<Order> {
    let gone = |e: &dyn std::fmt::Display| {
        let text = format!("restore a unit by {}: {e}", path.display());
        let remedy = "a supervisor has left its drop-in: remove /run/systemd/system/UNIT.d/zzz-supervisor-restore.conf, \
                      then `systemctl daemon-reload`";
        Error::Unavailable(Report::new(text).remedy(remedy))
    };
    let text = durable::read_limited(path, LENGTH_MAX).map_err(|e| gone(&e))?;
    durable::remove_file(path)?;
    serde_json::from_slice(&text).map_err(|e| gone(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(folder: &Path) -> Order {
        Order {
            criu: Criu::absent(Path::new("criu"), &Error::Refused(Report::new("there is no CRIU"))),
            images: folder.join("images"),
            work: folder.join("work"),
            options: Options::default(),
            streams: vec![Stream { descriptor: 1, inode: 7 }, Stream { descriptor: 2, inode: 7 }],
            limit: Duration::from_secs(1),
            pid_file: folder.join("main.pid"),
            report: folder.join("report"),
        }
    }

    #[test]
    fn an_order_is_carried_out_once_and_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let (order, path) = (order(folder.path()), folder.path().join("order"));
        order.write(&path).expect("written");
        assert!(order.reported().is_none(), "nobody has tried");
        run(&path).expect_err("there is no CRIU");
        let told = order.reported().expect("a report").expect_err("there is no CRIU");
        assert!(matches!(told, Error::Refused(_)) && told.to_string().contains("there is no CRIU"), "{told}");
        assert!(!order.pid_file.exists());
        let again = run(&path).expect_err("it was carried out").to_string();
        assert!(again.contains("daemon-reload"), "{again}");
    }

    #[test]
    fn one_connection_behind_both_outputs_is_inherited_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut order = order(folder.path());
        let keys = |order: &Order| -> Vec<String> {
            order.inherited().expect("our output").into_iter().map(|(key, _)| key).collect()
        };
        assert_eq!(keys(&order), ["socket:[7]"]);
        order.streams[1].inode = 8;
        assert_eq!(keys(&order), ["socket:[7]", "socket:[8]"]);
    }

    #[test]
    fn other_arguments_are_not_for_it() {
        let with = |words: &[&str]| main(words.iter().map(|word| (*word).to_owned()));
        assert!(with(&["supervisor", "run"]).is_none() && with(&["supervisor"]).is_none());
        assert!(with(&["supervisor", "restore-unit", "/nonexistent"]).is_some());
    }
}
