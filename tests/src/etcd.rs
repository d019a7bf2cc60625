//! A real etcd of one member, or one of three, each in a folder of its own. Dropped, it is killed.

use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::skip;
use crate::network::Network;
use crate::port::Port;

/// A running member.
#[derive(Debug)]
pub struct Etcd {
    server: Child,
    url: String,
    _ports: Vec<Port>,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// It, or nothing after having said why this test is skipped.
    ///
    /// # Panics
    /// Where nothing may be skipped (`CI=true`), and when it does not start.
    #[must_use]
    pub fn or_skip() -> Option<Self> {
        let (client, peer) = (Port::take(), Port::take());
        let url = |port: &Port| format!("http://127.0.0.1:{}", port.number());
        let urls = (url(&client), url(&peer));
        let all = format!("one={}", urls.1);
        Self::start(Command::new("etcd"), ("one", &all), urls, vec![client, peer])
    }

    /// Three members of one cluster.
    ///
    /// # Panics
    /// As [`Self::or_skip`].
    #[must_use]
    pub fn three_or_skip() -> Option<[Self; 3]> {
        let url = |port: &Port| format!("http://127.0.0.1:{}", port.number());
        let ports = ["one", "two", "three"].map(|name| (name, Port::take(), Port::take()));
        let all: Vec<_> = ports.iter().map(|(name, _, peer)| format!("{name}={}", url(peer))).collect();
        let members = ports.map(|(name, client, peer)| {
            let urls = (url(&client), url(&peer));
            Self::start(Command::new("etcd"), (name, &all.join(",")), urls, vec![client, peer])
        });
        let [one, two, three] = members;
        Some([one?, two?, three?])
    }

    /// The same on a host of its own, at that address.
    ///
    /// # Panics
    /// As [`Self::or_skip`].
    #[must_use]
    pub fn on_or_skip(host: &Network, address: &str) -> Option<Self> {
        let urls = (format!("http://{address}:2379"), format!("http://{address}:2380"));
        let all = format!("one={}", urls.1);
        Self::start(host.command("etcd"), ("one", &all), urls, Vec::new())
    }

    /// Three members of one cluster, each on a host of its own.
    ///
    /// # Panics
    /// As [`Self::or_skip`].
    #[must_use]
    pub fn three_on_or_skip(hosts: [(&Network, &str); 3]) -> Option<[Self; 3]> {
        let names = ["one", "two", "three"];
        let url = |address: &str, port: u16| format!("http://{address}:{port}");
        let all =
            names.iter().zip(hosts).map(|(name, (_, address))| format!("{name}={}", url(address, 2380)));
        let all = all.collect::<Vec<_>>().join(",");
        let mut place = 0;
        let [one, two, three] = hosts.map(|(host, address)| {
            let urls = (url(address, 2379), url(address, 2380));
            place += 1;
            Self::start(host.command("etcd"), (names[place - 1], &all), urls, Vec::new())
        });
        Some([one?, two?, three?])
    }

    fn start(
        mut command: Command,
        (name, all): (&str, &str),
        (client, peer): (String, String),
        ports: Vec<Port>,
    ) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("etcd").is_file()) {
            skip("etcd is not in PATH: run `cargo xtask test`");
            return None;
        }
        let folder = tempfile::tempdir().expect("a folder");
        let server = command
            .args(["--name", name, "--data-dir"])
            .arg(folder.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", all])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd can be started");
        // Whoever asks it waits until it answers.
        Some(Self { server, url: client, _ports: ports, _folder: folder })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// It answers nobody until [`Self::thaw`].
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// It answers again.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.server.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it is our child");
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
