//! The keeper: holds the network namespace and the docker daemon for as long as its standard input is open.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::site::Site;
use super::{READY, configuration, sweep};
use crate::command;

/// How long the daemon may take to answer, and to end.
const START_MAX: Duration = Duration::from_secs(60);
const STOP_MAX: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the keeper's process does.
pub(crate) fn run() -> Result<()> {
    for stale in Site::stale()? {
        eprintln!("test: clearing what is left of an earlier run: {}", stale.run().display());
        sweep::clear(&stale)?;
    }
    let site = Site::of(std::process::id())?;
    let kept = keep(&site);
    // Also when only half of it had started.
    sweep::clear(&site).and(kept)
}

fn keep(site: &Site) -> Result<()> {
    site.make()?;
    unshare(CloneFlags::CLONE_NEWNET).context("can't make a network namespace")?;
    command::output(Command::new("ip").args(["link", "set", "lo", "up"]))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let criu = std::env::var_os("SUPERVISOR_CRIU").map(PathBuf::from);
    let path = configuration::write(site, &path, criu.as_deref())?;
    let mut daemon = Daemon::start(site, path)?;
    daemon.wait_ready()?;
    command::output(Command::new(site.podman()).args(["ps", "--all"]))?;
    say(READY)?;
    wait_for_the_end();
    daemon.remove_containers();
    daemon.stop()
}

fn say(word: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{word}").and_then(|()| out.flush()).context("can't answer")
}

/// Until whoever started us closes the pipe or is dead.
fn wait_for_the_end() {
    // An error means the same as an end: there is nobody to keep this for.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// dockerd, our child.
struct Daemon<'a> {
    site: &'a Site,
    path: OsString,
    child: Child,
}

impl<'a> Daemon<'a> {
    fn start(site: &'a Site, path: OsString) -> Result<Daemon<'a>> {
        let log = File::create(log(site)).with_context(|| format!("can't write {}", log(site).display()))?;
        let errors = log.try_clone().context("can't share the daemon's log")?;
        let child = Command::new("dockerd")
            .arg("--config-file")
            .arg(configuration::docker_file(site))
            .env("PATH", &path)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .context("can't start dockerd")?;
        Ok(Daemon { site, path, child })
    }

    fn wait_ready(&mut self) -> Result<()> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().context("can't wait for dockerd")? {
                bail!("dockerd ended: {status}\n{}", self.last_lines());
            }
            if self.docker(&["version"]).is_ok() {
                return Ok(());
            }
            if begun.elapsed() > START_MAX {
                bail!("dockerd does not answer within {START_MAX:?}\n{}", self.last_lines());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn docker(&self, arguments: &[&str]) -> Result<String> {
        let host = format!("unix://{}", self.site.docker_socket().display());
        command::output(
            Command::new("docker").args(["--host", &host]).args(arguments).env("PATH", &self.path),
        )
    }

    /// The orderly way first: it gives back addresses and names that lie outside of our folders. What a broken
    /// container does not let go of, the sweep takes.
    fn remove_containers(&self) {
        let _ =
            command::output(Command::new(self.site.podman()).args(["rm", "--all", "--force", "--time", "0"]));
        let listed = self.docker(&["ps", "--all", "--quiet"]).unwrap_or_default();
        let listed: Vec<&str> = listed.lines().collect();
        if !listed.is_empty() {
            let _ = self.docker(&[&["rm", "--force"], listed.as_slice()].concat());
        }
    }

    fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("pids are small")?;
        kill(Pid::from_raw(pid), Signal::SIGTERM).context("can't end dockerd")?;
        let begun = Instant::now();
        while self.child.try_wait().context("can't wait for dockerd")?.is_none() {
            if begun.elapsed() > STOP_MAX {
                // The sweep that follows kills it.
                bail!("dockerd does not end within {STOP_MAX:?}\n{}", self.last_lines());
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn last_lines(&self) -> String {
        let text = fs::read_to_string(log(self.site)).unwrap_or_default();
        let from = text.lines().count().saturating_sub(15);
        text.lines().skip(from).collect::<Vec<_>>().join("\n")
    }
}

fn log(site: &Site) -> PathBuf {
    site.run().join("dockerd.log")
}
