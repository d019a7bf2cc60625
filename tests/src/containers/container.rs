//! One container of a test. Dropped, it is removed, panic or not; after a panic what is known of it is printed first.

use std::net::{IpAddr, SocketAddr};

use super::{Containers, Engine};
use crate::counter::Counter;
use crate::wait::{LIMIT, wait_until};

/// Where a counter in a container listens, unless its arguments say otherwise.
pub const PORT: u16 = 8080;

/// A container with a counter.
#[derive(Debug)]
pub struct Container<'a> {
    containers: &'a Containers,
    name: String,
}

impl<'a> Container<'a> {
    pub(super) fn new(containers: &'a Containers, name: String) -> Self {
        Self { containers, name }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts it.
    pub fn start(&self) {
        self.containers.done(&["start", &self.name]);
    }

    /// Kills it, and waits until the engine has noticed.
    pub fn kill(&self) {
        self.containers.done(&["kill", &self.name]);
        wait_until(LIMIT, &format!("{} has exited", self.name), || self.state() == "exited");
    }

    /// The engine's word for its state: `created`, `running`, `paused`, `exited`, ...
    #[must_use]
    pub fn state(&self) -> String {
        let facts = self.containers.inspect(&self.name);
        facts["State"]["Status"].as_str().expect("a container has a state").to_owned()
    }

    /// The pid of its first process on the host; none if it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        let pid = self.containers.inspect(&self.name)["State"]["Pid"].as_i64().expect("a pid, or 0");
        i32::try_from(pid).ok().filter(|pid| *pid > 0)
    }

    /// Its address in the engine's default network, or in the first of its own.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        let facts = self.containers.inspect(&self.name);
        let networks = facts["NetworkSettings"]["Networks"].as_object();
        let addresses = networks.into_iter().flatten().filter_map(|(_, of)| of["IPAddress"].as_str());
        let address = addresses.filter_map(|text| text.parse().ok()).next();
        address.unwrap_or_else(|| panic!("{} has no address: {}", self.name, facts["NetworkSettings"]))
    }

    /// What talks to its counter, at its address of this moment.
    #[must_use]
    pub fn counter(&self) -> Counter {
        Counter::inside(self.containers.network(), SocketAddr::new(self.address(), PORT))
    }

    /// A checkpoint by the engine itself; the container runs on.
    pub fn checkpoint(&self) {
        match self.containers.engine() {
            Engine::Docker => {
                self.containers.done(&["checkpoint", "create", "--leave-running", &self.name, "one"])
            }
            Engine::Podman => {
                self.containers.done(&["container", "checkpoint", "--leave-running", &self.name])
            }
        };
    }

    /// Back to [`Self::checkpoint`], by the engine itself.
    pub fn restore(&self) {
        let arguments: &[&str] = match self.containers.engine() {
            Engine::Docker => &["start", "--checkpoint", "one", &self.name],
            Engine::Podman => &["container", "restore", &self.name],
        };
        wait_until(LIMIT, &format!("{} is restored", self.name), || {
            let output = self.containers.cli(arguments);
            let errors = String::from_utf8_lossy(&output.stderr);
            // Docker brings the checkpoint to containerd, which may still hold what it made it from: it is swept later.
            let is_swept_later = errors.contains("commit failed") && errors.contains("already exists");
            assert!(output.status.success() || is_swept_later, "{arguments:?}: {}: {errors}", output.status);
            output.status.success()
        });
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for question in ["inspect", "logs"] {
                let said = self.containers.cli(&[question, &self.name]);
                let (out, err) =
                    (String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
                eprintln!("---- {question} {} ----\n{out}{err}", self.name);
            }
        }
        self.containers.remove(&self.name);
    }
}
