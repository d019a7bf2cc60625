//! Takes away everything of a site: processes, mounts, cgroups, folders. For a site that ended well only its folders
//! are left to take; for one whose keeper was killed, all of it. Done twice, the second time does nothing.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, umount2};

use super::processes;
use super::site::Site;

/// How long killed processes may take to be gone.
const GONE_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Clears it all, or names what stays.
pub(super) fn clear(site: &Site) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    let hierarchies = hierarchies(&mounts);
    let containers = podman_containers(site);
    let sockets = shim_sockets(site);
    let cgroups: Vec<PathBuf> =
        hierarchies.iter().flat_map(|root| cgroups_in(root, site, &containers)).collect();
    kill(site, &cgroups)?;
    for namespace in containers.iter().filter_map(|container| container.network.as_deref()) {
        // podman keeps a container's network by a mount on a file.
        let _ = umount2(namespace, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(namespace);
    }
    for socket in sockets {
        let _ = fs::remove_file(socket);
    }
    unmount(site)?;
    for cgroup in &cgroups {
        remove_cgroup(cgroup)?;
    }
    for root in &hierarchies {
        // Shared with other podmans; stays while it holds anything.
        let _ = fs::remove_dir(root.join("libpod_parent/conmon"));
        let _ = fs::remove_dir(root.join("libpod_parent"));
    }
    for container in &containers {
        remove(&Path::new("/run/runc").join(&container.id))?;
    }
    for folder in [site.data(), site.run()] {
        remove(folder)?;
        // Stays while it holds another keeper's.
        let _ = folder.parent().map(fs::remove_dir);
    }
    Ok(())
}

fn kill(site: &Site, cgroups: &[PathBuf]) -> Result<()> {
    let begun = Instant::now();
    while processes::kill_all(site) > 0 {
        // What is frozen does not die: the first file is cgroup v1's, the second v2's.
        for cgroup in cgroups.iter().flat_map(|cgroup| tree(cgroup)) {
            let _ = overwrite(&cgroup.join("freezer.state"), "THAWED");
            let _ = overwrite(&cgroup.join("cgroup.freeze"), "0");
        }
        if begun.elapsed() > GONE_MAX {
            bail!("processes of {} don't die within {GONE_MAX:?}", site.run().display());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// Of what is there; it never makes a file.
fn overwrite(file: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    fs::File::options().write(true).open(file)?.write_all(text.as_bytes())
}

/// containerd's shims listen in one folder for all containerds of a host; those that were killed leave their sockets.
fn shim_sockets(site: &Site) -> Vec<PathBuf> {
    let tasks = site.run().join("exec/containerd/daemon/io.containerd.runtime.v2.task/moby");
    let entries = fs::read_dir(tasks).into_iter().flatten().flatten();
    let addresses = entries.filter_map(|entry| fs::read_to_string(entry.path().join("address")).ok());
    addresses.filter_map(|address| Some(PathBuf::from(address.trim().strip_prefix("unix://")?))).collect()
}

struct PodmanContainer {
    id: String,
    network: Option<PathBuf>,
}

/// As its storage has them. Their traces outside of our folders bear their ids.
fn podman_containers(site: &Site) -> Vec<PodmanContainer> {
    let folder = site.data().join("podman/overlay-containers");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let containers = entries.filter(|entry| entry.path().is_dir()).filter_map(|entry| {
        let id = entry.file_name().into_string().ok()?;
        let config = fs::read(entry.path().join("userdata/config.json")).unwrap_or_default();
        Some(PodmanContainer { id, network: network(&config) })
    });
    containers.collect()
}

fn network(config: &[u8]) -> Option<PathBuf> {
    let config: serde_json::Value = serde_json::from_slice(config).ok()?;
    let namespaces = config["linux"]["namespaces"].as_array()?;
    let network = namespaces.iter().find(|namespace| namespace["type"] == "network")?;
    let path = Path::new(network["path"].as_str()?);
    // A container may share another one's or a process's.
    path.starts_with("/run/netns").then(|| path.to_owned())
}

fn cgroups_in(root: &Path, site: &Site, containers: &[PodmanContainer]) -> Vec<PathBuf> {
    let ours = std::iter::once(site.cgroup());
    let theirs = containers.iter().map(|container| format!("libpod_parent/libpod-{}", container.id));
    ours.chain(theirs).map(|name| root.join(name)).filter(|folder| folder.is_dir()).collect()
}

/// Mount points of cgroup hierarchies, of both versions.
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let is_cgroup = |line: &&str| {
        line.split_once(" - ").is_some_and(|(_, facts)| facts.starts_with("cgroup "))
            || line.contains(" - cgroup2 ")
    };
    mounts.lines().filter(is_cgroup).filter_map(mount_point).collect()
}

fn mount_point(line: &str) -> Option<PathBuf> {
    line.split(' ').nth(4).map(PathBuf::from)
}

fn unmount(site: &Site) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").context("can't read the mounts")?;
    // The last ones first: they may lie upon earlier ones.
    for point in mounts.lines().rev().filter_map(mount_point) {
        if point.starts_with(site.run()) || point.starts_with(site.data()) {
            umount2(&point, MntFlags::MNT_DETACH)
                .with_context(|| format!("can't unmount {}", point.display()))?;
        }
    }
    Ok(())
}

/// The deepest first.
fn tree(cgroup: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cgroup).into_iter().flatten().flatten();
    let below = entries.filter(|entry| entry.path().is_dir()).flat_map(|entry| tree(&entry.path()));
    below.chain(std::iter::once(cgroup.to_owned())).collect()
}

/// Its members are dead, but the kernel may take a moment to see it as empty.
fn remove_cgroup(cgroup: &Path) -> Result<()> {
    let begun = Instant::now();
    for folder in tree(cgroup) {
        while let Err(error) = fs::remove_dir(&folder) {
            match error.kind() {
                ErrorKind::NotFound => break,
                ErrorKind::ResourceBusy if begun.elapsed() < GONE_MAX => std::thread::sleep(LOOK_EVERY),
                _ => return Err(error).with_context(|| format!("can't remove {}", folder.display())),
            }
        }
    }
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("can't remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "\
            25 20 0:22 / /sys rw - sysfs sysfs rw\n\
            30 25 0:27 / /sys/fs/cgroup/freezer rw,relatime shared:9 - cgroup cgroup rw,freezer\n\
            31 25 0:28 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        assert_eq!(
            hierarchies(mounts),
            [PathBuf::from("/sys/fs/cgroup/freezer"), PathBuf::from("/sys/fs/cgroup/unified")]
        );
    }

    #[test]
    fn only_a_network_that_podman_made_is_a_containers_own() {
        let config = |path: &str| {
            format!(r#"{{"linux":{{"namespaces":[{{"type":"pid"}},{{"type":"network","path":"{path}"}}]}}}}"#)
        };
        let own = "/run/netns/netns-1";
        assert_eq!(network(config(own).as_bytes()), Some(PathBuf::from(own)));
        assert_eq!(network(config("/proc/7/ns/net").as_bytes()), None);
        assert_eq!(network(b""), None);
    }
}
