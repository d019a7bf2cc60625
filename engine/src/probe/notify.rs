//! Listens to what the service says of itself by sd_notify.
//!
//! What was said is remembered by whoever hears it, so a check looks back as well: signs of life count from the check before. It refuses to
//! hold it against a run that nobody has told where to speak.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use super::Answer;
use crate::runtime::Instance;
use crate::shim::Said;

/// Passes if the service has said what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notify {
    wanted: Wanted,
    run: Option<Run>,
}

/// What is listened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// That it is ready, said once.
    Ready,
    /// A sign of life since the check before.
    Life,
}

/// One run, as it is heard.
#[derive(Debug, Clone)]
struct Run {
    /// `None`: it was not told where to say anything.
    said: Option<watch::Receiver<Said>>,
    /// How many signs of life have counted already.
    counted: Arc<AtomicU64>,
}

impl Notify {
    /// Wants `READY=1`.
    pub fn ready() -> Self {
        Self { wanted: Wanted::Ready, run: None }
    }

    /// Wants `WATCHDOG=1`, again and again.
    pub fn life() -> Self {
        Self { wanted: Wanted::Life, run: None }
    }

    pub(super) fn of_run(self, run: Option<&Instance>) -> Self {
        self.hearing(run.map(Instance::said))
    }

    fn hearing(self, said: Option<Option<watch::Receiver<Said>>>) -> Self {
        Self { run: said.map(|said| Run { said, counted: Arc::default() }), ..self }
    }

    /// Whether an answer is about the time since the check before, too.
    pub(super) fn looks_back(&self) -> bool {
        self.wanted == Wanted::Life
    }

    pub(super) async fn listen(&self, limit: Duration) -> Answer {
        let run = self.run.as_ref().ok_or("the service does not run")?;
        let Some(said) = &run.said else {
            return Ok("it was started before it was to say so; it is not asked".to_owned());
        };
        let (mut said, mut answer) = (said.clone(), None);
        let heard = said.wait_for(|said| {
            answer = self.answer(run, said);
            answer.is_some()
        });
        match tokio::time::timeout(limit, heard).await {
            Ok(Err(_)) => Err("its shim has gone".to_owned()),
            Ok(Ok(_)) | Err(_) => answer.unwrap_or_else(|| Err(self.silence(limit))),
        }
    }

    /// What is to be made of it; nothing yet, perhaps.
    fn answer(&self, run: &Run, said: &Said) -> Option<Answer> {
        match self.wanted {
            Wanted::Ready => said.ready.then(|| Ok("READY=1".to_owned())),
            Wanted::Life if said.sick => Some(Err("it said WATCHDOG=trigger".to_owned())),
            Wanted::Life => {
                let is_new = said.alive > run.counted.fetch_max(said.alive, Ordering::SeqCst);
                is_new.then(|| Ok("WATCHDOG=1".to_owned()))
            }
        }
    }

    fn silence(&self, limit: Duration) -> String {
        let limit = humantime::format_duration(limit);
        match self.wanted {
            Wanted::Ready => format!("READY=1 was not said, nor within {limit}"),
            Wanted::Life => format!("WATCHDOG=1 was not said since the check before, nor within {limit}"),
        }
    }

    /// Waits for a sign of life that comes later than this call.
    pub(super) async fn speaks_again(&self) {
        if let (Wanted::Life, Some(said)) = (self.wanted, self.said()) {
            let mut said = said.clone();
            let known = said.borrow().alive;
            // It will not, if its shim has gone.
            let _ = said.wait_for(|said| said.alive > known || said.sick).await;
        }
    }

    /// Waits until it asks to be recovered.
    pub(super) async fn asks_for_help(&self) {
        if let (Wanted::Life, Some(said)) = (self.wanted, self.said())
            && said.clone().wait_for(|said| said.sick).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    fn said(&self) -> Option<&watch::Receiver<Said>> {
        self.run.as_ref()?.said.as_ref()
    }
}

/// The same ears, not the same words.
impl PartialEq for Run {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.counted, &other.counted)
    }
}

impl Eq for Run {}

#[cfg(test)]
mod tests;
