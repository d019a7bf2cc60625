//! A real etcd of one member, on loopback, with a folder of its own.
#![allow(clippy::disallowed_methods, reason = "a test starts the server that it talks to")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::{LIMIT, Stage, until};
use crate::lease::Keeper;
use crate::lease::etcd::{Settings, Tls, open};

pub(super) struct Etcd {
    pub(super) port: u16,
    tls: Option<Tls>,
    server: Child,
    _folder: tempfile::TempDir,
}

impl Etcd {
    pub(super) async fn start_or_skip(test: &str) -> Option<Self> {
        if is_missing(test) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        Some(Self::start(folder, None, &[]).await)
    }

    pub(super) async fn start_with_tls_or_skip(test: &str) -> Option<Self> {
        if is_missing(test) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let tls = certificates(folder.path());
        let file = |name: &str| folder.path().join(name).display().to_string();
        let (authority, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
        let options = [
            "--client-cert-auth",
            "--trusted-ca-file",
            &authority,
            "--cert-file",
            &certificate,
            "--key-file",
            &key,
        ];
        Some(Self::start(folder, Some(tls), &options).await)
    }

    async fn start(folder: tempfile::TempDir, tls: Option<Tls>, options: &[&str]) -> Self {
        let [client, peer] = free_ports();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (client_url, peer_url) =
            (format!("{scheme}://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let server = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("default={peer_url}"), "--unsafe-no-fsync"])
            // Leases as short as tests want them: at least one and a half elections long.
            .args(["--heartbeat-interval", "100", "--election-timeout", "1000"])
            .args(options)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let etcd = Self { port: client, tls, server, _folder: folder };
        let keeper = etcd.keeper(&[client], Duration::from_secs(2));
        until("etcd", async || keeper.check().await.ok()).await;
        etcd
    }

    pub(super) fn keeper(&self, ports: &[u16], limit: Duration) -> Arc<dyn Keeper> {
        open(&self.settings(ports, limit)).unwrap()
    }

    /// One that trusts the server, and has nothing to show for itself.
    pub(super) fn keeper_without_certificate(&self, limit: Duration) -> Arc<dyn Keeper> {
        let mut settings = self.settings(&[self.port], limit);
        settings.tls.as_mut().unwrap().identity = None;
        open(&settings).unwrap()
    }

    fn settings(&self, ports: &[u16], limit: Duration) -> Settings {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let endpoints = ports.iter().map(|port| format!("{scheme}://127.0.0.1:{port}")).collect();
        Settings { endpoints, prefix: "supervisor/v1".to_owned(), tls: self.tls.clone(), limit }
    }

    pub(super) fn stage(&self) -> Stage {
        let keeper = || self.keeper(&[self.port], LIMIT);
        Stage { alpha: keeper(), beta: keeper(), ttl: Duration::from_secs(2), pass: Box::new(drop) }
    }

    pub(super) fn freeze(&self) {
        self.signal(nix::sys::signal::SIGSTOP);
    }

    pub(super) fn thaw(&self) {
        self.signal(nix::sys::signal::SIGCONT);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.server.id()).unwrap());
        nix::sys::signal::kill(pid, signal).unwrap();
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn is_missing(test: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join("etcd").is_file());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "etcd is not in PATH");
        eprintln!("SKIPPED {test}: etcd is not in PATH; `cargo xtask test` brings it");
    }
    !found
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

/// An authority, a server and a client of it; the server's are left in the folder.
fn certificates(folder: &Path) -> Tls {
    let authority_key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = authority.self_signed(&authority_key).unwrap().pem();
    let issuer = Issuer::new(authority, authority_key);
    let issue = |name: &str| {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    };
    let (server, client) = (issue("127.0.0.1"), issue("node"));
    for (name, text) in [("ca.pem", &ca), ("server.pem", &server.0), ("server.key", &server.1)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    Tls { ca: ca.into_bytes(), identity: Some((client.0.into_bytes(), client.1.into_bytes())) }
}
