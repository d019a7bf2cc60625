//! Bare `runc` on a container, as somebody who scripts it would: checkpoint and leave running; wait for the death, restore.
//!
//! A restore takes a new id, so that deleting the dead container is not in its way: the peer at its best.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::criu::{make_folder, size, sync};
use super::{Checkpoint, Session};
use crate::ground::{Folders, Ground, Load};
use crate::namespace::Namespace;
use crate::processes::{self, Watched};
use crate::service::Service;
use crate::tool::{LIMIT, Running, Tool};
use crate::{bundle, cgroups};

struct Runc<'a> {
    tool: Tool<'a>,
    service: Service,
    /// The container's first process; none while it is away.
    main: Option<Watched>,
    restoring: Option<Running>,
    /// Containers that runc knows, the living one last.
    containers: Vec<String>,
    folders: Folders,
}

/// Runs the workload in a container.
pub(super) fn start<'a>(
    ground: &'a Ground,
    namespace: Option<&'a Namespace>,
    load: Load,
) -> Result<Box<dyn Session + 'a>> {
    let folders = ground.folders()?;
    let service = Service::new()?;
    let program = ground.runc.as_ref().context("runc is not installed")?;
    let mut tool = ground.tool(program, namespace, &folders)?;
    let log = folders.disk.join("runc.log");
    tool.arguments = vec!["--root".into(), folders.disk.join("root").into(), "--log".into(), log.into()];
    tool.own_logs =
        ["work/dump.log", "work/restore.log", "runc.log"].map(|name| folders.disk.join(name)).to_vec();
    let mut session = Runc { tool, service, main: None, restoring: None, containers: Vec::new(), folders };
    bundle::make(program, &session.bundle(), &ground.root(), &load.arguments(service.address()))?;
    let arguments = session.detached("run");
    session.tool.run("run", arguments)?;
    service.wait_until_up(|| Ok(()))?;
    session.find_main()?;
    Ok(Box::new(session))
}

impl Runc<'_> {
    /// The command line that leads to a new, detached container; without its id, which is added here.
    fn detached(&mut self, verb: &str) -> Vec<PathBuf> {
        let id = format!("{}-{}", self.folders.mark, self.containers.len());
        let mut arguments = [verb, "--detach", "--pid-file"].map(PathBuf::from).to_vec();
        arguments.extend([self.pid_file(), "--bundle".into(), self.bundle()]);
        if verb == "restore" {
            arguments.extend(["--image-path".into(), self.images(), "--work-path".into(), self.work()]);
        }
        arguments.push(id.clone().into());
        self.containers.push(id);
        arguments
    }

    fn find_main(&mut self) -> Result<()> {
        let path = self.pid_file();
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let pid = text.trim().parse().with_context(|| format!("no pid in {}", path.display()))?;
        self.main = Some(Watched::open(pid)?);
        Ok(())
    }

    /// One checkpoint: how long the command took, and how long the service stood still.
    fn dump(&self, folder: &Path) -> Result<(Duration, Duration, u64)> {
        make_folder(folder)?;
        let counter = self.service.before_checkpoint()?;
        let id = self.containers.last().context("a container runs")?;
        let mut arguments = ["checkpoint", "--leave-running", "--image-path"].map(PathBuf::from).to_vec();
        arguments.extend([folder.to_owned(), "--work-path".into(), self.work(), id.into()]);
        let finished = self.tool.run("checkpoint", arguments)?;
        Ok((finished.took, self.service.pause()?, counter))
    }

    fn bundle(&self) -> PathBuf {
        self.folders.disk.join("bundle")
    }

    fn images(&self) -> PathBuf {
        self.folders.memory.join("images")
    }

    fn work(&self) -> PathBuf {
        self.folders.disk.join("work")
    }

    fn pid_file(&self) -> PathBuf {
        self.folders.disk.join("pid")
    }

    fn clear(&mut self) -> Result<()> {
        let main = self.main.take().context("it runs")?;
        main.wait(LIMIT)?;
        processes::reap(main.pid())
    }

    /// Ends every container and takes it off runc's list, its cgroups with it.
    fn delete(&mut self) -> Result<()> {
        drop(self.restoring.take());
        cgroups::thaw(&self.folders.mark);
        processes::end_descendants()?;
        let containers = std::mem::take(&mut self.containers).into_iter();
        let deleted = containers.map(|id| self.tool.run("delete", ["delete", "--force", &id]).map(drop));
        let deleted: Vec<Result<()>> = deleted.collect();
        // What runc could not delete is cleared all the same.
        cgroups::remove(&self.folders.mark);
        deleted.into_iter().collect()
    }
}

impl Session for Runc<'_> {
    fn service(&self) -> Service {
        self.service
    }

    fn checkpoint(&mut self) -> Result<Checkpoint> {
        let on_disk = self.folders.disk.join("images");
        let (dumped, pause_to_disk, _) = self.dump(&on_disk)?;
        let to_disk = dumped + sync(&on_disk)?;
        let (to_memory, pause, counter) = self.dump(&self.images())?;
        Ok(Checkpoint { to_memory, pause, to_disk, pause_to_disk, image: size(&self.images())?, counter })
    }

    fn kill(&mut self) -> Result<()> {
        self.main.as_ref().context("it runs")?.kill()
    }

    fn begin_recovery(&mut self) -> Result<()> {
        self.clear()?;
        self.begin_restore()
    }

    fn stop(&mut self) -> Result<()> {
        self.kill()?;
        self.clear()
    }

    fn begin_restore(&mut self) -> Result<()> {
        let arguments = self.detached("restore");
        self.restoring = Some(self.tool.start("restore", arguments)?);
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.restoring.as_mut().map_or(Ok(()), Running::check)
    }

    fn finish(&mut self) -> Result<()> {
        self.restoring.take().context("a restore was begun")?.finish()?;
        self.find_main()
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.stop()?;
        self.delete()
    }
}

impl Drop for Runc<'_> {
    fn drop(&mut self) {
        processes::clear_up(|| self.delete());
    }
}
