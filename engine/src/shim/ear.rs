//! The socket at which a shim hears what its service says of itself (`NOTIFY_SOCKET`).
//!
//! It is the shim's and not the supervisor's, so that nothing is lost, and nobody waits for room in its queue, while the supervisor is away; and
//! so that a service which holds a connection to it finds it there after our restart. It lies at one path for all runs of the
//! service: a restored one has that path in its memory.
//!
//! It refuses to believe strangers: the kernel says who has sent a message, and only members of the service's cgroup count. A member that
//! has ended since can still be told by its pid where the shim is pid 1 of the service's own namespace. It refuses to be kept busy: after a
//! burst it rests, and whoever sends more waits.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind,
    recvmsg, setsockopt, socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Gid, Uid};

use super::protocol::Listen;
use super::said::Said;
use super::sandbox::Isolation;
use crate::freeze::Cgroup;

/// The longest message; a longer one is passed over, as by systemd.
const MESSAGE_MAX: usize = 4096;
/// How many messages are taken at once before it rests.
const BURST: usize = 64;
const REST: Duration = Duration::from_millis(10);
/// More than can wait in a socket (`net.unix.max_dgram_qlen`): to find out what was said by now.
const QUEUE_MAX: usize = 4096;

/// What hears.
pub(super) struct Ear {
    socket: OwnedFd,
    path: PathBuf,
    /// Whose members are heard.
    cgroup: Option<Cgroup>,
    isolation: Isolation,
    said: Said,
    /// Set while the supervisor waits to be told of more changes than these.
    told_up_to: Option<u64>,
    rests_until: Option<Instant>,
}

impl Ear {
    /// Begins to listen for a run that is about to begin, with the ear that is there if it is at the right place.
    pub(super) fn listen(ear: &mut Option<Self>, listen: &Listen, isolation: Isolation) -> nix::Result<()> {
        let mut new = match ear.take().filter(|ear| ear.path == listen.path) {
            Some(ear) => ear,
            None => Self::open(&listen.path, isolation)?,
        };
        new.begin(listen);
        new.let_in(listen.owner)?;
        *ear = Some(new);
        Ok(())
    }

    fn open(path: &Path, isolation: Isolation) -> nix::Result<Self> {
        Ok(Self {
            socket: socket_at(path)?,
            path: path.to_owned(),
            cgroup: None,
            isolation,
            said: Said::default(),
            told_up_to: None,
            rests_until: None,
        })
    }

    fn begin(&mut self, listen: &Listen) {
        // What waits there was said by processes that are dead.
        let waiting = std::iter::from_fn(|| self.receive());
        waiting.take(QUEUE_MAX).for_each(drop);
        self.cgroup = Some(listen.cgroup.clone());
        self.said.begin(listen.ready);
    }

    /// Its owner may be another than root: then nobody else is let in.
    fn let_in(&self, owner: Option<(u32, u32)>) -> nix::Result<()> {
        let mode = match owner {
            Some((user, group)) => {
                nix::unistd::chown(&self.path, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?;
                0o600
            }
            // A service that begins as root may become anybody.
            None => 0o666,
        };
        fchmodat(AT_FDCWD, &self.path, Mode::from_bits_truncate(mode), FchmodatFlags::FollowSymlink)
    }

    /// What to wait on; nothing while it rests.
    pub(super) fn listens(&self) -> Option<BorrowedFd<'_>> {
        self.rest().is_none().then(|| self.socket.as_fd())
    }

    /// How long it rests yet.
    pub(super) fn rest(&self) -> Option<Duration> {
        self.rests_until?.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    }

    /// Takes in what has come. Gives what was said if somebody waits for that.
    pub(super) fn hear(&mut self) -> Option<Said> {
        let more = self.hear_up_to(BURST);
        self.rests_until = more.then(|| Instant::now() + REST);
        let said_more = |known: &mut u64| self.said.changes > *known;
        self.told_up_to.take_if(said_more).map(|_| self.said.clone())
    }

    /// All that was said until now; more than that, and than `beyond`, is to be told.
    pub(super) fn said(&mut self, beyond: u64) -> Said {
        self.hear_up_to(QUEUE_MAX);
        self.told_up_to = Some(self.said.changes.max(beyond));
        self.said.clone()
    }

    /// Whoever waited has gone.
    pub(super) fn tell_nobody(&mut self) {
        self.told_up_to = None;
    }

    /// Whether there may be more.
    fn hear_up_to(&mut self, most: usize) -> bool {
        let mut members = Members { known: None };
        for _ in 0..most {
            let Some(message) = self.receive() else { return false };
            if self.believes(message.sender, &mut members) {
                self.said.hear(&message.bytes);
            }
        }
        true
    }

    fn believes(&self, sender: i32, members: &mut Members) -> bool {
        // Whoever is outside of the shim's namespace has no pid in it.
        if sender <= 0 {
            return false;
        }
        let is_member = self.cgroup.as_ref().is_some_and(|cgroup| members.contain(cgroup, sender));
        is_member || (self.isolation == Isolation::Pid && has_ended(sender))
    }

    fn receive(&self) -> Option<Message> {
        let mut bytes = vec![0_u8; MESSAGE_MAX];
        // With room for descriptors, which are closed: somebody may wait for that (`BARRIER=1`).
        let mut control = nix::cmsg_space!(UnixCredentials, [i32; 8]);
        let (length, truncated, sender) = loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                Ok(received) => {
                    let sender = sender(received.cmsgs().into_iter().flatten());
                    break (received.bytes, received.flags.contains(MsgFlags::MSG_TRUNC), sender);
                }
                Err(Errno::EINTR) => {}
                Err(_) => return None,
            }
        };
        bytes.truncate(if truncated { 0 } else { length });
        Some(Message { sender, bytes })
    }
}

impl Drop for Ear {
    fn drop(&mut self) {
        let _ = nix::unistd::unlink(&self.path);
    }
}

struct Message {
    /// As the shim sees it.
    sender: i32,
    bytes: Vec<u8>,
}

/// Who belongs to the service; read once for many messages.
struct Members {
    known: Option<Vec<i32>>,
}

impl Members {
    fn contain(&mut self, cgroup: &Cgroup, pid: i32) -> bool {
        if self.known.as_ref().is_some_and(|known| known.contains(&pid)) {
            return true;
        }
        // It may have been born since.
        self.known.insert(cgroup.members()).contains(&pid)
    }
}

fn socket_at(path: &Path) -> nix::Result<OwnedFd> {
    let _ = nix::unistd::unlink(path);
    let socket = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::PassCred, &true)?;
    bind(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

fn sender(messages: impl Iterator<Item = ControlMessageOwned>) -> i32 {
    let mut sender = 0;
    for message in messages {
        match message {
            ControlMessageOwned::ScmCredentials(credentials) => sender = credentials.pid(),
            ControlMessageOwned::ScmRights(descriptors) => {
                // SAFETY: the kernel has just made these descriptors for us; nobody else knows them.
                descriptors.into_iter().for_each(|fd| drop(unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            _ => {}
        }
    }
    sender
}

/// A zombie is a member of nothing any more.
fn has_ended(pid: i32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.rsplit_once(')').is_none_or(|(_, rest)| rest.trim_start().starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "tests set the scene with plain files")]
mod tests;
