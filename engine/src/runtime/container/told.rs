//! How a container ended: as its engine noted it, or else as it says.

use std::sync::Arc;
use std::time::{Duration, Instant as Clock};

use super::super::{Effect, Ended, Witness};
use super::{Engine, ExitNote, LOOK_EVERY};
use crate::freeze::Cgroup;

/// The engine as the witness of the container's end.
#[derive(Debug)]
pub(super) struct Told<E> {
    pub(super) engine: Arc<E>,
    /// Tells which container it was: its name may be another one's by now.
    pub(super) cgroup: Cgroup,
    /// `None`: only the engine can say it.
    pub(super) note: Option<ExitNote>,
}

impl<E: Engine> Witness for Told<E> {
    fn end(&self) -> Effect<'_, Ended> {
        Box::pin(async {
            if let Some(note) = &self.note
                && let Some(ended) = note.read().await
            {
                return Ok(ended);
            }
            let begun = Clock::now();
            while begun.elapsed() < Duration::from_secs(2) {
                match self.engine.find().await {
                    Ok(Some(known)) if !self.cgroup.is_of(&known.id) => break,
                    Ok(Some(known)) if known.pid.is_none() => return Ok(known.ended()),
                    Ok(Some(_)) => tokio::time::sleep(LOOK_EVERY).await,
                    // Removed, replaced, or the engine is away: it ended, and nobody can say how.
                    Ok(None) | Err(_) => break,
                }
            }
            Ok(Ended::default())
        })
    }
}
