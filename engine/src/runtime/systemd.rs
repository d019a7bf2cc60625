//! Units of systemd that exist: started, watched and stopped through systemd, so that it knows the service as its own all the time.
//!
//! ```text
//! dump      CRIU, asked directly, on the unit's main process; the freeze is of the unit's own cgroup
//! restore   a drop-in in /run makes our own program what the unit starts; it has CRIU restore the image inside of the unit's cgroup, names
//!           the main process by a pid file and ends; the drop-in goes. The restored process is systemd's child again.
//! ```
//!
//! See `docs/decisions/0011-units.md`. What it refuses: writing to the unit itself, and dumping what could not be restored
//! (`fitness`).

mod drop_in;
mod fitness;
mod restore;
mod restorer;
mod told;

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

pub use self::fitness::doubts;
pub use self::restorer::main;

use self::drop_in::DropIn;
use self::restorer::Stream;
use self::told::{Fate, Told};
use super::{
    Attached, Dump, Dumped, Effect, Ended, Features, Folders, Handle, Instance, KnownShim, Place,
    RestoreFrom, Runtime, kill_members,
};
use crate::checkpoint::{self, Plan};
use crate::criu::{DumpTarget, Options, Start, Worker, keep_timers};
use crate::error::{Error, Report, Result};
use crate::freeze::Cgroup;
use crate::process::pidfd::PidFd;
use crate::shim::{Isolation, Shim};
use crate::systemd::{JobKind, Load, Systemd, Unit, is_booted};

/// How long a cold start may take here; the service's own limit stands before that.
const START_MAX: Duration = Duration::from_secs(600);
/// How long systemd may take to see that a unit whose processes were killed has ended.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What is to be run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// The unit's name.
    pub unit: String,
    /// How systemd is reached.
    pub systemd: Systemd,
}

/// A service that is a unit of systemd's.
#[derive(Debug)]
pub struct SystemdUnit {
    place: Place,
    spec: Spec,
    shim: KnownShim,
    live: Mutex<Option<Live>>,
}

/// The unit while it runs.
#[derive(Debug, Clone)]
struct Live {
    instance: Instance,
    fate: Arc<Fate>,
}

/// What a restore needs to know beside CRIU's images.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Left {
    /// What the unit ran.
    command: Vec<String>,
    /// Its output's connections to the outside.
    streams: Vec<Stream>,
    /// Its processes' pids.
    pids: Vec<i32>,
}

impl SystemdUnit {
    /// A unit that is not running, or not known to be.
    pub fn new(place: Place, spec: Spec) -> Self {
        Self { place, spec, shim: Mutex::new(None), live: Mutex::new(None) }
    }

    /// The unit as it is, with or without a file. What systemd has read of a drop-in that is gone does not count.
    async fn known(&self) -> Result<Unit> {
        let unit = self.spec.systemd.unit(&self.spec.unit).await?;
        if !restorer::is_ours(&unit.command) || self.drop_in().exists() {
            return Ok(unit);
        }
        self.spec.systemd.reload().await?;
        self.spec.systemd.unit(&self.spec.unit).await
    }

    /// The unit, which must exist.
    async fn found(&self) -> Result<Unit> {
        let name = &self.spec.unit;
        if !is_booted() {
            let report = Report::new(format!("find the unit {name}: this host is not run by a systemd"));
            return Err(Error::Invalid(report.remedy("run the service as a process or in a container")));
        }
        let unit = self.known().await?;
        let remedy = match unit.load {
            Load::Loaded => return Ok(unit),
            Load::NotFound => "install it, or mend its name in the service's systemd table".to_owned(),
            Load::Masked => format!("`systemctl unmask {name}`"),
            Load::Bad => format!("`systemctl status {name}` says what is wrong with it"),
        };
        Err(Error::Refused(Report::new(format!("find the unit {name}")).remedy(remedy)))
    }

    async fn start_now(&self) -> Result<Instance> {
        self.place.release_connections().await?;
        self.take_drop_in_away().await?;
        let unit = self.found().await?;
        self.warn().await;
        self.place.shim_for_start(&self.shim, Isolation::None).await?;
        // Somebody may be starting it just now.
        let unit = if unit.is_settled() { unit } else { self.settled().await? };
        if unit.is_active() && unit.main.is_some() {
            tracing::info!(service = self.place.service, "the unit runs already: taken over as it is");
            return self.instance(&unit).await;
        }
        self.spec.systemd.forgive(&self.spec.unit).await?;
        let unit = self.spec.systemd.start(&self.spec.unit, START_MAX).await?;
        self.instance(&unit).await
    }

