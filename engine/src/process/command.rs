//! Running a command to its end, with a time limit. The only place in the engine that spawns processes
//! asynchronously (a shim, which has no threads, forks by itself).
//!
//! The command gets a process group of its own, no standard input, and is reaped in every case. At its time limit, or when
//! the caller loses interest, the whole group is killed: what it has started goes with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;

use crate::error::{Error, Report, Result};

/// How much of each output is kept: its end.
const OUTPUT_MAX: usize = 64 * 1024;

/// A command to be run.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    timeout: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// The end of what it wrote to standard output.
    pub stdout: String,
    /// The end of what it wrote to standard error.
    pub stderr: String,
}

impl Command {
    /// A command and its arguments, with our environment and a limit of 10 s.
    pub fn new(argv: Vec<String>) -> Self {
        Self { argv, env: Vec::new(), timeout: Duration::from_secs(10) }
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets the time limit.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs it. A command that ran and failed is not an error here: look at [`Output::success`].
    pub async fn run(&self) -> Result<Output> {
        let mut group = Group { child: self.spawn()?, finished: false };
        let (stdout, stderr) = (group.child.stdout.take(), group.child.stderr.take());
        let all = async { tokio::join!(tail(stdout), tail(stderr), group.child.wait()) };
        let ended = tokio::time::timeout(self.timeout, all).await;
        let Ok((stdout, stderr, status)) = ended else {
            group.kill().await;
            return Err(Error::Unavailable(Report::new(format!(
                "run {}: it did not finish within {}",
                self.line(),
                humantime::format_duration(self.timeout)
            ))));
        };
        group.finished = true;
        let status = status
            .map_err(|e| Error::Internal(Report::new(format!("wait for {}", self.line())).because(e)))?;
        Ok(Output { status, stdout, stderr })
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn spawn(&self) -> Result<Child> {
        let Some((program, arguments)) = self.argv.split_first() else {
            return Err(Error::Invalid(Report::new("run a command: it is empty")));
        };
        tokio::process::Command::new(program)
            .args(arguments)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                Error::Invalid(
                    Report::new(format!("run {}", self.line()))
                        .because(e)
                        .remedy("check that the program is installed and the path right"),
                )
            })
    }

    fn line(&self) -> String {
        self.argv.join(" ")
    }
}

impl Output {
    /// Whether it ended with exit code 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }
}

/// A child and whatever it has started in its process group.
struct Group {
    child: Child,
    finished: bool,
}

impl Group {
    async fn kill(&mut self) {
        self.signal();
        let _ = self.child.wait().await;
        self.finished = true;
    }

    fn signal(&self) {
        // `id` is none once the child was reaped, so the group's number cannot have been used again.
        let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()) else { return };
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.finished {
            self.signal();
        }
    }
}

async fn tail(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let Some(mut pipe) = pipe else { return String::new() };
    let mut kept = Vec::new();
    let mut buffer = [0_u8; 8192];
    while let Ok(length) = pipe.read(&mut buffer).await {
        if length == 0 {
            break;
        }
        kept.extend_from_slice(&buffer[..length]);
        if kept.len() > 2 * OUTPUT_MAX {
            kept.drain(..kept.len() - OUTPUT_MAX);
        }
    }
    let start = kept.len().saturating_sub(OUTPUT_MAX);
    String::from_utf8_lossy(&kept[start..]).into_owned()
}
