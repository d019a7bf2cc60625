//! What runs in a cell, and how it is put into the configuration of each runtime.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::client::Client;
use super::table::Row;
use super::tree::{self, Tree};
use crate::bad_days::program;
use crate::bundle;
use crate::containers::{Containers, Engine, PORT};
use crate::node::Node;
use crate::settings::{list, text};

/// Words with gaps: `{listen}`, `{host}` and `{port}` where it listens; `{data}` and `{volume}`, folders to write to; `{srv}`, the
/// folder of our programs and scripts; `{outside}`, a folder of the host; `{terminal}`, a terminal of the host.
#[derive(Debug, Clone, Copy)]
pub(super) enum Program {
    /// Of a package.
    Debian(&'static [&'static str]),
    /// Of a package, and looking for its files where the package puts them: as a plain process it has the tree as its root.
    Rooted(&'static [&'static str]),
    /// Of ours.
    Ours(&'static [&'static str]),
    /// Ours with something that cannot be dumped.
    Stubborn(&'static [&'static str]),
}

/// What the gaps are filled with.
#[derive(Debug)]
pub(super) struct Gaps {
    pub(super) listen: SocketAddr,
    pub(super) data: PathBuf,
    pub(super) volume: PathBuf,
    pub(super) srv: PathBuf,
    pub(super) outside: PathBuf,
    pub(super) terminal: String,
}

impl Gaps {
    fn fill(&self, word: &str) -> String {
        let shown = |path: &Path| path.display().to_string();
        let gaps = [
            ("{listen}", self.listen.to_string()),
            ("{host}", self.listen.ip().to_string()),
            ("{port}", self.listen.port().to_string()),
            ("{data}", shown(&self.data)),
            ("{volume}", shown(&self.volume)),
            ("{srv}", shown(&self.srv)),
            ("{server.js}", tree::SERVER_JS.to_owned()),
            ("{outside}", shown(&self.outside)),
            ("{terminal}", self.terminal.clone()),
        ];
        gaps.iter().fold(word.to_owned(), |word, (gap, value)| word.replace(gap, value))
    }

    /// Inside any container.
    fn inside(listen: SocketAddr) -> Self {
        Self {
            listen,
            data: "/data".into(),
            volume: "/volume".into(),
            srv: "/srv".into(),
            outside: "/outside".into(),
            terminal: String::new(),
        }
    }
}

impl Program {
    fn words(self, gaps: &Gaps) -> Vec<String> {
        let fill = |words: &[&str]| words.iter().map(|word| gaps.fill(word)).collect::<Vec<_>>();
        match self {
            Self::Debian(words) | Self::Rooted(words) => fill(words),
            Self::Ours(words) => {
                let mut words = fill(words);
                words[0] = gaps.srv.join(&words[0]).display().to_string();
                words
            }
            Self::Stubborn(words) => {
                [fill(&["{srv}/stubborn", "--listen", "{listen}"]), fill(words)].concat()
            }
        }
    }

    fn mentions(self, gap: &str) -> bool {
        let (Self::Debian(words) | Self::Rooted(words) | Self::Ours(words) | Self::Stubborn(words)) = self;
        words.iter().any(|word| word.contains(gap))
    }
}

/// The name of the service in every cell.
pub(super) const SERVICE: &str = "service";

