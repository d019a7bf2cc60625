//! Points in time. Policies never read a clock; callers pass `now`.

use std::fmt;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since an arbitrary start, monotonic. Arithmetic saturates: 584 years are as good as for ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

/// Nanoseconds since 1970 by the wall clock, as images bear it. May jump; only for ages of days, never for limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(u64);

impl Instant {
    /// The arbitrary start.
    pub const START: Self = Self(0);

    /// The instant so many nanoseconds after the start.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Later by `duration`, or nothing beyond the last instant.
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        u64::try_from(duration.as_nanos()).ok().and_then(|n| self.0.checked_add(n)).map(Self)
    }

    /// Later by `duration`, at most the last instant.
    #[must_use]
    pub fn saturating_add(self, duration: Duration) -> Self {
        self.checked_add(duration).unwrap_or(Self(u64::MAX))
    }

    /// Earlier by `duration`, at least the start.
    #[must_use]
    pub fn saturating_sub(self, duration: Duration) -> Self {
        u64::try_from(duration.as_nanos()).map_or(Self::START, |n| Self(self.0.saturating_sub(n)))
    }

    /// How long after `earlier`; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl WallTime {
    /// The time so many nanoseconds after 1970.
    #[must_use]
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970.
    #[must_use]
    pub const fn as_unix_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier`; zero if the clock was set back meanwhile.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates.
    fn add(self, duration: Duration) -> Self {
        self.saturating_add(duration)
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    /// Saturates.
    fn sub(self, duration: Duration) -> Self {
        self.saturating_sub(duration)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", Duration::from_nanos(self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Instant, WallTime};

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let at = Instant::from_nanos(10);
        assert_eq!(at + Duration::from_nanos(5), Instant::from_nanos(15));
        assert_eq!(at - Duration::from_nanos(4), Instant::from_nanos(6));
        assert_eq!(at - Duration::from_secs(1), Instant::START);
        assert_eq!(at - Duration::MAX, Instant::START);
        assert_eq!(at + Duration::MAX, Instant::from_nanos(u64::MAX));
        assert_eq!(at.checked_add(Duration::MAX), None);
        assert_eq!(at.checked_add(Duration::from_nanos(u64::MAX)), None);
        assert_eq!(at.checked_add(Duration::from_nanos(1)).unwrap().as_nanos(), 11);
    }

    #[test]
    fn spans_are_never_negative() {
        let (early, late) = (Instant::from_nanos(3), Instant::from_nanos(9));
        assert_eq!((late.since(early), early.since(late)), (Duration::from_nanos(6), Duration::ZERO));
        let (early, late) = (WallTime::from_unix_nanos(3), WallTime::from_unix_nanos(9));
        assert_eq!((late.since(early), early.since(late)), (Duration::from_nanos(6), Duration::ZERO));
        assert_eq!(late.as_unix_nanos(), 9);
        assert_eq!(Instant::from_nanos(1_500_000_000).to_string(), "1.5s");
    }
}
