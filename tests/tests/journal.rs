//! Under systemd the log goes to the journal, each line with its fields; else it goes to standard error.
#![allow(missing_docs)]

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use system_tests::{Host, LIMIT, Runtime, wait_for};

/// A journal in a mount namespace of the supervisor's own, since its place is the same on every host.
struct Scene {
    folder: tempfile::TempDir,
    journal: UnixDatagram,
}

/// Ended with the scene.
struct Supervisor(Child);

impl Drop for Supervisor {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("journal")).expect("a folder");
        let journal = UnixDatagram::bind(folder.path().join("journal/socket")).expect("a socket");
        journal.set_read_timeout(Some(Duration::from_millis(100))).expect("a limit");
        let config = "[node]\nname = 'n'\nstate_dir = 'FOLDER/state'\nrun_dir = 'FOLDER/run'\n[store]\nmin_free = '1MiB'\nhot = 'disk'\n";
        let config = config.replace("FOLDER", &folder.path().display().to_string());
        fs::write(folder.path().join("ha.toml"), config).expect("a file");
        Self { folder, journal }
    }

    fn log(&self) -> std::path::PathBuf {
        self.folder.path().join("log")
    }

    /// A supervisor whose standard error is said to be this file.
    fn start(&self, host: &Host, stream: &Path) -> Supervisor {
        let log = File::create(self.log()).expect("a log");
        let stream = fs::metadata(stream).expect("a file");
        let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                      mount --bind \"$1\" /run/systemd/journal && shift && exec \"$@\"";
        let child = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"])
            .arg(self.folder.path().join("journal"))
            .arg(&host.supervisor)
            .arg("--config")
            .arg(self.folder.path().join("ha.toml"))
            .env("SUPERVISOR_CRIU", &host.criu)
            .env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("unshare runs");
        Supervisor(child)
    }
}

#[test]
fn the_journal_has_the_events_with_their_fields() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let scene = Scene::new();
    File::create(scene.log()).expect("a log");
    let _supervisor = scene.start(host, &scene.log());
    let entry = wait_for(LIMIT, "the journal is told", || {
        let mut bytes = [0; 16384];
        let length = scene.journal.recv(&mut bytes).ok()?;
        let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
        text.contains("the supervisor runs").then_some(text)
    });
    for field in ["PRIORITY", "SYSLOG_IDENTIFIER", "SUPERVISOR_SERVICE", "SUPERVISOR_KIND", "node-started"] {
        assert!(entry.contains(field), "{field} is not in {entry}");
    }
    assert_eq!(fs::read_to_string(scene.log()).expect("a log"), "", "nothing is said twice");
}

#[test]
fn a_stream_that_was_redirected_since_is_written_to() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let scene = Scene::new();
    let _supervisor = scene.start(host, &scene.folder.path().join("ha.toml"));
    wait_for(LIMIT, "the log is written", || {
        fs::read_to_string(scene.log()).ok().filter(|log| log.contains("the supervisor runs"))
    });
    assert!(scene.journal.recv(&mut [0; 1]).is_err(), "the journal was told, too");
}
