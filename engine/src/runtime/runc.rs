//! Containers of an OCI bundle, run by `runc`.
//!
//! `runc` starts, restores and deletes; the dump is asked of CRIU directly, with the options that `runc restore`
//! expects of it. That saves runc's start-up and polling, and lets the freeze begin when CRIU is ready and not before.
//! The user's bundle is never written to: runc is given a folder of ours with an edited copy of its
//! `config.json`.

mod bundle;
pub(super) mod dump;
pub(super) mod state;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::Mutex;

use super::{
    Attached, Dump, Dumped, Effect, Features, Folders, Handle, Instance, KnownShim, Place, RestoreFrom, Root,
    Runtime, kill_members,
};
use crate::criu::{Tcp, log};
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;
use crate::process::pidfd::PidFd;
use crate::shim::{Isolation, Output, Program, Shim};

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The bundle's folder.
    pub bundle: PathBuf,
    /// The `runc` binary.
    pub program: PathBuf,
    /// Its version.
    pub version: String,
    /// The folder of runc's own state.
    pub root: PathBuf,
    /// Where the container's output goes.
    pub log: PathBuf,
}

/// How long runc may take for what is not a restore.
const RUNC_MAX: Duration = Duration::from_secs(30);

/// A service that is a container of runc.
#[derive(Debug)]
pub struct Runc {
    place: Place,
    spec: Spec,
    shim: KnownShim,
    live: Mutex<Option<Instance>>,
}

impl Runc {
    /// A container that is not running yet, or not known to be. The bundle is looked at, so that what is wrong with it is said at once.
    pub fn new(place: Place, spec: Spec) -> Result<Self> {
        bundle::Bundle::read(&spec.bundle)?;
        Ok(Self { place, spec, shim: Mutex::new(None), live: Mutex::new(None) })
    }

    async fn start_now(&self) -> Result<Instance> {
        self.place.release_connections().await?;
        let folder = self.prepare_bundle()?;
        let shim = self.place.shim_for_start(&self.shim, Isolation::None).await?;
        let pid_file = self.pid_file();
        let arguments = ["run", "--detach", "--pid-file", &text(&pid_file), "--bundle", &text(&folder)];
        self.runc(&shim, &arguments, RUNC_MAX, true).await?;
        self.instance(shim).await
    }

    async fn attach_now(&self, handle: &Handle) -> Result<Attached> {
        if !handle.is_alive() {
            return Ok(Attached::Gone(Instance::end_known_by(&self.place, handle).await));
        }
        let shim = self.place.shim(&self.shim, Isolation::None).await?;
        let pidfd = PidFd::open(handle.pid)?;
        if !handle.is_alive() {
            return Ok(Attached::Gone(Instance::end_known_by(&self.place, handle).await));
        }
        let instance = Instance::new(shim, pidfd, handle.inner_pid, handle.cgroup.clone(), None).await?;
        *self.live.lock().await = Some(instance.clone());
        Ok(Attached::Running(instance))
    }

    async fn kill_now(&self) -> Result<()> {
        if let Some(instance) = self.live.lock().await.take() {
            // runc cannot delete what is frozen.
            instance.handle.cgroup.thaw()?;
        }
        if self.state_folder().exists() {
            if let Ok(state) = state::State::read(&self.state_folder()) {
                kill_members(&state.cgroup()).await?;
            }
            let shim = self.place.shim(&self.shim, Isolation::None).await?;
            self.runc(&shim, &["delete", "--force"], RUNC_MAX, false).await?;
        }
        kill_members(&self.own_cgroup()).await
    }

    async fn checkpoint_now(&self, dump: Dump<'_>) -> Result<Dumped> {
        let instance = self.live.lock().await.clone();
        let instance = instance.ok_or_else(|| Error::Unavailable(Report::new("the service does not run")))?;
        let options = self.place.options.get();
        let (folder, complete) = (self.state_folder(), Box::pin(std::future::ready(Ok(()))));
        dump::container(&self.place, &instance, &folder, &options, dump, complete, serde_json::Value::Null)
            .await
    }

    async fn restore_now(&self, from: RestoreFrom<'_>) -> Result<Instance> {
        let folder = self.prepare_bundle()?;
        let shim = self.place.shim_for_start(&self.shim, Isolation::None).await?;
        let work = self.place.criu_folder()?;
        let (pid_file, images, folder, work_text) =
            (text(&self.pid_file()), text(from.images), text(&folder), text(&work));
        let mut arguments = vec!["restore", "--detach", "--pid-file", &pid_file, "--bundle", &folder];
        arguments.extend(["--image-path", &images, "--work-path", &work_text]);
        let options = self.place.options.get();
        let tcp = options.tcp != Tcp::Close;
        let switches = [
            (tcp, "--tcp-established"),
            (options.file_locks, "--file-locks"),
            (options.ext_unix_sk, "--ext-unix-sk"),
        ];
        arguments.extend(switches.iter().filter(|(on, _)| *on).map(|(_, name)| *name));
        let restored = self.runc(&shim, &arguments, from.limit, true).await;
        restored.map_err(|error| with_criu_log(error, &work.join("restore.log")))?;
        self.place.release_connections().await?;
        self.instance(shim).await
    }

    async fn instance(&self, shim: Shim) -> Result<Instance> {
        let path = self.pid_file();
        let pid =
            std::fs::read_to_string(&path).ok().and_then(|p| p.trim().parse().ok()).ok_or_else(|| {
                Error::Internal(Report::new(format!("read runc's pid file {}", path.display())))
            })?;
        let running = shim.track(pid).await?;
        let cgroup = state::State::read(&self.state_folder())?.cgroup();
        let pidfd = running.pidfd.ok_or_else(|| {
            Error::Unavailable(Report::new("the container's first process ended as it started"))
        })?;
        let instance = Instance::new(shim, pidfd, pid, cgroup, None).await?;
        *self.live.lock().await = Some(instance.clone());
        Ok(instance)
    }

