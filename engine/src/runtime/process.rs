//! Plain processes: we start them, in a pid namespace of their own unless told otherwise.

mod notify;

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use notify::Notify;
use notify::Ready;

use super::{
    Attached, Dump, Dumped, Effect, Features, Folders, Handle, Instance, KnownShim, Place, RestoreFrom,
    Runtime, kill_members,
};
use crate::checkpoint::{self, Plan};
use crate::criu::{DumpTarget, Start, Worker, keep_timers};
use crate::error::{Error, Report, Result};
use crate::process::pidfd::PidFd;
use crate::shim::client::Running;
use crate::shim::{Isolation, Output, Program, Shim, User};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Variables beside `PATH`.
    pub env: Vec<(String, String)>,
    /// Where it starts.
    pub cwd: Option<PathBuf>,
    /// Whom it runs as.
    pub user: Option<User>,
    /// How far it is set apart.
    pub isolation: Isolation,
    /// Its standard output.
    pub stdout: Output,
    /// Its standard error.
    pub stderr: Output,
    /// How it says what it is, if it is asked to.
    pub notify: Option<Notify>,
}

impl Spec {
    /// Names what is run. Where its output goes may change without making it something else.
    fn digest(&self) -> String {
        let what = (&self.command, &self.whole_env(), &self.cwd, &self.user, self.isolation);
        let text = serde_json::to_vec(&what).unwrap_or_default();
        blake3::hash(&text).to_hex().to_string()
    }
}

/// Descriptor numbers, and CRIU's names of the pipes behind them.
type Pipes = Vec<(i32, String)>;

/// What a restore needs to know beside CRIU's images.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Left {
    /// Pipes to the outside.
    pipes: Pipes,
    /// A pid above which the image has none.
    last_pid: i32,
    /// It had said that it is ready: it does not say so again.
    #[serde(default)]
    ready: bool,
}

/// A service that is a plain process.
#[derive(Debug)]
pub struct Process {
    place: Place,
    spec: Spec,
    shim: KnownShim,
    live: Mutex<Option<Instance>>,
}

impl Process {
    /// A service that is not running yet, or not known to be.
    pub fn new(place: Place, spec: Spec) -> Self {
        Self { place, spec, shim: Mutex::new(None), live: Mutex::new(None) }
    }

    async fn start_now(&self) -> Result<Instance> {
        self.place.release_connections().await?;
        let cgroup = self.place.hierarchies.make(&self.place.node, &self.place.service)?;
        let shim = self.shim_for_start().await?;
        self.listen(&shim, &cgroup, Ready::NotYet).await?;
        let mut env = vec![("PATH".to_owned(), default_path())];
        env.retain(|(key, _)| !self.spec.env.iter().any(|(own, _)| own == key));
        env.extend(self.spec.whole_env());
        let program = Program {
            argv: self.spec.command.clone(),
            env,
            cwd: Some(self.spec.cwd.clone().unwrap_or_else(|| "/".into())),
            user: self.spec.user.clone(),
            cgroups: cgroup.procs_files(),
            stdout: self.spec.stdout.clone(),
            stderr: self.spec.stderr.clone(),
            own_mounts: false,
            private_feature_cache: None,
            pids_above: 0,
        };
        let running = shim.start_main(program).await?;
        self.instance(shim, running, cgroup).await
    }

