//! Running a command and timing it: from before its start to its end, as whoever runs it sees it.
//!
//! Interruptions meant for us do not reach it, and one that has begun is let end: criu killed in the middle of a restore leaves
//! mounts on the host. Refuses to swallow what a failed one said: its last lines are in the error.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::namespace::Namespace;
use crate::processes::{self, Watched};

/// No command may take longer; 1 GiB needs about a second.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// How long a command that is not needed any more may take to end.
const ENDING_MAX: Duration = Duration::from_secs(20);
/// So many last lines of each log are shown.
const LINES_MAX: usize = 6;

/// What commands of one contender are started with.
#[derive(Debug)]
pub(crate) struct Tool<'a> {
    /// The program.
    pub(crate) program: PathBuf,
    /// What stands before each command's own arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where it is started.
    pub(crate) namespace: Option<&'a Namespace>,
    /// Variables beside ours.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// The folder of what it prints.
    pub(crate) logs: PathBuf,
    /// Where it says why it failed, if not there: its standard output and error are `/dev/null` then, for whatever it leaves
    /// running keeps them.
    pub(crate) own_logs: Vec<PathBuf>,
}

/// A command under way; dropped, it is waited for, and killed if that takes too long.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    ended: bool,
    begun: Instant,
    line: String,
    stdout: PathBuf,
    /// Where it is said why it failed.
    logs: Vec<PathBuf>,
}

/// What came of one that worked.
#[derive(Debug)]
pub(crate) struct Finished {
    /// From before its start to its end.
    pub(crate) took: Duration,
    stdout: PathBuf,
}

impl Tool<'_> {
    /// Starts it; `name` is for its logs.
    pub(crate) fn start<A: Into<OsString>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Running> {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(arguments.into_iter().map(Into::into));
        command.envs(self.env.iter().map(|(key, value)| (key, value))).stdin(Stdio::null());
        let line = line(&command);
        let log = |end: &str| self.logs.join(format!("{name}.{end}"));
        let (stdout, stderr) = (log("out"), log("err"));
        let logs = if self.own_logs.is_empty() {
            command.stdout(create(&stdout)?).stderr(create(&stderr)?);
            vec![stdout.clone(), stderr]
        } else {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            self.own_logs.clone()
        };
        if let Some(namespace) = self.namespace {
            namespace.enter(&mut command)?;
        }
        // SAFETY: between fork and exec there is one system call, nothing else. What a terminal sends us does not reach it then, and
        // criu can dump it: it refuses a process that is not its session's leader.
        unsafe { command.pre_exec(|| nix::unistd::setsid().map(drop).map_err(Into::into)) };
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("run `{line}`"))?;
        Ok(Running { child, ended: false, begun, line, stdout, logs })
    }

    /// Runs it to its end.
    pub(crate) fn run<A: Into<OsString>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Finished> {
        self.start(name, arguments)?.finish()
    }
}

impl Running {
    /// Its pid.
    pub(crate) fn pid(&self) -> Result<i32> {
        i32::try_from(self.child.id()).context("a pid")
    }

    /// Lets it run on; gives its pid, which is reaped elsewhere.
    pub(crate) fn let_go(mut self) -> Result<i32> {
        self.ended = true;
        self.pid()
    }

    /// An error if it has ended and failed.
    pub(crate) fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait().with_context(|| format!("wait for `{}`", self.line))? else {
            return Ok(());
        };
        self.ended = true;
        if status.success() { Ok(()) } else { bail!("`{}` failed: {status}{}", self.line, self.last_lines()) }
    }

    /// Waits until it has ended well.
    pub(crate) fn finish(mut self) -> Result<Finished> {
        if !self.ended {
            // Not reaped before `check`, so the pid is still its own.
            let waited = Watched::open(self.pid()?)?.wait(LIMIT);
            waited.with_context(|| format!("wait for `{}`{}", self.line, self.last_lines()))?;
        }
        let took = self.begun.elapsed();
        self.check()?;
        Ok(Finished { took, stdout: self.stdout.clone() })
    }

    /// Ends it by SIGTERM and waits, whatever its exit code says.
    pub(crate) fn terminate(mut self) -> Result<()> {
        let process = Watched::open(self.pid()?)?;
        let pid = nix::unistd::Pid::from_raw(process.pid());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)
            .with_context(|| format!("end `{}`", self.line))?;
        process.wait(LIMIT)?;
        self.ended = true;
        self.child.wait().map(drop).with_context(|| format!("reap `{}`", self.line))
    }

    fn last_lines(&self) -> String {
        let texts = self.logs.iter().map(|path| std::fs::read(path).unwrap_or_default());
        texts.map(|text| last_of(&String::from_utf8_lossy(&text))).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        processes::clear_up(|| {
            let waited = Watched::open(self.pid()?).and_then(|process| process.wait(ENDING_MAX));
            if waited.is_err() {
                self.child.kill().with_context(|| format!("kill `{}`", self.line))?;
            }
            self.child.wait().map(drop).with_context(|| format!("reap `{}`", self.line))
        });
    }
}

impl Finished {
    /// What it printed.
    pub(crate) fn stdout(&self) -> Result<String> {
        std::fs::read_to_string(&self.stdout).with_context(|| format!("read {}", self.stdout.display()))
    }
}

fn last_of(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES_MAX);
    lines[from..].iter().map(|line| format!("\n    {line}")).collect()
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("write {}", path.display()))
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path) -> Tool<'static> {
        Tool {
            program: "sh".into(),
            arguments: vec!["-c".into()],
            namespace: None,
            env: vec![("WORD".into(), "said".into())],
            logs: folder.to_owned(),
            own_logs: Vec::new(),
        }
    }

    #[test]
    fn output_is_kept_and_a_failure_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let tool = shell(folder.path());
        let finished = tool.run("well", ["echo $WORD"]).expect("works");
        assert_eq!(finished.stdout().expect("kept"), "said\n");
        let error = format!("{:#}", tool.run("badly", ["echo why >&2; exit 3"]).expect_err("fails"));
        assert!(error.contains("`sh -c echo why") && error.contains("exit status: 3"), "{error}");
        assert!(error.ends_with("    why"), "{error}");
    }

    #[test]
    fn it_leads_a_session_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = "read -r _ _ _ _ _ session _ < /proc/$$/stat; test $session = $$";
        shell(folder.path()).run("session", [script]).expect("the session bears its pid");
    }

    #[test]
    fn one_that_waits_is_ended() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut running = shell(folder.path()).start("waiting", ["exec sleep 1000"]).expect("starts");
        running.check().expect("has not failed");
        running.terminate().expect("ends");
    }
}
