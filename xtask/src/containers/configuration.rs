//! Settings of docker and podman for a site: whatever would otherwise be read from `/etc` or shared with the host's.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use nix::sys::resource::{Resource, getrlimit};
use serde_json::json;

use super::site::Site;
use crate::setup::{PodmanParts, SYSTEM_FOLDERS, find_program};

/// podman lowers its own limits to these; without CAP_SYS_RESOURCE no container can have more.
const PROCESSES_MAX: u64 = 32_768;
const FILES_MAX: u64 = 1_048_576;

/// Writes everything. `path` and `criu` are what the keeper was started with.
pub(super) fn write(site: &Site, path: &OsString, criu: Option<&Path>) -> Result<OsString> {
    let bin = site.run().join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("can't make {}", bin.display()))?;
    if let Some(criu) = criu {
        // runc finds it by this name only.
        symlink(criu, bin.join("criu")).context("can't link criu")?;
    }
    let parts = PodmanParts::find()?;
    let path = search_path(path, &bin)?;
    file(&docker_file(site), &docker(site))?;
    file(&site.run().join("containers.conf"), &podman(site, &parts, &path)?)?;
    file(&site.run().join("storage.conf"), &storage(site))?;
    file(&site.run().join("registries.conf"), "")?;
    let policy = site.run().join("home/.config/containers/policy.json");
    file(&policy, &json!({ "default": [{ "type": "insecureAcceptAnything" }] }).to_string())?;
    file(&site.podman(), &podman_script(site, &parts, &path))?;
    fs::set_permissions(site.podman(), fs::Permissions::from_mode(0o755))
        .with_context(|| format!("can't make {} executable", site.podman().display()))?;
    Ok(path)
}

/// The daemon's settings, and where it is told to find them.
pub(super) fn docker_file(site: &Site) -> PathBuf {
    site.run().join("daemon.json")
}

fn docker(site: &Site) -> String {
    let settings = json!({
        "experimental": true, // checkpoints
        "live-restore": true,
        "log-level": "warn",
        "data-root": site.data().join("docker"),
        "exec-root": site.run().join("exec"),
        "pidfile": site.run().join("docker.pid"),
        "hosts": [format!("unix://{}", site.docker_socket().display())],
        "exec-opts": ["native.cgroupdriver=cgroupfs"], // there is not always a systemd
        "cgroup-parent": format!("/{}", site.cgroup()),
    });
    settings.to_string()
}

fn podman(site: &Site, parts: &PodmanParts, path: &OsString) -> Result<String> {
    let run = site.run();
    let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).context("can't read our limits")?;
    let (_, processes) = getrlimit(Resource::RLIMIT_NPROC).context("can't read our limits")?;
    let (files, processes) = (files.min(FILES_MAX), processes.min(PROCESSES_MAX));
    let runc = find_program("runc").context("runc is missing")?;
    // conmon gets nothing of podman's environment; under it run `runc restore` and `podman container cleanup`.
    let mut environment = vec![
        format!("PATH={}", path.to_string_lossy()),
        format!("HOME={}", run.join("home").display()),
        format!("CONTAINERS_STORAGE_CONF={}", run.join("storage.conf").display()),
    ];
    if !parts.libraries.is_empty() {
        environment.push(format!("LD_LIBRARY_PATH={}", parts.libraries.to_string_lossy()));
    }
    let seccomp = parts.seccomp.as_ref().map(|file| format!("seccomp_profile = {}\n", toml(&json!(file))));
    Ok(format!(
        "[containers]\n\
         default_ulimits = [\"nofile={files}:{files}\", \"nproc={processes}:{processes}\"]\n\
         {}\
         [engine]\n\
         runtime = \"runc\"\n\
         cgroup_manager = \"cgroupfs\"\n\
         events_logger = \"file\"\n\
         lock_type = \"file\"\n\
         conmon_path = {}\n\
         conmon_env_vars = {}\n\
         helper_binaries_dir = {}\n\
         [engine.runtimes]\n\
         runc = [{}]\n\
         [network]\n\
         network_backend = \"netavark\"\n\
         network_config_dir = {}\n",
        seccomp.unwrap_or_default(),
        toml(&json!(parts.conmon)),
        toml(&json!(environment)),
        toml(&json!(parts.helpers)),
        toml(&json!(runc)),
        toml(&json!(run.join("networks"))),
    ))
}

fn storage(site: &Site) -> String {
    format!(
        "[storage]\ndriver = \"overlay\"\ngraphroot = {}\nrunroot = {}\n",
        toml(&json!(site.data().join("podman"))),
        toml(&json!(site.run().join("podman"))),
    )
}

/// It enters the network namespace by itself, so that no caller can forget to.
fn podman_script(site: &Site, parts: &PodmanParts, path: &OsString) -> String {
    let run = site.run().display();
    let libraries = match parts.libraries.is_empty() {
        true => String::new(),
        false => format!("export LD_LIBRARY_PATH='{}'\n", parts.libraries.to_string_lossy()),
    };
    format!(
        "#!/bin/sh\n\
         {libraries}\
         export PATH='{path}' HOME='{run}/home'\n\
         export CONTAINERS_CONF='{run}/containers.conf' CONTAINERS_STORAGE_CONF='{run}/storage.conf'\n\
         export CONTAINERS_REGISTRIES_CONF='{run}/registries.conf'\n\
         exec nsenter --net='{network}' '{program}' --root '{data}/podman' --runroot '{run}/podman' \
         --tmpdir '{run}/libpod' --cgroup-manager cgroupfs \"$@\"\n",
        path = path.to_string_lossy(),
        network = site.network().display(),
        program = parts.program.display(),
        data = site.data().display(),
    )
}

/// Lists and texts are written alike in TOML and JSON.
fn toml(value: &serde_json::Value) -> String {
    value.to_string()
}

fn search_path(path: &OsString, bin: &Path) -> Result<OsString> {
    let system = SYSTEM_FOLDERS.iter().map(PathBuf::from);
    let parts = std::iter::once(bin.to_owned()).chain(std::env::split_paths(path)).chain(system);
    // Our podman script is in the first folder; nothing else is looked up there but criu.
    std::env::join_paths(parts).context("can't make a PATH")
}

fn file(path: &Path, text: &str) -> Result<()> {
    path.parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, text))
        .with_context(|| format!("can't write {}", path.display()))
}