    /// Runs runc with the container's id last, as a child of the shim, so that what it leaves running is the shim's.
    async fn runc(&self, shim: &Shim, arguments: &[&str], limit: Duration, with_output: bool) -> Result<()> {
        let log = self.place.run_folder.join("runc.log");
        durable::remove_file(&log)?;
        let root = text(&self.spec.root);
        let mut argv = vec![text(&self.spec.program), "--root".to_owned(), root];
        argv.extend(["--log".to_owned(), text(&log), "--log-format".to_owned(), "json".to_owned()]);
        argv.extend(arguments.iter().map(|a| (*a).to_owned()));
        argv.push(self.container());
        let output = if with_output { Output::Pumped(self.spec.log.clone()) } else { Output::Null };
        let program = Program {
            argv,
            env: vec![("PATH".to_owned(), self.path_with_criu())],
            cwd: Some("/".into()),
            stdout: output.clone(),
            stderr: output,
            own_mounts: true,
            private_feature_cache: self.place.criu.feature_cache().map(Path::to_owned),
            ..Program::default()
        };
        let running = shim.work(program, &[]).await?;
        let what = arguments.first().copied().unwrap_or_default();
        if let Some(pidfd) = &running.pidfd
            && tokio::time::timeout(limit, pidfd.ended()).await.is_err()
        {
            pidfd.signal(libc::SIGKILL)?;
            let limit = humantime::format_duration(limit);
            let report = Report::new(format!("runc {what} did not finish within {limit}; it was killed"));
            return Err(Error::Unavailable(report.output(messages(&log))));
        }
        match shim.exit_status(running.pid).await {
            Some(0) => Ok(()),
            status => {
                let status = status.map_or("unknown".to_owned(), |s| (s >> 8 & 0xff).to_string());
                let report = Report::new(format!("runc {what} failed with exit code {status}"));
                Err(Error::Unavailable(report.output(messages(&log))))
            }
        }
    }

    fn prepare_bundle(&self) -> Result<PathBuf> {
        let folder = self.place.run_folder.join("bundle");
        let config = self.place.run_folder.join("criu.conf");
        durable::create_dir(&folder)?;
        let mut lines = "network-lock skip\n".to_owned();
        if self.place.options.get().tcp == Tcp::Close {
            lines.push_str("tcp-close\n");
        }
        durable::atomic_write_volatile(&config, lines.as_bytes(), 0o600)?;
        let cgroup = self.cgroup_name();
        let bundle = bundle::Bundle::read(&self.spec.bundle)?;
        let edited = bundle.edited(&cgroup, &config)?;
        durable::atomic_write_volatile(&folder.join("config.json"), &edited, 0o600)?;
        Ok(folder)
    }

    /// runc looks for `criu` in its PATH.
    fn path_with_criu(&self) -> String {
        let own = std::env::var("PATH").unwrap_or_else(|_| "/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
        match self.place.criu.program().parent().filter(|p| p.is_absolute()) {
            Some(folder) => format!("{}:{own}", folder.display()),
            None => own,
        }
    }

    /// One name and no folder above it: runc makes it in every hierarchy and removes only the last part.
    fn cgroup_name(&self) -> String {
        format!("supervisor-{}@{}", self.place.node, self.place.service)
    }

    /// Where the container is unless its bundle names another cgroup.
    fn own_cgroup(&self) -> Cgroup {
        self.place.hierarchies.cgroup(&self.cgroup_name())
    }

    fn container(&self) -> String {
        self.place.service.clone()
    }

    fn pid_file(&self) -> PathBuf {
        self.place.run_folder.join("container.pid")
    }

    fn state_folder(&self) -> PathBuf {
        self.spec.root.join(self.container())
    }

    async fn remove_now(&self) -> Result<()> {
        self.kill_now().await?;
        if let Ok(shim) = Shim::connect(&self.place.shim_socket()).await {
            shim.quit().await?;
        }
        *self.shim.lock().await = None;
        self.own_cgroup().remove()
    }
}

impl Runtime for Runc {
    fn features(&self) -> Features {
        let bundle = bundle::Bundle::read(&self.spec.bundle).ok();
        let program = bundle.as_ref().map(bundle::Bundle::digest).unwrap_or_default();
        let criu = ("criu".to_owned(), self.place.criu.version().to_owned());
        let runc = ("runc".to_owned(), self.spec.version.clone());
        Features { kind: "runc", program, versions: vec![criu, runc] }
    }

    fn folders(&self) -> Effect<'_, Folders> {
        let root =
            bundle::Bundle::read(&self.spec.bundle).map(|bundle| bundle.writable_root().map(Root::Whole));
        Box::pin(std::future::ready(root.map(|root| Folders { root, ..Folders::default() })))
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

    fn give_up_suspended(&self) -> Effect<'_, ()> {
        Box::pin(self.place.release_connections())
    }

    fn remove(&self) -> Effect<'_, ()> {
        Box::pin(self.remove_now())
    }
}

/// The messages in runc's log, the last ones.
fn messages(log: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let message = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(value.get("msg")?.as_str()?.to_owned())
    };
    let all: Vec<String> = text.lines().filter_map(message).collect();
    all[all.len().saturating_sub(4)..].to_vec()
}

fn with_criu_log(error: Error, log: &Path) -> Error {
    match error {
        Error::Unavailable(report) => Error::Unavailable(report.output(log::telling_lines(log))),
        other => other,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
