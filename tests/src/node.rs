//! One node: a supervisor in folders of its own, that a test starts, kills and starts again.

mod life;

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use engine::journal::{Journal, Record};
use policies::id::ServiceName;
use serde_json::Value;
use tempfile::TempDir;

use crate::bundle;
use crate::containers::{Containers, Engine, IMAGE, PORT};
use crate::counter::Counter;
use crate::event::{self, Event, Mark};
use crate::host::Host;
use crate::network::Network;
use crate::port::Port;
use crate::settings::{Runtime, Settings, list, text};
use crate::traces::Traces;
use crate::wait::{LIMIT, wait_for};

pub use life::children;

/// A node. Dropped, it takes everything of itself from the host; after a panic it first prints what it knows.
#[derive(Debug)]
pub struct Node {
    host: &'static Host,
    name: String,
    settings: Settings,
    counters: BTreeMap<String, Counter>,
    ports: Vec<Port>,
    network: Option<Network>,
    contained: bool,
    supervisor: Option<Child>,
    starts: u32,
    traces: Traces,
    root: TempDir,
}

/// What a command of the command line said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Exchange {
    pub(crate) fn of(output: &std::process::Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Node {
    /// A node without services, not started.
    #[must_use]
    pub fn new(host: &'static Host) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let root =
            tempfile::Builder::new().prefix("supervisor-test-").tempdir().expect("a folder for a node");
        let (state, run) = (root.path().join("state"), root.path().join("run"));
        Self {
            settings: Settings::new(&name, &state, &run),
            traces: Traces::new(&name, &state, &run),
            host,
            name,
            counters: BTreeMap::new(),
            ports: Vec::new(),
            network: None,
            contained: false,
            supervisor: None,
            starts: 0,
            root,
        }
    }

    /// A node with one service, `counter`, and what talks to it.
    #[must_use]
    pub fn with_counter(host: &'static Host, runtime: Runtime, options: &[&str]) -> (Self, Counter) {
        let mut node = Self::new(host);
        let counter = node.add_counter("counter", runtime, options);
        (node, counter)
    }

    /// The counter of another node, as it would run on this one: at most one of the two runs.
    pub fn share_counter(&mut self, service: &str, with: &Self) -> Counter {
        let counter = with.counters[service];
        self.settings.add_service(service, counter.port());
        let address = format!("127.0.0.1:{}", counter.port());
        let command = [self.host.counter.display().to_string(), "--listen".to_owned(), address];
        self.set(service, "process.command", &list(&command));
        self.counters.insert(service.to_owned(), counter);
        counter
    }

    /// The same for a runc bundle of another node: both see its folder.
    pub fn share_bundle(&mut self, service: &str, with: &Self) {
        let counter = with.counters[service];
        self.settings.add_service(service, counter.port());
        let folder = with.folder().join(format!("bundle-{service}"));
        self.set(service, "runc.bundle", &text(&folder.display().to_string()));
        self.counters.insert(service.to_owned(), counter);
    }

    /// The same for a container of another node: it gets a name of its own, and the other's port.
    pub fn share_container(&mut self, service: &str, with: &Self, containers: &Containers, container: &str) {
        let counter = with.counters[service];
        self.container(service, containers, container, counter.address());
        self.create_container(service, containers, counter.address(), &[]);
        self.counters.insert(service.to_owned(), counter);
    }

    /// A further service: a counter with these options.
    pub fn add_counter(&mut self, service: &str, runtime: Runtime, options: &[&str]) -> Counter {
        let port = Port::take();
        let counter = Counter::at(port.number());
        let mut arguments = vec!["--listen".to_owned(), format!("127.0.0.1:{}", port.number())];
        arguments.extend(options.iter().map(|option| (*option).to_owned()));
        self.settings.add_service(service, port.number());
        match runtime {
            Runtime::Process => {
                let mut command = vec![self.host.counter.display().to_string()];
                command.append(&mut arguments);
                self.set(service, "process.command", &list(&command));
            }
            Runtime::Runc => {
                let folder = self.folder().join(format!("bundle-{service}"));
                bundle::make(&folder, &self.host.counter, &arguments);
                self.set(service, "runc.bundle", &text(&folder.display().to_string()));
            }
        }
        self.counters.insert(service.to_owned(), counter);
        self.ports.push(port);
        counter
    }

    /// A further service: the container of that name, with a counter that listens on [`PORT`] in it and is published. Unless
    /// `exists`, the supervisor creates it, with these options; a guard for its removal is the caller's to hold.
    pub fn add_container(
        &mut self,
        service: &str,
        containers: &Containers,
        container: &str,
        created_with: Option<&[&str]>,
    ) -> Counter {
        self.move_to(containers.network());
        let port = Port::take();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        let counter = Counter::inside(containers.network(), address);
        self.container(service, containers, container, address);
        if let Some(options) = created_with {
            self.create_container(service, containers, address, options);
        }
        self.counters.insert(service.to_owned(), counter);
        self.ports.push(port);
        counter
    }

    fn container(&mut self, service: &str, containers: &Containers, container: &str, address: SocketAddr) {
        self.move_to(containers.network());
        self.settings.add_service(service, address.port());
        let place = text(&containers.place().display().to_string());
        let place_key = match containers.engine() {
            Engine::Docker => "docker.socket",
            Engine::Podman => "podman.program",
        };
        self.set(service, place_key, &place);
        self.set(service, &format!("{}.container", containers.kind()), &text(container));
    }

    fn create_container(
        &mut self,
        service: &str,
        containers: &Containers,
        address: SocketAddr,
        options: &[&str],
    ) {
        let kind = containers.kind();
        let publish = format!("{address}:{PORT}");
        let options = [&["--publish", publish.as_str()], options].concat();
        let options: Vec<String> = options.into_iter().map(str::to_owned).collect();
        self.set(service, &format!("{kind}.image"), &text(IMAGE));
        self.set(service, &format!("{kind}.create_args"), &list(&options));
        let command = ["--listen".to_owned(), format!("0.0.0.0:{PORT}")];
        self.set(service, &format!("{kind}.command"), &list(&command));
    }

    /// What talks to a counter that was added.
    ///
    /// # Panics
    /// If it was not.
    #[must_use]
    pub fn counter(&self, service: &str) -> Counter {
        self.counters[service]
    }

    /// A further service of any kind, whose port is looked at; what runs it is the caller's to [`Self::set`], and to wait for.
    pub fn add_service(&mut self, service: &str) -> SocketAddr {
        let port = Port::take();
        let address = SocketAddr::from(([127, 0, 0, 1], port.number()));
        self.settings.add_service(service, port.number());
        self.unset(service, "probe.health.http");
        self.set(service, "probe.health.tcp.address", &text(&address.to_string()));
        self.ports.push(port);
        address
    }

    /// A port of this node's own.
    pub fn take_port(&mut self) -> u16 {
        let port = Port::take();
        let number = port.number();
        self.ports.push(port);
        number
    }

    /// From now on the supervisor is started, and asked, inside a network namespace.
    pub fn move_to(&mut self, network: &Network) {
        self.network = Some(network.clone());
    }

    /// From now on the supervisor is started as process 1 of a pid namespace, as in a container. What names processes by pid ([`Self::pid`], the
    /// journal) then means those of the namespace.
    pub fn contain(&mut self) {
        self.contained = true;
    }

    /// One key of `[service.NAME]`, dotted if it is in a table below; the value as TOML writes it.
    pub fn set(&mut self, service: &str, key: &str, value: &str) {
        self.set_in(&format!("service.{service}"), key, value);
    }

    /// Takes a key of a service, and everything below it, out of the configuration.
    pub fn unset(&mut self, service: &str, key: &str) {
        self.settings.unset(&format!("service.{service}"), key);
    }

    /// One key of another table.
    pub fn set_in(&mut self, table: &str, key: &str, value: &str) {
        self.settings.set(table, key, value);
    }

    /// Takes a service out of the configuration.
    pub fn forget(&mut self, service: &str) {
        self.settings.remove(&format!("service.{service}"));
    }

    /// Writes the configuration as it is now; a supervisor that runs notices.
    pub fn write_config(&self) {
        self.write_config_text(&self.settings.toml());
    }

    /// Writes any text as the configuration, as an editor does: beside it, then renamed.
    pub fn write_config_text(&self, text: &str) {
        let new = self.folder().join("ha.toml.new");
        fs::write(&new, text).expect("the configuration is written");
        fs::rename(new, self.config_file()).expect("the configuration is put in place");
    }

    /// The configuration file.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.folder().join("ha.toml")
    }

    /// Its folder, for files of a test too; gone with the node.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.root.path()
    }

    /// Where what must survive lies.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        self.folder().join("state")
    }

    /// Where the rest lies.
    #[must_use]
    pub fn run_dir(&self) -> PathBuf {
        self.folder().join("run")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &'static Host {
        self.host
    }

    /// What of it is on the host.
    #[must_use]
    pub fn traces(&self) -> &Traces {
        &self.traces
    }

    /// The folder of a service's images on disk.
    #[must_use]
    pub fn images_folder(&self, service: &str) -> PathBuf {
        self.state_dir().join("images").join(service)
    }

    /// Runs a command of the command line against this node.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Exchange {
        let output = self.prepared(arguments).stdin(Stdio::null()).output();
        let output = output.expect("the supervisor's program can be run");
        Exchange::of(&output)
    }

    /// The same, to be run by somebody else: on a terminal, say.
    #[must_use]
    pub fn prepared(&self, arguments: &[&str]) -> Command {
        let mut command = self.supervisor_command();
        command.arg("--config").arg(self.config_file()).args(arguments);
        command.env("SUPERVISOR_CRIU", &self.host.criu);
        command
    }

    fn supervisor_command(&self) -> Command {
        match &self.network {
            Some(network) => network.command(&self.host.supervisor),
            None => Command::new(&self.host.supervisor),
        }
    }

    /// Runs a command that must work, and gives its JSON.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.command(&[&["--output", "json"], arguments].concat());
        assert_eq!(said.code, Some(0), "supervisor {arguments:?}: {said:?}");
        serde_json::from_str(&said.stdout)
            .unwrap_or_else(|e| panic!("supervisor {arguments:?}: {e}: {said:?}"))
    }

    /// Takes a checkpoint now, and waits until it is on disk and found to be of a healthy service; gives the image.
    pub fn checkpoint(&self, service: &str) -> String {
        let mark = self.mark();
        let image = self.checkpoint_unjudged(service);
        let is_good = |event: &Event| event.image.as_ref() == Some(&image) && event.text.ends_with("is good");
        self.wait_for_event(mark, "image-judged", is_good);
        image
    }

    /// Takes a checkpoint now, and waits until it is on disk; a crash before the next round of probes makes it suspect.
    pub fn checkpoint_unjudged(&self, service: &str) -> String {
        let mark = self.mark();
        let answer = self.json(&["checkpoint", service]);
        assert_eq!(answer["outcome"], "done", "{answer}");
        let image = answer["image"].as_str().expect("a checkpoint that is done names its image").to_owned();
        self.wait_for_event(mark, "image-durable", |event| event.image.as_deref() == Some(&image));
        image
    }

    /// Everything that happened, over all starts.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        event::read(&self.state_dir().join("events.log"))
    }

    /// Where the journal of events ends now.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.events().last().map_or(0, |event| event.seq))
    }

    /// What happened since.
    #[must_use]
    pub fn events_since(&self, mark: Mark) -> Vec<Event> {
        self.events().into_iter().filter(|event| event.seq > mark.0).collect()
    }

    /// Waits for an event of this kind since the mark that is as wanted, and gives the first.
    pub fn wait_for_event(&self, mark: Mark, kind: &str, wanted: impl Fn(&Event) -> bool) -> Event {
        wait_for(LIMIT, &format!("an event `{kind}` after number {}", mark.0), || {
            self.events_since(mark).into_iter().find(|event| event.kind == kind && wanted(event))
        })
    }

    /// What the supervisor has written down about a service.
    #[must_use]
    pub fn record(&self, service: &str) -> Option<Record> {
        let folder = self.state_dir().join("services");
        if !folder.is_dir() {
            return None;
        }
        let name = ServiceName::try_from(service).expect("services of tests have right names");
        let journal = Journal::open(folder).expect("the journal can be opened");
        journal.read(&name).expect("the journal can be read")
    }

    /// The pid of a service's main process, by the journal; none if it is not running by now.
    #[must_use]
    pub fn pid(&self, service: &str) -> Option<i32> {
        self.record(service)?.handle.filter(engine::runtime::Handle::is_alive).map(|handle| handle.pid)
    }

    /// The status of one service as the supervisor publishes it.
    pub fn status(&self, service: &str) -> Value {
        let status = self.json(&["status"]);
        let services = status["services"].as_array().expect("a status lists services");
        let found = services.iter().find(|s| s["name"] == service);
        found.unwrap_or_else(|| panic!("no service {service} in {status}")).clone()
    }

    /// The state of one service.
    pub fn state(&self, service: &str) -> String {
        self.status(service)["state"].as_str().expect("a service has a state").to_owned()
    }
}
