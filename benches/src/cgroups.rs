//! What an abrupt end leaves in the cgroup trees: folders that bear a session's mark, their members perhaps frozen.
//!
//! Refuses folders without the mark, and to remove what still has members.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Lets the members run on: a frozen process of a v1 cgroup does not die.
pub(crate) fn thaw(mark: &str) {
    for folder in marked(mark) {
        for (file, word) in [("freezer.state", "THAWED"), ("cgroup.freeze", "0")] {
            let file = folder.join(file);
            if file.exists() {
                // One that cannot be thawed shows as a process that cannot be ended.
                let _ = std::fs::write(file, word);
            }
        }
    }
}

/// Removes the folders; they have no members any more.
pub(crate) fn remove(mark: &str) {
    for folder in marked(mark).into_iter().rev() {
        match std::fs::remove_dir(&folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("bench: the cgroup {} is left: {error}", folder.display());
            }
            // One folder may be seen through two mounts.
            _ => {}
        }
    }
}

/// Those of the mark in every hierarchy, parents before their children.
fn marked(mark: &str) -> Vec<PathBuf> {
    let text = |path| std::fs::read_to_string(path).unwrap_or_default();
    let mut found = Vec::new();
    for place in places(&text("/proc/self/mountinfo"), &text("/proc/self/cgroup")) {
        for folder in folders(&place) {
            if folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| bears(name, mark)) {
                found.push(folder);
            }
        }
    }
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        let below = folders(folder);
        found.extend(below);
        next += 1;
    }
    found
}

/// Where runtimes make cgroups: at the root of each hierarchy and where we stand ourselves.
fn places(mountinfo: &str, own: &str) -> BTreeSet<PathBuf> {
    let mounts =
        mountinfo.lines().filter(|line| line.contains(" - cgroup")).filter_map(|line| line.split(' ').nth(4));
    let below: Vec<&str> = own
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .map(|path| path.trim_start_matches('/'))
        .collect();
    mounts.flat_map(|mount| below.iter().chain(&[""]).map(move |path| Path::new(mount).join(path))).collect()
}

/// runc's of the peers, ours of processes and ours of containers.
fn bears(name: &str, mark: &str) -> bool {
    let ours = name.strip_prefix("supervisor-");
    let rest = ours.unwrap_or(name).strip_prefix(mark);
    // `bench-1-1` is not `bench-1-12`.
    rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_digit()))
}

fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sessions_own_bear_its_mark() {
        for name in ["bench-7-1", "bench-7-1-0", "supervisor-bench-7-1", "supervisor-bench-7-1@memhog"] {
            assert!(bears(name, "bench-7-1"), "{name}");
        }
        for name in
            ["bench-7-12", "supervisor-bench-7-12@memhog", "supervisor-alpha", "a-bench-7-1", "user.slice"]
        {
            assert!(!bears(name, "bench-7-1"), "{name}");
        }
    }

    #[test]
    fn places_are_the_roots_and_our_own_cgroup() {
        let mountinfo = "30 25 0:26 / /cg/unified rw - cgroup2 none rw\n31 25 0:27 / /cg/freezer rw - cgroup none rw,freezer\n\
                         32 25 0:28 / /proc rw - proc none rw\n";
        let found = places(mountinfo, "4:memory:/here\n0::/\n");
        let all = ["/cg/freezer/", "/cg/freezer/here", "/cg/unified/", "/cg/unified/here"];
        assert_eq!(found, all.map(PathBuf::from).into_iter().collect());
    }
}
