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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Cadence, SPACING_MIN, Settings};
    use crate::time::Instant;

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }

    fn cadence(interval: Option<u64>) -> Cadence {
        let interval = interval.map(Duration::from_secs);
        Cadence::new(Settings { interval, jitter: 0.0, ..Settings::default() }, 1)
    }

    #[test]
    fn slots_count_from_beginning_to_beginning() {
        let mut cadence = cadence(Some(10));
        assert_eq!(cadence.due(), None);
        cadence.begin(at(100));
        assert_eq!(cadence.due(), Some(at(110)));
        cadence.begun();
        assert_eq!(cadence.due(), None);
        cadence.succeeded(at(110), at(113));
        assert_eq!(cadence.due(), Some(at(120)));
        cadence.succeeded(at(120), at(145));
        assert_eq!(cadence.due(), Some(at(155)), "one that took longer leaves a whole interval");
        cadence.succeeded(at(150), at(160));
        assert_eq!(cadence.due(), Some(at(170)), "and so does one that took just as long");
        cadence.halt();
        assert_eq!(cadence.due(), None);
    }

    #[test]
    fn failures_spread_up_to_eight_intervals_and_a_success_ends_that() {
        let mut cadence = cadence(Some(10));
        cadence.begin(at(0));
        for (failure, intervals) in [1, 2, 4, 8, 8, 8].into_iter().enumerate() {
            let begun = at(1000 * failure as u64);
            cadence.failed(begun, begun);
            assert_eq!(cadence.due(), Some(begun + Duration::from_secs(10 * intervals)), "failure {failure}");
        }
        cadence.succeeded(at(9000), at(9001));
        assert_eq!(cadence.due(), Some(at(9010)));
        cadence.failed(at(9010), at(9010));
        assert_eq!(cadence.due(), Some(at(9020)), "counted anew");
        cadence.failed(at(9020), at(9020));
        cadence.begin(at(9100));
        cadence.failed(at(9110), at(9110));
        assert_eq!(cadence.due(), Some(at(9120)), "a new run begins without failures");
    }

    #[test]
    fn a_refusal_stops_it_until_a_success_or_other_settings() {
        let mut cadence = cadence(Some(10));
        cadence.begin(at(0));
        cadence.refuse("io_uring".to_owned());
        assert_eq!((cadence.due(), cadence.refused()), (None, Some("io_uring")));
        cadence.begin(at(5));
        cadence.failed(at(6), at(6));
        assert_eq!(cadence.due(), None);
        cadence.succeeded(at(20), at(21));
        assert_eq!((cadence.due(), cadence.refused()), (Some(at(30)), None));

        cadence.refuse("again".to_owned());
        let settings =
            Settings { interval: Some(Duration::from_secs(5)), jitter: 0.0, ..Settings::default() };
        cadence.reload(settings.clone(), at(50), true);
        assert_eq!((cadence.due(), cadence.refused()), (Some(at(55)), None));
        cadence.halt();
        cadence.reload(settings, at(60), false);
        assert_eq!(cadence.due(), None, "nothing runs");
    }

    #[test]
    fn on_demand_only_has_no_slots_and_a_zero_interval_does_not_spin() {
        let mut never = cadence(None);
        never.begin(at(0));
        never.succeeded(at(0), at(1));
        assert_eq!(never.due(), None);
        let mut always = cadence(Some(0));
        always.begin(at(0));
        assert_eq!(always.due(), Some(at(0) + SPACING_MIN));
    }

    #[test]
    fn jitter_spreads_slots() {
        let settings =
            Settings { interval: Some(Duration::from_secs(100)), jitter: 0.1, ..Settings::default() };
        let mut cadence = Cadence::new(settings, 5);
        let slots: Vec<Instant> = (0..20)
            .filter_map(|_| {
                cadence.begin(at(0));
                cadence.due()
            })
            .collect();
        assert!(slots.iter().all(|slot| (at(90)..=at(110)).contains(slot)), "{slots:?}");
        assert!(slots.windows(2).any(|pair| pair[0] != pair[1]));
    }
}
