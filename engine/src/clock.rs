//! The clocks that leases and fences go by: monotonic, and boot time, which goes on while the machine sleeps.

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

fn read(clock: ClockId) -> Result<Instant> {
    let now = clock_gettime(clock).map_err(|e| Error::Internal(Report::new("read a clock").because(e)))?;
    let (seconds, nanos) = (now.tv_sec().unsigned_abs(), now.tv_nsec().unsigned_abs());
    Ok(Instant::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos)))
}
