//! Running a command to its end, with a time limit. The only place in the engine that spawns processes
//! asynchronously (a shim, which has no threads, forks by itself).
//!
//! The command gets a process group of its own, no standard input unless it is given one, and is reaped in every case. At its time limit, or when
//! the caller loses interest, the whole group is killed: what it has started goes with it.

use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout};

use super::pidfd::PidFd;
use crate::error::{Error, Report, Result};

/// How much of each output is kept: its end.
const OUTPUT_MAX: usize = 64 * 1024;
/// How long a killed group's pipes may take to close. Longer only if a process has left the group with them in hand.
const CLOSING_MAX: Duration = Duration::from_millis(50);
/// How many last lines of the output go into the error of a command that hung.
const LINES_MAX: usize = 10;

/// A command to be run.
#[derive(Debug, Clone)]
pub struct Command {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    input: Option<Vec<u8>>,
    timeout: Duration,
    leftovers: Leftovers,
    death: Death,
}

/// What becomes of it when we are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Death {
    /// It runs on, to its own end.
    OutlivesUs,
    /// It is killed, with its group.
    EndsWithUs,
}

/// What happens to processes of the group that outlive the command itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leftovers {
    /// They were meant to stay; the command has finished once its outputs are closed.
    Leave,
    /// They are killed; the command has finished when it has exited.
    Kill,
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
        let timeout = Duration::from_secs(10);
        Self {
            argv,
            env: Vec::new(),
            input: None,
            timeout,
            leftovers: Leftovers::Leave,
            death: Death::OutlivesUs,
        }
    }

    /// Nothing of it may outlive this process, even if that is killed. It is so in programs whose `main` begins with [`super::guard::main`].
    #[must_use]
    pub fn ends_with_us(mut self) -> Self {
        self.death = Death::EndsWithUs;
        self
    }

    /// Nothing that it started may outlive it: what is left of its group when it exits is killed.
    #[must_use]
    pub fn kill_leftovers(mut self) -> Self {
        self.leftovers = Leftovers::Kill;
        self
    }

    /// Adds a variable to the environment.
    #[must_use]
    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// What it may read from its standard input; it need not.
    #[must_use]
    pub fn input(mut self, bytes: Vec<u8>) -> Self {
        self.input = Some(bytes);
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
        let mut child = self.spawn()?;
        let mut said = Said { stdout: Tail::of(child.stdout.take()), stderr: Tail::of(child.stderr.take()) };
        let feeding = feed(child.stdin.take(), self.input.as_deref().unwrap_or_default());
        let mut group = Group { child, finished: false };
        let ended = tokio::time::timeout(self.timeout, async {
            tokio::select! {
                ended = group.end(&mut said, self.leftovers) => ended,
                never = feeding => never,
            }
        })
        .await;
        if ended.is_err() {
            group.kill().await;
        }
        // Whoever was killed has closed its ends by now, or does so at once.
        let _ = tokio::time::timeout(CLOSING_MAX, said.read()).await;
        let Ok(status) = ended else { return Err(self.timed_out(&said)) };
        group.finished = true;
        let status = status
            .map_err(|e| Error::Internal(Report::new(format!("wait for {}", self.line())).because(e)))?;
        Ok(Output { status, stdout: said.stdout.text(), stderr: said.stderr.text() })
    }

    fn timed_out(&self, said: &Said) -> Error {
        let limit = humantime::format_duration(self.timeout);
        let text = format!("run {}: it did not finish within {limit}", self.line());
        Error::Unavailable(Report::new(text).output(last_lines(&said.stdout.text(), &said.stderr.text())))
    }

    #[expect(clippy::disallowed_methods, reason = "this is the place")]
    fn spawn(&self) -> Result<Child> {
        let argv = match self.death {
            Death::OutlivesUs => self.argv.clone(),
            Death::EndsWithUs => super::guard::around(&self.argv),
        };
        let Some((program, arguments)) = argv.split_first().filter(|_| !self.argv.is_empty()) else {
            return Err(Error::Invalid(Report::new("run a command: it is empty")));
        };
        tokio::process::Command::new(program)
            .args(arguments)
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
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

    /// Itself, for people.
    pub(crate) fn line(&self) -> String {
        self.argv.join(" ")
    }
}

/// Writes all of it, then closes the pipe; never comes back. A command that does not read has its reasons.
async fn feed<T>(pipe: Option<ChildStdin>, bytes: &[u8]) -> T {
    if let Some(mut pipe) = pipe {
        let _ = pipe.write_all(bytes).await;
    }
    std::future::pending().await
}

/// The end of what a command had to say, in lines.
fn last_lines(stdout: &str, stderr: &str) -> Vec<String> {
    let shown = if stderr.trim().is_empty() { stdout } else { stderr };
    let surplus = shown.lines().count().saturating_sub(LINES_MAX);
    shown.lines().skip(surplus).map(str::to_owned).collect()
}

impl Output {
    /// Whether it ended with exit code 0.
    pub fn success(&self) -> bool {
        self.status.success()
    }

    /// The last lines of what it had to say.
    pub(crate) fn last_lines(&self) -> Vec<String> {
        last_lines(&self.stdout, &self.stderr)
    }
}

/// A child and whatever it has started in its process group.
struct Group {
    child: Child,
    finished: bool,
}

impl Group {
    /// Waits for the command's end, reading meanwhile what it says.
    async fn end(&mut self, said: &mut Said, leftovers: Leftovers) -> std::io::Result<ExitStatus> {
        match leftovers {
            Leftovers::Leave => tokio::join!(said.read(), self.child.wait()).1,
            Leftovers::Kill => {
                self.exited(said).await?;
                // Not reaped yet: the group's number is still its own.
                self.signal();
                self.child.wait().await
            }
        }
    }

    /// Waits until the command itself has exited, without reaping it.
    async fn exited(&self, said: &mut Said) -> std::io::Result<()> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or(-1);
        let process = PidFd::open(pid).map_err(std::io::Error::other)?;
        let reading = async {
            said.read().await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            ended = process.ended() => ended.map_err(std::io::Error::other),
            () = reading => Ok(()),
        }
    }

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

/// The ends of both outputs.
struct Said {
    stdout: Tail<ChildStdout>,
    stderr: Tail<ChildStderr>,
}

impl Said {
    /// Reads until both are closed. May be dropped half-way and called again.
    async fn read(&mut self) {
        tokio::join!(self.stdout.read(), self.stderr.read());
    }
}

/// The end of one output.
struct Tail<P> {
    pipe: Option<P>,
    kept: Vec<u8>,
}

impl<P: AsyncRead + Unpin> Tail<P> {
    fn of(pipe: Option<P>) -> Self {
        Self { pipe, kept: Vec::new() }
    }

    async fn read(&mut self) {
        let mut buffer = [0_u8; 8192];
        while let Some(pipe) = &mut self.pipe {
            let length = pipe.read(&mut buffer).await.unwrap_or(0);
            if length == 0 {
                self.pipe = None;
            }
            self.kept.extend_from_slice(&buffer[..length]);
            if self.kept.len() > 2 * OUTPUT_MAX {
                self.kept.drain(..self.kept.len() - OUTPUT_MAX);
            }
        }
    }

    fn text(&self) -> String {
        let start = self.kept.len().saturating_sub(OUTPUT_MAX);
        String::from_utf8_lossy(&self.kept[start..]).into_owned()
    }
}
