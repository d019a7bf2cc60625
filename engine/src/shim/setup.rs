//! How a shim begins: what it listens at, what it no longer holds.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};

/// Those that it reads rather than suffers.
pub(super) fn block_signals() -> nix::Result<SigSet> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE] {
        signals.add(signal);
    }
    signals.thread_block().map(|()| signals)
}

pub(super) fn listen_at(path: &Path) -> nix::Result<OwnedFd> {
    let _ = nix::unistd::unlink(path);
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    fchmodat(AT_FDCWD, path, Mode::from_bits_truncate(0o600), FchmodatFlags::FollowSymlink)?;
    listen(&listener, Backlog::new(4)?)?;
    Ok(listener)
}

/// Whoever started the shim reads its standard output to the end.
pub(super) fn detach_from_starter() {
    if let Ok(null) = open("/dev/null", OFlag::O_RDWR, Mode::empty()) {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
        let _ = nix::unistd::dup2_stderr(&null);
    }
}
