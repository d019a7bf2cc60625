//! The keeper of a service's fence: a process that waits for one instant and stops the service at it.
//!
//! ```text
//! Disarmed <──disarm, lift── Armed(limit) ──limit passed on either clock──> Firing ──all members dead──> Fired
//!     │ └────────arm───────────^ └─arm: another limit                                   ^ └─somebody brought it back─┘
//!     └<───────────────────────────────────── lift (the service is started anew) ──────────────────────────┘
//! ```
//!
//! A shim must be able to wait: for a disk that its service's output goes to, for a program that is being started. So the limit is kept
//! beside it, by a process forked before anything else happens: real-time where the kernel allows it, outside of the service's
//! namespaces (it takes no pid that an image may need, and sees every member), and with nothing to do but this. It
//! ends with its shim, unless it is armed: then it acts first.
//!
//! What it refuses: anything else.

use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::{ForkResult, fork};
use policies::lease::Moment;

use super::protocol::{FenceLimit, FenceOrder, FenceState, FencedAddress, receive, send};
use super::setup::detach_from_starter;
use crate::fence::priority::become_real_time;
use crate::fence::timers::Timers;
use crate::fence::{FREEZE_MAX, KILL_ROUND};
use crate::freeze::Cgroup;
use crate::{address, clock};

/// How long a shim waits for its keeper: longer than one round of killing.
const ANSWER_MAX: Duration = Duration::from_secs(3);
/// How often a keeper that has fired looks whether somebody has brought the service back.
const LOOK_EVERY: u16 = 100;
/// How long it rests when the kernel lets it wait for nothing.
const REST: Duration = Duration::from_millis(10);

/// The shim's side.
pub(super) struct Keeper {
    socket: OwnedFd,
    asked: u64,
}

impl Keeper {
    /// Forks it. The process must have one thread, and nothing yet that a keeper should not hold open.
    pub(super) fn fork() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (ours, its) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        // SAFETY: this process has one thread.
        if let ForkResult::Parent { .. } = unsafe { fork() }? {
            return Ok(Self { socket: ours, asked: 0 });
        }
        drop(ours);
        detach_from_starter();
        let _ = nix::unistd::setsid();
        let _ = nix::sys::prctl::set_name(c"supervisor-fence");
        // Without it, it is one among many, and mostly in time.
        let _ = become_real_time();
        if let Ok(timers) = Timers::new() {
            Kept { shim: Some(its), timers, state: State::Disarmed }.run();
        }
        // SAFETY: a forked child leaves without running what its parent registered for its exit.
        unsafe { libc::_exit(0) }
    }

    /// Passes an order on.
    pub(super) fn order(&mut self, order: FenceOrder) -> Result<FenceState, Errno> {
        self.asked += 1;
        let gone = |_| Errno::EPIPE;
        send(&self.socket, &(self.asked, order), &[]).map_err(gone)?;
        let begun = Instant::now();
        while let Some(left) = ANSWER_MAX.checked_sub(begun.elapsed()) {
            let limit = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit) {
                Ok(0) | Err(Errno::EINTR) => continue,
                Ok(_) => {}
                Err(errno) => return Err(errno),
            }
            let answer = receive::<(u64, FenceState)>(&self.socket).map_err(gone)?;
            let ((number, state), _) = answer.ok_or(Errno::EPIPE)?;
            // An older one is an answer that came too late.
            if number == self.asked {
                return Ok(state);
            }
        }
        Err(Errno::ETIMEDOUT)
    }
}

/// The keeper's own side.
struct Kept {
    shim: Option<OwnedFd>,
    timers: Timers,
    state: State,
}

enum State {
    Disarmed,
    Armed(FenceLimit, Target),
    Firing(Target),
    Fired(Target),
}

/// What a fence is around.
struct Target {
    cgroup: Cgroup,
    /// Until it has been let go.
    address: Option<FencedAddress>,
}

impl Kept {
    fn run(mut self) {
        while self.shim.is_some() || matches!(self.state, State::Armed(..) | State::Firing(_)) {
            let asked = self.wait();
            // Before any order: a limit that has passed is final.
            self.act();
            if asked {
                self.answer();
            }
        }
    }

    /// Whether the shim has said something.
    fn wait(&self) -> bool {
        let limit = match self.state {
            State::Disarmed | State::Armed(..) => PollTimeout::NONE,
            State::Firing(_) => PollTimeout::ZERO,
            State::Fired(_) => PollTimeout::from(LOOK_EVERY),
        };
        let shim: Vec<_> = self.shim.iter().map(AsFd::as_fd).collect();
        match self.timers.wait_beside(&shim, limit) {
            Ok(ready) => ready.contains(&true),
            Err(_) => {
                std::thread::sleep(REST);
                !shim.is_empty()
            }
        }
    }

    fn act(&mut self) {
        let passed = |limit: FenceLimit| {
            // Without a clock it is not known when; stopping the service is the safe side.
            clock::now().map_or(true, |now| now.has_passed(Moment::from(limit)))
        };
        self.state = match std::mem::replace(&mut self.state, State::Disarmed) {
            State::Armed(limit, target) if passed(limit) => stop(target),
            State::Firing(target) => stop(target),
            State::Fired(target) if !target.cgroup.members().is_empty() => stop(target),
            other @ (State::Disarmed | State::Armed(..) | State::Fired(_)) => other,
        };
    }

    fn answer(&mut self) {
        let Some(shim) = &self.shim else { return };
        let Ok(Some(((number, order), _))) = receive::<(u64, FenceOrder)>(shim) else {
            self.shim = None;
            return;
        };
        self.carry_out(order);
        let state = match &self.state {
            State::Disarmed => FenceState::Disarmed,
            State::Armed(limit, _) => FenceState::Armed(*limit),
            State::Firing(_) => FenceState::Firing,
            State::Fired(_) => FenceState::Fired,
        };
        if let Some(shim) = &self.shim
            && send(shim, &(number, state), &[]).is_err()
        {
            self.shim = None;
        }
    }

    fn carry_out(&mut self, order: FenceOrder) {
        match (order, &self.state) {
            (FenceOrder::Arm { limit, cgroup, address }, State::Disarmed | State::Armed(..)) => {
                if self.timers.set(limit.into()).is_ok() {
                    self.state = State::Armed(limit, Target { cgroup, address });
                }
            }
            (FenceOrder::Disarm, State::Armed(..)) | (FenceOrder::Lift, State::Fired(_)) => {
                let _ = self.timers.clear();
                self.state = State::Disarmed;
            }
            (FenceOrder::Arm { .. } | FenceOrder::Disarm | FenceOrder::Lift | FenceOrder::Ask, _) => {}
        }
    }
}

/// One round of it. The address goes when nothing answers there any more, and is tried once: the next supervisor sweeps.
fn stop(mut target: Target) -> State {
    if target.cgroup.freeze_and_kill(FREEZE_MAX, KILL_ROUND).is_err() {
        return State::Firing(target);
    }
    if let Some(FencedAddress { records, ip }) = target.address.take() {
        let _ = address::release_recorded(records, ip);
    }
    State::Fired(target)
}
