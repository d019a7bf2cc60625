//! A thread that wakes every 100 us and remembers the longest time between two wakings: the pause of a
//! checkpoint as the service itself sees it.
//!
//! Refuses to lose a pause: [`Ticker::read`] waits for a tick after the question, so that a gap under way is
//! counted; and [`Ticker::reset`] makes the gap under way belong to the time before.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_micros(100);
/// A ticker that does not tick for so long while its process answers is broken.
const LIMIT: Duration = Duration::from_secs(10);

/// The thread's results.
#[derive(Clone, Default)]
pub(crate) struct Ticker {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    ticks: AtomicU64,
    longest_ns: AtomicU64,
    /// Grows at each reset; the first tick that sees a new number forgets the gap that led to it.
    period: AtomicU64,
}

/// What was seen since the last reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) longest_gap: Duration,
    pub(crate) ticks: u64,
}

impl Ticker {
    /// Starts the thread.
    pub(crate) fn start() -> Ticker {
        let ticker = Ticker::default();
        let shared = Arc::clone(&ticker.shared);
        std::thread::spawn(move || tick_for_ever(&shared));
        ticker
    }

    /// The longest gap since the last reset, one that has just ended included.
    pub(crate) fn read(&self) -> Reading {
        self.wait_for_tick();
        Reading {
            longest_gap: Duration::from_nanos(self.shared.longest_ns.load(SeqCst)),
            ticks: self.shared.ticks.load(SeqCst),
        }
    }

    /// Begins a new period.
    pub(crate) fn reset(&self) {
        self.shared.period.fetch_add(1, SeqCst);
        self.wait_for_tick();
    }

    /// Two, for the first may have read its clock before we asked.
    fn wait_for_tick(&self) {
        let before = self.shared.ticks.load(SeqCst);
        let begun = Instant::now();
        while self.shared.ticks.load(SeqCst) < before + 2 && begun.elapsed() < LIMIT {
            std::thread::sleep(INTERVAL);
        }
    }
}

fn tick_for_ever(shared: &Shared) {
    // The default slack of 50 us would make the interval half as long again.
    let _ = nix::sys::prctl::set_timerslack(1);
    let mut period = shared.period.load(SeqCst);
    let mut last = Instant::now();
    loop {
        std::thread::sleep(INTERVAL);
        let now = Instant::now();
        let current = shared.period.load(SeqCst);
        if current == period {
            let gap = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
            shared.longest_ns.fetch_max(gap, SeqCst);
        } else {
            period = current;
            shared.longest_ns.store(0, SeqCst);
        }
        last = now;
        shared.ticks.fetch_add(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_ticks_and_measures() {
        let ticker = Ticker::start();
        let first = ticker.read();
        let second = ticker.read();
        assert!(second.ticks >= first.ticks + 2);
        assert!(second.longest_gap >= INTERVAL);
        assert!(second.longest_gap >= first.longest_gap);
    }

    #[test]
    fn reset_forgets_a_long_gap() {
        let ticker = Ticker::start();
        let long = Duration::from_secs(3600);
        ticker.shared.longest_ns.store(long.as_nanos() as u64, SeqCst);
        assert_eq!(ticker.read().longest_gap, long);
        ticker.reset();
        assert!(ticker.read().longest_gap < long);
    }
}
