//! Plain processes: we start them, in a pid namespace of their own unless told otherwise.

use std::path::PathBuf;

use tokio::sync::Mutex;

use super::{Dump, Dumped, Effect, Features, Handle, Instance, Place, RestoreFrom, Runtime, kill_members};
use crate::checkpoint::{self, Plan};
use crate::criu::{DumpTarget, Worker};
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
}

/// A service that is a plain process.
#[derive(Debug)]
pub struct Process {
    place: Place,
    spec: Spec,
    shim: Mutex<Option<Shim>>,
    live: Mutex<Option<Instance>>,
}

impl Process {
    /// A service that is not running yet, or not known to be.
    pub fn new(place: Place, spec: Spec) -> Self {
        Self { place, spec, shim: Mutex::new(None), live: Mutex::new(None) }
    }

    async fn start_now(&self) -> Result<Instance> {
        let cgroup = self.place.hierarchies.make(&self.place.node, &self.place.service)?;
        let shim = self.shim().await?;
        let mut env = vec![("PATH".to_owned(), default_path())];
        env.retain(|(key, _)| !self.spec.env.iter().any(|(own, _)| own == key));
        env.extend(self.spec.env.iter().cloned());
        let program = Program {
            argv: self.spec.command.clone(),
            env,
            cwd: Some(self.spec.cwd.clone().unwrap_or_else(|| "/".into())),
            user: self.spec.user.clone(),
            cgroups: cgroup.procs_files(),
            stdout: self.spec.stdout.clone(),
            stderr: self.spec.stderr.clone(),
            private_feature_cache: None,
        };
        let running = shim.start_main(program).await?;
        self.instance(shim, running, cgroup).await
    }

    async fn attach_now(&self, handle: &Handle) -> Result<Option<Instance>> {
        if !handle.is_alive() {
            return Ok(None);
        }
        let shim = match Shim::connect(&self.place.shim_socket()).await {
            Ok(shim) => shim,
            // Without an own namespace a service outlives its shim. A new one cannot learn its exit status, no more.
            Err(_) if self.spec.isolation == Isolation::None => self.shim().await?,
            Err(_) => return Ok(None),
        };
        *self.shim.lock().await = Some(shim.clone());
        let (main, pidfd) = shim.hello().await?;
        let known = main.is_some_and(|m| m.pid == handle.inner_pid && m.status.is_none());
        let pidfd = match pidfd {
            Some(pidfd) if known && pidfd.pid() == handle.pid => pidfd,
            _ => PidFd::open(handle.pid)?,
        };
        if !handle.is_alive() {
            return Ok(None);
        }
        let instance = Instance::new(shim, pidfd, handle.inner_pid, handle.cgroup.clone()).await?;
        *self.live.lock().await = Some(instance.clone());
        Ok(Some(instance))
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
        let worker = Worker::start(&self.place.criu, shim, dump.images, &work, Vec::new()).await?;
        let plan = Plan {
            target: DumpTarget { pid: instance.handle.inner_pid, ..DumpTarget::default() },
            cgroup: &instance.handle.cgroup,
            shim,
            options: &self.place.options,
            stay_dead: dump.stay_dead,
            limit: dump.limit,
            pid: instance.handle.pid,
        };
        let pause = checkpoint::dump(plan, worker, dump.while_frozen).await?;
        Ok(Dumped { pause, state: serde_json::Value::Null })
    }

    async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        let cgroup = self.place.hierarchies.make(&self.place.node, &self.place.service)?;
        let shim = self.shim().await?;
        let work = self.place.criu_folder()?;
        let worker = Worker::start(&self.place.criu, &shim, from.images, &work, cgroup.procs_files()).await?;
        let pid = worker.restore(&self.place.options, from.limit).await?;
        let running = shim.track(pid).await?;
        self.instance(shim, running, cgroup).await
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
        let instance = Instance::new(shim, pidfd, running.pid, cgroup).await?;
        *self.live.lock().await = Some(instance.clone());
        Ok(instance)
    }

    async fn running_instance(&self) -> Result<Instance> {
        self.live
            .lock()
            .await
            .clone()
            .ok_or_else(|| Error::Unavailable(Report::new("the service does not run")))
    }

    /// The shim that is connected, or else an older supervisor's, or else a new one.
    async fn shim(&self) -> Result<Shim> {
        if let Some(shim) = self.reachable_shim().await {
            return Ok(shim);
        }
        let socket = self.place.shim_socket();
        let started = Shim::start(&self.place.program, &socket, self.spec.isolation).await?;
        *self.shim.lock().await = Some(started.clone());
        Ok(started)
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
        Features { kind: "process", versions, root_folder: None }
    }

    fn start(&self) -> Effect<'_, Instance> {
        Box::pin(self.start_now())
    }

    fn attach<'a>(&'a self, handle: &'a Handle) -> Effect<'a, Option<Instance>> {
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

    fn remove(&self) -> Effect<'_, ()> {
        Box::pin(self.remove_now())
    }
}

fn default_path() -> String {
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()
}
