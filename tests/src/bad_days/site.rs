//! A node for bad days: its configuration may be any text, its supervisor may have any environment, and may refuse to run.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::LIMIT;
use crate::port::Port;
use crate::{Event, Host, Node, Runtime, wait_for, wait_until};

/// The supervisor is ours to start; everything else, and that nothing is left behind, is the [`Node`]'s.
#[derive(Debug)]
pub struct Site {
    // Ended before the node looks for what is left.
    supervisor: Option<Child>,
    env: Vec<(OsString, OsString)>,
    ports: std::cell::RefCell<Vec<Port>>,
    node: Node,
}

impl Site {
    /// A site where processes can be checkpointed, or nothing after having said why the test is skipped.
    pub fn or_skip() -> Option<Self> {
        Self::for_runtime(Runtime::Process)
    }

    /// The same where containers of runc can be too.
    pub fn or_skip_with_runc() -> Option<Self> {
        Self::for_runtime(Runtime::Runc)
    }

    fn for_runtime(runtime: Runtime) -> Option<Self> {
        let node = Node::new(Host::or_skip(runtime)?);
        std::fs::create_dir(node.state_dir()).expect("a state folder");
        let env = vec![("SUPERVISOR_CRIU".into(), node.host().criu.clone().into())];
        Some(Self { supervisor: None, env, ports: std::cell::RefCell::default(), node })
    }

    /// Its folder, for files of a test too; gone with it.
    pub fn folder(&self) -> &Path {
        self.node.folder()
    }

    /// Where what must survive lies.
    pub fn state_dir(&self) -> PathBuf {
        self.node.state_dir()
    }

    /// Where commands reach the supervisor.
    pub fn socket(&self) -> PathBuf {
        self.node.run_dir().join("api.sock")
    }

    /// A port that nobody else takes.
    pub fn port(&self) -> u16 {
        let port = Port::take();
        let number = port.number();
        self.ports.borrow_mut().push(port);
        number
    }

    /// One variable more for every supervisor and command from now on.
    pub fn env(&mut self, name: &str, value: impl Into<OsString>) {
        self.env.push((name.into(), value.into()));
    }

