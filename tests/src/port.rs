//! Ports that no other test takes, in this process or another.
//!
//! A free port is only free until somebody else looks too, so each one is held by the name of an abstract
//! socket, which the kernel gives back when this process ends, however it ends.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Below the ports that the kernel gives to outgoing connections.
const FIRST: u16 = 20_000;
const COUNT: u32 = 12_000;

/// A port that is ours while this lives.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    _claim: UnixListener,
}

impl Port {
    /// Takes one.
    pub(crate) fn take() -> Self {
        let first = std::process::id().wrapping_mul(37);
        let candidates = (0..COUNT).map(|step| FIRST + (first.wrapping_add(step) % COUNT) as u16);
        candidates.into_iter().find_map(Self::claim).expect("a port of 12000 is free")
    }

    /// The number.
    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    fn claim(number: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("supervisor-test-port-{number}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind(("127.0.0.1", number)).ok()?;
        Some(Self { number, _claim: claim })
    }
}
