//! What an engine is asked, and what it answers.

use std::path::{Path, PathBuf};

use super::super::{Effect, Ended, RestoreFrom};
use super::{ExitNote, Traces, Volume};
use crate::checkpoint::WhileFrozen;
use crate::criu::Options;
use crate::error::Result;

/// How a container is created that does not exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    /// Name or id of its image.
    pub image: String,
    /// Options of `create`.
    pub create_args: Vec<String>,
    /// What runs in it; empty: what the image says.
    pub command: Vec<String>,
}

impl Recipe {
    /// The arguments of docker's and podman's command line.
    pub(in crate::runtime) fn arguments(&self, container: &str) -> Vec<String> {
        let first = ["create", "--name", container].map(str::to_owned);
        let image = std::iter::once(self.image.clone());
        first.into_iter().chain(self.create_args.clone()).chain(image).chain(self.command.clone()).collect()
    }
}

/// BLAKE3 of what is configured to run. A container that is created to order is the same under any name: each host may have one of its own.
pub(in crate::runtime) fn program_of(container: &str, recipe: Option<&Recipe>, options: &[String]) -> String {
    let what = match recipe {
        Some(recipe) => format!("{recipe:?} {options:?}"),
        None => format!("{container:?} {options:?}"),
    };
    blake3::hash(what.as_bytes()).to_string()
}

/// The verbs in which engines differ.
pub(in crate::runtime) trait Engine: Send + Sync + std::fmt::Debug + 'static {
    /// Its name in configuration and images.
    fn kind(&self) -> &'static str;

    /// BLAKE3 of what is configured to run.
    fn program(&self) -> String;

    /// The container's name.
    fn container(&self) -> &str;

    /// How it is created if it is missing.
    fn recipe(&self) -> Option<&Recipe>;

    /// Waits for the engine if it is away for a moment.
    fn ready(&self) -> Effect<'_, ()>;

    /// What the engine knows of the container; `None` if there is none.
    fn find(&self) -> Effect<'_, Option<Known>>;

    /// Where it will be noted how the container that runs as this process ends, if that can be read without asking the engine.
    fn exit_note(&self, pid: i32) -> Option<ExitNote>;

    /// By what it is seen, without asking the engine, that the container came to rest; `runc` is the folder of runc's record of it.
    fn traces(&self, known: &Known, runc: &Path) -> Option<Traces>;

    /// Creates the container.
    fn create<'a>(&'a self, recipe: &'a Recipe) -> Effect<'a, ()>;

    /// Starts it from scratch.
    fn start(&self) -> Effect<'_, ()>;

    /// CRIU's options for a dump that the engine's own restore will understand.
    fn dump_options(&self, options: Options) -> Result<Options>;

    /// What the engine's restore needs beside CRIU's images, written when the service runs again.
    fn complete<'a>(&'a self, known: &'a Known, options: &'a Options, dump: &'a Path) -> Effect<'a, ()>;

    /// What must be noted while the service stands still, if anything.
    fn while_frozen(&self, known: &Known, dump: &Path) -> WhileFrozen;

    /// Has the engine restore it.
    fn restore<'a>(
        &'a self,
        known: &'a Known,
        from: &'a RestoreFrom<'a>,
        options: &'a Options,
    ) -> Effect<'a, ()>;
}

/// What an engine knows of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Known {
    pub(in crate::runtime) id: String,
    /// The digest of the image it was made of.
    pub(in crate::runtime) image: String,
    /// The first process, while it runs.
    pub(in crate::runtime) pid: Option<i32>,
    /// Whether it can be started or restored: it does not run, and the engine has cleared up after its end.
    pub(in crate::runtime) at_rest: bool,
    pub(in crate::runtime) exit_code: i32,
    pub(in crate::runtime) out_of_memory: bool,
    /// The overlay's upper folder.
    pub(in crate::runtime) changes: Option<PathBuf>,
    /// The layers under it, the uppermost first.
    pub(in crate::runtime) lower: Vec<PathBuf>,
    pub(in crate::runtime) mounts: Vec<Mounted>,
    pub(in crate::runtime) restart_policy: String,
    pub(in crate::runtime) tty: bool,
    /// The engine's own folder of the container.
    pub(in crate::runtime) folder: PathBuf,
    /// Where the engine has the first process's pid written at each start and restore.
    pub(in crate::runtime) pid_file: Option<PathBuf>,
    /// Addresses that a restore is to bring back, in the engine's notation.
    pub(in crate::runtime) network: serde_json::Value,
    /// What the engine would have to be told to create it again, in the notation of its own checkpoint archives; null where it has none.
    pub(in crate::runtime) definition: serde_json::Value,
}

/// Something mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::runtime) struct Mounted {
    /// Set for a named volume.
    pub(in crate::runtime) volume: Option<String>,
    pub(in crate::runtime) source: PathBuf,
    pub(in crate::runtime) destination: PathBuf,
}

impl Known {
    /// Its named volumes.
    pub(in crate::runtime) fn volumes(&self) -> impl Iterator<Item = Volume> {
        self.mounts.iter().filter_map(|mount| {
            let (destination, source) = (mount.destination.clone(), mount.source.clone());
            Some(Volume { name: mount.volume.clone()?, destination, source })
        })
    }

    /// How it ended, once it has.
    pub(in crate::runtime) fn ended(&self) -> Ended {
        ended(self.exit_code, self.out_of_memory)
    }
}

/// An end as engines tell it: a signal as 128 and its number.
pub(super) fn ended(exit_code: i32, out_of_memory: bool) -> Ended {
    let status = match exit_code {
        code @ 129..=192 => code - 128,
        code => (code & 0xff) << 8,
    };
    Ended { status: Some(status), out_of_memory, ..Ended::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_above_128_is_a_signal() {
        let told = |exit_code| Known { exit_code, ..Known::default() };
        let status = |exit_code| told(exit_code).ended().status.expect("known");
        assert!(libc::WIFSIGNALED(status(137)) && libc::WTERMSIG(status(137)) == libc::SIGKILL);
        assert!(libc::WIFEXITED(status(3)) && libc::WEXITSTATUS(status(3)) == 3);
        assert!(libc::WIFEXITED(status(0)) && libc::WIFEXITED(status(255)));
    }
}