    /// Writes the configuration in place: the node's own part, then this.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.node.config_file(), self.whole(text)).expect("the configuration is written");
    }

    /// The same as editors do it: written beside, renamed.
    pub fn replace_config(&self, text: &str) {
        self.node.write_config_text(&self.whole(text));
    }

    fn whole(&self, text: &str) -> String {
        let (name, state, run) = (self.node.name(), self.state_dir(), self.node.run_dir());
        format!("[node]\nname = {name:?}\nstate_dir = {state:?}\nrun_dir = {run:?}\n{text}")
    }

    /// A command of the command line, not run yet.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.node.host().supervisor);
        command
            .arg("--config")
            .arg(self.node.config_file())
            .arg("--socket")
            .arg(self.socket())
            .args(arguments);
        command.env("NO_COLOR", "1").env("RUST_LOG", "info").env_remove("NOTIFY_SOCKET");
        command.envs(self.env.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Runs a command of the command line to its end.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the supervisor's program can be run")
    }

    /// Runs a supervisor that has to refuse, and gives what it said. One that runs is ended and is a failure.
    pub fn refused(&self) -> Output {
        let mut command = self.command(&["run"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program can be run");
        let begun = Instant::now();
        while child.try_wait().expect("our own child").is_none() {
            if begun.elapsed() > LIMIT {
                // Whatever it started is the node's to clear.
                let _ = child.kill();
                panic!("a supervisor runs that has to refuse: {:?}", child.wait_with_output());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let output = child.wait_with_output().expect("our own child");
        assert!(!output.status.success(), "{output:?}");
        output
    }

    /// Starts the supervisor and waits until it answers.
    pub fn start(&mut self) {
        assert!(self.supervisor.is_none(), "a site has one supervisor");
        let log = File::options().create(true).append(true).open(self.log()).expect("a log");
        let mut command = self.command(&["run"]);
        self.supervisor =
            Some(command.stdout(Stdio::null()).stderr(log).spawn().expect("the program can be run"));
        wait_until(LIMIT, "the supervisor answers", || self.cli(&["status"]).status.success());
    }

    /// Asks the supervisor to stop, and waits for it; services run on.
    pub fn stop(&mut self) {
        self.signal(Signal::SIGTERM);
        let mut child = self.supervisor.take().expect("it runs");
        assert!(child.wait().expect("our own child").success());
    }

    /// Kills the supervisor outright.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.supervisor.take().expect("it runs").wait();
    }

    /// Sends the supervisor a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.supervisor_pid()).expect("pids are small");
        kill(Pid::from_raw(pid), signal).expect("our own child can be signalled");
    }

    /// The supervisor's own pid.
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.as_ref().expect("it was started").id()
    }

    /// Everything that happened, over all starts.
    pub fn events(&self) -> Vec<Event> {
        self.node.events()
    }

    /// The events of a service of this kind, oldest first; of all kinds if none is named.
    pub fn events_of(&self, service: &str, kind: &str) -> Vec<Event> {
        let of = |e: &Event| e.service.as_deref() == Some(service) && (kind.is_empty() || e.kind == kind);
        self.events().into_iter().filter(of).collect()
    }

    /// The first event of a service of this kind.
    pub fn wait_event(&self, service: &str, kind: &str) -> Event {
        self.wait_for_events(service, kind, 1)
    }

    /// The `count`th event of a service of this kind.
    pub fn wait_for_events(&self, service: &str, kind: &str, count: usize) -> Event {
        let what = format!("event {kind} of {service}, number {count}");
        wait_for(LIMIT, &what, || self.events_of(service, kind).into_iter().nth(count - 1))
    }

    /// The first event of the node itself of this kind.
    pub fn wait_node_event(&self, kind: &str) -> Event {
        let found = || self.events().into_iter().find(|e| e.service.is_none() && e.kind == kind);
        wait_for(LIMIT, &format!("event {kind} of the node"), found)
    }

    /// What `status` says; null if nobody answers.
    pub fn status(&self) -> Value {
        let said = self.cli(&["status", "--output", "json"]);
        serde_json::from_slice(&said.stdout).unwrap_or_default()
    }

    /// What `status` says of a service; null if it knows none.
    pub fn service(&self, name: &str) -> Value {
        let status = self.status();
        let services = status["services"].as_array();
        services.and_then(|s| s.iter().find(|s| s["name"] == name)).cloned().unwrap_or_default()
    }

    /// The pid of a service's main process; none if it does not run now.
    pub fn pid_of(&self, service: &str) -> Option<i32> {
        self.node.pid(service)
    }

    /// The pid of a service's main process, once it runs.
    pub fn service_pid(&self, service: &str) -> i32 {
        wait_for(LIMIT, &format!("{service} runs"), || self.pid_of(service))
    }

    /// Kills a service's main process, as nobody should.
    pub fn kill_service(&self, service: &str) {
        kill(Pid::from_raw(self.service_pid(service)), Signal::SIGKILL).expect("it runs");
    }

    /// The images of a service, as `images` lists them.
    pub fn images(&self, service: &str) -> Vec<Value> {
        let listed = self.cli(&["images", service, "--output", "json"]);
        assert!(listed.status.success(), "{listed:?}");
        let listed: Value = serde_json::from_slice(&listed.stdout).expect("it is JSON");
        listed.as_array().cloned().unwrap_or_default()
    }

    /// Waits for an image that was begun from now on and was judged good; gives its id.
    pub fn wait_newer_image(&self, service: &str) -> String {
        let taken = self.events_of(service, "checkpoint-taken").len();
        // One that is being taken now may be from before.
        let newer = self.wait_for_events(service, "checkpoint-taken", taken + 2).image;
        wait_for(LIMIT, "a newer image is good", || {
            let judged = self.events_of(service, "image-judged").into_iter().rev();
            judged
                .filter(|e| e.text.ends_with("is good"))
                .find_map(|e| e.image.filter(|id| Some(id) >= newer.as_ref()))
        })
    }

    /// Takes a checkpoint and waits until it is durable and judged good; gives its id.
    pub fn checkpoint(&self, service: &str) -> String {
        let taken = self.cli(&["checkpoint", service, "--output", "json"]);
        assert!(taken.status.success(), "{taken:?}");
        let taken: Value = serde_json::from_slice(&taken.stdout).expect("it is JSON");
        let image = taken["image"].as_str().expect("it names the image").to_owned();
        for (kind, words) in [("image-durable", "is durable"), ("image-judged", "is good")] {
            wait_until(LIMIT, &format!("image {image} {words}"), || {
                let events = self.events_of(service, kind);
                events.iter().any(|e| e.image.as_ref() == Some(&image) && e.text.contains(words))
            });
        }
        image
    }

    fn log(&self) -> PathBuf {
        self.state_dir().join("supervisor.log")
    }

    fn tell_all(&self) {
        let read = |path: PathBuf| std::fs::read_to_string(path).unwrap_or_default();
        eprintln!("---- configuration ----\n{}", read(self.node.config_file()));
        eprintln!("---- supervisor ----\n{}", read(self.log()));
        for service in self.node.traces().members() {
            eprintln!("---- still there: {service:?} ----");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell_all();
        }
        if let Some(mut child) = self.supervisor.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
