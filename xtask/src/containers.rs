//! Docker and podman for one run of the tests, apart from those of the host: folders, a configuration, a cgroup and a
//! network namespace of their own.
//!
//! ```text
//! cargo xtask test ── Containers ──pipe──> keeper          in a network namespace of its own
//!                                            ├── dockerd   (which starts containerd)
//!                                            └── podman, whenever a test calls it
//! ```
//!
//! The keeper takes everything down when the pipe ends, and so also when we are killed. What a killed keeper has left
//! is found by the next one by the name of its folder. Refuses to touch bridges, packet filters, sockets or
//! settings of the host.

mod configuration;
mod keeper;
mod processes;
mod site;
mod sweep;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::setup::Environment;
use site::Site;

/// The command by which we start ourselves as the keeper; not for people.
pub(crate) const KEEPER: &str = "keep-containers";
const READY: &str = "ready";

pub(crate) use keeper::run as keep;

/// A keeper that has everything running. Dropped, it takes it down.
pub(crate) struct Containers {
    keeper: Child,
    site: Site,
}

impl Containers {
    /// Starts a keeper and waits until docker and podman answer.
    pub(crate) fn start(environment: &Environment) -> Result<Containers> {
        // The file may have been built anew since we were started from it; this still is what we are.
        let mut command = Command::new("/proc/self/exe");
        environment.apply(&mut command);
        command.arg(KEEPER).stdin(Stdio::piped()).stdout(Stdio::piped());
        // A Ctrl-C is for us and the tests; the keeper notices that we are gone.
        command.process_group(0);
        let keeper = command.spawn().context("can't start the keeper of containers")?;
        let site = Site::of(keeper.id())?;
        let mut containers = Containers { keeper, site };
        let answers = containers.keeper.stdout.take().context("the keeper's output is a pipe")?;
        let mut line = String::new();
        BufReader::new(answers).read_line(&mut line).context("can't read what the keeper says")?;
        if line.trim() != READY {
            bail!("no docker and podman for tests; what they say is above");
        }
        println!("test: docker and podman of our own: {}", containers.site.run().display());
        Ok(containers)
    }

    /// A program, to be run in their network namespace.
    pub(crate) fn inside(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.site.network().display())).arg("--").arg(program);
        command
    }

    /// Tells a command where they are.
    pub(crate) fn apply<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .env("SUPERVISOR_TEST_DOCKER", self.site.docker_socket())
            .env("SUPERVISOR_TEST_PODMAN", self.site.podman())
            .env("SUPERVISOR_TEST_NETNS", self.site.network())
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        match self.keeper.wait() {
            Ok(status) if status.success() => {}
            Ok(status) => eprintln!("test: the keeper of containers ended badly: {status}"),
            Err(error) => eprintln!("test: can't wait for the keeper of containers: {error}"),
        }
    }
}
