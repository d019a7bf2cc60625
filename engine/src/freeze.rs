//! The service's cgroup: who belongs to it, and holding all of them still.
//!
//! Freezers exist in two kinds. On a pure v2 host there is one tree. Where v1 is mounted too ("hybrid"), CRIU
//! uses v1's freezer, so we do; the v2 tree beside it then still serves to know and to kill the members.
//!
//! What it refuses: deciding when to freeze. Whoever freezes holds a [`Frozen`]; dropping it thaws.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Report, Result};

/// Where the host mounts its cgroup hierarchies, and where in them we stand ourselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// v1's freezer: mount point joined with our own place in it.
    pub freezer: Option<PathBuf>,
    /// v1's memory controller, likewise.
    pub memory: Option<PathBuf>,
    /// The v2 tree, likewise.
    pub unified: Option<PathBuf>,
}

/// The cgroup of one service, in every hierarchy that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroup {
    freezer: Option<PathBuf>,
    memory: Option<PathBuf>,
    unified: Option<PathBuf>,
}

/// How often the freezer is looked at while it freezes. A freezer needs about a millisecond.
const LOOK_EVERY: Duration = Duration::from_micros(200);

impl Hierarchies {
    /// Reads them from `/proc/self`.
    pub fn find() -> Result<Self> {
        let read = |path: &str| {
            std::fs::read_to_string(path)
                .map_err(|e| Error::Internal(Report::new(format!("read {path}")).because(e)))
        };
        Ok(Self::from_text(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    /// Of several mounts of a hierarchy the first is taken: CRIU, whoever runs it on this host, mounts all of them a second time
    /// in its working folder (`.criu.cgyard`) for as long as a dump or restore takes.
    fn from_text(mountinfo: &str, own: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let left: Vec<&str> = left.split(' ').collect();
            let right: Vec<&str> = right.split(' ').collect();
            let (Some(root), Some(target), Some(kind)) = (left.get(3), left.get(4), right.first()) else {
                continue;
            };
            let options = right.get(2).copied().unwrap_or_default();
            let has = |name: &str| options.split(',').any(|o| o == name);
            let place = |own_path: Option<&str>| {
                let own_path = own_path.unwrap_or("/");
                let below = own_path.strip_prefix(root).unwrap_or(own_path).trim_start_matches('/');
                Some(Path::new(target).join(below))
            };
            match *kind {
                "cgroup2" if found.unified.is_none() => found.unified = place(own_v2(own)),
                "cgroup" if has("freezer") && found.freezer.is_none() => {
                    found.freezer = place(own_v1(own, "freezer"));
                }
                "cgroup" if has("memory") && found.memory.is_none() => {
                    found.memory = place(own_v1(own, "memory"));
                }
                _ => {}
            }
        }
        found
    }

    /// One word for people.
    pub fn mode(&self) -> &'static str {
        match (&self.freezer, &self.unified) {
            (Some(_), Some(_)) => "hybrid (v1 freezer)",
            (Some(_), None) => "v1",
            (None, Some(_)) => "v2",
            (None, None) => "none",
        }
    }

    /// The cgroup of this name below our own, whether it is there or not.
    pub fn cgroup(&self, name: &str) -> Cgroup {
        let below = |parent: &Option<PathBuf>| parent.as_ref().map(|p| p.join(name));
        Cgroup { freezer: below(&self.freezer), memory: below(&self.memory), unified: below(&self.unified) }
    }

    /// The cgroup `supervisor-<node>/<service>` below our own, made if it is not there.
    pub fn make(&self, node: &str, service: &str) -> Result<Cgroup> {
        let cgroup = self.cgroup(&format!("supervisor-{node}/{service}"));
        if cgroup.freezer.is_none() && cgroup.unified.is_none() {
            return Err(Error::Refused(
                Report::new("find a cgroup freezer").remedy("mount cgroup2 at /sys/fs/cgroup"),
            ));
        }
        for folder in cgroup.folders() {
            std::fs::create_dir_all(folder).map_err(|e| {
                Error::Refused(
                    Report::new(format!("make the cgroup {}", folder.display()))
                        .because(e)
                        .remedy("run as root; under systemd the unit needs Delegate=yes"),
                )
            })?;
        }
        Ok(cgroup)
    }
}

impl Cgroup {
    /// A cgroup that somebody else (runc) made and named.
    pub fn at(freezer: Option<PathBuf>, memory: Option<PathBuf>, unified: Option<PathBuf>) -> Self {
        Self { freezer, memory, unified }
    }

    /// The cgroup of a unit of systemd's, by the path that systemd gives: from the root of the v2 tree on.
    pub fn of_unit(path: &str) -> Result<Self> {
        let mounts = read(Path::new("/proc/self/mountinfo"))?;
        let found = Hierarchies::from_text(&mounts, &format!("0::{path}\n")).unified;
        let unified = found.ok_or_else(|| {
            let remedy = "boot with systemd.unified_cgroup_hierarchy=1";
            Error::Refused(Report::new("find the cgroup of a unit: there is no cgroup v2").remedy(remedy))
        })?;
        Ok(Self::at(None, None, Some(unified)))
    }

