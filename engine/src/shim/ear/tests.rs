//! Over real sockets, with a folder in the place of a cgroup.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use super::*;

struct Scene {
    folder: tempfile::TempDir,
    ear: Option<Ear>,
}

impl Scene {
    fn new(isolation: Isolation) -> Self {
        let mut scene = Self { folder: tempfile::tempdir().unwrap(), ear: None };
        scene.set_members(&[std::process::id().cast_signed()]);
        let listen = scene.words(false);
        Ear::listen(&mut scene.ear, &listen, isolation).unwrap();
        scene
    }

    fn words(&self, ready: bool) -> Listen {
        let cgroup = Cgroup::at(Some(self.folder.path().to_owned()), None, None);
        Listen { path: self.path(), owner: None, cgroup, ready }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("s")
    }

    fn set_members(&self, pids: &[i32]) {
        let text: String = pids.iter().map(|pid| format!("{pid}\n")).collect();
        std::fs::write(self.folder.path().join("cgroup.procs"), text).unwrap();
    }

    fn ear(&mut self) -> &mut Ear {
        self.ear.as_mut().unwrap()
    }
}

/// As most libraries do it: a socket for each message.
fn say(path: &Path, message: &str) {
    UnixDatagram::unbound().unwrap().send_to(message.as_bytes(), path).unwrap();
}

#[test]
fn members_are_heard_and_nobody_else() {
    let mut scene = Scene::new(Isolation::None);
    say(&scene.path(), "READY=1\nSTATUS=up");
    assert_eq!(
        scene.ear().said(0),
        Said { changes: 2, ready: true, alive: 1, status: "up".into(), ..Said::default() }
    );
    scene.set_members(&[1]);
    say(&scene.path(), "STOPPING=1");
    assert!(scene.ear().said(0).ready, "it was no member who said that");
    // One that was born since the members were read.
    scene.set_members(&[1, std::process::id().cast_signed()]);
    say(&scene.path(), "STOPPING=1");
    assert!(scene.ear().said(0).stopping);
}

/// `systemd-notify` has often ended before anybody reads what it said.
#[test]
fn one_that_has_ended_counts_where_pids_are_the_services_own() {
    for (isolation, counts) in [(Isolation::Pid, true), (Isolation::None, false)] {
        let mut scene = Scene::new(isolation);
        scene.set_members(&[]);
        let path = scene.path();
        // SAFETY: the child only sends and leaves.
        match unsafe { nix::unistd::fork() }.unwrap() {
            nix::unistd::ForkResult::Child => {
                say(&path, "READY=1");
                // SAFETY: a forked child leaves without running what its parent registered for its exit.
                unsafe { libc::_exit(0) }
            }
            nix::unistd::ForkResult::Parent { child } => {
                nix::sys::wait::waitpid(child, None).map(drop).unwrap()
            }
        }
        assert_eq!(scene.ear().said(0).ready, counts, "{isolation:?}");
    }
}

#[test]
fn another_run_is_heard_over_the_same_connection_and_answers_for_itself() {
    let mut scene = Scene::new(Isolation::Pid);
    let connected = UnixDatagram::unbound().unwrap();
    connected.connect(scene.path()).unwrap();
    connected.send(b"READY=1").unwrap();
    assert!(scene.ear().said(0).ready);
    // Said by the former run, and not yet read.
    connected.send(b"STATUS=dying\nWATCHDOG=trigger").unwrap();
    let listen = scene.words(true);
    Ear::listen(&mut scene.ear, &listen, Isolation::Pid).unwrap();
    let said = scene.ear().said(0);
    assert!(said.ready && !said.sick && said.alive == 0 && said.status.is_empty(), "{said:?}");
    connected.send(b"WATCHDOG=1").unwrap();
    assert_eq!(scene.ear().said(0).alive, 1);
}

#[test]
fn who_waits_is_told_once() {
    let mut scene = Scene::new(Isolation::Pid);
    let path = scene.path();
    say(&path, "READY=1");
    assert_eq!(scene.ear().hear(), None, "nobody waits");
    let known = scene.ear().said(0).changes;
    assert_eq!(scene.ear().hear(), None, "it is known");
    say(&path, "WATCHDOG=1");
    assert_eq!(scene.ear().hear().map(|said| said.changes), Some(known + 1));
    say(&path, "WATCHDOG=1");
    assert_eq!(scene.ear().hear(), None, "it was not asked again");
}

#[test]
fn what_is_too_long_or_brings_descriptors_does_no_harm() {
    let mut scene = Scene::new(Isolation::Pid);
    say(&scene.path(), &format!("READY=1\nSTATUS={}", "x".repeat(MESSAGE_MAX)));
    assert!(!scene.ear().said(0).ready);
    let (ours, theirs) = nix::unistd::pipe().unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    let to = UnixAddr::new(&scene.path()).unwrap();
    let rights = [nix::sys::socket::ControlMessage::ScmRights(&[theirs.as_raw_fd()])];
    let words = [std::io::IoSlice::new(b"BARRIER=1")];
    nix::sys::socket::sendmsg(sender.as_raw_fd(), &words, &rights, MsgFlags::empty(), Some(&to)).unwrap();
    drop(theirs);
    scene.ear().said(0);
    assert_eq!(nix::unistd::read(&ours, &mut [0]), Ok(0), "the barrier's end was closed");
}

#[test]
fn a_user_of_its_own_keeps_others_out() {
    let mut scene = Scene::new(Isolation::Pid);
    let mode = |scene: &Scene| std::fs::metadata(scene.path()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&scene), 0o666);
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let listen = Listen { owner: Some(own), ..scene.words(false) };
    Ear::listen(&mut scene.ear, &listen, Isolation::Pid).unwrap();
    assert_eq!(mode(&scene), 0o600);
    let path = scene.path();
    scene.ear = None;
    assert!(!path.exists(), "it takes its socket along");
}