    async fn attach_now(&self, handle: &Handle) -> Result<Attached> {
        if !handle.is_alive() {
            return Ok(Attached::Gone(Instance::end_known_by(&self.place, handle).await));
        }
        let shim = match Shim::connect(&self.place.shim_socket()).await {
            Ok(shim) => shim,
            // Without an own namespace a service outlives its shim. A new one cannot learn its exit status, no more.
            Err(_) if self.spec.isolation == Isolation::None => {
                self.place.shim(&self.shim, self.spec.isolation).await?
            }
            Err(_) => return Ok(Attached::Gone(Instance::end_known_by(&self.place, handle).await)),
        };
        *self.shim.lock().await = Some(shim.clone());
        let (main, pidfd) = shim.hello().await?;
        let known = main.is_some_and(|m| m.pid == handle.inner_pid && m.status.is_none());
        let pidfd = match pidfd {
            Some(pidfd) if known && pidfd.pid() == handle.pid => pidfd,
            _ => PidFd::open(handle.pid)?,
        };
        if !handle.is_alive() {
            return Ok(Attached::Gone(Instance::end_known_by(&self.place, handle).await));
        }
        let said = self.hear_again(&shim, handle).await?;
        let instance = Instance::new(shim, pidfd, handle.inner_pid, handle.cgroup.clone(), None).await?;
        let instance = Instance { said, ..instance };
        *self.live.lock().await = Some(instance.clone());
        Ok(Attached::Running(instance))
    }

    async fn kill_now(&self) -> Result<()> {
        let cgroup = self.place.hierarchies.make(&self.place.node, &self.place.service)?;
        if self.spec.isolation == Isolation::Pid
            && let Some(shim) = self.reachable_shim().await
        {
            // Frozen v1 tasks do not die.
            cgroup.thaw()?;
            shim.kill_all().await?;
        }
        kill_members(&cgroup).await?;
        *self.live.lock().await = None;
        Ok(())
    }

    async fn checkpoint_now(&self, dump: Dump<'_>) -> Result<Dumped> {
        let instance = self.running_instance().await?;
        let shim = &instance.main.shim;
        let work = self.place.criu_folder()?;
        let start = Start {
            images: dump.images,
            work: &work,
            cgroups: Vec::new(),
            own_mounts: false,
            feature_cache: self.feature_cache(),
            inherited: Vec::new(),
            packer: None,
            pids_above: 0,
        };
        let worker = Worker::start(&self.place.criu, shim, start).await?;
        let ready = self.is_ready(shim).await?;
        let left = Left { pipes: self.pipes(instance.handle.pid), last_pid: worker.pid(), ready };
        let state = serde_json::to_value(left)
            .map_err(|e| Error::Internal(Report::new("note what belongs to an image").because(e)))?;
        let images = dump.images;
        let complete = async move {
            keep_timers(images)?;
            self.still(ready, shim).await
        };
        let (before_end, afterwards) = self.place.finishing(
            dump.before_end,
            dump.cut.as_ref(),
            complete,
            images,
            instance.handle.pid,
            state.clone(),
        );
        let plan = Plan {
            target: DumpTarget { pid: instance.handle.inner_pid, ..DumpTarget::default() },
            cgroup: &instance.handle.cgroup,
            shim,
            options: &self.place.options.get(),
            before_end,
            limit: dump.limit,
            pid: instance.handle.pid,
            cut: dump.cut,
        };
        let still = checkpoint::dump(plan, worker, dump.while_frozen).await?;
        afterwards.await?;
        Ok(Dumped { pause: still.pause, thawed: still.until, state })
    }

