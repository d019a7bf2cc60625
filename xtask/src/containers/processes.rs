//! The processes of a site: what docker and podman leave running, with everything they started.
//!
//! Refuses to go by names or pids that were written down: a process is the site's if it is one of the engines'
//! programs *and* an argument of it lies in the site's folders, or if it descends from one that is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::site::Site;

/// As `/proc/PID/comm` has them, cut off after 15 bytes.
const ENGINES: [&str; 6] = ["dockerd", "containerd", "containerd-shim", "docker-proxy", "conmon", "podman"];

struct Process {
    parent: u32,
    is_engine: bool,
}

/// Sends SIGKILL to all of them; gives how many there were.
pub(super) fn kill_all(site: &Site) -> usize {
    let found = find(&read(site));
    for pid in &found {
        // It may have ended by itself since.
        let _ = i32::try_from(*pid).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
    }
    found.len()
}

fn find(processes: &BTreeMap<u32, Process>) -> BTreeSet<u32> {
    let mut found: BTreeSet<u32> =
        processes.iter().filter(|(_, process)| process.is_engine).map(|(pid, _)| *pid).collect();
    loop {
        let children: Vec<u32> = processes
            .iter()
            .filter(|(pid, process)| found.contains(&process.parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if children.is_empty() {
            return found;
        }
        found.extend(children);
    }
}

/// Those that are alive; a zombie waits for its parent and not for us.
fn read(site: &Site) -> BTreeMap<u32, Process> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, process(pid, site)?))).collect()
}

fn process(pid: u32, site: &Site) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let (start, rest) = stat.rsplit_once(") ")?;
    let comm = start.split_once('(')?.1;
    let mut fields = rest.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    let parent = fields.next()?.parse().ok()?;
    let is_named = || {
        let arguments = fs::read(folder.join("cmdline")).unwrap_or_default();
        let arguments = String::from_utf8_lossy(&arguments).into_owned();
        arguments.split('\0').any(|argument| [site.run(), site.data()].iter().any(|f| names(argument, f)))
    };
    let is_engine = ENGINES.iter().any(|engine| comm.starts_with(engine)) && is_named();
    Some(Process { parent, is_engine })
}

/// Whether the argument is a path in the folder, or holds one after a `=` or a `:`.
fn names(argument: &str, folder: &Path) -> bool {
    argument.match_indices('/').any(|(at, _)| Path::new(&argument[at..]).starts_with(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_engines_and_what_descends_from_them() {
        let process = |parent, is_engine| Process { parent, is_engine };
        let table = [
            (1, process(0, false)),
            (10, process(1, true)),
            (11, process(10, false)),
            (12, process(11, false)),
            (20, process(1, false)),
            (21, process(20, false)),
        ];
        assert_eq!(find(&table.into_iter().collect()), BTreeSet::from([10, 11, 12]));
    }

    #[test]
    fn a_folder_is_named_by_whole_parts_of_a_path() {
        let folder = Path::new("/run/supervisor-dev/12-7");
        assert!(names("/run/supervisor-dev/12-7/docker.sock", folder));
        assert!(names("--log=/run/supervisor-dev/12-7/x", folder));
        assert!(!names("/run/supervisor-dev/12-77/docker.sock", folder));
        assert!(!names("12-7", folder));
    }
}
