//! docker or podman by its own commands, as somebody who scripts it would: checkpoint and leave running; wait for the death,
//! restore.
//!
//! Their images are where they keep them, on the disk; "to memory" is when the command ends, "to disk" when everything is synced. The containers share
//! the host's network, so that the time for furnishing one is in nobody's figures.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::criu::{size, sync};
use super::{Checkpoint, Session};
use crate::ground::{Folders, Ground, Load};
use crate::processes::{self, Watched};
use crate::service::Service;
use crate::tool::{LIMIT, Running, Tool};

/// The workload's image.
const IMAGE: &str = "supervisor-bench/memhog";
/// What docker calls the checkpoint that is restored.
const CHECKPOINT: &str = "second";

/// One of the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Engine {
    /// With its socket.
    Docker(PathBuf),
    /// With the program that calls it.
    Podman(PathBuf),
}

impl Engine {
    /// Those that `cargo xtask bench` has started for us.
    pub(crate) fn docker() -> Option<Self> {
        std::env::var_os("SUPERVISOR_TEST_DOCKER").map(|socket| Self::Docker(socket.into()))
    }

    /// The same.
    pub(crate) fn podman() -> Option<Self> {
        std::env::var_os("SUPERVISOR_TEST_PODMAN").map(|program| Self::Podman(program.into()))
    }

    /// Its command line.
    pub(super) fn tool<'a>(&self, ground: &'a Ground, folders: &Folders) -> Result<Tool<'a>> {
        let (program, arguments) = match self {
            Self::Docker(socket) => {
                ("docker".into(), vec![format!("--host=unix://{}", socket.display()).into()])
            }
            Self::Podman(program) => (program.clone(), Vec::new()),
        };
        let mut tool = ground.tool(&program, None, folders)?;
        tool.arguments = arguments;
        Ok(tool)
    }

    /// The workload's image, made once.
    pub(super) fn image(&self, ground: &Ground, folders: &Folders) -> Result<&'static str> {
        let tool = self.tool(ground, folders)?;
        if tool.run("image", ["image", "inspect", IMAGE]).is_err() {
            let tar = folders.disk.join("root.tar");
            let mut pack = ground.tool(Path::new("tar"), None, folders)?;
            pack.arguments = vec!["--directory".into(), ground.root().into()];
            pack.run("tar", ["--create".into(), "--file".into(), tar.clone(), ".".into()])?;
            tool.run("import", ["import".into(), tar.into_os_string(), IMAGE.into()])?;
        }
        Ok(IMAGE)
    }

    /// The script that waits for the death of a container and brings it back at once.
    fn recovery(&self, command: &str, container: &str) -> String {
        match self {
            Self::Docker(_) => format!(
                "{command} wait {container} >/dev/null && exec {command} start --checkpoint {CHECKPOINT} {container}"
            ),
            Self::Podman(_) => format!(
                "{command} wait --condition=exited {container} >/dev/null && exec {command} container restore --keep {container}"
            ),
        }
    }
}

struct Container<'a> {
    engine: Engine,
    tool: Tool<'a>,
    shell: Tool<'a>,
    service: Service,
    main: Option<Watched>,
    restoring: Option<Running>,
    folders: Folders,
}

/// Runs the workload in a container.
pub(super) fn start(ground: &Ground, engine: Engine, load: Load) -> Result<Box<dyn Session + '_>> {
    let folders = ground.folders()?;
    let service = Service::new()?;
    let tool = engine.tool(ground, &folders)?;
    let image = engine.image(ground, &folders)?;
    let mut shell = ground.tool(Path::new("sh"), None, &folders)?;
    shell.arguments = vec!["-c".into()];
    let mut arguments = ["run", "--detach", "--network", "host", "--name"].map(str::to_owned).to_vec();
    arguments.extend([folders.mark.clone(), image.to_owned(), crate::bundle::PROGRAM.to_owned()]);
    arguments.extend(load.arguments(service.address()));
    let mut session = Container { engine, tool, shell, service, main: None, restoring: None, folders };
    session.tool.run("run", arguments)?;
    service.wait_until_up(|| Ok(()))?;
    session.find_main()?;
    Ok(Box::new(session))
}

