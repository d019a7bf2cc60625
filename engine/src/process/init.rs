//! Process 1 of a container, when the supervisor is started as that.
//!
//! The kernel gives it every orphan to reap, keeps from it the signals that it does not listen for, and kills all others when it ends. So it does
//! nothing else: the supervisor is its only child, gets the signals that it gets, and is started again if a signal ends it that nobody
//! passed on. Its services are not touched by that, as on a host.
//!
//! ```text
//!  process 1 ── fork ──> the supervisor
//!     │ SIGCHLD: reaps all ── the supervisor exited: so do we, with its code
//!     │                    └─ it was killed: a moment later another one, unless it was asked to stop
//!     └ any other signal: passed on
//! ```

use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};

/// What this process is after it has divided.
#[derive(Debug)]
pub enum Role {
    /// The one that does the work.
    Child,
    /// Process 1, at its end.
    Over(ExitCode),
}

/// Signals that are passed on.
const PASSED_ON: [Signal; 6] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2];
/// Pause before another one is started: one that dies at once must not take all of the processor.
const PAUSE: Duration = Duration::from_millis(500);
/// What a shell adds to the number of a signal.
const KILLED: u8 = 128;

/// Divides: the child comes back at once, process 1 at the end of all. The process must have one thread.
pub fn become_init() -> Role {
    let mut init = match Init::new() {
        Ok(init) => init,
        Err(errno) => return failed("block signals", errno),
    };
    loop {
        // SAFETY: this process has one thread.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Child) => return init.leave(),
            Ok(ForkResult::Parent { child }) => child,
            Err(errno) => return failed("fork the supervisor", errno),
        };
        match init.watch(child) {
            Ok(End::Exited(code)) => return Role::Over(ExitCode::from(code)),
            Ok(End::Killed(signal)) if init.stopping => return Role::Over(ExitCode::from(KILLED + signal)),
            Ok(End::Killed(signal)) => eprintln!("supervisor: killed by signal {signal}; started again"),
            Err(errno) => return failed("wait for the supervisor", errno),
        }
        std::thread::sleep(PAUSE);
    }
}

fn failed(what: &str, errno: Errno) -> Role {
    eprintln!("supervisor: as process 1: {what}: {errno}");
    Role::Over(ExitCode::FAILURE)
}

struct Init {
    before: SigSet,
    waited_for: SigSet,
    /// Somebody has asked for the end.
    stopping: bool,
}

/// How the child ended.
enum End {
    Exited(u8),
    Killed(u8),
}

impl Init {
    fn new() -> nix::Result<Self> {
        let _ = nix::sys::prctl::set_name(c"supervisor-init");
        let before = SigSet::thread_get_mask()?;
        let mut waited_for = SigSet::empty();
        PASSED_ON.iter().chain([&Signal::SIGCHLD]).for_each(|signal| waited_for.add(*signal));
        waited_for.thread_block()?;
        Ok(Self { before, waited_for, stopping: false })
    }

    fn leave(self) -> Role {
        let _ = nix::sys::prctl::set_name(c"supervisor");
        // What is typed at a terminal reaches process 1 alone, which passes it on once.
        let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
        match self.before.thread_set_mask() {
            Ok(()) => Role::Child,
            Err(errno) => failed("unblock signals", errno),
        }
    }

    fn watch(&mut self, child: Pid) -> nix::Result<End> {
        loop {
            // First, since a child that has ended already sends no further signal.
            if let Some(end) = reap(child)? {
                return Ok(end);
            }
            let signal = match self.waited_for.wait() {
                Ok(Signal::SIGCHLD) | Err(Errno::EINTR) => continue,
                Ok(signal) => signal,
                Err(errno) => return Err(errno),
            };
            self.stopping |= matches!(signal, Signal::SIGTERM | Signal::SIGINT | Signal::SIGQUIT);
            // It is not reaped yet, so the pid is its own.
            let _ = kill(child, signal);
        }
    }
}

/// Everybody who has ended; how, if it was the child.
fn reap(child: Pid) -> nix::Result<Option<End>> {
    let mut found = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => {
                found = Some(End::Exited(u8::try_from(code).unwrap_or(1)));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                found = Some(End::Killed(u8::try_from(signal as i32).unwrap_or(0)));
            }
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(found),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}
