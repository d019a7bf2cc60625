//! runc's own record of a running container, and what CRIU must be told of it so that `runc restore` finds
//! what it expects (runc 1.1; the names are facts of its `state.json`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::criu::DumpTarget;
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;

/// `state.json`, as far as we need it.
#[derive(Debug, Deserialize)]
pub(in crate::runtime) struct State {
    config: Config,
    cgroup_paths: BTreeMap<String, PathBuf>,
    external_descriptors: Vec<String>,
    init_process_pid: i32,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: PathBuf,
    mounts: Option<Vec<Mount>>,
    devices: Option<Vec<Device>>,
    mask_paths: Option<Vec<String>>,
    namespaces: Option<Vec<Namespace>>,
    #[serde(alias = "Hooks")]
    hooks: Option<Hooks>,
}

#[derive(Debug, Deserialize)]
struct Hooks {
    prestart: Option<Vec<serde_json::Value>>,
}

#[derive(Debug, Deserialize)]
struct Mount {
    device: String,
    destination: String,
}

#[derive(Debug, Deserialize)]
struct Device {
    path: String,
}

#[derive(Debug, Deserialize)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl State {
    /// Reads the record in runc's folder of the container.
    pub(in crate::runtime) fn read(folder: &Path) -> Result<Self> {
        let path = folder.join("state.json");
        let unreadable =
            |e: &dyn std::fmt::Display| Report::new(format!("read runc's state {}: {e}", path.display()));
        let bytes = std::fs::read(&path).map_err(|e| Error::Unavailable(unreadable(&e)))?;
        serde_json::from_slice(&bytes).map_err(|e| Error::Refused(unreadable(&e)))
    }

    /// The container's first process.
    pub(in crate::runtime) fn main_pid(&self) -> i32 {
        self.init_process_pid
    }

    /// The container's cgroup.
    pub(in crate::runtime) fn cgroup(&self) -> Cgroup {
        let path = |key: &str| self.cgroup_paths.get(key).cloned();
        Cgroup::at(path("freezer"), path("memory"), path(""))
    }

    /// What `runc restore` reads beside the images.
    pub(in crate::runtime) fn descriptors(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(&self.external_descriptors)
            .map_err(|e| Error::Internal(Report::new("write runc's descriptors").because(e)))
    }

    /// What CRIU dumps, in the words that `runc restore` will use for it.
    pub(in crate::runtime) fn dump_target(&self, pid: i32) -> Result<DumpTarget> {
        let mut external_mounts = self.bind_mounts();
        external_mounts.extend(cgroup_v1_mounts(pid)?);
        let mut external = Vec::new();
        for (kind, name) in [("network", "net"), ("pid", "pid")] {
            external.extend(self.joined_namespace(kind, name, pid)?);
        }
        Ok(DumpTarget {
            pid,
            root: Some(self.config.rootfs.clone()),
            external_mounts,
            masked_paths: self.masked_files(pid),
            external,
            freeze_cgroup: None,
            with_cgroups: true,
            empty_network: self.network_is_furnished(),
        })
    }

    fn bind_mounts(&self) -> Vec<String> {
        let binds = self.config.mounts.iter().flatten().filter(|m| m.device == "bind");
        let mounts = binds.map(|m| m.destination.clone());
        let devices = self.config.devices.iter().flatten().map(|d| d.path.clone());
        mounts.chain(devices).map(|path| self.inside(&path)).collect()
    }

    /// Masked files are covered by `/dev/null`; masked folders by a tmpfs of the container's own.
    fn masked_files(&self, pid: i32) -> Vec<String> {
        let is_file =
            |path: &&String| std::fs::metadata(format!("/proc/{pid}/root/{path}")).is_ok_and(|m| !m.is_dir());
        self.config.mask_paths.iter().flatten().filter(is_file).cloned().collect()
    }

    /// A namespace that the container did not make but joined is not dumped.
    fn joined_namespace(&self, kind: &str, name: &str, pid: i32) -> Result<Option<String>> {
        use std::os::unix::fs::MetadataExt;
        let spelled = if kind == "network" { "NEWNET" } else { "NEWPID" };
        let joined = self.config.namespaces.iter().flatten().any(|n| n.kind == spelled && !n.path.is_empty());
        if !joined {
            return Ok(None);
        }
        let path = format!("/proc/{pid}/ns/{name}");
        let inode = std::fs::metadata(&path)
            .map_err(|e| Error::Unavailable(Report::new(format!("look at {path}")).because(e)))?
            .ino();
        let key = if kind == "network" { "extRootNetNS" } else { "extRootPidNS" };
        Ok(Some(format!("{name}[{inode}]:{key}")))
    }

    /// Hooks that run before the start give the container its network devices, also at a restore (docker's way).
    fn network_is_furnished(&self) -> bool {
        let made = self.config.namespaces.iter().flatten().any(|n| n.kind == "NEWNET" && n.path.is_empty());
        let hooks = self.config.hooks.as_ref().and_then(|hooks| hooks.prestart.as_ref());
        made && hooks.is_some_and(|hooks| !hooks.is_empty())
    }

    fn inside(&self, path: &str) -> String {
        let root = self.config.rootfs.display().to_string();
        let below = path.strip_prefix(&root).unwrap_or(path);
        format!("/{}", below.trim_start_matches('/'))
    }
}

/// Each hierarchy of cgroup v1 is a bind mount into the container; that of v2 is a mount of its own.
fn cgroup_v1_mounts(pid: i32) -> Result<Vec<String>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = std::fs::read_to_string(&path)
        .map_err(|e| Error::Unavailable(Report::new(format!("read {path}")).because(e)))?;
    let target = |line: &str| {
        let (left, right) = line.split_once(" - ")?;
        right.starts_with("cgroup ").then(|| left.split(' ').nth(4).map(str::to_owned))?
    };
    Ok(text.lines().filter_map(target).collect())
}

/// Where runc keeps its state of the container, as told by its parent: containerd's shim notes the place in the
/// container's bundle, which is its working folder; conmon leaves it to runc's default.
pub(in crate::runtime) fn folder_of(pid: i32, id: &str) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Options {
        root: PathBuf,
    }
    let unknown = |why: String| {
        Error::Refused(Report::new(format!("find runc's state of the container's process {pid}: {why}")))
    };
    let parent = parent(pid).ok_or_else(|| unknown("it has no parent".to_owned()))?;
    let options = format!("/proc/{parent}/cwd/options.json");
    let namespace = std::fs::read_link(format!("/proc/{parent}/cwd"))
        .ok()
        .and_then(|bundle| Some(bundle.parent()?.file_name()?.to_owned()));
    let root = match (std::fs::read(&options), namespace) {
        (Ok(bytes), Some(namespace)) => {
            let options: Options =
                serde_json::from_slice(&bytes).map_err(|e| unknown(format!("{options}: {e}")))?;
            options.root.join(namespace)
        }
        _ => PathBuf::from("/run/runc"),
    };
    let folder = root.join(id);
    match folder.join("state.json").is_file() {
        true => Ok(folder),
        false => Err(unknown(format!("there is none in {}; is it run by runc?", folder.display()))),
    }
}

/// The process that has this one as its child.
pub(in crate::runtime) fn parent(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