    async fn settled(&self) -> Result<Unit> {
        self.spec.systemd.settled(&self.spec.unit, START_MAX).await
    }

    /// Says what would fight us.
    async fn warn(&self) {
        for doubt in doubts(&self.spec.systemd, &self.spec.unit).await {
            tracing::warn!(service = self.place.service, "{doubt}");
        }
    }

    async fn attach_now(&self, handle: &Handle) -> Result<Attached> {
        self.take_drop_in_away().await?;
        if handle.is_alive() {
            // systemd may be away for a moment; its word is not needed.
            let unit = self.known().await.unwrap_or_default();
            let instance = self.instance_of(handle.pid, handle.cgroup.clone(), unit.restarts).await?;
            return Ok(Attached::Running(instance));
        }
        let fenced = Instance::end_known_by(&self.place, handle).await.fenced;
        let unit = self.known().await?;
        if unit.main.is_some() {
            // Somebody has started it again.
            return self.instance(&unit).await.map(Attached::Running);
        }
        let ended = match same_boot(handle) {
            true => told::ended_since(&unit, handle.pid),
            false => Ended::default(),
        };
        Ok(Attached::Gone(Ended { fenced, ..ended }))
    }

    async fn kill_now(&self) -> Result<()> {
        // What somebody else has started anew is theirs.
        if self.live.lock().await.take_if(|live| live.fate.is_others()).is_some() {
            return Ok(());
        }
        let live = self.live.lock().await.clone();
        let unit = match self.known().await {
            Ok(unit) => unit,
            // Without a systemd no unit runs.
            Err(_) if live.is_none() && !is_booted() => return Ok(()),
            Err(error) => {
                // Dead is what it must be; that systemd is to know it has time.
                if let Some(live) = live {
                    kill_members(&live.instance.handle.cgroup).await?;
                }
                return Err(error);
            }
        };
        if let Some(live) = &live {
            self.leave_to_others(&unit, live).await?;
            live.fate.ends_by_us();
        }
        let known = live.iter().map(|live| &live.instance.handle.cgroup);
        for cgroup in self.cgroup(&unit)?.iter().chain(known) {
            kill_members(cgroup).await?;
        }
        if unit.load == Load::Loaded {
            self.spec.systemd.stop(&self.spec.unit, SETTLE_MAX).await?;
            self.spec.systemd.forgive(&self.spec.unit).await?;
        }
        self.take_drop_in_away().await?;
        *self.live.lock().await = None;
        Ok(())
    }

    /// While somebody else has systemd stop it nothing is done; when it has ended whoever watches it hears why.
    async fn leave_to_others(&self, unit: &Unit, live: &Live) -> Result<()> {
        let by_others = unit.active == "deactivating" && unit.job == Some(JobKind::Stop);
        if !by_others || live.fate.is_ours() {
            return Ok(());
        }
        let text = format!("kill {}: it is being stopped through systemd", self.spec.unit);
        let _ = self.spec.systemd.settled(&self.spec.unit, SETTLE_MAX).await;
        Err(Error::Unavailable(Report::new(text)))
    }