    /// Whether it is the one of the container with this id: engines name a container's cgroup after it.
    pub(crate) fn is_of(&self, id: &str) -> bool {
        self.folders().any(|folder| folder.to_string_lossy().contains(id))
    }

    fn folders(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.freezer, &self.memory, &self.unified].into_iter().flatten()
    }

    /// The files to be written by a process that is to be a member.
    pub fn procs_files(&self) -> Vec<PathBuf> {
        self.folders().map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// The folder that CRIU freezes with (`freeze_cgroup`).
    pub fn freezer_folder(&self) -> Option<&Path> {
        self.freezer.as_deref().or(self.unified.as_deref())
    }

    /// What thaws it, for a [`crate::shim::Shim::guard`].
    pub fn thaw_writes(&self) -> Vec<(PathBuf, String)> {
        let v1 = self.freezer.iter().map(|f| (f.join("freezer.state"), "THAWED".to_owned()));
        let v2 = self.unified.iter().map(|f| (f.join("cgroup.freeze"), "0".to_owned()));
        v1.chain(v2).collect()
    }

    /// Freezes all members and waits until they stand. Blocks for about a millisecond.
    pub fn freeze(&self, limit: Duration) -> Result<Frozen<'_>> {
        let frozen = Frozen { cgroup: self };
        let begun = Instant::now();
        match &self.freezer {
            Some(folder) => write(&folder.join("freezer.state"), "FROZEN")?,
            None => write(&self.v2()?.join("cgroup.freeze"), "1")?,
        }
        while !self.is_frozen()? {
            if begun.elapsed() > limit {
                return Err(Error::Unavailable(Report::new(format!(
                    "freeze {}: not frozen after {}; a member may hang in the kernel (state D)",
                    self.name(),
                    humantime::format_duration(limit)
                ))));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(frozen)
    }

    /// Lets all members run, whoever froze them.
    pub fn thaw(&self) -> Result<()> {
        for (file, value) in self.thaw_writes() {
            match std::fs::metadata(&file) {
                Ok(_) => write(&file, &value)?,
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => return Err(Error::Internal(Report::new("look at a freezer").because(e))),
            }
        }
        Ok(())
    }

    /// Whether the members stand still.
    pub fn is_frozen(&self) -> Result<bool> {
        match &self.freezer {
            Some(folder) => Ok(read(&folder.join("freezer.state"))?.trim() == "FROZEN"),
            None => Ok(read(&self.v2()?.join("cgroup.events"))?.lines().any(|l| l == "frozen 1")),
        }
    }

    /// Whether it was told to freeze, finished or not.
    pub fn is_freezing(&self) -> bool {
        let v1 = self.freezer.as_ref().and_then(|f| read(&f.join("freezer.state")).ok());
        let v2 = self.unified.as_ref().and_then(|f| read(&f.join("cgroup.freeze")).ok());
        v1.is_some_and(|s| s.trim() != "THAWED") || v2.is_some_and(|s| s.trim() == "1")
    }

    /// The members' pids, as we see them, those of cgroups below it (a service may make some) included.
    pub fn members(&self) -> Vec<i32> {
        self.known_members().unwrap_or_default()
    }

    /// Them, unless it cannot be known. A cgroup that is not there has none.
    fn known_members(&self) -> Result<Vec<i32>> {
        let mut members = Vec::new();
        match self.freezer_folder() {
            Some(folder) => add_members(folder, &mut members).map(|()| members).map_err(|e| {
                Error::Unavailable(Report::new(format!("read who belongs to {}", self.name())).because(e))
            }),
            None => Ok(members),
        }
    }

    /// A member that a signal (SIGSTOP, SIGTSTP) has stopped, if there is one. CRIU must not be let near it once it is frozen
    /// as well: in a v1 freezer it cannot go over from stopped to traced, so ptrace waits for ever.
    pub fn stopped_member(&self) -> Option<i32> {
        self.members().into_iter().find(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // The name in parentheses may hold anything.
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with('T'))
        })
    }