    async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        let cgroup = self.place.hierarchies.make(&self.place.node, &self.place.service)?;
        let shim = self.shim_for_start().await?;
        let work = self.place.criu_folder()?;
        let left: Left = serde_json::from_value(from.state.clone()).unwrap_or_default();
        let start = Start {
            images: from.images,
            work: &work,
            cgroups: cgroup.procs_files(),
            own_mounts: false,
            feature_cache: self.feature_cache(),
            inherited: self.new_pipes(&shim, &left.pipes).await?,
            packer: None,
            pids_above: left.last_pid,
        };
        self.listen(&shim, &cgroup, if left.ready { Ready::Already } else { Ready::NotYet }).await?;
        let worker = Worker::start(&self.place.criu, &shim, start).await?;
        let pid = worker.restore(&self.place.options.get(), from.limit).await?;
        let running = shim.track(pid).await?;
        self.place.release_connections().await?;
        self.instance(shim, running, cgroup).await
    }

    /// The pipes behind its output, as CRIU names them, and the descriptors that they were.
    fn pipes(&self, pid: i32) -> Pipes {
        let name = |number: i32| {
            let target = std::fs::read_link(format!("/proc/{pid}/fd/{number}")).ok()?;
            let name = target.to_str()?.to_owned();
            name.starts_with("pipe:").then_some((number, name))
        };
        let pumped = [(1, &self.spec.stdout), (2, &self.spec.stderr)];
        pumped.into_iter().filter(|(_, o)| o.is_pumped()).filter_map(|(number, _)| name(number)).collect()
    }

    /// New pipes to the shim in the place of those of the image.
    async fn new_pipes(&self, shim: &Shim, pipes: &Pipes) -> Result<Vec<(String, OwnedFd)>> {
        let mut made = Vec::new();
        for (number, name) in pipes.clone() {
            let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)
                .map_err(|e| Error::Unavailable(Report::new("make a pipe").because(e)))?;
            let output = if number == 1 { &self.spec.stdout } else { &self.spec.stderr };
            shim.pump(read.as_fd(), output.clone()).await?;
            made.push((name, write));
        }
        Ok(made)
    }

    async fn instance(
        &self,
        shim: Shim,
        running: Running,
        cgroup: crate::freeze::Cgroup,
    ) -> Result<Instance> {
        let pidfd = running.pidfd.ok_or_else(|| {
            Error::Unavailable(Report::new("the service's main process ended as it started"))
        })?;
        let said = self.spec.notify.as_ref().map(|_| shim.follow());
        let instance = Instance { said, ..Instance::new(shim, pidfd, running.pid, cgroup, None).await? };
        *self.live.lock().await = Some(instance.clone());
        Ok(instance)
    }

    /// Without an own mount namespace CRIU must stand in the host's, where nothing is to be covered.
    fn feature_cache(&self) -> Option<&Path> {
        match self.spec.isolation {
            Isolation::Pid => self.place.criu.feature_cache(),
            Isolation::None => None,
        }
    }

    async fn running_instance(&self) -> Result<Instance> {
        self.live
            .lock()
            .await
            .clone()
            .ok_or_else(|| Error::Unavailable(Report::new("the service does not run")))
    }

    async fn reachable_shim(&self) -> Option<Shim> {
        let mut known = self.shim.lock().await;
        if !known.as_ref().is_some_and(Shim::is_connected) {
            *known = Shim::connect(&self.place.shim_socket()).await.ok();
        }
        known.clone()
    }

    async fn remove_now(&self) -> Result<()> {
        self.kill_now().await?;
        if let Some(shim) = self.reachable_shim().await {
            shim.quit().await?;
        }
        *self.shim.lock().await = None;
        self.place.hierarchies.make(&self.place.node, &self.place.service)?.remove()
    }
}

impl Runtime for Process {
    fn features(&self) -> Features {
        let versions = vec![("criu".to_owned(), self.place.criu.version().to_owned())];
        Features { kind: "process", program: self.spec.digest(), versions }
    }

    fn start(&self) -> Effect<'_, Instance> {
        Box::pin(self.start_now())
    }

    fn attach<'a>(&'a self, handle: &'a Handle) -> Effect<'a, Attached> {
        Box::pin(self.attach_now(handle))
    }

    fn kill(&self) -> Effect<'_, ()> {
        Box::pin(self.kill_now())
    }

    fn checkpoint<'a>(&'a self, dump: Dump<'a>) -> Effect<'a, Dumped> {
        Box::pin(self.checkpoint_now(dump))
    }

    fn restore<'a>(&'a self, from: RestoreFrom<'a>) -> Effect<'a, Instance> {
        Box::pin(self.restore_now(from))
    }

    fn folders(&self) -> Effect<'_, Folders> {
        Box::pin(std::future::ready(Ok(Folders::default())))
    }

    fn give_up_suspended(&self) -> Effect<'_, ()> {
        Box::pin(self.place.release_connections())
    }

    fn remove(&self) -> Effect<'_, ()> {
        Box::pin(self.remove_now())
    }
}

fn default_path() -> String {
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
}
