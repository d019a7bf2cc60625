//! One service of the engine's, and a process that holds it as a supervisor would.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use engine::clock;
use engine::runtime::{Handle, Runtime, docker, podman};
use engine::shim::Isolation;
use engine::shim::protocol::FenceOrder;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use policies::lease::Moment;
use policies::time::Instant;
use system_tests::bad_days::program;
use system_tests::{Containers, Engine, Ground, Host, LIMIT, Node, bundle, wait_until};

/// Folders and cgroups, cleared at the end as every node's are.
pub(crate) struct Scene {
    node: Node,
    pub(crate) ground: Ground,
}

/// What runs the service.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Pid,
    None,
    Runc,
}

impl Scene {
    pub(crate) fn or_skip() -> Option<Self> {
        let host = Host::or_skip(system_tests::Runtime::Runc)?;
        let node = Node::new(host);
        let run_folder = node.run_dir().join("services/fenced");
        std::fs::create_dir_all(&run_folder).expect("a run folder");
        let (supervisor, criu) = (host.supervisor.clone(), host.criu.clone());
        Some(Self { ground: Ground { node: node.name().to_owned(), run_folder, supervisor, criu }, node })
    }

    /// A process whose output goes to this file in the run folder.
    pub(crate) async fn process(
        &self,
        isolation: Isolation,
        command: &[&str],
        log: &str,
    ) -> Box<dyn Runtime> {
        let command: Vec<String> = command.iter().map(|word| (*word).to_owned()).collect();
        self.ground
            .process(isolation, &command, &self.ground.run_folder.join(log))
            .await
            .expect("CRIU and cgroups are there")
    }

    pub(crate) fn signal_shim(&self, signal: Signal) {
        self.signal_named("supervisor-shim", signal);
    }

    /// So that nothing waits for one that cannot reap.
    pub(crate) fn end_shim(&self) {
        for pid in self.node.traces().shims() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// A container that exists.
    pub(crate) async fn container(&self, containers: &Containers, name: &str) -> Box<dyn Runtime> {
        let place = self.ground.place("fenced").await.expect("CRIU and cgroups are there");
        let (container, recipe) = (name.to_owned(), None);
        match containers.engine() {
            Engine::Docker => {
                let socket = containers.place().to_owned();
                Box::new(docker::docker(place, docker::Spec { container, recipe, socket }))
            }
            Engine::Podman => {
                let (program, options) = (containers.place().to_owned(), Vec::new());
                Box::new(podman::podman(place, podman::Spec { container, recipe, program, options }))
            }
        }
    }

    pub(crate) fn kill_keeper(&self) {
        self.signal_named("supervisor-fence", Signal::SIGKILL);
    }

    fn signal_named(&self, name: &str, signal: Signal) {
        let is_named = |pid: &i32| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            // The kernel keeps 15 bytes.
            !comm.is_empty() && name.starts_with(comm.trim()) && comm.trim().len() == name.len().min(15)
        };
        let found: Vec<i32> = self.node.traces().shims().into_iter().filter(is_named).collect();
        let [pid] = found[..] else { panic!("one {name}: {found:?}") };
        kill(Pid::from_raw(pid), signal).expect("it was there just now");
    }
}

/// A process of its own that starts the service and arms its fence.
pub(crate) struct Holder {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Holder {
    pub(crate) fn start(scene: &Scene, how: &str, span: Duration, kind: Kind) -> Self {
        let ground = &scene.ground;
        let mut command = Command::new(program("fence_holder"));
        command.arg(&ground.run_folder).arg(&ground.node).arg(&ground.supervisor).arg(&ground.criu);
        command.arg(how).arg(span.as_millis().to_string());
        match kind {
            Kind::Pid => command.args(["pid", "sleep", "1000"]),
            Kind::None => command.args(["none", "sleep", "1000"]),
            Kind::Runc => command.arg("runc").arg(bundle_in(scene.node.folder(), scene.node.host())),
        };
        let mut process =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("fence_holder runs");
        let said = BufReader::new(process.stdout.take().expect("piped"));
        Self { process, said }
    }

    /// The service's pid and the limit, the next time it arms the fence.
    pub(crate) fn armed(&mut self) -> (i32, Moment) {
        let line = self.line();
        let words: Vec<u64> = line.split(' ').map(|word| word.parse().expect(&line)).collect();
        let [pid, monotonic, boottime] = words[..] else { panic!("{line}") };
        let (monotonic, boottime) = (Instant::from_nanos(monotonic), Instant::from_nanos(boottime));
        (i32::try_from(pid).expect("a pid"), Moment { monotonic, boottime })
    }

    pub(crate) fn last_word(&mut self) -> String {
        let mut last = String::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return last;
            }
            last = line;
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id()).expect("a pid")), signal).expect("it is ours");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).expect("it can be read from");
        line.trim().to_owned()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn order_to_arm(span: Duration, handle: &Handle) -> (Moment, FenceOrder) {
    let limit = clock::now().expect("a clock").after(span);
    (limit, FenceOrder::Arm { limit: limit.into(), cgroup: handle.cgroup.clone(), address: None })
}

/// Waits for the end, which must not have come before the limit.
pub(crate) fn dead_after(pid: i32, limit: Moment) {
    wait_until(LIMIT, "the fence acts", || !lives(pid));
    assert!(clock::now().expect("a clock").has_passed(limit), "it ended before its limit");
}

/// A zombie does not.
pub(crate) fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn bundle_in(folder: &Path, host: &Host) -> std::path::PathBuf {
    let bundle = folder.join("bundle");
    let arguments = ["--listen", "127.0.0.1:0"].map(str::to_owned);
    bundle::make(&bundle, &host.counter, &arguments);
    bundle
}
