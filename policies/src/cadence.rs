//! When the next checkpoint is due, and what a failed one means.
//!
//! A failed checkpoint is tried again at a later slot, 1, 2, 4 and then always 8 intervals away. A refused one (the
//! service cannot be checkpointed) stops the cadence until one succeeds by hand or the settings are loaded anew;
//! until then the service is degraded: it can only be started cold.

use std::time::Duration;

use crate::dice::Dice;
use crate::time::Instant;

/// The most intervals between a failed checkpoint and the next try.
const SPACING_MAX: u32 = 8;

/// Slots are never closer, whatever the settings say.
const SPACING_MIN: Duration = Duration::from_millis(1);

/// When and how checkpoints are taken.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// From one checkpoint to the next; nothing: only on demand.
    pub interval: Option<Duration>,
    /// The fraction by which an interval may be longer or shorter, 0 to 1.
    pub jitter: f64,
    /// A checkpoint that takes longer has failed.
    pub timeout: Duration,
    /// Only a healthy service is checkpointed on the cadence.
    pub require_healthy: bool,
    /// One more when the supervisor stops.
    pub on_shutdown: bool,
    /// One more when the host is drained.
    pub on_drain: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(30)),
            jitter: 0.1,
            timeout: Duration::from_secs(30),
            require_healthy: true,
            on_shutdown: true,
            on_drain: true,
        }
    }
}

/// The row of slots of one service.
#[derive(Clone, Debug, PartialEq)]
pub struct Cadence {
    settings: Settings,
    dice: Dice,
    due: Option<Instant>,
    failures: u32,
    refused: Option<String>,
}

impl Cadence {
    /// A cadence that has not begun. The same seed gives the same slots.
    #[must_use]
    pub const fn new(settings: Settings, seed: u64) -> Self {
        Self { settings, dice: Dice::new(seed), due: None, failures: 0, refused: None }
    }

    /// The service runs from `now` on: the first slot is one interval away.
    pub fn begin(&mut self, now: Instant) {
        self.failures = 0;
        self.place(now, now);
    }

    /// The service does not run any more: no slot.
    pub const fn halt(&mut self) {
        self.due = None;
    }

    /// When the next checkpoint is due. In the past: as soon as it is allowed.
    #[must_use]
    pub const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Why checkpoints are not possible, if they were refused.
    #[must_use]
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// A checkpoint was begun at `now`: no slot until it has ended.
    pub const fn begun(&mut self) {
        self.due = None;
    }

    /// The checkpoint that was begun at `begun` succeeded.
    pub fn succeeded(&mut self, begun: Instant, now: Instant) {
        self.failures = 0;
        self.refused = None;
        self.place(begun, now);
    }

    /// The checkpoint that was begun at `begun` failed, but may succeed another time.
    pub fn failed(&mut self, begun: Instant, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.place(begun, now);
    }

    /// The service cannot be checkpointed.
    pub fn refuse(&mut self, reason: String) {
        self.due = None;
        self.refused = Some(reason);
    }

    /// Go on by other settings; a refusal is forgotten, since the settings may have been its cause.
    pub fn reload(&mut self, settings: Settings, now: Instant, running: bool) {
        self.settings = settings;
        self.refused = None;
        if running {
            self.begin(now);
        }
    }

    /// The next slot counts from the beginning of the last checkpoint; slots missed meanwhile are left out, so that
    /// a checkpoint longer than its interval leaves the service a whole one to itself.
    fn place(&mut self, begun: Instant, now: Instant) {
        self.due = match (self.settings.interval, &self.refused) {
            (Some(interval), None) => {
                let doublings = self.failures.saturating_sub(1).min(SPACING_MAX.ilog2());
                let spacing = interval.saturating_mul(1 << doublings);
                let spacing = self.dice.spread(spacing, self.settings.jitter).max(SPACING_MIN);
                let due = begun + spacing;
                Some(if due > now { due } else { now + spacing })
            }
            _ => None,
        };
    }
}
