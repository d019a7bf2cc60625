//! A real etcd of one member, on loopback, in a folder of its own. Dropped, it is killed.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::skip;
use crate::port::Port;
use crate::wait::{LIMIT, wait_until};

/// A running server.
#[derive(Debug)]
pub struct Etcd {
    server: Child,
    client: Port,
    _peer: Port,
    _folder: tempfile::TempDir,
}

impl Etcd {
    /// It, or nothing after having said why this test is skipped.
    ///
    /// # Panics
    /// Where nothing may be skipped (`CI=true`), and when it does not start.
    #[must_use]
    pub fn or_skip() -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&path).any(|folder| folder.join("etcd").is_file()) {
            skip("etcd is not in PATH: run `cargo xtask test`");
            return None;
        }
        let (client, peer) = (Port::take(), Port::take());
        let folder = tempfile::tempdir().expect("a folder");
        let url = |port: &Port| format!("http://127.0.0.1:{}", port.number());
        let server = Command::new("etcd")
            .args(["--name", "one", "--data-dir"])
            .arg(folder.path())
            .args(["--listen-client-urls", &url(&client), "--advertise-client-urls", &url(&client)])
            .args(["--listen-peer-urls", &url(&peer), "--initial-advertise-peer-urls", &url(&peer)])
            .args(["--initial-cluster", &format!("one={}", url(&peer))])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd can be started");
        let etcd = Self { server, client, _peer: peer, _folder: folder };
        wait_until(LIMIT, "etcd listens", || TcpStream::connect(("127.0.0.1", etcd.client.number())).is_ok());
        Some(etcd)
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client.number())
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
