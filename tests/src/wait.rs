//! Waiting for a condition, with a limit; refuses to wait for a time.

use std::time::{Duration, Instant};

/// How long anything may take on a busy host of two cores before it counts as never.
pub const LIMIT: Duration = Duration::from_secs(30);

const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Looks every 10 ms until there is something.
///
/// # Panics
/// With `what` if there is nothing within the limit. The nodes that are dropped by the panic print what they know.
pub fn wait_for<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Looks every 10 ms until it is so.
///
/// # Panics
/// As [`wait_for`].
pub fn wait_until(limit: Duration, what: &str, mut look: impl FnMut() -> bool) {
    wait_for(limit, what, || look().then_some(()));
}
