//! A command of the user's. It has been told if and only if it exits with 0 within its limit.

use std::time::Duration;

use crate::error::{Error, Report, Result};
use crate::process::command::Command;

/// A command that is told something.
#[derive(Debug, Clone)]
pub struct HookCommand {
    command: Command,
}

impl HookCommand {
    /// Program and arguments, and how long they may take. What the program starts ends with it.
    pub fn new(argv: Vec<String>, limit: Duration) -> Self {
        Self { command: Command::new(argv).timeout(limit).kill_leftovers() }
    }

    /// As [`Command::ends_with_us`].
    #[must_use]
    pub fn ends_with_us(self) -> Self {
        Self { command: self.command.ends_with_us() }
    }

    /// Runs it with these variables beside our own, and this on its standard input.
    ///
    /// # Errors
    /// `Invalid` if it cannot be run, `Unavailable` if it does not end in time, `Refused` if it ends with anything but 0.
    pub async fn tell(&self, env: &[(&'static str, String)], input: Vec<u8>) -> Result<()> {
        let command = env.iter().fold(self.command.clone(), |command, (key, value)| command.env(*key, value));
        let output = command.input(input).run().await?;
        if output.success() {
            return Ok(());
        }
        let report = Report::new(format!("run {}: it ended with {}", self.command.line(), output.status));
        Err(Error::Refused(report.output(output.last_lines())))
    }
}
