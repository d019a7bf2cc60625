//! One cell: a real service under a real supervisor, through a checkpoint, SIGKILL and a restore, or through its refusal.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;

use super::client::Client;
use super::program::{SERVICE, as_bundle, as_container, as_process};
use super::report::Line;
use super::table::{Row, row};
use super::tree::Tree;
use super::{Expected, PLACES, Place};
use crate::containers::{Containers, Engine};
use crate::host::Host;
use crate::node::Node;
use crate::settings::Runtime;
use crate::wait::{LIMIT, wait_for, wait_until};

/// Runs a cell and reports what it came to.
///
/// # Panics
/// When that is not what the table expects.
pub fn run(name: &str, place: Place) {
    let row = row(name);
    let Some(tree) = Tree::or_skip() else { return };
    let (outside, terminal) = (Outside::new(), nix::pty::openpty(None, None).expect("a terminal"));
    let terminal = nix::unistd::ttyname(&terminal.slave).expect("its name").display().to_string();
    match place {
        Place::Process => {
            let Some(host) = Host::or_skip(Runtime::Process) else { return };
            let mut node = Node::new(host);
            let client = as_process(&mut node, row, &tree, outside.folder(), &terminal);
            judge(&mut node, row, place, client, &version(&host.criu));
        }
        Place::Runc => {
            let Some(host) = Host::or_skip(Runtime::Runc) else { return };
            let mut node = Node::new(host);
            let client = as_bundle(&mut node, row, &tree, outside.folder());
            judge(&mut node, row, place, client, &version(Path::new("runc")));
        }
        Place::Docker | Place::Podman => {
            let engine = if place == Place::Docker { Engine::Docker } else { Engine::Podman };
            let Some(containers) = Containers::or_skip(engine) else { return };
            let container = containers.reserve(name);
            let mut node = Node::new(containers.host());
            let client = as_container(&mut node, row, &tree, &containers, container.name(), outside.folder());
            judge(&mut node, row, place, client, &containers.done(&["--version"]));
        }
    }
}

fn judge(node: &mut Node, row: &Row, place: Place, client: Client, version: &str) {
    for (key, value) in row.options {
        node.set(SERVICE, &format!("checkpoint.{key}"), value);
    }
    node.set(SERVICE, "probe.health.interval", "\"200ms\"");
    node.set(SERVICE, "probe.health.timeout", "\"200ms\"");
    node.set(SERVICE, "probe.health.failure_threshold", "10");
    let index = PLACES.iter().position(|known| *known == place).expect("every place is a column");
    let (outcome, said) = match row.expected[index] {
        Expected::Works => {
            comes_back(node, client);
            assert_eq!(
                client.get().expect("it answers after the restore"),
                7,
                "the number of the checkpoint"
            );
            client.put(20).expect("it takes a number after the restore");
            assert_eq!(client.get().expect("it answers still"), 20);
            ("works", None)
        }
        Expected::Loses(words, _) => {
            comes_back(node, client);
            let said = client.get().expect_err("something is gone").to_string();
            assert!(said.contains(words), "{said}");
            ("loses", Some(said))
        }
        Expected::Refused(words) => ("refused", Some(is_refused(node, client, words))),
        Expected::Absent(why) => panic!("{} has no cell in {}: {why}", row.name, place.word()),
    };
    let (row, outcome, version) = (row.name.to_owned(), outcome.to_owned(), version.to_owned());
    Line { row, place, outcome, said, version }.write();
}

/// Takes the number 7 to a checkpoint, the number 9 to a crash, and is restored.
fn comes_back(node: &mut Node, client: Client) {
    node.start_only();
    node.wait_healthy(SERVICE);
    answers(client, "it takes a number", |client| client.put(7));
    // Established while the checkpoint is taken; a crash closes it in any case.
    let _held = client.connect().expect("it listens");
    node.checkpoint(SERVICE);
    client.put(9).expect("it goes on after the checkpoint");
    assert_eq!(client.get().expect("it answers after the checkpoint"), 9);

    let mark = node.mark();
    let former = node.signal_service(SERVICE, Signal::SIGKILL);
    node.wait_for_another(SERVICE, former);
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert!(recovered.text.starts_with("back by restore-latest"), "{}", recovered.text);
}

/// The trial says why, in these words, and what would help; the service is unharmed.
fn is_refused(node: &mut Node, client: Client, words: &[&str]) -> String {
    node.set(SERVICE, "checkpoint.trial", "true");
    node.start_only();
    let why = wait_for(LIMIT, "it counts as degraded", || {
        node.status(SERVICE)["degraded"].as_str().map(str::to_owned)
    });
    for word in words.iter().chain(&["remedy:"]) {
        assert!(why.contains(word), "{word:?} is not in: {why}");
    }
    answers(client, "it is unharmed", Client::get);
    assert_eq!(node.state(SERVICE), "running");
    why
}

fn answers<T>(client: Client, what: &str, ask: impl Fn(Client) -> std::io::Result<T>) {
    wait_until(LIMIT, what, || ask(client).is_ok());
}

/// The first line of what a program says of itself.
fn version(program: &Path) -> String {
    let output = Command::new(program).arg("--version").output().expect("it can be run");
    String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned()
}

/// A folder with a unix socket at which somebody outside listens and hears all.
struct Outside {
    folder: tempfile::TempDir,
}

impl Outside {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("supervisor-test-").tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("socket")).expect("a socket of the outside");
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                // Held open until the other end has gone.
                std::thread::spawn(|| connection.map(|mut c| c.read_to_end(&mut Vec::new())));
            }
        });
        Self { folder }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }
}
