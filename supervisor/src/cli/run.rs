//! `run`: the log, then the daemon.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt};

use super::failure::Failure;
use crate::daemon::{self, RunOptions, Standing};

/// Which lines of the log are wanted, in the words of `tracing`: `info`, `engine=debug`, ...
const LOG_VARIABLE: &str = "SUPERVISOR_LOG";

/// Runs until told to stop.
pub(crate) async fn run(config: PathBuf, standing: Standing) -> Result<(), Failure> {
    begin_log();
    daemon::run(RunOptions { config, standing }).await.map_err(|error| {
        // Mistakes in the file are for its author, everything else for whoever runs it.
        let text = format!("{error:#}");
        if error.is::<config::Errors>() { Failure::Invalid(text) } else { Failure::Failed(text) }
    })
}

/// To systemd's journal with all fields, if standard error leads there; else to standard error, which a container's log or
/// a terminal takes from there.
pub(super) fn begin_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::registry().with(filter);
    // A log that exists already is as good.
    let _ = match journal() {
        Some(journal) => log.with(journal).try_init(),
        None => {
            let ansi = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            log.with(fmt::layer().with_target(false).with_writer(io::stderr).with_ansi(ansi)).try_init()
        }
    };
}

/// systemd names the stream that it has connected to the journal; somebody may have put another one in its place since.
fn journal() -> Option<tracing_journald::Layer> {
    let named = std::env::var("JOURNAL_STREAM").ok()?;
    let (device, inode) = named.split_once(':')?;
    let stderr = nix::sys::stat::fstat(io::stderr()).ok()?;
    if device.parse() != Ok(stderr.st_dev) || inode.parse() != Ok(stderr.st_ino) {
        return None;
    }
    let journal = tracing_journald::layer().ok()?;
    Some(
        journal
            .with_field_prefix(Some("SUPERVISOR".to_owned()))
            .with_syslog_identifier("supervisor".to_owned()),
    )
}
