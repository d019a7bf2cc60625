//! A client that counts up without pause and remembers what it saw, and how long it saw nothing.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What is asked, again and again: the next number, or nothing.
pub(super) type Ask = Box<dyn FnMut() -> Option<u64> + Send>;

/// The pause between two questions.
const PACE: Duration = Duration::from_millis(5);

/// A client in a thread of its own; dropped, it ends.
pub(super) struct Client {
    stop: Arc<AtomicBool>,
    last: Arc<AtomicU64>,
    gap: Arc<Mutex<Option<Gap>>>,
    thread: Option<JoinHandle<()>>,
}

/// The last time that nothing came.
#[derive(Clone, Copy)]
pub(super) struct Gap {
    /// How long.
    pub(super) silence: Duration,
    /// The last number before it.
    pub(super) before: u64,
    /// The first one after it.
    pub(super) after: u64,
}

impl Client {
    /// Begins to ask. A silence counts as one from 40 ms on.
    pub(super) fn start(mut ask: Ask) -> Self {
        let (stop, last) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let gap = Arc::new(Mutex::new(None));
        let thread = std::thread::spawn({
            let (stop, last, gap) = (Arc::clone(&stop), Arc::clone(&last), Arc::clone(&gap));
            move || {
                let mut answered = Instant::now();
                let mut failed = false;
                while !stop.load(Ordering::Relaxed) {
                    if let Some(number) = ask() {
                        let before = last.swap(number, Ordering::Relaxed);
                        if failed {
                            let found = Gap { silence: answered.elapsed(), before, after: number };
                            *gap.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
                        }
                        answered = Instant::now();
                        failed = false;
                    } else {
                        failed = true;
                    }
                    std::thread::sleep(PACE);
                }
            }
        });
        Self { stop, last, gap, thread: Some(thread) }
    }

    /// The last number it saw.
    pub(super) fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// Forgets the last silence, so that the next one is seen.
    pub(super) fn forget_gap(&self) {
        *self.gap.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// The silence since [`Client::forget_gap`]; waits for its end.
    pub(super) fn gap(&self, limit: Duration) -> Option<Gap> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(gap) = *self.gap.lock().unwrap_or_else(PoisonError::into_inner) {
                return Some(gap);
            }
            std::thread::sleep(PACE);
        }
        None
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A client that panicked has shown so already.
            let _ = thread.join();
        }
    }
}
