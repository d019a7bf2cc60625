//! Runs a command: exit code 0 passes. At its time limit its whole process group is killed.
//!
//! Inside of a service it is run by `nsenter`, which becomes the command's parent and one of its group: what the host sees and
//! kills is the same. The process to be entered is named by pid and start time.
//!
//! It refuses to interpret the output; the end of it goes into the detail. A process that the command moves into a
//! session of its own (`setsid`) escapes the kill: nothing short of a cgroup would reach it.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use super::{Answer, excerpt};
use crate::error::Error;
use crate::process::command::{Command, Output};
use crate::runtime::Handle;

/// What of the service is entered; its root too, which may be another one than that of its mounts.
const ENTERED: [&str; 6] = ["--mount", "--uts", "--ipc", "--net", "--pid", "--root"];

/// Passes if the command exits with 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exec {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    place: Place,
}

/// Where the command is run.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Host,
    /// Inside of the service, as long as this process of it lives.
    Service(Option<Handle>),
}

impl Exec {
    /// Program and arguments; no shell in between.
    pub fn new(argv: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { argv: argv.into_iter().map(Into::into).collect(), env: Vec::new(), place: Place::Host }
    }

    /// Runs it in the namespaces and the root of the service, once [`super::Probe::of_run`] has said which process that is.
    #[must_use]
    pub fn inside(self) -> Self {
        Self { place: Place::Service(None), ..self }
    }

    pub(super) fn of_run(self, handle: Option<&Handle>) -> Self {
        match self.place {
            Place::Host => self,
            Place::Service(_) => Self { place: Place::Service(handle.cloned()), ..self },
        }
    }

    /// Adds a variable to the environment that the command inherits from us.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    pub(super) async fn ask(&self, timeout: Duration) -> Answer {
        let command = Command::new(self.line()?).timeout(timeout).kill_leftovers();
        let command = self.env.iter().fold(command, |command, (key, value)| command.env(key, value));
        match command.run().await {
            Ok(output) if output.success() => Ok(with_output("exit code 0", &output)),
            Ok(output) => Err(with_output(&ended(&output), &output)),
            Err(error) => Err(failed(&error)),
        }
    }

    fn line(&self) -> Result<Vec<String>, String> {
        let target = match &self.place {
            Place::Host => return Ok(self.argv.clone()),
            Place::Service(handle) => handle.as_ref().filter(|handle| handle.is_alive()),
        };
        let pid = target.ok_or("the service does not run")?.pid.to_string();
        let enter = ["nsenter", "--target", &pid].into_iter().chain(ENTERED).chain(["--"]);
        Ok(enter.map(str::to_owned).chain(self.argv.iter().cloned()).collect())
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
