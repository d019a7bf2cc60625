//! No more than so many bytes a second, over all that share it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Clones share one limit.
#[derive(Debug, Clone)]
pub struct Pace {
    bytes_per_second: Option<u64>,
    /// When what was let through so far is due to have passed.
    free_at: Arc<Mutex<Option<Instant>>>,
}

impl Pace {
    /// As fast as it goes.
    pub fn unlimited() -> Self {
        Self { bytes_per_second: None, free_at: Arc::default() }
    }

    /// At most so many bytes a second; zero is taken as one.
    pub fn limited(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second.max(1)), free_at: Arc::default() }
    }

    /// Waits until so many bytes may go on their way.
    pub async fn pass(&self, bytes: u64) {
        if let Some(rate) = self.bytes_per_second {
            tokio::time::sleep_until(self.turn(bytes, rate)).await;
        }
    }

    /// When they may begin; whoever asks next comes after them.
    fn turn(&self, bytes: u64, rate: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let begin = free_at.map_or(now, |at| at.max(now));
        *free_at = Some(begin + Duration::from_secs_f64(bytes as f64 / rate as f64));
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_follow_each_other_at_the_rate_whoever_takes_them() {
        let pace = Pace::limited(1000);
        let other = pace.clone();
        let first = pace.turn(500, 1000);
        let second = other.turn(250, 1000);
        assert_eq!(second - first, Duration::from_millis(500));
        assert_eq!(pace.turn(1, 1000) - second, Duration::from_millis(250));
    }
}
