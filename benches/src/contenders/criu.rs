//! Bare `criu` on a plain process, as somebody who scripts it would: dump and leave running; wait for the death, restore.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Checkpoint, Session};
use crate::ground::{Folders, Ground, Load};
use crate::namespace::Namespace;
use crate::processes::{self, Watched};
use crate::service::Service;
use crate::tool::{LIMIT, Running, Tool};

struct Criu<'a> {
    tool: Tool<'a>,
    service: Service,
    /// The main process; none while it is away.
    main: Option<Watched>,
    pid: i32,
    restoring: Option<Running>,
    folders: Folders,
}

/// Starts the workload, as its own session, without a terminal.
pub(super) fn start<'a>(
    ground: &'a Ground,
    namespace: Option<&'a Namespace>,
    load: Load,
) -> Result<Box<dyn Session + 'a>> {
    let folders = ground.folders()?;
    let service = Service::new()?;
    let mut arguments = load.arguments(service.address());
    arguments.extend(["--log".to_owned(), folders.disk.join("memhog.log").display().to_string()]);
    let workload = ground.tool(&ground.memhog, namespace, &folders)?;
    let pid = workload.start("memhog", arguments)?.let_go()?;
    let tool = ground.tool(&ground.criu, namespace, &folders)?;
    let main = Watched::open(pid)?;
    let session = Criu { tool, service, main: Some(main), pid, restoring: None, folders };
    service.wait_until_up(|| session.main.as_ref().map_or(Ok(()), Watched::check_alive))?;
    Ok(Box::new(session))
}

impl Criu<'_> {
    /// One dump: how long the command took, and how long the service stood still.
    fn dump(&self, folder: &Path) -> Result<(Duration, Duration, u64)> {
        make_folder(folder)?;
        let counter = self.service.before_checkpoint()?;
        let pid = self.pid.to_string();
        let arguments = ["dump", "--leave-running", "--tree", &pid, "--images-dir"].map(PathBuf::from);
        let finished = self.tool.run("dump", arguments.into_iter().chain([folder.to_owned()]))?;
        Ok((finished.took, self.service.pause()?, counter))
    }

    fn images(&self) -> PathBuf {
        self.folders.memory.join("images")
    }

    /// The first process is dead; its pids are to be free before criu asks for them.
    fn clear(&mut self) -> Result<()> {
        let main = self.main.take().context("it runs")?;
        main.wait(LIMIT)?;
        processes::reap(main.pid())?;
        // Children end with their parent, by themselves; they are ours to reap.
        processes::end_descendants()
    }
}

impl Session for Criu<'_> {
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
        let arguments = ["restore", "--restore-detached", "--images-dir"].map(PathBuf::from);
        self.restoring = Some(self.tool.start("restore", arguments.into_iter().chain([self.images()]))?);
        Ok(())
    }

    fn check(&mut self) -> Result<()> {
        self.restoring.as_mut().map_or(Ok(()), Running::check)
    }

    fn finish(&mut self) -> Result<()> {
        self.restoring.take().context("a restore was begun")?.finish()?;
        self.main = Some(Watched::open(self.pid)?);
        Ok(())
    }

    fn end(mut self: Box<Self>) -> Result<()> {
        self.stop()
    }
}

impl Drop for Criu<'_> {
    fn drop(&mut self) {
        drop(self.restoring.take());
        processes::clear_up(processes::end_descendants);
    }
}

/// Makes an image durable: each file, then the folder. Gives how long it took.
pub(super) fn sync(folder: &Path) -> Result<Duration> {
    let begun = Instant::now();
    for path in files(folder)?.into_iter().chain([folder.to_owned()]) {
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.with_context(|| format!("sync {}", path.display()))?;
    }
    Ok(begun.elapsed())
}

/// Bytes of all files in a folder.
pub(super) fn size(folder: &Path) -> Result<u64> {
    let length = |path: PathBuf| path.metadata().map(|found| found.len());
    files(folder)?.into_iter().map(length).sum::<std::io::Result<u64>>().context("measure an image")
}

pub(super) fn make_folder(folder: &Path) -> Result<()> {
    std::fs::create_dir(folder).with_context(|| format!("make {}", folder.display()))
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<Result<_, _>>().context("read an image's folder")?;
    Ok(paths.into_iter().filter(|path| path.is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_synced_and_measured() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("a"), "12345").expect("written");
        std::fs::write(folder.path().join("b"), "123").expect("written");
        sync(folder.path()).expect("synced");
        assert_eq!(size(folder.path()).expect("measured"), 8);
    }
}
