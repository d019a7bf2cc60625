//! One instant for several services: none is frozen before all can be, nothing of any is taken before all stand still, and none goes
//! on before all is taken. So no message between them is in one image as sent and in another as not yet received, or the other way round.
//!
//! ```text
//! Ready ──> freeze ──> Frozen ──> dump, capture ──> Complete ──> go on, or end
//! ```
//!
//! Each service's dump comes to every line and waits there for the others. One that fails lets the others go, with an error.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::error::{Error, Report, Result};

/// A line at which all wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Nothing stands still yet; all that can be made ready is.
    Ready,
    /// All stand still.
    Frozen,
    /// All is taken, and all still stand still.
    Complete,
}

/// Dumps that make one cut.
#[derive(Debug)]
pub struct Cut {
    members: usize,
    limit: Duration,
    arrived: watch::Sender<Arrived>,
}

#[derive(Debug, Default)]
struct Arrived {
    at: [usize; 3],
    given_up: bool,
}

impl Cut {
    /// Of so many services; none waits at a line for longer than the limit.
    #[must_use]
    pub fn new(members: usize, limit: Duration) -> Arc<Self> {
        Arc::new(Self { members, limit, arrived: watch::Sender::new(Arrived::default()) })
    }

    /// Waits at a line until all have come to it.
    ///
    /// # Errors
    /// `Unavailable` if another one has failed, or does not come.
    pub(crate) async fn meet(&self, line: Line) -> Result<()> {
        self.arrived.send_modify(|arrived| arrived.at[line as usize] += 1);
        let mut arrived = self.arrived.subscribe();
        let all = arrived.wait_for(|arrived| arrived.given_up || arrived.at[line as usize] >= self.members);
        let given_up = match tokio::time::timeout(self.limit, all).await {
            Ok(Ok(arrived)) => arrived.given_up,
            Ok(Err(_)) | Err(_) => true,
        };
        if given_up {
            self.give_up();
            return Err(Error::Unavailable(Report::new(
                "take a checkpoint: another member of the group could not",
            )));
        }
        Ok(())
    }

    /// One of them has failed: nobody is to wait for it.
    pub(crate) fn give_up(&self) {
        self.arrived.send_modify(|arrived| arrived.given_up = true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn nobody_passes_a_line_before_all_have_come() {
        let cut = Cut::new(2, LONG);
        let early = {
            let cut = Arc::clone(&cut);
            tokio::spawn(async move { cut.meet(Line::Frozen).await })
        };
        // At another line.
        let other = Arc::clone(&cut);
        let ready = tokio::spawn(async move { other.meet(Line::Ready).await });
        tokio::task::yield_now().await;
        assert!(!early.is_finished() && !ready.is_finished());
        cut.meet(Line::Frozen).await.expect("both are there");
        early.await.expect("it does not panic").expect("both are there");
        assert!(!ready.is_finished());
        cut.meet(Line::Ready).await.expect("both are there");
        ready.await.expect("it does not panic").expect("both are there");
    }

    #[tokio::test]
    async fn one_that_fails_lets_the_others_go() {
        let cut = Cut::new(2, LONG);
        let waiting = {
            let cut = Arc::clone(&cut);
            tokio::spawn(async move { cut.meet(Line::Complete).await })
        };
        tokio::task::yield_now().await;
        cut.give_up();
        assert!(waiting.await.expect("it does not panic").is_err());
        assert!(cut.meet(Line::Ready).await.is_err(), "and whoever comes later");
    }

    #[tokio::test]
    async fn nobody_waits_for_ever() {
        let cut = Cut::new(2, Duration::from_millis(1));
        assert!(cut.meet(Line::Ready).await.is_err());
    }
}
