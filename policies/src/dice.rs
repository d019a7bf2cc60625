//! The one source of chance: splitmix64 from a seed given at construction. Not fit for secrets.

use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, by the published constants of splitmix64.
    pub(crate) const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `duration` made longer or shorter by at most the fraction `jitter` (taken as within 0 and 1).
    pub(crate) fn spread(&mut self, duration: Duration, jitter: f64) -> Duration {
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        // 53 bits are what an f64 holds exactly: a number from -1 up to 1.
        let share = (self.roll() >> 11) as f64 / (1u64 << 52) as f64 - 1.0;
        scale(duration, share.mul_add(jitter, 1.0))
    }
}

/// `duration` times `factor`, saturating where `Duration::mul_f64` panics; what is no number changes nothing.
pub(crate) fn scale(duration: Duration, factor: f64) -> Duration {
    if factor.is_nan() {
        return duration;
    }
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Dice, scale};

    #[test]
    fn rolls_are_those_of_the_reference() {
        let mut dice = Dice::new(1_234_567);
        let rolls: Vec<u64> = (0..3).map(|_| dice.roll()).collect();
        assert_eq!(rolls, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn spread_stays_within_its_fraction_and_uses_it() {
        let mut dice = Dice::new(7);
        let (mut low, mut high) = (Duration::MAX, Duration::ZERO);
        for _ in 0..10_000 {
            let got = dice.spread(Duration::from_secs(100), 0.1);
            low = low.min(got);
            high = high.max(got);
        }
        assert!(low >= Duration::from_secs(90) && low < Duration::from_millis(90_100), "{low:?}");
        assert!(high <= Duration::from_secs(110) && high > Duration::from_millis(109_900), "{high:?}");
        assert_eq!(dice.spread(Duration::from_secs(5), 0.0), Duration::from_secs(5));
        assert_eq!(dice.spread(Duration::from_secs(5), f64::NAN), Duration::from_secs(5));
        assert!(dice.spread(Duration::from_secs(5), 99.0) <= Duration::from_secs(10));
    }

    #[test]
    fn scaling_never_panics() {
        assert_eq!(scale(Duration::from_secs(3), 0.5), Duration::from_millis(1500));
        assert_eq!(scale(Duration::from_secs(3), -2.0), Duration::ZERO);
        assert_eq!(scale(Duration::from_secs(3), f64::INFINITY), Duration::MAX);
        assert_eq!(scale(Duration::MAX, 2.0), Duration::MAX);
        assert_eq!(scale(Duration::from_secs(3), f64::NAN), Duration::from_secs(3));
    }
}
