//! Runs a command: exit code 0 passes. At its time limit its whole process group is killed.
//!
//! It refuses to interpret the output; the end of it goes into the detail. A process that the command moves into a
//! session of its own (`setsid`) escapes the kill: nothing short of a cgroup would reach it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use super::{Answer, excerpt};
use crate::error::Error;
use crate::process::command::{Command, Output};

/// Passes if the command exits with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    argv: Vec<String>,
    env: Vec<(String, String)>,
}

impl Exec {
    /// Program and arguments; no shell in between.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), env: Vec::new() }
    }

    /// Adds a variable to the environment that the command inherits from us.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub(super) async fn ask(&self, timeout: Duration) -> Answer {
        let command = Command::new(self.argv.clone()).timeout(timeout).kill_leftovers();
        let command = self.env.iter().fold(command, |command, (key, value)| command.env(key, value));
        match command.run().await {
            Ok(output) if output.success() => Ok(with_output("exit code 0", &output)),
            Ok(output) => Err(with_output(&ended(&output), &output)),
            Err(error) => Err(failed(&error)),
        }
    }
}

fn ended(output: &Output) -> String {
    match (output.status.code(), output.status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

fn with_output(ended: &str, output: &Output) -> String {
    let said = [&output.stderr, &output.stdout].into_iter().find(|text| !text.trim().is_empty());
    said.map_or_else(|| ended.to_owned(), |text| format!("{ended}: {}", excerpt(text)))
}

/// A report has its lines of output below it; a detail is one line.
fn failed(error: &Error) -> String {
    excerpt(&error.to_string())
}
