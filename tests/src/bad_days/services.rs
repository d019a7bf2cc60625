//! The services of these tests, with their part of a configuration.

use std::path::{Path, PathBuf};

use super::{LIMIT, Site, ask, program};
use crate::wait_until;

/// A service without a probe.
pub fn service(name: &str, runtime: &str, restart: &str) -> String {
    format!("\n[service.{name}]\n{runtime}\n[service.{name}.restart]\n{restart}\n")
}

/// A probe that a busy machine does not fail by accident; what `lines` say goes first.
fn probe(name: &str, port: u16, lines: &str) -> String {
    let defaults = [
        ("interval", "\"500ms\""),
        ("timeout", "\"500ms\""),
        ("failure_threshold", "6"),
        ("start_period", "\"20s\""),
    ];
    let mut text = format!(
        "[service.{name}.probe.health]\nhttp = {{ url = \"http://127.0.0.1:{port}/health\" }}\n{lines}\n"
    );
    for (key, value) in defaults {
        if !lines.lines().any(|line| line.starts_with(key)) {
            text.push_str(&format!("{key} = {value}\n"));
        }
    }
    text
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", ")
}

/// The example `counter`.
#[derive(Debug, Clone)]
pub struct Counter {
    name: String,
    port: u16,
    memory: usize,
    checkpoint: String,
    probe: String,
    restart: String,
    isolation: &'static str,
    deaf: bool,
}

impl Counter {
    /// One with a port of its own, checkpointed twice a second.
    pub fn new(name: &str, site: &Site) -> Self {
        Self {
            name: name.to_owned(),
            port: site.port(),
            memory: 1 << 20,
            checkpoint: "interval = \"500ms\"".to_owned(),
            probe: String::new(),
            restart: String::new(),
            isolation: "pid",
            deaf: false,
        }
    }

    /// Bytes of its block of memory.
    #[must_use]
    pub fn memory(mut self, bytes: usize) -> Self {
        self.memory = bytes;
        self
    }