/// As a plain process: programs of packages by the tree's own loader, folders of the node.
pub(super) fn as_process(node: &mut Node, row: &Row, tree: &Tree, outside: &Path, terminal: &str) -> Client {
    let listen = node.add_service(SERVICE);
    let folder = |name: &str| node.folder().join(name);
    let gaps = Gaps {
        listen,
        data: folder("data"),
        volume: folder("volume"),
        srv: folder("srv"),
        outside: outside.to_owned(),
        terminal: terminal.to_owned(),
    };
    for made in [&gaps.data, &gaps.volume] {
        fs::create_dir(made).expect("a folder of the node");
    }
    tree::write_scripts(&gaps.srv, |text| gaps.fill(text));
    let mut words = row.program.words(&gaps);
    match row.program {
        Program::Debian(_) => {
            words[0] = tree.root().join(words[0].trim_start_matches('/')).display().to_string();
            words.splice(0..0, tree.loader());
            let home = text(&tree.root().join("usr").display().to_string());
            node.set(SERVICE, "process.env", &format!("{{ PYTHONHOME = {home} }}"));
        }
        Program::Rooted(_) => {
            words.splice(0..0, ["/usr/sbin/chroot".to_owned(), tree.root().display().to_string()]);
        }
        Program::Ours(_) | Program::Stubborn(_) => {
            let name = Path::new(&words[0]).file_name().and_then(|name| name.to_str()).expect("plain");
            words[0] = program(name).display().to_string();
        }
    }
    node.set(SERVICE, "process.command", &list(&words));
    let volumes: Vec<String> = [("{data}", &gaps.data), ("{volume}", &gaps.volume)]
        .iter()
        .filter(|(gap, _)| row.program.mentions(gap))
        .map(|(_, path)| path.display().to_string())
        .collect();
    node.set(SERVICE, "checkpoint.volumes", &list(&volumes));
    Client { talk: row.talk, address: listen, network: None }
}

/// As a bundle: a root of its own, with the tree's `usr` mounted into it.
pub(super) fn as_bundle(node: &mut Node, row: &Row, tree: &Tree, outside: &Path) -> Client {
    let listen = node.add_service(SERVICE);
    let gaps = Gaps::inside(listen);
    let folder = node.folder().join("bundle");
    let (root, volume) = (folder.join("rootfs"), node.folder().join("volume"));
    fs::create_dir(&volume).expect("a folder of the node");
    tree::write_around_usr(&root, |text| gaps.fill(text));
    bundle::write_config(&folder, &row.program.words(&gaps));
    bundle::bind(&folder, &tree.root().join("usr"), "/usr", "ro");
    bundle::bind(&folder, &volume, "/volume", "rw");
    bundle::bind(&folder, outside, "/outside", "rw");
    node.set(SERVICE, "runc.bundle", &text(&folder.display().to_string()));
    node.set(SERVICE, "checkpoint.volumes", &list(&[volume.display().to_string()]));
    Client { talk: row.talk, address: listen, network: None }
}

/// As a container that the supervisor creates of the image with the whole tree.
pub(super) fn as_container(
    node: &mut Node,
    row: &Row,
    tree: &Tree,
    containers: &Containers,
    container: &str,
    outside: &Path,
) -> Client {
    node.move_to(containers.network());
    let address = node.add_service(SERVICE);
    let gaps = Gaps::inside(SocketAddr::from(([0, 0, 0, 0], PORT)));
    containers.bring_image(IMAGE, &[], Some(tree.root()), |rest| {
        tree::write_rest(rest, |text| gaps.fill(text));
    });
    let kind = containers.kind();
    let place_key = match containers.engine() {
        Engine::Docker => "docker.socket",
        Engine::Podman => "podman.program",
    };
    node.set(SERVICE, place_key, &text(&containers.place().display().to_string()));
    node.set(SERVICE, &format!("{kind}.container"), &text(container));
    node.set(SERVICE, &format!("{kind}.image"), &text(IMAGE));
    let options = [
        "--publish".to_owned(),
        format!("{address}:{PORT}"),
        "--volume".to_owned(),
        "/volume".to_owned(),
        "--volume".to_owned(),
        format!("{}:/outside", outside.display()),
    ];
    node.set(SERVICE, &format!("{kind}.create_args"), &list(&options));
    node.set(SERVICE, &format!("{kind}.command"), &list(&row.program.words(&gaps)));
    Client { talk: row.talk, address, network: Some(containers.network()) }
}

const IMAGE: &str = "supervisor-test/services";
