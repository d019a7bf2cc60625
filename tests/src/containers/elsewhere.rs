//! podman as it would be on another host: the same paths and programs, but storage and state of its own.
//!
//! It stands in a mount namespace where other folders lie over those of the podman of all tests, for podman writes the paths of its storage
//! into what it exports. Dropped, its containers are removed and the namespace ends.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Containers, IMAGE};

/// The other host's.
#[derive(Debug)]
pub struct Elsewhere {
    containers: Containers,
    holder: Child,
    _folder: TempDir,
}

impl Elsewhere {
    /// Sets it up, with the tests' image in it.
    ///
    /// # Panics
    /// When it cannot be set up.
    #[must_use]
    pub fn beside(containers: &Containers) -> Self {
        let folder = tempfile::Builder::new().prefix("supervisor-test-").tempdir().expect("a folder");
        let info = containers.done(&["info", "--format", "{{.Store.GraphRoot}} {{.Store.RunRoot}}"]);
        let run = containers.place().parent().and_then(|bin| bin.parent()).expect("it lies in a site");
        let over = info.split(' ').map(PathBuf::from).chain([run.join("libpod")]);
        let mut mounts = String::new();
        for (number, path) in over.enumerate() {
            let own = folder.path().join(number.to_string());
            fs::create_dir(&own).expect("a folder");
            mounts += &format!("mount --bind '{}' '{}' && ", own.display(), path.display());
        }
        let mut holder = Command::new("unshare");
        let script = format!("{mounts} echo up && exec sleep infinity");
        holder.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
        let mut holder =
            holder.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("unshare can be run");
        let mut word = [0; 3];
        holder.stdout.as_mut().expect("a pipe").read_exact(&mut word).expect("other folders lie there");
        let place = folder.path().join("podman");
        let enter = format!("nsenter --mount=/proc/{}/ns/mnt", holder.id());
        fs::write(&place, format!("#!/bin/sh\nexec {enter} '{}' \"$@\"\n", containers.place().display()))
            .expect("a script");
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).expect("it is ours");
        let there = Containers { place, ..containers.clone() };
        let archive = folder.path().join("image.tar").display().to_string();
        containers.done(&["save", "--output", &archive, IMAGE]);
        let elsewhere = Self { containers: there, holder, _folder: folder };
        elsewhere.containers.done(&["load", "--input", &archive]);
        elsewhere
    }

    /// It, to be asked for containers.
    #[must_use]
    pub fn containers(&self) -> &Containers {
        &self.containers
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.containers.cli(&["rm", "--all", "--force", "--time", "0", "--volumes"]);
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