    /// The lines of its checkpoint section.
    #[must_use]
    pub fn checkpoint(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.checkpoint);
        self
    }

    /// Lines of its probe that differ from the usual ones.
    #[must_use]
    pub fn probe(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.probe);
        self
    }

    /// The lines of its restart section.
    #[must_use]
    pub fn restart(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.restart);
        self
    }

    /// In the host's pid namespace.
    #[must_use]
    pub fn isolation_none(mut self) -> Self {
        self.isolation = "none";
        self
    }

    /// It does not hear the signal to stop, and is killed two seconds later.
    #[must_use]
    pub fn slow_to_stop(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Its part of the configuration.
    pub fn toml(&self) -> String {
        let Self { name, port, memory, checkpoint, restart, isolation, .. } = self;
        let counter = program("counter").display().to_string();
        let options =
            ["--listen".to_owned(), format!("127.0.0.1:{port}"), "--memory".to_owned(), memory.to_string()];
        let mut command = vec![counter];
        if self.deaf {
            let script = "trap '' TERM; exec \"$0\" \"$@\"".to_owned();
            command.splice(0..0, ["/bin/sh".to_owned(), "-c".to_owned(), script]);
        }
        command.extend(options);
        format!(
            "\n[service.{name}]\nstop_timeout = \"2s\"\n\
             process = {{ command = [{}], isolation = \"{isolation}\" }}\n\
             [service.{name}.checkpoint]\n{checkpoint}\n[service.{name}.restart]\n{restart}\n{}",
            quoted(&command),
            probe(name, *port, &self.probe)
        )
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether anybody answers there.
    pub fn answers(&self) -> bool {
        ask(self.port, "/health").is_some()
    }

    /// Waits until the supervisor says that it is healthy, and it is whole.
    pub fn healthy(&self, node: &Site) {
        self.is_judged_healthy(node);
        let (status, body) = ask(self.port, "/checksum").expect("a healthy service answers");
        assert_eq!(status, 200, "its memory is not whole: {body}");
    }

    /// Waits until the supervisor says that it is healthy.
    pub fn is_judged_healthy(&self, node: &Site) {
        wait_until(LIMIT, &format!("{} is healthy", self.name), || {
            let status = node.service(&self.name);
            status["state"] == "running" && status["verdict"] == "healthy"
        });
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        let (_, body) = ask(self.port, "/counter").expect("it answers");
        body.parse().expect("a number")
    }

    /// Counts until it has reached a number, which it gives back.
    pub fn count_to(&self, number: u64) -> u64 {
        while self.number() < number {
            ask(self.port, "/increment").expect("it answers");
        }
        number
    }
}

/// The workload `stubborn`, which holds what cannot be dumped.
#[derive(Debug)]
pub struct Stubborn {
    port: u16,
    command: Vec<String>,
}

impl Stubborn {
    /// One that holds this.
    pub fn new(site: &Site, what: &[&str]) -> Self {
        let port = site.port();
        let mut command = vec![program("stubborn").display().to_string()];
        command.extend(["--listen".to_owned(), format!("127.0.0.1:{port}")]);
        command.extend(what.iter().map(|&word| word.to_owned()));
        Self { port, command }
    }

    /// Its configuration, with these lines for checkpoints. It is called `stubborn`.
    pub fn toml(&self, checkpoint: &str) -> String {
        let process = format!("process = {{ command = [{}] }}", quoted(&self.command));
        format!(
            "{}[service.stubborn.checkpoint]\ninterval = \"1h\"\n{checkpoint}\n{}",
            service("stubborn", &process, ""),
            probe("stubborn", self.port, "")
        )
    }

    /// Waits until the supervisor says that it is healthy.
    pub fn healthy(&self, node: &Site) {
        wait_until(LIMIT, "stubborn is healthy", || node.service("stubborn")["verdict"] == "healthy");
        self.asked();
    }

    /// How often it was asked; from scratch it begins at 1.
    pub fn asked(&self) -> u64 {
        ask(self.port, "/").and_then(|(_, body)| body.parse().ok()).expect("it answers with a number")
    }
}

/// The workload `sequence`, whose memory and files must be from one instant.
#[derive(Debug)]
pub struct Sequence {
    port: u16,
    runtime: String,
    volumes: Vec<PathBuf>,
    sick: PathBuf,
}

impl Sequence {
    /// As a process that writes to these folders; the volumes belong to its images.
    pub fn process(node: &Site, folders: &[&Path], volumes: &[&Path]) -> Self {
        let (port, sick) = (node.port(), node.folder().join("sick"));
        for volume in volumes {
            std::fs::create_dir_all(volume).expect("a volume");
        }
        let mut command = Self::command(&program("sequence"), port, folders);
        command.extend(["--sick-while".to_owned(), sick.display().to_string()]);
        let runtime = format!("process = {{ command = [{}] }}", quoted(&command));
        let volumes = volumes.iter().map(|&path| path.to_owned()).collect();
        Self { port, runtime, volumes, sick }
    }

    /// As a container that writes to these folders of its own root, and to a volume at `/volume`.
    pub fn container(node: &Site, folders: &[&Path], volume: &Path) -> Self {
        let (port, sick) = (node.port(), node.folder().join("sick"));
        std::fs::create_dir_all(volume).expect("a volume");
        let mut all = folders.to_vec();
        all.push(Path::new("/volume"));
        let command = Self::command(Path::new("/bin/sequence"), port, &all);
        let bundle = node.folder().join("bundle");
        crate::bundle::make(&bundle, &program("sequence"), &command[1..]);
        crate::bundle::bind(&bundle, volume, "/volume", "rw");
        let runtime = format!("runc = {{ bundle = \"{}\" }}", bundle.display());
        Self { port, runtime, volumes: vec![volume.to_owned()], sick }
    }

    fn command(program: &Path, port: u16, folders: &[&Path]) -> Vec<String> {
        let mut command =
            vec![program.display().to_string(), "--listen".to_owned(), format!("127.0.0.1:{port}")];
        command.extend(folders.iter().map(|f| f.display().to_string()));
        command
    }

    /// Its configuration, with these lines for checkpoints and restarts. It is called `sequence`.
    pub fn toml(&self, checkpoint: &str, restart: &str) -> String {
        let volumes: Vec<String> = self.volumes.iter().map(|v| v.display().to_string()).collect();
        format!(
            "{}[service.sequence.checkpoint]\ntrial = false\nvolumes = [{}]\n{checkpoint}\n{}",
            service("sequence", &self.runtime, restart),
            quoted(&volumes),
            probe("sequence", self.port, "start_period = \"5s\"")
        )
    }

    /// Waits until the supervisor says that it is healthy.
    pub fn healthy(&self, node: &Site) {
        wait_until(LIMIT, "sequence is healthy", || node.service("sequence")["verdict"] == "healthy");
    }

    /// Waits until it has gone on by some steps.
    pub fn goes_on(&self) {
        let number = self.number();
        wait_until(LIMIT, "sequence goes on", || self.number() > number + 20);
    }

    /// It goes on, and never found its files to be anything but what its memory says.
    pub fn whole(&self, node: &Site) {
        self.healthy(node);
        self.goes_on();
        let (status, body) = ask(self.port, "/check").expect("it answers");
        assert_eq!(status, 200, "{body}");
    }

    /// The number of its last step.
    pub fn number(&self) -> u64 {
        self.field("number")
    }

    /// The number that it began with when it was started from scratch.
    pub fn started(&self) -> u64 {
        self.field("started")
    }

    /// From now on it says that it is sick, whatever is restored.
    pub fn fall_sick(&self) {
        std::fs::write(&self.sick, "").expect("written");
    }

    /// Until now.
    pub fn get_well(&self) {
        std::fs::remove_file(&self.sick).expect("it was sick");
    }

    fn field(&self, name: &str) -> u64 {
        let (_, body) = ask(self.port, "/").expect("it answers");
        let value = body.split_whitespace().find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        value.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {name} in {body}"))
    }
}
