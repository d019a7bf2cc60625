//! An Ethernet segment as one device sees it: whole frames sent and heard.
//!
//! It refuses to hear more than it is there for: ARP, or neighbour advertisements (the kernel filters), or nothing.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::frame::{self, Hardware};
use super::link::Device;
use crate::descriptor::watch;
use crate::error::{Error, Report, Result};

/// Longer than any of the frames that are listened for.
const FRAME_MAX: usize = 256;
/// Instructions of the kernel's packet filter.
const LOAD_BYTE: u16 = 0x30;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hearing {
    Nothing,
    Arp,
    Advertisements,
}

impl Hearing {
    /// What tells who has this address.
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::Arp } else { Self::Advertisements }
    }

    fn protocol(self) -> u16 {
        let number = match self {
            Self::Nothing => 0,
            Self::Arp => libc::ETH_P_ARP,
            Self::Advertisements => libc::ETH_P_IPV6,
        };
        u16::try_from(number).expect("Ethernet's protocols have two bytes").to_be()
    }
}

/// A socket bound to one device.
#[derive(Debug)]
pub(super) struct Wire {
    socket: AsyncFd<OwnedFd>,
    device: String,
}

impl Wire {
    pub(super) fn open(device: &Device, hearing: Hearing) -> Result<Self> {
        let socket =
            open(device.index, hearing).map_err(|e| failed("open a packet socket on", &device.name, e))?;
        Ok(Self { socket, device: device.name.clone() })
    }

    /// Puts frames into the device's queue; where that is full one is lost, like any frame.
    pub(super) fn send_all(&self, frames: &[Vec<u8>]) -> Result<()> {
        for frame in frames {
            match rustix::net::send(&self.socket, frame, SendFlags::empty()) {
                Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => {}
                Err(e) => return Err(failed("send to the neighbours on", &self.device, e.into())),
            }
        }
        Ok(())
    }

    /// Waits until another host than ours says that it has `ip`.
    pub(super) async fn holder(&self, ip: IpAddr, own: Hardware) -> Result<Hardware> {
        loop {
            let frame = self.hear().await.map_err(|e| failed("listen on", &self.device, e))?;
            if let Some(holder) = frame::holder(ip, &frame).filter(|holder| *holder != own) {
                return Ok(holder);
            }
        }
    }

    async fn hear(&self) -> io::Result<Vec<u8>> {
        loop {
            let mut ready = self.socket.readable().await?;
            let heard = ready.try_io(|socket| {
                let mut buffer = vec![0; FRAME_MAX];
                let (length, _) = rustix::net::recv(socket, &mut buffer[..], RecvFlags::empty())?;
                buffer.truncate(length);
                Ok(buffer)
            });
            if let Ok(heard) = heard {
                return heard;
            }
        }
    }
}

fn open(index: u32, hearing: Hearing) -> io::Result<AsyncFd<OwnedFd>> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Without a protocol it hears nothing until it is bound, when the filter stands.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    if hearing == Hearing::Advertisements {
        only_advertisements(&socket)?;
    }
    bind(&socket, index, hearing)?;
    watch(socket, Interest::READABLE)
}

fn bind(socket: &OwnedFd, index: u32, hearing: Hearing) -> io::Result<()> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).expect("families of addresses have two bytes");
    address.sll_protocol = hearing.protocol();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the pointer and the length are those of `address`, which outlives the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of(&address)) };
    if bound == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A busy device has a lot of IPv6: what does not concern us must not push out what does.
fn only_advertisements(socket: &OwnedFd) -> io::Result<()> {
    let (next_header, kind) = frame::advertisement_numbers();
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        step(LOAD_BYTE, 0, 0, frame::NEXT_HEADER_AT),
        step(JUMP_IF_EQUAL, 0, 3, next_header.into()),
        step(LOAD_BYTE, 0, 0, frame::TYPE_AT),
        step(JUMP_IF_EQUAL, 0, 1, kind.into()),
        step(RETURN, 0, 0, u32::MAX),
        step(RETURN, 0, 0, 0),
    ];
    let length = u16::try_from(program.len()).expect("a filter of six steps");
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    // SAFETY: the pointer and the length are those of `program`, whose steps outlive the call; the kernel copies them.
    let attached = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            length_of(&program),
        )
    };
    if attached == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn length_of<T>(_: &T) -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("structures of the kernel's are small")
}

fn failed(tried: &str, device: &str, error: io::Error) -> Error {
    let report = Report::new(format!("{tried} {device}")).because(&error);
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            Error::Refused(report.remedy("run as root, or give the supervisor CAP_NET_RAW"))
        }
        _ => Error::Unavailable(report),
    }
}
