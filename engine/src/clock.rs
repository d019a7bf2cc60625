//! The clocks that leases and fences go by: monotonic, and boot time, which goes on while the machine sleeps. The system's clock, which anybody
//! may set, says when images were taken and when something happened; no decision of a lease's goes by it.

use std::time::SystemTime;

use nix::time::{ClockId, clock_gettime};
use policies::lease::Moment;
use policies::time::Instant;

use crate::error::{Error, Report, Result};

/// This instant on both clocks.
///
/// # Errors
/// On kernels without them, of which there are none that we run on.
pub fn now() -> Result<Moment> {
    Ok(Moment { monotonic: read(ClockId::CLOCK_MONOTONIC)?, boottime: read(ClockId::CLOCK_BOOTTIME)? })
}

/// The system's clock.
#[must_use]
pub fn wall() -> SystemTime {
    #[cfg(feature = "failpoints")]
    return stepped::step(SystemTime::now());
    #[cfg(not(feature = "failpoints"))]
    SystemTime::now()
}

/// With the cargo feature `failpoints` the environment variable that names a file, which says by how many seconds the system's clock is off: no
/// namespace has one of its own that a test could set.
pub const STEP_VARIABLE: &str = "SUPERVISOR_CLOCK_STEP_FILE";

#[cfg(feature = "failpoints")]
mod stepped {
    use std::time::{Duration, SystemTime};

    pub(super) fn step(now: SystemTime) -> SystemTime {
        let file = std::env::var_os(super::STEP_VARIABLE);
        let said = file.and_then(|file| std::fs::read_to_string(file).ok());
        let seconds: i64 = said.and_then(|said| said.trim().parse().ok()).unwrap_or_default();
        let by = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { now - by } else { now + by }
    }
}

fn read(clock: ClockId) -> Result<Instant> {
    let now = clock_gettime(clock).map_err(|e| Error::Internal(Report::new("read a clock").because(e)))?;
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    Ok(Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}
