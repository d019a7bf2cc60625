//! `run`: the log, then the daemon.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use crate::daemon::{self, RunOptions};

/// Which lines of the log are wanted, in the words of `tracing`: `info`, `engine=debug`, ...
const LOG_VARIABLE: &str = "SUPERVISOR_LOG";

/// Runs until told to stop.
pub(crate) async fn run(config: PathBuf) -> Result<(), Failure> {
    begin_log();
    daemon::run(RunOptions { config }).await.map_err(|error| {
        // Mistakes in the file are for its author, everything else for whoever runs it.
        let text = format!("{error:#}");
        if error.is::<config::Errors>() { Failure::Invalid(text) } else { Failure::Failed(text) }
    })
}

/// To standard error: systemd's journal, a container's log or a terminal take it from there.
fn begin_log() {
    let filter = EnvFilter::try_from_env(LOG_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(io::stderr);
    let log = log.with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none());
    // The journal has its own times. A log that exists already is as good.
    let _ = match std::env::var_os("JOURNAL_STREAM") {
        Some(_) => log.without_time().try_init(),
        None => log.try_init(),
    };
}
