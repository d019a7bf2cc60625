//! What of one node is on this host: cgroups, processes, mounts, hot images. Found by the node's own name and
//! folders, so that nothing of anybody else is ever counted or cleared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long members of a cgroup may take to die.
const DYING_MAX: Duration = Duration::from_secs(10);

/// The traces of one node.
#[derive(Debug, Clone)]
pub struct Traces {
    node: String,
    run_dir: PathBuf,
    hot: PathBuf,
}

impl Traces {
    pub(crate) fn new(node: &str, state_dir: &Path, run_dir: &Path) -> Self {
        let state = state_dir.display().to_string();
        let mark: String = state.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let hot = Path::new("/dev/shm").join(format!("supervisor{mark}"));
        Self { node: node.to_owned(), run_dir: run_dir.to_owned(), hot }
    }

    /// Where its hot images lie.
    #[must_use]
    pub fn hot_folder(&self) -> &Path {
        &self.hot
    }

    /// Its cgroups in every hierarchy, those below before those above: `supervisor-NODE/SERVICE`, and
    /// `supervisor-NODE@SERVICE` of containers.
    #[must_use]
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let (name, containers) = (format!("supervisor-{}", self.node), format!("supervisor-{}@", self.node));
        let is_ours = |folder: &PathBuf| {
            let last = folder.file_name().and_then(|last| last.to_str()).unwrap_or_default();
            last == name || last.starts_with(&containers)
        };
        let mut found = Vec::new();
        for folder in cgroup_roots().iter().flat_map(|root| entries(root)).filter(is_ours) {
            collect(&folder, &mut found);
        }
        found
    }

    /// Those of one service.
    #[must_use]
    pub fn cgroups_of(&self, service: &str) -> Vec<PathBuf> {
        let container = format!("supervisor-{}@{service}", self.node);
        let folders = self.cgroups().into_iter();
        folders.filter(|folder| folder.ends_with(service) || folder.ends_with(&container)).collect()
    }

    /// The members of all of them.
    #[must_use]
    pub fn members(&self) -> BTreeSet<i32> {
        let lists = self
            .cgroups()
            .into_iter()
            .filter_map(|folder| fs::read_to_string(folder.join("cgroup.procs")).ok());
        lists.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()).collect()
    }

    /// Its shims, by their command lines, which name a folder that only this node has.
    #[must_use]
    pub fn shims(&self) -> BTreeSet<i32> {
        let run_dir = format!("{}/", self.run_dir.display());
        let is_ours = |pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            matches!(words[..], [_, b"shim", b"--socket", socket, ..] if socket.starts_with(run_dir.as_bytes()))
        };
        processes().filter(is_ours).collect()
    }

    /// What its shims started, directly or not: services, CRIU, runc, and what those leave to them.
    #[must_use]
    pub fn descendants(&self) -> BTreeSet<i32> {
        let parents: Vec<(i32, i32)> = processes().filter_map(|pid| Some((pid, parent(pid)?))).collect();
        let mut found = self.shims();
        loop {
            let more: Vec<i32> = parents
                .iter()
                .filter(|(p, of)| found.contains(of) && !found.contains(p))
                .map(|(p, _)| *p)
                .collect();
            if more.is_empty() {
                return &found - &self.shims();
            }
            found.extend(more);
        }
    }

    /// Mounts below its run folder, as this process sees them.
    #[must_use]
    pub fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let targets = text.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let root = self.run_dir.parent().unwrap_or(&self.run_dir);
        targets.filter(|target| target.starts_with(root)).collect()
    }

    /// Names of the images in memory, sealed or not.
    #[must_use]
    pub fn hot_images(&self) -> Vec<PathBuf> {
        let services = entries(&self.hot);
        services.iter().flat_map(|service| entries(service)).collect()
    }

    /// Takes all of it away: thawed, killed, unmounted, removed. What cannot be taken away is said.
    pub(crate) fn clear(&self) {
        let begun = Instant::now();
        while !(self.members().is_empty() && self.descendants().is_empty() && self.shims().is_empty()) {
            self.thaw();
            // A shim goes last: what it started must not become somebody else's orphan.
            let mut victims = &self.members() | &self.descendants();
            if victims.is_empty() {
                victims = self.shims();
            }
            for pid in victims {
                // It may have ended since it was seen, a few microseconds ago.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            if begun.elapsed() > DYING_MAX {
                eprintln!("node {}: processes are left: {:?}", self.node, self.members());
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        for mount in self.mounts() {
            let _ = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        for cgroup in self.cgroups() {
            if let Err(error) = fs::remove_dir(&cgroup) {
                eprintln!("node {}: cgroup {} is left: {error}", self.node, cgroup.display());
            }
        }
        let _ = fs::remove_dir_all(&self.hot);
    }

    fn thaw(&self) {
        for folder in self.cgroups() {
            // Each hierarchy has one of these two, or none.
            for (file, value) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
                if folder.join(file).exists() {
                    let _ = fs::write(folder.join(file), value);
                }
            }
        }
    }
}

/// Our own place in every cgroup hierarchy, and its top; each hierarchy once, however often it is mounted.
fn cgroup_roots() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut seen = BTreeSet::new();
    let mut roots = Vec::new();
    for line in text.lines().filter(|line| line.contains(" - cgroup")) {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(device), Some(target)) = (fields.get(2), fields.get(4)) else { continue };
        if seen.insert((*device).to_owned()) {
            roots.push(PathBuf::from(target));
        }
    }
    // Inside a container or a session our own place is not the top.
    roots.iter().flat_map(|root| own_places().into_iter().map(|own| root.join(own))).collect()
}

/// The paths of this process in its hierarchies, without the leading slash; the top always.
fn own_places() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    paths.map(|path| path.trim_start_matches('/').to_owned()).chain([String::new()]).collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    if !folder.is_dir() {
        return;
    }
    for entry in entries(folder).into_iter().filter(|entry| entry.is_dir()) {
        collect(&entry, found);
    }
    found.push(folder.to_owned());
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(folder).into_iter().flatten().flatten();
    found.map(|entry| entry.path()).collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
