//! Keeping the one image of a group that is to end with it: when the last member's dump is complete, and while all still stand still.

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::{Keep, Noted, lock};
use crate::error::{Error, Report, Result};

/// What the members' dumps have in common.
pub(super) struct Joint {
    members: usize,
    limit: Duration,
    between: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
    state: Mutex<State>,
    kept: Condvar,
}

#[derive(Default)]
struct State {
    noted: Noted,
    keep: Option<Keep>,
    /// Whether it could be kept, once it was tried.
    outcome: Option<bool>,
}

impl Joint {
    pub(super) fn new(
        members: usize,
        limit: Duration,
        between: Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>,
        keep: Keep,
    ) -> Arc<Self> {
        let state = Mutex::new(State { keep: Some(keep), ..State::default() });
        Arc::new(Self { members, limit, between, state, kept: Condvar::new() })
    }

    /// One member's dump is complete. Returns when the image of all is kept. It blocks; the last one to come keeps.
    pub(super) fn keep(&self, member: String, noted: serde_json::Value) -> Result<()> {
        let mut state = lock(&self.state);
        state.noted.members.insert(member, noted);
        if state.noted.members.len() == self.members
            && let Some(keep) = state.keep.take()
        {
            let mut all = std::mem::take(&mut state.noted);
            drop(state);
            all.between.clone_from(&lock(&self.between));
            let outcome = all.written().and_then(keep);
            lock(&self.state).outcome = Some(outcome.is_ok());
            self.kept.notify_all();
            return outcome;
        }
        let waited = self.kept.wait_timeout_while(state, self.limit, |state| state.outcome.is_none());
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.outcome {
            Some(true) => Ok(()),
            Some(false) | None => Err(Error::Unavailable(Report::new(
                "keep the image of a group: another member of it could not",
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn the_last_one_keeps_for_all() {
        let seen = Arc::new(Mutex::new(None));
        let found = Arc::clone(&seen);
        let keep: Keep = Box::new(move |state| {
            *lock(&found) = Some(state);
            Ok(())
        });
        let joint = Joint::new(2, LONG, Arc::default(), keep);
        let other = Arc::clone(&joint);
        let early = std::thread::spawn(move || other.keep("a".to_owned(), 1.into()));
        joint.keep("b".to_owned(), 2.into()).expect("kept");
        early.join().expect("it does not panic").expect("kept");
        let state = lock(&seen).take().expect("it was kept");
        assert_eq!(state["members"], serde_json::json!({ "a": 1, "b": 2 }));
    }

    #[test]
    fn what_cannot_be_kept_is_kept_for_nobody() {
        let keep: Keep = Box::new(|_| Err(Error::Unavailable(Report::new("write: the disk is full"))));
        let joint = Joint::new(2, LONG, Arc::default(), keep);
        let other = Arc::clone(&joint);
        let early = std::thread::spawn(move || other.keep("a".to_owned(), 1.into()));
        let late = joint.keep("b".to_owned(), 2.into());
        let early = early.join().expect("it does not panic");
        assert!(early.is_err() && late.is_err());
    }
}
