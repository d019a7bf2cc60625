//! When a service stands still, for those who ask it something meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Counts freezes, so that a probe knows whether one fell into its time, and when the image of one wants to be judged.
#[derive(Debug, Default)]
pub(crate) struct Freezes {
    begun: AtomicU64,
    ended: AtomicU64,
    answered: AtomicU64,
    told: Notify,
}

/// How many freezes there had been at some time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FreezeMark {
    ended: u64,
    answered: u64,
}

impl Freezes {
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// The service's task knows what came of it: answers to probes that begin from now on reach it later than that.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Ordering::SeqCst);
        self.told.notify_waiters();
    }

    /// Waits until a freeze has been answered for since the mark; one of meanwhile counts.
    pub(crate) async fn answered_since(&self, mark: FreezeMark) {
        loop {
            let told = self.told.notified();
            if self.answered.load(Ordering::SeqCst) > mark.answered {
                return;
            }
            told.await;
        }
    }

    /// A mark to compare with later.
    pub(crate) fn mark(&self) -> FreezeMark {
        FreezeMark {
            ended: self.ended.load(Ordering::SeqCst),
            answered: self.answered.load(Ordering::SeqCst),
        }
    }

    /// Whether the service was, or may have been, frozen at some time since the mark.
    pub(crate) fn any_since(&self, mark: FreezeMark) -> bool {
        self.begun.load(Ordering::SeqCst) > mark.ended
    }
}
