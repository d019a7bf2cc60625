//! For commands that must end with us even if we are killed: they run below this program in the mode of a guard, which heads their process
//! group, watches us, and kills the group once we are gone. It refuses to start anything for somebody who is gone already.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill, killpg, raise};
use nix::unistd::{Pid, getpgrp, getppid};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{PidfdFlags, pidfd_open};

/// What tells the mode, as the first argument; our pid follows, and then the command.
const WORD: &str = "guard-command";
/// What shells say of a program that cannot be run.
const CANNOT_RUN: u8 = 127;

/// Whether this program can be one.
static CAN_GUARD: AtomicBool = AtomicBool::new(false);

/// The command line that runs this one under guard; itself in programs that have not begun with [`main`].
pub(super) fn around(argv: &[String]) -> Vec<String> {
    if !CAN_GUARD.load(Ordering::Relaxed) {
        return argv.to_vec();
    }
    let ours = ["/proc/self/exe".to_owned(), WORD.to_owned(), std::process::id().to_string()];
    ours.into_iter().chain(argv.iter().cloned()).collect()
}

/// Is the guard if the arguments say so.
#[must_use]
pub fn main(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    CAN_GUARD.store(true, Ordering::Relaxed);
    arguments.next();
    if arguments.next()? != WORD {
        return None;
    }
    let guarded = arguments.next()?.to_str()?.parse().ok()?;
    Some(run(guarded, &arguments.collect::<Vec<_>>()))
}

fn run(guarded: i32, argv: &[OsString]) -> ExitCode {
    let watched = rustix::process::Pid::from_raw(guarded).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    let (Some((program, arguments)), Some(Ok(watched))) = (argv.split_first(), watched) else {
        return ExitCode::from(CANNOT_RUN);
    };
    if getppid().as_raw() != guarded {
        return ExitCode::from(CANNOT_RUN);
    }
    std::thread::spawn(move || {
        while poll(&mut [PollFd::new(&watched, PollFlags::IN)], None) == Err(rustix::io::Errno::INTR) {}
        let _ = killpg(getpgrp(), Signal::SIGKILL);
    });
    #[expect(
        clippy::disallowed_methods,
        reason = "it has no runtime, and whoever spawned it limits its time"
    )]
    let ended = std::process::Command::new(program).args(arguments).status();
    match ended {
        Ok(status) => as_it_ended(status),
        Err(error) => {
            eprintln!("{}: {error}", std::path::Path::new(program).display());
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Whoever spawned us sees what it would have seen of the command.
fn as_it_ended(status: ExitStatus) -> ExitCode {
    if let Some(signal) = status.signal().and_then(|signal| Signal::try_from(signal).ok()) {
        let _ = raise(signal);
        let _ = kill(Pid::this(), Signal::SIGKILL);
    }
    ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(CANNOT_RUN))
}
