//! A docker daemon of one test's own, to be stopped and started again. Dropped, it ends, and what it ran with it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::Containers;
use crate::network::Network;
use crate::wait::{LIMIT, wait_until};

/// It stands in a network namespace of its own, without a bridge: its containers are to share that of the host, which it is.
#[derive(Debug)]
pub struct Daemon<'a> {
    beside: &'a Containers,
    root: TempDir,
    network: &'static Network,
    /// Keeps the network while the daemon is away.
    holder: Child,
    child: Option<Child>,
}

impl<'a> Daemon<'a> {
    /// Starts one beside the daemon of all tests.
    #[must_use]
    pub fn start(beside: &'a Containers) -> Self {
        let root = tempfile::Builder::new().prefix("supervisor-test-").tempdir().expect("a folder");
        let folder = |name: &str| root.path().join(name);
        let config = serde_json::json!({
            "experimental": true, "live-restore": true, "bridge": "none", "iptables": false, "log-level": "warn",
            "data-root": folder("data"), "exec-root": folder("exec"), "pidfile": folder("pid"),
            "hosts": [format!("unix://{}", folder("docker.sock").display())],
            "exec-opts": ["native.cgroupdriver=cgroupfs"],
            "cgroup-parent": format!("/supervisor-test-{}", std::process::id()),
        });
        fs::write(folder("daemon.json"), config.to_string()).expect("written");
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", "ip link set lo up && echo up && exec sleep infinity"]);
        let mut holder = holder.stdout(Stdio::piped()).spawn().expect("unshare can be run");
        let mut word = [0; 3];
        holder.stdout.as_mut().expect("a pipe").read_exact(&mut word).expect("a network of its own");
        // A node keeps it for as long as it likes; there is one for each test.
        let network = Box::leak(Box::new(Network::at(format!("/proc/{}/ns/net", holder.id()).into())));
        let mut daemon = Self { beside, root, network, holder, child: None };
        daemon.begin();
        daemon
    }

    /// It, to be asked for containers.
    #[must_use]
    pub fn containers(&self) -> Containers {
        let containers = self.asked();
        containers.import_once();
        containers
    }

    fn asked(&self) -> Containers {
        Containers { place: self.socket(), network: self.network, ..self.beside.clone() }
    }

    /// Starts it again.
    pub fn begin(&mut self) {
        let tools = self.beside.place().with_file_name("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        let log = fs::File::create(self.root.path().join("log")).expect("a log");
        let mut command = self.network.command("dockerd");
        command.arg("--config-file").arg(self.root.path().join("daemon.json"));
        command.env("PATH", format!("{}:{path}", tools.display())).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("shared")).stderr(log);
        self.child = Some(command.spawn().expect("dockerd can be run"));
        let asked = self.asked();
        wait_until(LIMIT, "docker answers", || asked.cli(&["ps"]).status.success());
    }

    /// Ends it; its containers run on.
    pub fn end(&mut self) {
        let mut child = self.child.take().expect("it runs");
        kill(Pid::from_raw(i32::try_from(child.id()).expect("pids are small")), Signal::SIGTERM)
            .expect("our own child");
        let _ = child.wait();
    }

    /// What an ended daemon leaves mounted in its folders.
    fn unmount(&self) {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        for target in
            targets.into_iter().rev().filter(|target| Path::new(target).starts_with(self.root.path()))
        {
            let _ = nix::mount::umount2(target, nix::mount::MntFlags::MNT_DETACH);
        }
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("docker.sock")
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
            eprintln!("---- dockerd ----\n{log}");
        }
        if self.child.is_none() {
            self.begin();
        }
        let asked = self.asked();
        let all = asked.cli(&["ps", "--all", "--quiet"]);
        for id in String::from_utf8_lossy(&all.stdout).lines() {
            asked.remove(id);
        }
        self.end();
        let _ = self.holder.kill();
        let _ = self.holder.wait();
        self.unmount();
        let cgroup = format!("supervisor-test-{}", std::process::id());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Only where there is one, and by now it is empty.
            let _ = fs::remove_dir(hierarchy.path().join(&cgroup));
        }
        let _ = fs::remove_dir(PathBuf::from("/sys/fs/cgroup").join(&cgroup));
    }
}
