//! Containers of podman, by its command line: its API can neither restore from a folder nor hand out what that needs.
//!
//! podman restores from the folder `checkpoint` in the container's own; a symbolic link to our image stands there while it does.
//! What podman itself would have noted beside a checkpoint, the addresses, the contents of `/dev/shm` and the container's definition, is noted with ours.

mod conmon;
mod definition;
mod inspected;

use std::path::{Path, PathBuf};
use std::time::Duration;

use inspected::Inspected;
use serde::Deserialize;
use serde_json::Value;

use super::container::{Container, Engine, ExitNote, Known, Traces, program_of};
use super::{Effect, Place, Recipe, RestoreFrom, Runtime};
use crate::checkpoint::WhileFrozen;
use crate::criu::{Options, Tcp, close_connections};
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::failpoint::fail_point;
use crate::process::command::{Command, Output};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The container's name.
    pub container: String,
    /// How it is created; `None`: it must exist.
    pub recipe: Option<Recipe>,
    /// The `podman` binary.
    pub program: PathBuf,
    /// Options before podman's command.
    pub options: Vec<String>,
}

/// How long podman may take for what is not a restore.
const PODMAN_MAX: Duration = Duration::from_secs(30);
/// Longest specification of a container.
const SPEC_LENGTH_MAX: u64 = 4 << 20;
/// Where podman looks for the addresses of a container that it restores.
pub const NETWORK: &str = "network.status";
/// Where it looks for the contents of `/dev/shm`.
pub const SHARED_MEMORY: &str = "devshm-checkpoint.tar";
/// Where it looks for CRIU's images.
pub const CHECKPOINT: &str = "checkpoint";
/// The container's definition in a checkpoint archive of podman's.
pub const CONFIG: &str = "config.dump";
/// What the container's OCI runtime was told, in such an archive.
pub const SPEC: &str = "spec.dump";
/// What the files of podman's that an image holds beside CRIU's are called.
pub const NOTES: [&str; 4] = [CONFIG, SPEC, NETWORK, SHARED_MEMORY];

/// A service that is a container of podman.
pub fn podman(place: Place, spec: Spec) -> impl Runtime {
    Container::new(place, Podman { spec })
}

#[derive(Debug)]
struct Podman {
    spec: Spec,
}

impl Podman {
    async fn podman(&self, arguments: &[&str], limit: Duration) -> Result<Output> {
        let mut argv = vec![self.spec.program.display().to_string()];
        argv.extend(self.spec.options.iter().cloned());
        argv.extend(arguments.iter().map(|a| (*a).to_owned()));
        Command::new(argv).timeout(limit).run().await
    }

    /// Runs it; a failure is an error with what podman said.
    async fn done(&self, what: &str, arguments: &[&str], limit: Duration) -> Result<()> {
        let output = self.podman(arguments, limit).await?;
        if output.success() {
            return Ok(());
        }
        let name = &self.spec.container;
        let lines = output.stderr.lines().map(str::to_owned);
        Err(Error::Unavailable(Report::new(format!("{what} the container {name}")).output(lines)))
    }

    async fn find_now(&self) -> Result<Option<Known>> {
        let name = &self.spec.container;
        let output = self.podman(&["container", "inspect", name], PODMAN_MAX).await?;
        if !output.success() {
            if output.stderr.to_lowercase().contains("no such container") {
                return Ok(None);
            }
            let lines = output.stderr.lines().map(str::to_owned);
            return Err(Error::Unavailable(
                Report::new(format!("inspect the container {name}")).output(lines),
            ));
        }
        let cannot_read = |e| Error::Internal(Report::new("read what podman says of a container").because(e));
        let mut found: Vec<Value> = serde_json::from_str(&output.stdout).map_err(cannot_read)?;
        let Some(said) = found.pop() else { return Ok(None) };
        let definition = definition::of(&said);
        let known = Inspected::deserialize(said).map_err(cannot_read)?.into();
        Ok(Some(Known { definition, ..known }))
    }

    async fn create_now(&self, recipe: &Recipe) -> Result<()> {
        let arguments = recipe.arguments(&self.spec.container);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        self.done("create", &arguments, PODMAN_MAX).await
    }

    /// podman restores by what it wrote for its OCI runtime when the container started: one that never did is made ready
    /// once, without running.
    async fn describe(&self, known: &Known) -> Result<()> {
        if known.folder.join("config.json").exists() {
            return Ok(());
        }
        self.done("prepare", &["container", "init", &known.id], PODMAN_MAX).await?;
        fail_point("restore.described");
        self.done("put back", &["container", "cleanup", &known.id], PODMAN_MAX).await
    }

    async fn restore_now(&self, known: &Known, from: &RestoreFrom<'_>, options: &Options) -> Result<()> {
        self.describe(known).await?;
        clear(&known.folder)?;
        let placed = place(from.images, &known.folder);
        let mut arguments = vec!["container", "restore", "--keep"];
        let switches =
            [(options.tcp != Tcp::Close, "--tcp-established"), (options.file_locks, "--file-locks")];
        arguments.extend(switches.iter().filter(|(on, _)| *on).map(|(_, name)| *name));
        // Not the name, which may be another container's by now.
        arguments.push(&known.id);
        let restored = match placed {
            Ok(()) => self.done("restore", &arguments, from.limit).await,
            Err(error) => Err(error),
        };
        clear(&known.folder)?;
        if restored.is_err() {
            // What is half done, by this or by one of us that died before it ran: the next try finds it at rest.
            drop(self.podman(&["container", "cleanup", &known.id], PODMAN_MAX).await);
        }
        restored
    }
}

