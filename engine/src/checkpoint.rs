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
//! Several services can be dumped as one cut: see [`Cut`].
//!
//! What it refuses: knowing runtimes, images, or what is captured.

mod cut;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use self::cut::Cut;

use self::cut::Line;
use crate::criu::{Afterwards, DumpTarget, DuringDump, Options, Worker, left_code_in};
use crate::error::{Error, Report, Result};
use crate::failpoint::fail_point;
use crate::freeze::{Cgroup, Frozen};
use crate::shim::Shim;

/// What else is to be done while the service stands still, if anything. It runs beside CRIU's dump.
pub type WhileFrozen = Option<Box<dyn FnOnce() -> Result<()> + Send>>;

/// What makes a finished image safe before its service ends. While it runs the service stands still, and if it fails the service runs on.
pub type BeforeEnd<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

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
    /// Set if the service is to end with the dump.
    pub before_end: Option<BeforeEnd<'a>>,
    /// Wall-clock limit of the dump.
    pub limit: Duration,
    /// The pid of the service's main process as we see it.
    pub pid: i32,
    /// Set if others are dumped at the same instant.
    pub cut: Option<Arc<Cut>>,
}

/// How long a service stood still, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoodStill {
    /// How long.
    pub pause: Duration,
    /// Until when, within about a millisecond.
    pub until: Instant,
}

/// Carries the plan out.
pub async fn dump(plan: Plan<'_>, worker: Worker, while_frozen: WhileFrozen) -> Result<StoodStill> {
    let cut = plan.cut.clone();
    let dumped = dump_alone(plan, worker, while_frozen).await;
    if let (Err(_), Some(cut)) = (&dumped, cut) {
        cut.give_up();
    }
    dumped
}

async fn dump_alone(mut plan: Plan<'_>, mut worker: Worker, while_frozen: WhileFrozen) -> Result<StoodStill> {
    plan.shim.guard(plan.cgroup.thaw_writes()).await?;
    let freezes = while_frozen.is_some() || plan.cut.is_some();
    let mut target = plan.target.clone();
    let freezer = plan.cgroup.freezer_folder().filter(|_| freezes);
    target.freeze_cgroup = freezer.map(Path::to_owned);
    let before_end = plan.before_end.take();
    let afterwards = if before_end.is_some() { Afterwards::End } else { Afterwards::RunOn };
    let mut still = Still {
        cgroup: plan.cgroup,
        limit: plan.limit,
        while_frozen,
        before_end,
        cut: plan.cut.take(),
        since: None,
        frozen: None,
        capture: None,
    };
    let dumped = match still.unasked().await {
        Ok(()) => worker.dump(&target, plan.options, afterwards, plan.limit, &mut still).await,
        Err(error) => Err(error),
    };
    fail_point("checkpoint.dumped");
    let ended = still.end().await;
    let until = Instant::now();
    fail_point("checkpoint.thawed");
    worker.end().await;
    let unguarded = plan.shim.guard(Vec::new()).await;
    if dumped.is_err() && left_code_in(plan.pid) {
        return Err(end_damaged(plan.cgroup, plan.pid, dumped.err()).await);
    }
    dumped?;
    let pause = ended?;
    unguarded?;
    // A freezer of ours stands still for longer than CRIU does.
    let pause = if freezes { pause } else { worker.pause().unwrap_or(pause) };
    Ok(StoodStill { pause, until })
}

/// The service while it stands still.
struct Still<'a> {
    cgroup: &'a Cgroup,
    limit: Duration,
    while_frozen: WhileFrozen,
    before_end: Option<BeforeEnd<'a>>,
    cut: Option<Arc<Cut>>,
    since: Option<Instant>,
    frozen: Option<Frozen<'a>>,
    capture: Option<tokio::task::JoinHandle<Result<()>>>,
}

impl DuringDump for Still<'_> {
    fn is_wanted(&self) -> bool {
        self.while_frozen.is_some() || self.before_end.is_some() || self.cut.is_some()
    }

    fn about_to_stop(&mut self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(self.begin())
    }

    fn complete(&mut self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(async {
            if self.before_end.is_none() && self.cut.is_none() {
                return Ok(());
            }
            self.captured().await?;
            fail_point("checkpoint.complete");
            meet(self.cut.clone(), Line::Complete).await?;
            match self.before_end.take() {
                Some(before_end) => before_end.await,
                None => Ok(()),
            }
        })
    }
}

impl Still<'_> {
    /// Where CRIU does not ask, what it would have been answered.
    async fn unasked(&mut self) -> Result<()> {
        if self.is_wanted() { Ok(()) } else { self.begin().await }
    }

    async fn begin(&mut self) -> Result<()> {
        fail_point("checkpoint.before-freeze");
        if let Some(pid) = self.cgroup.stopped_member() {
            return Err(stopped(pid));
        }
        if self.cgroup.is_freezing() {
            return Err(paused());
        }
        meet(self.cut.clone(), Line::Ready).await?;
        self.since = Some(Instant::now());
        if self.while_frozen.is_some() || self.cut.is_some() {
            self.frozen = Some(self.cgroup.freeze(FREEZE_MAX)?);
        }
        meet(self.cut.clone(), Line::Frozen).await?;
        self.capture = self.while_frozen.take().map(tokio::task::spawn_blocking);
        fail_point("checkpoint.frozen");
        Ok(())
    }

    /// Waits for the capture.
    async fn captured(&mut self) -> Result<()> {
        let Some(task) = self.capture.take() else { return Ok(()) };
        match tokio::time::timeout(self.limit, task).await {
            Ok(Ok(result)) => result,
            Ok(Err(panic)) => Err(Error::Internal(Report::new("capture files").because(panic))),
            Err(_) => Err(Error::Unavailable(
                Report::new(format!(
                    "capture the service's files within {}",
                    humantime::format_duration(self.limit)
                ))
                .remedy("raise checkpoint.timeout, or declare fewer or smaller volumes"),
            )),
        }
    }

    /// Waits for the capture, then thaws, whatever came of it.
    async fn end(mut self) -> Result<Duration> {
        let captured = self.captured().await;
        self.frozen.take().map_or(Ok(()), Frozen::thaw)?;
        captured.map(|()| self.since.map_or(Duration::ZERO, |since| since.elapsed()))
    }
}

async fn meet(cut: Option<Arc<Cut>>, line: Line) -> Result<()> {
    match cut {
        Some(cut) => cut.meet(line).await,
        None => Ok(()),
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
async fn end_damaged(cgroup: &Cgroup, pid: i32, error: Option<Error>) -> Error {
    let cgroup = cgroup.clone();
    let ended = tokio::task::spawn_blocking(move || cgroup.kill(FREEZE_MAX)).await;
    let done = if matches!(ended, Ok(Ok(()))) { "was ended" } else { "must be ended" };
    let report = Report::new(format!(
        "CRIU was killed while its code was inside process {pid}; the service {done} to be recovered"
    ));
    let report = report.remedy("raise checkpoint.timeout; a dump that is cut off costs a recovery");
    Error::Refused(match error {
        Some(error) => report.because(error),
        None => report,
    })
}