impl Container<'_> {
    fn name(&self) -> String {
        self.folders.mark.clone()
    }

    fn ask(&self, format: &str) -> Result<String> {
        let finished = self.tool.run("inspect", ["inspect", "--format", format, &self.name()])?;
        Ok(finished.stdout()?.trim().to_owned())
    }

    fn find_main(&mut self) -> Result<()> {
        let pid = self.ask("{{.State.Pid}}")?.parse().context("a pid")?;
        self.main = Some(Watched::open(pid)?);
        Ok(())
    }

    /// One checkpoint: how long the command took, how long the service stood still, the counter, and where the images are.
    fn dump(&self, name: &str) -> Result<(Duration, Duration, u64, PathBuf)> {
        let counter = self.service.before_checkpoint()?;
        let container = self.name();
        let finished = match self.engine {
            Engine::Docker(_) => {
                self.tool.run("checkpoint", ["checkpoint", "create", "--leave-running", &container, name])?
            }
            Engine::Podman(_) => self
                .tool
                .run("checkpoint", ["container", "checkpoint", "--keep", "--leave-running", &container])?,
        };
        let pause = self.service.pause()?;
        let images = match self.engine {
            Engine::Docker(_) => {
                let hostname = PathBuf::from(self.ask("{{.HostnamePath}}")?);
                hostname.parent().context("a folder")?.join("checkpoints").join(name)
            }
            Engine::Podman(_) => PathBuf::from(self.ask("{{.StaticDir}}")?).join("checkpoint"),
        };
        Ok((finished.took, pause, counter, images))
    }

    fn wait_dead(&mut self) -> Result<()> {
        self.main.take().context("it runs")?.wait(LIMIT)
    }

    fn bring_back(&mut self) -> Result<()> {
        let words =
            std::iter::once(self.tool.program.clone().into_os_string()).chain(self.tool.arguments.clone());
        let command: Vec<String> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        let script = self.engine.recovery(&command.join(" "), &self.name());
        self.restoring = Some(self.shell.start("restore", [script])?);
        Ok(())
    }

    fn remove(&mut self) -> Result<()> {
        drop(self.restoring.take());
        self.tool.run("remove", ["rm", "--force", &self.name()]).map(drop)
    }
}

impl Session for Container<'_> {
    fn service(&self) -> Service {
        self.service
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let (dumped, pause_to_disk, _, folder) = self.dump("first")?;
        let to_disk = dumped + sync(&folder)?;
        let (to_memory, pause, counter, folder) = self.dump(CHECKPOINT)?;
        Ok(Checkpoint { to_memory, pause, to_disk, pause_to_disk, image: size(&folder)?, counter })
    }

    fn kill(&mut self) -> Result<()> {
        self.main.as_ref().context("it runs")?.kill()
    }

    fn begin_recovery(&mut self) -> Result<()> {
        self.wait_dead()?;
        self.bring_back()
    }

    fn stop(&mut self) -> Result<()> {
        self.kill()?;
        self.wait_dead()?;
        // Until its end is noticed and cleared up after, which is no part of a restore.
        let condition: &[&str] = match self.engine {
            Engine::Docker(_) => &["wait"],
            Engine::Podman(_) => &["wait", "--condition=exited"],
        };
        self.tool.run("wait", condition.iter().copied().chain([self.name().as_str()])).map(drop)
    }

    fn begin_restore(&mut self) -> Result<()> {
        self.bring_back()
    }

    fn check(&mut self) -> Result<()> {
        self.restoring.as_mut().map_or(Ok(()), Running::check)
    }

    fn finish(&mut self) -> Result<()> {
        self.restoring.take().context("a restore was begun")?.finish()?;
        self.find_main()
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.remove()
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // Removed already, if all went well; another time does no harm.
        processes::clear_up(|| self.remove().or(Ok(())));
    }
}
