//! With real files; what is to be seen happens while the probe waits for it.

use std::path::Path;
use std::time::Duration;

use super::Heartbeat;
use crate::durable::{atomic_write, atomic_write_volatile};
use crate::probe::{Outcome, Probe};

const PLENTY: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(150);

fn probe(file: &Path) -> Probe {
    Probe::Heartbeat(Heartbeat::new(file).expect("a file's path"))
}

/// The touch is repeated until the probe is over: whether it waits already cannot be seen from outside.
async fn while_touched(file: &Path, touch: impl Fn(&Path)) -> Outcome {
    let probe = probe(file);
    let mut feeling = std::pin::pin!(probe.run(PLENTY));
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            outcome = &mut feeling => return outcome,
            _ = pace.tick() => touch(file),
        }
    }
}

#[tokio::test]
async fn every_kind_of_touch_passes() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("alive");
    let replaced = while_touched(&file, |file| atomic_write_volatile(file, b"", 0o600).expect("write")).await;
    assert!(replaced.passed, "{}", replaced.detail);
    let times = while_touched(&file, |file| {
        let file = std::fs::File::open(file).expect("open");
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("set the times");
    })
    .await;
    assert!(times.passed, "{}", times.detail);
    let written = while_touched(&file, |file| {
        let mut log = std::fs::OpenOptions::new();
        #[expect(clippy::disallowed_methods, reason = "writes as a service does")]
        let mut log = log.append(true).open(file).expect("open");
        std::io::Write::write_all(&mut log, b".").expect("write");
    })
    .await;
    assert!(written.passed, "{}", written.detail);
}

#[tokio::test]
async fn an_old_touch_and_other_files_do_not_count() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("alive");
    atomic_write(&file, b"", 0o600).expect("write");
    let probe = probe(&file);
    let mut feeling = std::pin::pin!(probe.run(SHORT));
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    let outcome = loop {
        tokio::select! {
            outcome = &mut feeling => break outcome,
            _ = pace.tick() => atomic_write_volatile(&folder.path().join("alive2"), b"", 0o600).expect("write"),
        }
    };
    assert!(!outcome.passed && outcome.detail.contains("was not touched within 150ms"), "{}", outcome.detail);
}

#[tokio::test]
async fn a_folder_that_is_absent_fails_at_once() {
    let outcome = probe(Path::new("/nonexistent/alive")).run(PLENTY).await;
    assert!(!outcome.passed && outcome.detail.contains("cannot watch /nonexistent"), "{}", outcome.detail);
    assert!(outcome.took < PLENTY);
}

#[test]
fn what_is_no_files_path_is_refused() {
    for wrong in ["/", "alive", ""] {
        assert_eq!(Heartbeat::new(Path::new(wrong)).expect_err(wrong).kind(), "invalid");
    }
}
