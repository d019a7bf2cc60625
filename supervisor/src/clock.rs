//! The monotonic clock, in the policies' words.

use std::time::Duration;

/// Counts from its start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    start: tokio::time::Instant,
}

impl Clock {
    /// A clock that starts now. A policy's time never is 0, so that "earlier" can always be said.
    pub(crate) fn start() -> Self {
        Self { start: tokio::time::Instant::now() - Duration::from_secs(1) }
    }

    /// Now.
    pub(crate) fn now(&self) -> policies::time::Instant {
        policies::time::Instant::from_nanos(self.start.elapsed().as_nanos() as u64)
    }

    /// When that is.
    pub(crate) fn real(&self, at: policies::time::Instant) -> tokio::time::Instant {
        self.start + Duration::from_nanos(at.as_nanos())
    }
}