    /// Sends SIGKILL to every member, until there is none or the limit is over. Thaws: a frozen v1 process does
    /// not die.
    pub fn kill(&self, limit: Duration) -> Result<()> {
        let begun = Instant::now();
        loop {
            let _ = self.thaw();
            self.kill_at_once();
            if self.known_members().is_ok_and(|members| members.is_empty()) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(Error::Unavailable(Report::new(format!(
                    "kill all processes of {}: some are left after {}; they may hang in the kernel (state D)",
                    self.name(),
                    humantime::format_duration(limit)
                ))));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Stops all members for good: freezes them, sends SIGKILL while they stand, and only then lets them go, so that none of
    /// them acts once more. One that cannot be frozen is killed as it runs.
    pub fn freeze_and_kill(&self, freeze_limit: Duration, kill_limit: Duration) -> Result<()> {
        match self.freeze(freeze_limit) {
            Ok(frozen) => {
                self.kill_at_once();
                drop(frozen);
            }
            Err(error) => tracing::error!(%error, "a service is killed without being frozen first"),
        }
        self.kill(kill_limit)
    }

    /// SIGKILL to all, once. Where v2's freezer is used its own way of killing is, too (Linux 5.14): it misses nobody who is just
    /// being forked.
    fn kill_at_once(&self) {
        if let (None, Some(folder)) = (&self.freezer, &self.unified) {
            let _ = write(&folder.join("cgroup.kill"), "1");
        }
        self.members().into_iter().for_each(kill_member);
    }

    /// How many members the kernel has killed for want of memory, since the cgroup was made.
    pub fn oom_kills(&self) -> u64 {
        let v2 = self.unified.as_ref().map(|f| f.join("memory.events"));
        let v1 = self.memory.as_ref().map(|f| f.join("memory.oom_control"));
        let count = |path: PathBuf| {
            let text = read(&path).ok()?;
            text.lines().find_map(|l| l.strip_prefix("oom_kill "))?.trim().parse().ok()
        };
        [v2, v1].into_iter().flatten().filter_map(count).max().unwrap_or(0)
    }

    /// About how many bytes of memory the members have touched and share with nobody: what CRIU will write.
    pub fn touched_memory(&self) -> u64 {
        let of = |pid: i32| {
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let field = |name: &str| {
                let line = status.lines().find_map(|l| l.strip_prefix(name))?;
                line.split_whitespace().next()?.parse::<u64>().ok()
            };
            Some((field("RssAnon:").unwrap_or(0) + field("RssShmem:").unwrap_or(0)) * 1024)
        };
        self.members().into_iter().filter_map(of).sum()
    }

    /// Removes the cgroup; one that still has members stays and is an error.
    pub fn remove(&self) -> Result<()> {
        for folder in self.folders() {
            match std::fs::remove_dir(folder) {
                Ok(()) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) => {
                    return Err(Error::Unavailable(
                        Report::new(format!("remove the cgroup {}", folder.display())).because(e),
                    ));
                }
            }
            // The node's own folder goes with its last service.
            if let Some(parent) = folder.parent() {
                let _ = std::fs::remove_dir(parent);
            }
        }
        Ok(())
    }

    fn v2(&self) -> Result<&Path> {
        self.unified.as_deref().ok_or_else(|| Error::Internal(Report::new("a cgroup without any freezer")))
    }

    fn name(&self) -> String {
        self.freezer_folder().map(|f| f.display().to_string()).unwrap_or_default()
    }
}

/// A cgroup that stands still as long as this lives.
#[derive(Debug)]
pub struct Frozen<'a> {
    cgroup: &'a Cgroup,
}

impl Frozen<'_> {
    /// Lets it run, and says so if it cannot.
    pub fn thaw(self) -> Result<()> {
        let cgroup = self.cgroup;
        std::mem::forget(self);
        cgroup.thaw()
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.cgroup.thaw() {
            tracing::error!(%error, cgroup = self.cgroup.name(), "a service could not be thawed");
        }
    }
}

/// A member that ended meanwhile cannot have been replaced by another member: pids are not used again within
/// microseconds of a read.
fn kill_member(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
}

fn add_members(folder: &Path, members: &mut Vec<i32>) -> std::io::Result<()> {
    let gone = |e: std::io::Error| {
        // ENODEV: it was removed while it was read.
        let is_gone = e.kind() == ErrorKind::NotFound || e.raw_os_error() == Some(libc::ENODEV);
        if is_gone { Ok(()) } else { Err(e) }
    };
    match std::fs::read_to_string(folder.join("cgroup.procs")) {
        Ok(text) => {
            members.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid: &i32| *pid > 0));
        }
        Err(error) => return gone(error),
    }
    let below = match std::fs::read_dir(folder) {
        Ok(below) => below,
        Err(error) => return gone(error),
    };
    for entry in below {
        match entry {
            Ok(entry) if entry.file_type().is_ok_and(|kind| kind.is_dir()) => {
                add_members(&entry.path(), members)?;
            }
            Ok(_) => {}
            Err(error) => return gone(error),
        }
    }
    Ok(())
}

fn own_v1<'a>(own: &'a str, controller: &str) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        controllers.split(',').any(|c| c == controller).then_some(path)
    })
}

fn own_v2(own: &str) -> Option<&str> {
    own.lines().find_map(|line| line.strip_prefix("0::"))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|e| Error::Unavailable(Report::new(format!("read {}", path.display())).because(e)))
}

#[expect(clippy::disallowed_methods, reason = "a control file of the kernel, not a file of ours")]
fn write(path: &Path, value: &str) -> Result<()> {
    std::fs::write(path, value).map_err(|e| {
        Error::Unavailable(Report::new(format!("write {value} to {}", path.display())).because(e))
    })
}

#[cfg(test)]
mod tests;