impl Engine for Podman {
    fn kind(&self) -> &'static str {
        "podman"
    }

    fn program(&self) -> String {
        let Spec { container, recipe, program: _, options } = &self.spec;
        program_of(container, recipe.as_ref(), options)
    }

    fn container(&self) -> &str {
        &self.spec.container
    }

    fn recipe(&self) -> Option<&Recipe> {
        self.spec.recipe.as_ref()
    }

    /// It has no daemon.
    fn ready(&self) -> Effect<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn find(&self) -> Effect<'_, Option<Known>> {
        Box::pin(self.find_now())
    }

    fn exit_note(&self, pid: i32) -> Option<ExitNote> {
        conmon::exit_note(pid)
    }

    /// Whoever clears up holds the container's lock to the end, so that a restore waits for what cannot be seen.
    fn traces(&self, known: &Known, runc: &Path) -> Option<Traces> {
        Traces::of(known, runc)
    }

    fn create<'a>(&'a self, recipe: &'a Recipe) -> Effect<'a, ()> {
        Box::pin(self.create_now(recipe))
    }

    fn start(&self) -> Effect<'_, ()> {
        Box::pin(self.done_start())
    }

    fn dump_options(&self, options: Options) -> Result<Options> {
        Ok(options)
    }

    fn while_frozen(&self, known: &Known, dump: &Path) -> WhileFrozen {
        let shared = known.folder.join("shm");
        let has_files = std::fs::read_dir(&shared).is_ok_and(|mut entries| entries.next().is_some());
        let tar = dump.join(SHARED_MEMORY);
        has_files.then(|| -> Box<dyn FnOnce() -> Result<()> + Send> { Box::new(move || pack(&shared, &tar)) })
    }

    fn complete<'a>(&'a self, known: &'a Known, options: &'a Options, dump: &'a Path) -> Effect<'a, ()> {
        Box::pin(async move {
            if known.network.as_object().is_some_and(|networks| !networks.is_empty()) {
                durable::atomic_write_volatile(
                    &dump.join(NETWORK),
                    known.network.to_string().as_bytes(),
                    0o600,
                )?;
            }
            note_definition(known, dump)?;
            match options.tcp {
                Tcp::Close => close_connections(dump),
                Tcp::Established | Tcp::SkipInFlight => Ok(()),
            }
        })
    }

    fn restore<'a>(
        &'a self,
        known: &'a Known,
        from: &'a RestoreFrom<'a>,
        options: &'a Options,
    ) -> Effect<'a, ()> {
        Box::pin(self.restore_now(known, from, options))
    }
}

impl Podman {
    async fn done_start(&self) -> Result<()> {
        self.done("start", &["start", &self.spec.container], PODMAN_MAX).await
    }
}

/// What podman itself would note for a checkpoint that is to be restored elsewhere.
fn note_definition(known: &Known, dump: &Path) -> Result<()> {
    let spec = durable::read_limited(&known.folder.join("config.json"), SPEC_LENGTH_MAX)?;
    durable::atomic_write_volatile(&dump.join(SPEC), &spec, durable::FILE_MODE)?;
    let definition = known.definition.to_string();
    durable::atomic_write_volatile(&dump.join(CONFIG), definition.as_bytes(), durable::FILE_MODE)
}

/// Packs a folder as podman does it, with the same program.
fn pack(folder: &Path, tar: &Path) -> Result<()> {
    let argv = ["tar", "--create", "--sparse", "--xattrs", "--numeric-owner", "--file"].map(str::to_owned);
    let paths =
        [tar.display().to_string(), "--directory".to_owned(), folder.display().to_string(), ".".to_owned()];
    let command = Command::new(argv.into_iter().chain(paths).collect()).timeout(PODMAN_MAX);
    let output = tokio::runtime::Handle::current().block_on(command.run())?;
    if output.success() {
        return Ok(());
    }
    let lines = output.stderr.lines().map(str::to_owned);
    Err(Error::Unavailable(Report::new("pack the container's /dev/shm").output(lines)))
}

/// Puts an image where podman looks for its own checkpoint.
fn place(images: &Path, folder: &Path) -> Result<()> {
    let link = |from: &Path, name: &str| {
        std::os::unix::fs::symlink(from, folder.join(name)).map_err(|e| {
            Error::Unavailable(Report::new(format!("link {} for podman", from.display())).because(e))
        })
    };
    link(images, CHECKPOINT)?;
    for name in [NETWORK, SHARED_MEMORY] {
        let file = images.join(name);
        if file.exists() {
            link(&file, name)?;
        }
    }
    Ok(())
}

/// Takes away what a restore needed. A checkpoint of podman's own that somebody has made goes as well: podman itself
/// would not keep it beyond a restore.
fn clear(folder: &Path) -> Result<()> {
    for name in [CHECKPOINT, NETWORK, SHARED_MEMORY] {
        let path = folder.join(name);
        let removed = match std::fs::symlink_metadata(&path) {
            Ok(found) if found.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => continue,
        };
        removed
            .map_err(|e| Error::Unavailable(Report::new(format!("remove {}", path.display())).because(e)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_restore_needs_is_placed_and_taken_away() {
        let (images, folder) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        durable::atomic_write_volatile(&images.path().join(NETWORK), b"{}", 0o600).expect("written");
        durable::create_dir(&folder.path().join(CHECKPOINT)).expect("somebody's own checkpoint");
        clear(folder.path()).expect("cleared");
        place(images.path(), folder.path()).expect("placed");
        let there = |name: &str| folder.path().join(name).exists();
        assert!(there(CHECKPOINT) && there(NETWORK) && !there(SHARED_MEMORY));
        clear(folder.path()).expect("cleared");
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
        assert!(images.path().join(NETWORK).exists(), "the image is untouched");
    }
}
