//! How long to wait before trying again: growing, capped, spread a little so that many do not try at once.

use std::time::Duration;

use crate::dice::{Dice, scale};

/// How the waiting grows.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// The first delay.
    pub initial: Duration,
    /// No delay is longer, jitter included.
    pub max: Duration,
    /// How many times longer each delay is than the one before; less than 1 is taken as 1.
    pub factor: f64,
    /// The fraction by which a delay may be longer or shorter, 0 to 1.
    pub jitter: f64,
}

/// A row of delays.
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    settings: Settings,
    /// The next delay before jitter; nothing after a reset.
    grown: Option<Duration>,
    dice: Dice,
}

impl Default for Settings {
    fn default() -> Self {
        Self { initial: Duration::from_millis(100), max: Duration::from_secs(60), factor: 2.0, jitter: 0.1 }
    }
}

impl Backoff {
    /// A row that has not begun. The same seed gives the same row.
    #[must_use]
    pub const fn new(settings: Settings, seed: u64) -> Self {
        Self { settings, grown: None, dice: Dice::new(seed) }
    }

    /// The next delay of the row.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.grown.unwrap_or(self.settings.initial).min(self.settings.max);
        self.grown = Some(scale(delay, self.settings.factor.max(1.0)).min(self.settings.max));
        self.dice.spread(delay, self.settings.jitter).min(self.settings.max)
    }

    /// Begin again with the first delay.
    pub const fn reset(&mut self) {
        self.grown = None;
    }

    /// Go on by other settings, from the length reached.
    pub fn reload(&mut self, settings: Settings) {
        self.settings = settings;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Backoff, Settings};

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn doubles_up_to_the_cap_and_begins_again_after_a_reset() {
        let settings = Settings { initial: ms(100), max: ms(1000), factor: 2.0, jitter: 0.0 };
        let mut backoff = Backoff::new(settings, 1);
        let row: Vec<Duration> = (0..6).map(|_| backoff.next_delay()).collect();
        assert_eq!(row, [ms(100), ms(200), ms(400), ms(800), ms(1000), ms(1000)]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), ms(100));
    }

    #[test]
    fn jitter_spreads_by_seed_and_respects_the_cap() {
        let settings = Settings { initial: ms(900), max: ms(1000), factor: 1.0, jitter: 0.5 };
        let row = |seed| {
            let mut backoff = Backoff::new(settings.clone(), seed);
            (0..50).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(row(3), row(3));
        assert_ne!(row(3), row(4));
        assert!(row(3).iter().all(|d| (ms(450)..=ms(1000)).contains(d)));
        assert!(row(3).iter().any(|d| *d < ms(800)));
    }

    #[test]
    fn absurd_settings_neither_panic_nor_shrink() {
        for factor in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e300] {
            let settings = Settings { initial: ms(10), max: Duration::MAX, factor, jitter: 1.0 };
            let mut backoff = Backoff::new(settings, 1);
            for _ in 0..100 {
                backoff.next_delay();
            }
            assert!(backoff.grown.unwrap() >= ms(10));
        }
    }

    #[test]
    fn reload_keeps_the_length_but_obeys_the_new_cap() {
        let mut backoff = Backoff::new(Settings { jitter: 0.0, ..Settings::default() }, 1);
        for _ in 0..5 {
            backoff.next_delay();
        }
        backoff.reload(Settings { max: ms(300), jitter: 0.0, ..Settings::default() });
        assert_eq!(backoff.next_delay(), ms(300));
    }
}
