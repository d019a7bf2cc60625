//! Hardware breakpoints, made quick before the service stands still.
//!
//! CRIU waits for its code inside a task with a hardware breakpoint. The first one in the kernel switches its whole accounting of
//! perf events on, which waits for every processor (an RCU grace period): 10 to 30 ms, and again when none has been
//! used for about a second. An event of our own, that counts nothing, has it switched on beforehand.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;

/// `struct perf_event_attr` in its first published size.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    kind: u32,
    size: u32,
    config: u64,
    rest: [u64; 6],
}

const SOFTWARE: u32 = 1;
const DUMMY: u64 = 9;
const CLOSE_ON_EXEC: libc::c_ulong = 1 << 3;

/// Breakpoints are quick while this lives.
#[derive(Debug)]
pub(super) struct Ready(#[expect(dead_code, reason = "held, not read")] OwnedFd);

impl Ready {
    /// Blocks for as long as the kernel takes. `None` where it is not allowed: dumps work all the same.
    pub(super) fn make() -> Option<Self> {
        let attributes = Attributes {
            kind: SOFTWARE,
            size: size_of::<Attributes>() as u32,
            config: DUMMY,
            ..Attributes::default()
        };
        // SAFETY: the attributes outlive the call and say how long they are; pid 0 is this thread, on any processor, in no group.
        let opened = unsafe {
            libc::syscall(libc::SYS_perf_event_open, &raw const attributes, 0, -1, -1, CLOSE_ON_EXEC)
        };
        let descriptor = Errno::result(opened).ok().and_then(|fd| RawFd::try_from(fd).ok())?;
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Some(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_gets_one() {
        if nix::unistd::geteuid().is_root() {
            assert!(Ready::make().is_some());
        }
    }
}