    async fn checkpoint_now(&self, dump: Dump<'_>) -> Result<Dumped> {
        let instance = self.running_instance().await?;
        let unit = self.found().await?;
        fitness::check(&self.spec, &unit, &instance.handle).await?;
        if dump.before_end.is_some() {
            fitness::may_end(&self.spec.unit, &unit)?;
        }
        let (shim, pid) = (&instance.main.shim, instance.handle.pid);
        let left = Left {
            command: unit.command,
            streams: restorer::streams(pid),
            pids: instance.handle.cgroup.members(),
        };
        let state = serde_json::to_value(&left)
            .map_err(|e| Error::Internal(Report::new("note what belongs to an image").because(e)))?;
        let work = self.place.criu_folder()?;
        let worker = Worker::start(&self.place.criu, shim, Start::at(dump.images, &work)).await?;
        let images = dump.images;
        let complete = async move { keep_timers(images) };
        let (before_end, afterwards) =
            self.place.finishing(dump.before_end, dump.cut.as_ref(), complete, images, pid, state.clone());
        // CRIU would have them end nowhere; the restore has others for them.
        let external = left.streams.iter().map(|stream| format!("unix[{}]", stream.inode)).collect();
        let plan = Plan {
            target: DumpTarget { pid, external, ..DumpTarget::default() },
            cgroup: &instance.handle.cgroup,
            shim,
            options: &self.options(),
            before_end,
            limit: dump.limit,
            pid,
            cut: dump.cut,
        };
        let still = checkpoint::dump(plan, worker, dump.while_frozen).await?;
        afterwards.await?;
        Ok(Dumped { pause: still.pause, thawed: still.until, state })
    }

    /// Services of systemd's talk to its journal and to itself by sockets that have names; those are connected again.
    fn options(&self) -> Options {
        Options { ext_unix_sk: true, ..self.place.options.get() }
    }

    fn drop_in(&self) -> DropIn {
        DropIn::of(&self.spec.unit)
    }

    /// One that a supervisor has left which died meanwhile.
    async fn take_drop_in_away(&self) -> Result<()> {
        let drop_in = self.drop_in();
        if drop_in.exists() {
            drop_in.remove()?;
            self.spec.systemd.reload().await?;
        }
        Ok(())
    }

    async fn instance(&self, unit: &Unit) -> Result<Instance> {
        let name = &self.spec.unit;
        let pid = unit.main.ok_or_else(|| {
            let remedy = "only a unit whose main process stays can be supervised: not Type=oneshot";
            Error::Unavailable(
                Report::new(format!("find the main process of {name}: it has none")).remedy(remedy),
            )
        })?;
        let cgroup = self.cgroup(unit)?.ok_or_else(|| {
            Error::Unavailable(Report::new(format!("find the cgroup of {name}: it ended as it started")))
        })?;
        self.instance_of(pid, cgroup, unit.restarts).await
    }

    async fn instance_of(&self, pid: i32, cgroup: Cgroup, restarts: u32) -> Result<Instance> {
        let (shim, pidfd) = (self.place.shim(&self.shim, Isolation::None).await?, PidFd::open(pid)?);
        let fate = Arc::<Fate>::default();
        let witness = Told {
            systemd: self.spec.systemd.clone(),
            unit: self.spec.unit.clone(),
            pid,
            restarts,
            fate: Arc::clone(&fate),
        };
        if let Err(error) = self.spec.systemd.remember(&self.spec.unit).await {
            tracing::warn!(%error, service = self.place.service, "how the unit will end may be forgotten");
        }
        let instance = Instance::new(shim, pidfd, pid, cgroup, Some(Arc::new(witness))).await?;
        *self.live.lock().await = Some(Live { instance: instance.clone(), fate });
        Ok(instance)
    }

    fn cgroup(&self, unit: &Unit) -> Result<Option<Cgroup>> {
        (!unit.cgroup.is_empty()).then(|| Cgroup::of_unit(&unit.cgroup)).transpose()
    }

    async fn running_instance(&self) -> Result<Instance> {
        let live = self.live.lock().await.as_ref().map(|live| live.instance.clone());
        live.ok_or_else(|| Error::Unavailable(Report::new("the service does not run")))
    }

    async fn remove_now(&self) -> Result<()> {
        if let Ok(shim) = Shim::connect(&self.place.shim_socket()).await {
            shim.quit().await?;
        }
        *self.shim.lock().await = None;
        Ok(())
    }

    async fn make_ready_now(&self) -> Result<()> {
        self.found().await.map(drop)
    }
}

fn same_boot(handle: &Handle) -> bool {
    super::boot_id().is_ok_and(|id| id == handle.boot_id)
}

impl Runtime for SystemdUnit {
    fn features(&self) -> Features {
        let versions = vec![("criu".to_owned(), self.place.criu.version().to_owned())];
        let program = blake3::hash(self.spec.unit.as_bytes()).to_hex().to_string();
        Features { kind: "systemd", program, versions }
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

    fn make_ready(&self) -> Effect<'_, ()> {
        Box::pin(self.make_ready_now())
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
