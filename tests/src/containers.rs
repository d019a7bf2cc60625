//! Docker and podman as `cargo xtask test` starts them for us: daemon, storage and network apart from the host's.
//!
//! Refuses to use the host's own: without the environment that names ours a test says so aloud and is skipped.

mod container;
mod daemon;
mod elsewhere;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

pub use container::{Container, PORT};
pub use daemon::Daemon;
pub use elsewhere::Elsewhere;

use crate::bad_days::program;
use crate::bundle;
use crate::host::{Host, skip};
use crate::network::Network;
use crate::settings::Runtime;

/// The image with the counter (its entry point), the service that holds memory (`/bin/memhog`) and the one that compares it with
/// files (`/bin/sequence`).
pub const IMAGE: &str = "supervisor-test/counter";

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// A daemon.
    Docker,
    /// A program called each time.
    Podman,
}

/// One of them, ready, with the image.
#[derive(Debug, Clone)]
pub struct Containers {
    engine: Engine,
    /// Docker's socket, podman's script.
    place: PathBuf,
    network: &'static Network,
    host: &'static Host,
}

impl Containers {
    /// Them, or nothing after having said why this test is skipped.
    ///
    /// # Panics
    /// Where nothing may be skipped (`CI=true`), and when they are there but will not take the image.
    #[must_use]
    pub fn or_skip(engine: Engine) -> Option<Self> {
        let host = Host::or_skip(Runtime::Runc)?;
        let variable = match engine {
            Engine::Docker => "SUPERVISOR_TEST_DOCKER",
            Engine::Podman => "SUPERVISOR_TEST_PODMAN",
        };
        let (Some(place), Some(network)) = (variable_path(variable), network()) else {
            skip(&format!("{variable} and SUPERVISOR_TEST_NETNS are not set: run `cargo xtask test`"));
            return None;
        };
        let containers = Self { engine, place, network, host };
        containers.import_once();
        Some(containers)
    }

    /// Which they are.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// Its name in a configuration.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self.engine {
            Engine::Docker => "docker",
            Engine::Podman => "podman",
        }
    }

    /// Docker's socket, or the script that calls podman.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The network namespace in which the containers' addresses are reached.
    #[must_use]
    pub fn network(&self) -> &'static Network {
        self.network
    }

    /// The host.
    #[must_use]
    pub fn host(&self) -> &'static Host {
        self.host
    }

    /// The command line, ready for its arguments; inside the network.
    #[must_use]
    pub fn command(&self) -> Command {
        match self.engine {
            Engine::Docker => {
                let mut command = self.network.command("docker");
                command.arg("--host").arg(format!("unix://{}", self.place.display()));
                command
            }
            // It enters the network by itself.
            Engine::Podman => Command::new(&self.place),
        }
    }

    /// Runs it, whatever comes of it.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let output = self.command().args(arguments).stdin(Stdio::null()).output();
        output.unwrap_or_else(|e| panic!("{:?} {arguments:?} cannot be run: {e}", self.engine))
    }

    /// Runs it, and gives what it printed.
    ///
    /// # Panics
    /// With what it says, if it fails.
    pub fn done(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?} {arguments:?}: {}: {errors}", self.engine, output.status);
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// A name that no other test uses, and what removes the container that will have it.
    #[must_use]
    pub fn reserve(&self, name: &str) -> Container<'_> {
        Container::new(self, unique(name))
    }

    /// What it says about a container, or an image.
    pub fn inspect(&self, name: &str) -> Value {
        let text = self.done(&["inspect", name]);
        let found: Value = serde_json::from_str(&text).expect("inspect prints JSON");
        found[0].clone()
    }

    /// Makes a container with a counter, not started. The name is made unique; options are the engine's, arguments the
    /// counter's.
    #[must_use]
    pub fn create(&self, name: &str, options: &[&str], arguments: &[&str]) -> Container<'_> {
        let name = unique(name);
        self.done(&[&["create", "--name", &name], options, &[IMAGE], arguments].concat());
        Container::new(self, name)
    }

    /// Removes a container, running or not; nothing if there is none.
    pub fn remove(&self, name: &str) {
        let now: &[&str] = match self.engine {
            Engine::Docker => &[],
            // Else it waits ten seconds for a counter that, as pid 1, hears no SIGTERM.
            Engine::Podman => &["--time", "0"],
        };
        let _ = self.cli(&[&["rm", "--force", "--volumes"], now, &[name]].concat());
    }

    fn import_once(&self) {
        let entry = Path::new("/bin").join(self.host.counter.file_name().expect("a program has a name"));
        let entry = format!("ENTRYPOINT [\"{}\"]", entry.display());
        self.bring_image(IMAGE, &["--change", &entry], None, |root| {
            bundle::make_root(root, &self.host.memhog);
            bundle::make_root(root, &program("sequence"));
            bundle::make_root(root, &self.host.counter);
        });
    }

    /// An image of what `fill` makes and of the folders of a tree beside it.
    ///
    /// Once in a run of all tests, which are processes of their own: the first one does it, the others wait.
    pub(crate) fn bring_image(
        &self,
        name: &str,
        options: &[&str],
        tree: Option<&Path>,
        fill: impl FnOnce(&Path),
    ) {
        let beside = self.place.with_extension(format!("{}-lock", name.replace('/', "-")));
        let lock = File::create(&beside).unwrap_or_else(|e| panic!("make {}: {e}", beside.display()));
        let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("a file can be locked");
        if !self.cli(&["image", "inspect", name]).status.success() {
            let root = tempfile::tempdir().expect("a folder for an image");
            fill(root.path());
            self.import(name, options, root.path(), tree);
        }
    }

    fn import(&self, name: &str, options: &[&str], root: &Path, tree: Option<&Path>) {
        let mut tar = Command::new("tar");
        tar.arg("-c");
        for folder in tree.into_iter().chain([root]) {
            tar.arg("-C").arg(folder);
            let names = std::fs::read_dir(folder).expect("a folder of an image").flatten();
            let names = names.map(|entry| entry.file_name());
            // Twice in one archive is once too often.
            tar.args(names.filter(|name| folder == root || !root.join(name).exists()));
        }
        let mut tar = tar.stdout(Stdio::piped()).spawn().expect("tar can be run");
        let stream = tar.stdout.take().expect("its output is a pipe");
        let output = self.command().arg("import").args(options).args(["-", name]).stdin(stream).output();
        let output = output.expect("the engine can be run");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{:?} import: {errors}", self.engine);
        assert!(tar.wait().is_ok_and(|status| status.success()), "tar of {}", root.display());
    }
}

fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn variable_path(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

/// One for all, for a test's clients keep it.
fn network() -> Option<&'static Network> {
    static FOUND: OnceLock<Option<Network>> = OnceLock::new();
    FOUND.get_or_init(|| variable_path("SUPERVISOR_TEST_NETNS").map(Network::at)).as_ref()
}
