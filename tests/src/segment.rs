//! Hosts on one Ethernet segment: a network namespace each, and one more with the bridge that joins them.
//!
//! Nothing of it is in the host's own network. The names are this process's, and go when it is dropped, panic or not. It refuses to
//! route: there is one segment, `10.77.0.0/24` and `fd77::/64`, on which host N is `.N` and `::N`.

use std::fs::File;
use std::io::{ErrorKind, Read, Result};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, setsockopt, socket, sockopt};
use nix::sys::time::TimeVal;

use crate::host::skip;
use crate::{LIMIT, Network};

/// The hosts' only device.
const DEVICE: &str = "eth0";

/// Some hosts and the switch between them.
#[derive(Debug)]
pub struct Segment {
    prefix: String,
    hosts: Vec<Network>,
}

impl Segment {
    /// That many hosts, or nothing after having said why the test is skipped.
    ///
    /// # Panics
    /// Where nothing may be skipped (`CI=true`), and if the namespaces cannot be made.
    #[must_use]
    pub fn or_skip(hosts: usize) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            skip("only root can make network namespaces");
            return None;
        }
        if Command::new("ip").arg("-V").output().is_err() {
            skip("ip (iproute2) is not in PATH");
            return None;
        }
        let prefix = format!("sv{}-{}-", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let mut segment = Self { prefix, hosts: Vec::new() };
        segment.add_switch();
        for number in 1..=hosts {
            segment.add_host(number);
        }
        Some(segment)
    }

    /// Host N, counted from 1.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn host(&self, number: usize) -> &Network {
        &self.hosts[number - 1]
    }

    /// What `ip` says on host N.
    ///
    /// # Panics
    /// If it fails.
    #[must_use]
    pub fn ask(&self, number: usize, words: &str) -> String {
        ip(&format!("-n {} {words}", self.name(number)))
    }

    /// Has `ip` do something on host N.
    ///
    /// # Panics
    /// If it fails.
    pub fn tell(&self, number: usize, words: &str) {
        let _ = self.ask(number, words);
    }

    /// The hardware address of host N.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn hardware(&self, number: usize) -> String {
        let said = self.ask(number, &format!("-brief link show {DEVICE}"));
        said.split_whitespace().nth(2).expect("name, state, hardware address").to_owned()
    }

    /// Takes host N's cable out: nobody hears it or is heard by it, and it does not notice.
    pub fn cut_off(&self, number: usize) {
        let _ = ip(&format!("-n {} link set port{number} nomaster", self.name(0)));
    }

    /// Puts it back in.
    pub fn join(&self, number: usize) {
        let _ = ip(&format!("-n {} link set port{number} master switch", self.name(0)));
    }

    /// Host N hears the others and is not heard by them (`output`), or is heard and does not hear (`input`), until [`Self::mend`].
    ///
    /// # Panics
    /// If there is no `nft`.
    pub fn half_cut_off(&self, number: usize, way: &str) {
        let device = if way == "output" { "oifname" } else { "iifname" };
        let rules = format!(
            "add table inet cut; add chain inet cut way {{ type filter hook {way} priority 0; }}; \
             add rule inet cut way {device} {DEVICE} drop"
        );
        self.nft(number, &rules);
    }

    /// It hears and is heard again.
    ///
    /// # Panics
    /// If it was not half cut off.
    pub fn mend(&self, number: usize) {
        self.nft(number, "delete table inet cut");
    }

    fn nft(&self, number: usize, rules: &str) {
        let done = self.host(number).command("nft").arg(rules).output().expect("nft can be run");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    /// Answers every connection to that port of host N, at whichever address, with the host's number. Ends with the test's process.
    ///
    /// # Panics
    /// If the port is taken.
    pub fn serve(&self, number: usize, port: u16) {
        let listener = self.host(number).inside(|| TcpListener::bind(("::", port))).expect("listen");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = std::io::Write::write_all(&mut { stream }, number.to_string().as_bytes());
            }
        });
    }

    /// Which host answers host N there.
    ///
    /// # Errors
    /// None does.
    pub fn answered(&self, number: usize, address: std::net::SocketAddr) -> Result<usize> {
        let mut stream = self.host(number).connect(address, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        answer.parse().map_err(|_| ErrorKind::InvalidData.into())
    }

    /// Every frame that host N hears from now on.
    ///
    /// # Panics
    /// If it cannot listen.
    #[must_use]
    pub fn listen(&self, number: usize) -> Heard {
        let limit = i64::try_from(LIMIT.as_secs()).expect("a limit of seconds");
        let open = || {
            let socket =
                socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
            setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(limit, 0))?;
            Ok(socket)
        };
        Heard { socket: self.host(number).inside(open).expect("a packet socket") }
    }

    fn add_switch(&self) {
        let name = self.name(0);
        let _ = ip(&format!("netns add {name}"));
        let _ = ip(&format!("-n {name} link add switch type bridge"));
        let _ = ip(&format!("-n {name} link set switch up"));
    }

    fn add_host(&mut self, number: usize) {
        let (name, switch) = (self.name(number), self.name(0));
        let _ = ip(&format!("netns add {name}"));
        self.hosts.push(Network::at(format!("/run/netns/{name}").into()));
        self.tell(number, &format!("link add {DEVICE} type veth peer name port{number} netns {switch}"));
        let _ = ip(&format!("-n {switch} link set port{number} master switch up"));
        self.tell(number, &format!("address add 10.77.0.{number}/24 dev {DEVICE}"));
        self.tell(number, &format!("address add fd77::{number}/64 dev {DEVICE} nodad"));
        self.tell(number, "link set lo up");
        self.tell(number, &format!("link set {DEVICE} up"));
    }

    fn name(&self, number: usize) -> String {
        format!("{}{number}", self.prefix)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        for number in 0..=self.hosts.len() {
            let _ = Command::new("ip").args(["netns", "delete", &self.name(number)]).output();
        }
    }
}

/// The frames that a host hears.
#[derive(Debug)]
pub struct Heard {
    socket: OwnedFd,
}

impl Heard {
    /// The next one.
    ///
    /// # Panics
    /// If there is none for [`LIMIT`].
    #[must_use]
    pub fn next(&self) -> Vec<u8> {
        let mut frame = vec![0; 2048];
        let socket = self.socket.try_clone().expect("a copy of the descriptor");
        let length = File::from(socket).read(&mut frame).expect("another frame");
        frame.truncate(length);
        frame
    }
}

fn ip(words: &str) -> String {
    let done = Command::new("ip").args(words.split_whitespace()).output().expect("ip can be run");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "ip {words}: {said}");
    String::from_utf8_lossy(&done.stdout).into_owned()
}
