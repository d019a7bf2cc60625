//! Hearing, through its shim, what a service says of itself.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::{Inner, Shim, unexpected};
use crate::error::Result;
use crate::shim::protocol::{LISTENS_SINCE, Listen, Reply, Request};
use crate::shim::said::Said;

/// How long after a piece of news the next is asked for.
const REST: Duration = Duration::from_millis(50);

impl Shim {
    /// Lets the shim hear what a run that is about to begin says of itself.
    ///
    /// # Errors
    /// `Refused` by a shim that is too old for it, and when it cannot listen there.
    pub async fn listen(&self, listen: Listen) -> Result<()> {
        self.knows("hear", LISTENS_SINCE)?;
        self.done(&Request::Listen(listen), &[]).await?;
        // From here on nobody takes what the former run has said for this one's.
        self.said().await.map(drop)
    }

    /// What the present run has said until now; `None` if the shim was not told to listen.
    ///
    /// # Errors
    /// As [`Shim::listen`].
    pub async fn said(&self) -> Result<Option<Said>> {
        self.said_beyond(0).await
    }

    /// What the present run says, as it says it; at most twenty times a second.
    pub fn follow(&self) -> watch::Receiver<Said> {
        if !self.inner.followed.swap(true, Ordering::SeqCst) {
            tokio::spawn(follow_on(Arc::downgrade(&self.inner)));
        }
        self.inner.said.subscribe()
    }

    async fn said_beyond(&self, beyond: u64) -> Result<Option<Said>> {
        self.knows("hear", LISTENS_SINCE)?;
        match self.ask(&Request::Said { beyond }, &[]).await? {
            (Reply::Said(said), _) => Ok(said),
            (other, _) => Err(unexpected(&other)),
        }
    }
}

impl Inner {
    pub(super) fn note_said(&self, said: &Said) {
        self.said.send_if_modified(|known| {
            let changed = known != said;
            known.clone_from(said);
            changed
        });
    }
}

/// Asks for what is new, and rests after each piece of news: a service that talks without end is heard all the same.
async fn follow_on(inner: Weak<Inner>) {
    loop {
        let Some(shim) = inner.upgrade().map(|inner| Shim { inner }) else { return };
        let mut told = shim.inner.said.subscribe();
        let known = told.borrow_and_update().changes;
        let said = shim.said_beyond(known).await;
        let connected = shim.is_connected();
        // Not held while it waits: whoever drops the connection ends this.
        drop(shim);
        let up_to_date = said.is_ok_and(|said| said.is_none_or(|said| said.changes <= known));
        if !connected || (up_to_date && told.changed().await.is_err()) {
            return;
        }
        tokio::time::sleep(REST).await;
    }
}
