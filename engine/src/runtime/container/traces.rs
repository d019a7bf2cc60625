//! What the host shows of a container without a word with its engine: asking podman takes 70 ms, and a recovery would ask it
//! three times or more.
//!
//! ```text
//! runs ──ends──> an exit note is written ──engine clears up──> runc's folder goes, the root is unmounted: at rest
//! ```
//!
//! What it refuses: guessing. Where the traces of a running container cannot all be seen, there are none, and the engine is asked.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant as Clock};

use super::super::Ended;
use super::super::runc::state::State;
use super::Known;
use super::engine::ended;

/// How often they are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// How long an exit note may take to appear once the container has ended. The engine may take it away again soon after.
const NOTE_MAX: Duration = Duration::from_millis(200);
/// Longest exit note.
const NOTE_LENGTH_MAX: u64 = 16;

/// By what is seen that a container came to rest.
#[derive(Debug, Clone)]
pub(in crate::runtime) struct Traces {
    known: Known,
    runc: PathBuf,
    root: PathBuf,
}

impl Traces {
    /// Those of a container that runs now, whose record runc keeps in the folder `runc`.
    pub(in crate::runtime) fn of(known: &Known, runc: &Path) -> Option<Self> {
        let root = known.changes.as_ref()?.with_file_name("merged");
        let traces = Self { known: known.clone(), runc: runc.to_owned(), root };
        // Mounts of a namespace that is not ours would always look unmounted.
        (traces.known.folder.is_dir() && traces.runc.is_dir() && is_mounted(&traces.root)).then_some(traces)
    }

    /// Whether the container still exists, does not run, and nothing is left to be cleared up after it.
    pub(super) fn at_rest(&self) -> bool {
        self.known.folder.is_dir() && !self.runc.exists() && !is_mounted(&self.root)
    }

    /// Whether somebody has started it anew.
    fn runs_again(&self) -> bool {
        State::read(&self.runc).is_ok_and(|state| Some(state.main_pid()) != self.known.pid)
    }

    /// The container at rest; nothing if it will not, or has not by then.
    pub(super) async fn rest(&self, limit: Duration) -> Option<Known> {
        let begun = Clock::now();
        while !self.at_rest() {
            if begun.elapsed() > limit || !self.known.folder.is_dir() || self.runs_again() {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Some(Known { pid: None, at_rest: true, ..self.known.clone() })
    }
}

fn is_mounted(folder: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|found| found.dev()).ok();
    let parent = folder.parent().and_then(device);
    device(folder).is_some_and(|own| Some(own) != parent)
}

/// Where it will be noted how a running container ended.
#[derive(Debug)]
pub(in crate::runtime) struct ExitNote {
    code: PathBuf,
    /// Exists if the kernel killed it for want of memory.
    out_of_memory: PathBuf,
    /// Which note was there before, and whether the other file was.
    before: (Option<Version>, bool),
}

/// Inode and change time.
type Version = (u64, i64, i64);

impl ExitNote {
    /// Of a container that runs now: what is there already is an earlier run's.
    pub(in crate::runtime) fn awaited(code: PathBuf, out_of_memory: PathBuf) -> Self {
        let before = (version(&code), out_of_memory.exists());
        Self { code, out_of_memory, before }
    }

    /// To be asked when it has ended; nothing if it was not noted.
    pub(super) async fn read(&self) -> Option<Ended> {
        let begun = Clock::now();
        loop {
            if let Some(code) = self.code_now() {
                let out_of_memory = !self.before.1 && self.out_of_memory.exists();
                return Some(ended(code, out_of_memory));
            }
            if begun.elapsed() > NOTE_MAX {
                return None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    fn code_now(&self) -> Option<i32> {
        version(&self.code).filter(|now| Some(*now) != self.before.0)?;
        let text = crate::durable::read_limited(&self.code, NOTE_LENGTH_MAX).ok()?;
        String::from_utf8_lossy(&text).trim().parse().ok()
    }
}

fn version(path: &Path) -> Option<Version> {
    std::fs::metadata(path).ok().map(|found| (found.ino(), found.ctime(), found.ctime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::durable;

    fn write(path: &Path, text: &str) {
        durable::atomic_write_volatile(path, text.as_bytes(), 0o600).expect("written");
    }

    /// A container's folders, with a root that counts as mounted or not.
    fn traces(folder: &Path, root: &str) -> Traces {
        let known = Known { folder: folder.join("userdata"), pid: Some(1), ..Known::default() };
        durable::create_dir_all(&known.folder).expect("made");
        durable::create_dir_all(&folder.join("runc")).expect("made");
        Traces { known, runc: folder.join("runc"), root: root.into() }
    }

    #[tokio::test]
    async fn it_is_at_rest_when_nothing_of_the_run_is_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let plain = folder.path().display().to_string();
        let unmounted = traces(folder.path(), &plain);
        assert!(!unmounted.at_rest(), "runc still knows it");
        assert_eq!(unmounted.rest(Duration::ZERO).await, None);
        std::fs::remove_dir(folder.path().join("runc")).expect("removed");
        let known = unmounted.rest(Duration::ZERO).await.expect("at rest");
        assert_eq!((known.pid, known.at_rest), (None, true));
        assert!(!Traces { root: "/proc".into(), ..unmounted.clone() }.at_rest(), "its root is still mounted");
        std::fs::remove_dir(folder.path().join("userdata")).expect("removed");
        assert!(!unmounted.at_rest(), "it does not exist any more");
    }

    #[test]
    fn where_not_all_can_be_seen_there_are_no_traces() {
        let folder = tempfile::tempdir().expect("a folder");
        let traces = traces(folder.path(), "/nowhere");
        let changes = Some(folder.path().join("diff"));
        durable::create_dir_all(&folder.path().join("merged")).expect("made");
        let known = Known { changes, ..traces.known };
        assert!(Traces::of(&known, &traces.runc).is_none(), "its root is not seen mounted");
        assert!(Traces::of(&Known { changes: None, ..known }, &traces.runc).is_none(), "no overlay");
    }

    #[tokio::test]
    async fn only_a_new_note_tells_of_the_end() {
        let folder = tempfile::tempdir().expect("a folder");
        let (code, memory) = (folder.path().join("code"), folder.path().join("oom"));
        let signalled = |ended: Ended| (ended.status, ended.out_of_memory);
        let first = ExitNote::awaited(code.clone(), memory.clone());
        assert_eq!(first.read().await, None, "nothing was noted");
        write(&memory, "");
        write(&code, "137");
        assert_eq!(first.read().await.map(signalled), Some((Some(libc::SIGKILL), true)));
        let second = ExitNote::awaited(code.clone(), memory);
        assert_eq!(second.read().await, None, "the note of an earlier run");
        write(&code, "3\n");
        assert_eq!(second.read().await.map(signalled), Some((Some(3 << 8), false)));
    }
}
