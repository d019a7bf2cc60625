//! One supervisor with one service, in a folder of its own.

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::watch::Watch;
use crate::prepare::Prepared;
use crate::{command, setup};

/// A supervisor that runs; dropped, it ends with its service.
pub(super) struct Stage<'a> {
    prepared: &'a Prepared,
    folder: PathBuf,
    config: PathBuf,
    service: &'static str,
    supervisor: Child,
    pub(super) watch: Watch,
}

impl<'a> Stage<'a> {
    /// Writes the configuration (`[node]` is added) and starts the supervisor.
    pub(super) fn set(prepared: &'a Prepared, service: &'static str, text: &str) -> Result<Self> {
        let folder = prepared.binaries.join("demo").join(service);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("can't clear {}", folder.display()))?;
        }
        std::fs::create_dir_all(&folder).with_context(|| format!("can't make {}", folder.display()))?;
        let config = folder.join("demo.toml");
        let at = folder.display();
        let node = format!(
            "[node]\nname = \"demo-{service}\"\nstate_dir = \"{at}/state\"\nrun_dir = \"{at}/run\"\n"
        );
        std::fs::write(&config, format!("{node}\n{text}")).context("can't write the configuration")?;
        println!("\n  the configuration ({}):\n", config.display());
        text.lines().for_each(|line| println!("    {line}"));
        println!();
        let log = File::create(folder.join("supervisor.log")).context("can't write the supervisor's log")?;
        let mut run = Command::new(prepared.binaries.join("supervisor"));
        run.arg("--config").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let supervisor =
            prepared.environment.apply(&mut run).spawn().context("can't start the supervisor")?;
        let mut stage = Self {
            watch: Watch::start(&mut wait_and_follow(prepared, &config, &folder)?)?,
            prepared,
            folder,
            config,
            service,
            supervisor,
        };
        stage.expect_alive()?;
        Ok(stage)
    }

    /// The service's main process, as the host sees it.
    pub(super) fn pid(&self) -> Result<i32> {
        let status = self.ask(&["status"])?;
        let pid = status["services"][0]["pid"].as_i64().context("the service does not run")?;
        i32::try_from(pid).context("the status names a pid that is none")
    }

    /// Its images, newest first.
    pub(super) fn images(&self) -> Result<Vec<Value>> {
        let images = self.ask(&["images", self.service])?;
        Ok(images.as_array().cloned().unwrap_or_default())
    }

    /// Sends its main process a signal.
    pub(super) fn signal(&self, signal: &str) -> Result<()> {
        let pid = self.pid()?.to_string();
        command::run(Command::new("kill").args([&format!("-{signal}"), &pid]))
    }

    /// Waits for an image newer than all so far that is on disk, too, and gives it.
    pub(super) fn fresh_durable_image(&self) -> Result<Value> {
        self.watch.forget();
        self.watch.wait_for("image-durable", Duration::from_secs(60))
    }

    /// Flips one byte in every copy of the image's memory, on disk and in memory.
    pub(super) fn damage(&self, image: &str) -> Result<()> {
        let state = self.folder.join("state");
        let durable = state.join("images").join(self.service).join(image);
        let mark: String = state
            .display()
            .to_string()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        let hot = PathBuf::from(format!("/dev/shm/supervisor{mark}"));
        let mut damaged = 0;
        for folder in [durable, hot] {
            for file in files_below(&folder) {
                let path = file.display().to_string();
                let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let is_memory = name.starts_with("memory-") || name.starts_with("pages-");
                if is_memory && path.contains(image) {
                    flip(&file)?;
                    println!("    a byte of {path} is flipped");
                    damaged += 1;
                }
            }
        }
        if damaged == 0 {
            bail!("found no memory of image {image} to damage");
        }
        Ok(())
    }

    fn ask(&self, arguments: &[&str]) -> Result<Value> {
        let mut ask = Command::new(self.prepared.binaries.join("supervisor"));
        ask.arg("--config").arg(&self.config).args(["--output", "json"]).args(arguments);
        let text = command::output(self.prepared.environment.apply(&mut ask))?;
        serde_json::from_str(&text).context("the supervisor's answer is no JSON")
    }

    fn expect_alive(&mut self) -> Result<()> {
        if let Some(status) = self.supervisor.try_wait()? {
            let log = std::fs::read_to_string(self.folder.join("supervisor.log")).unwrap_or_default();
            bail!("the supervisor ended at once ({status}):\n{log}");
        }
        Ok(())
    }
}

impl Drop for Stage<'_> {
    fn drop(&mut self) {
        let mut stop = Command::new(self.prepared.binaries.join("supervisor"));
        stop.arg("--config").arg(&self.config).args(["stop", self.service]);
        // Whatever fails here is seen in what is left; there is nobody to tell.
        let _ = command::output(self.prepared.environment.apply(&mut stop));
        let pid = self.supervisor.id().to_string();
        let _ = command::output(Command::new("kill").args(["-TERM", &pid]));
        let _ = self.supervisor.wait();
    }
}

/// A port of 127.0.0.1 that is free now.
pub(super) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("can't find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// A program that set-up has brought.
pub(super) fn program(prepared: &Prepared, name: &str) -> Result<PathBuf> {
    let path = prepared.environment.search_path();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.is_file());
    found.or_else(|| setup::find_program(name)).with_context(|| format!("can't find {name}"))
}

fn wait_and_follow(prepared: &Prepared, config: &Path, folder: &Path) -> Result<Command> {
    let socket = folder.join("run/api.sock");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !socket.exists() {
        if Instant::now() > deadline {
            let log = std::fs::read_to_string(folder.join("supervisor.log")).unwrap_or_default();
            bail!("the supervisor did not come up:\n{log}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut follow = Command::new(prepared.binaries.join("supervisor"));
    follow.arg("--config").arg(config).args(["--output", "json", "events", "--follow"]);
    prepared.environment.apply(&mut follow);
    Ok(follow)
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .flat_map(|entry| match entry.file_type() {
            Ok(kind) if kind.is_dir() => files_below(&entry.path()),
            Ok(kind) if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

fn flip(path: &Path) -> Result<()> {
    let mut bytes = std::fs::read(path).with_context(|| format!("can't read {}", path.display()))?;
    let middle = bytes.len() / 2;
    if let Some(byte) = bytes.get_mut(middle) {
        *byte ^= 0x40;
    }
    std::fs::write(path, bytes).with_context(|| format!("can't write {}", path.display()))
}
