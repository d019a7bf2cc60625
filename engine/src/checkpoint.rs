//! One freeze around everything that belongs to an image.
//!
//! ```text
//! CRIU's worker is ready
//!   -> freeze the cgroup         when CRIU is about to stop the first task, not before
//!   -> CRIU dumps  ‖  files and volumes are captured
//!   -> thaw                      on every path; the shim does it if we die
//! ```
//!
//! Where there is nothing to capture, CRIU's own stop of all tasks is the one instant, and neither a freezer is used nor are we asked
//! anything meanwhile: both would only make the pause longer, by some milliseconds.
//!
//! What it refuses: knowing runtimes, images, or what is captured.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::criu::{DumpTarget, Options, Worker, left_code_in};
use crate::error::{Error, Report, Result};
use crate::failpoint::fail_point;
use crate::freeze::{Cgroup, Frozen};
use crate::shim::Shim;

/// What else is to be done while the service stands still, if anything.
pub type WhileFrozen = Option<Box<dyn FnOnce() -> Result<()> + Send>>;

/// How long a freezer may take.
const FREEZE_MAX: Duration = Duration::from_secs(5);

/// One dump, planned.
pub struct Plan<'a> {
    /// What CRIU dumps.
    pub target: DumpTarget,
    /// The service's cgroup.
    pub cgroup: &'a Cgroup,
    /// The shim that stands guard over the freeze.
    pub shim: &'a Shim,
    /// CRIU's options.
    pub options: &'a Options,
    /// Whether the service is to end with the dump.
    pub stay_dead: bool,
    /// Wall-clock limit of the dump.
    pub limit: Duration,
    /// The pid of the service's main process as we see it.
    pub pid: i32,
}

/// Carries the plan out. Gives how long the service stood still.
pub async fn dump(plan: Plan<'_>, mut worker: Worker, while_frozen: WhileFrozen) -> Result<Duration> {
    plan.shim.guard(plan.cgroup.thaw_writes()).await?;
    let captures = while_frozen.is_some();
    let mut target = plan.target.clone();
    target.freeze_cgroup =
        while_frozen.as_ref().and_then(|_| plan.cgroup.freezer_folder()).map(Path::to_owned);
    let mut still = Still { cgroup: plan.cgroup, while_frozen, since: None, frozen: None, capture: None };
    let dumped = match still.while_frozen {
        Some(_) => {
            let mut begin = || still.begin();
            worker.dump(&target, plan.options, plan.stay_dead, plan.limit, Some(&mut begin)).await
        }
        None => match still.begin() {
            Ok(()) => worker.dump(&target, plan.options, plan.stay_dead, plan.limit, None).await,
            Err(error) => Err(error),
        },
    };
    fail_point("checkpoint.dumped");
    let ended = still.end(plan.limit).await;
    fail_point("checkpoint.thawed");
    worker.end().await;
    let unguarded = plan.shim.guard(Vec::new()).await;
    if dumped.is_err() && left_code_in(plan.pid) {
        return Err(end_damaged(&plan, dumped.err()).await);
    }
    dumped?;
    let pause = ended?;
    unguarded?;
    // A freezer of ours stands still for longer than CRIU does.
    Ok(if captures { pause } else { worker.pause().unwrap_or(pause) })
}

/// The service while it stands still.
struct Still<'a> {
    cgroup: &'a Cgroup,
    while_frozen: WhileFrozen,
    since: Option<Instant>,
    frozen: Option<Frozen<'a>>,
    capture: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl Still<'_> {
    fn begin(&mut self) -> Result<()> {
        fail_point("checkpoint.before-freeze");
        if let Some(pid) = self.cgroup.stopped_member() {
            return Err(stopped(pid));
        }
        if self.cgroup.is_freezing() {
            return Err(paused());
        }
        self.since = Some(Instant::now());
        if let Some(capture) = self.while_frozen.take() {
            self.frozen = Some(self.cgroup.freeze(FREEZE_MAX)?);
            self.capture = Some(tokio::task::spawn_blocking(capture));
        }
        fail_point("checkpoint.frozen");
        Ok(())
    }

    /// Waits for the capture, then thaws, whatever came of it.
    async fn end(mut self, limit: Duration) -> Result<Duration> {
        let captured = match self.capture.take() {
            Some(task) => tokio::time::timeout(limit, task).await,
            None => Ok(Ok(Ok(()))),
        };
        self.frozen.take().map_or(Ok(()), Frozen::thaw)?;
        let pause = self.since.map_or(Duration::ZERO, |since| since.elapsed());
        match captured {
            Ok(Ok(result)) => result.map(|()| pause),
            Ok(Err(panic)) => Err(Error::Internal(Report::new("capture files").because(panic))),
            Err(_) => Err(Error::Unavailable(
                Report::new(format!(
                    "capture the service's files within {}",
                    humantime::format_duration(limit)
                ))
                .remedy("raise checkpoint.timeout, or declare fewer or smaller volumes"),
            )),
        }
    }
}

/// An image of a service that stands still would restore one that stands still.
fn stopped(pid: i32) -> Error {
    Error::Unavailable(
        Report::new(format!("checkpoint a service whose process {pid} is stopped by a signal"))
            .remedy(format!("`kill -CONT {pid}` lets it go on; a liveness probe notices and recovers")),
    )
}

/// Thawing it afterwards would undo what somebody else has done.
fn paused() -> Error {
    Error::Unavailable(
        Report::new("checkpoint a service that somebody has paused: its cgroup is frozen")
            .remedy("unpause it (docker unpause, podman unpause, runc resume)"),
    )
}

/// CRIU was killed with its code inside the service. It cannot be taken out from outside, and what such a process does
/// next is nobody's intention: it is ended, which is noticed as any end is. `Refused`, so that the next slot of the cadence does
/// not do the same to it again.
async fn end_damaged(plan: &Plan<'_>, error: Option<Error>) -> Error {
    let cgroup = plan.cgroup.clone();
    let ended = tokio::task::spawn_blocking(move || cgroup.kill(FREEZE_MAX)).await;
    let done = if matches!(ended, Ok(Ok(()))) { "was ended" } else { "must be ended" };
    let report = Report::new(format!(
        "CRIU was killed while its code was inside process {}; the service {done} to be recovered",
        plan.pid
    ));
    let report = report.remedy("raise checkpoint.timeout; a dump that is cut off costs a recovery");
    Error::Refused(match error {
        Some(error) => report.because(error),
        None => report,
    })
}
