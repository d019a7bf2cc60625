//! What happened lately, in memory: the status page draws it each time somebody looks, and must not read the journal for that.
//!
//! Of each service a bounded number of events is kept, of all together the newest few. It refuses to be the journal: what is older is there.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::events::Events;
use crate::status::EventRecord;

/// Of each service: about the last 70 checkpoints, or fewer and what happened between them.
const OF_A_SERVICE: usize = 150;
/// Of all together.
const OF_ALL: usize = 30;

/// The memory of it. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    lately: Arc<Mutex<Lately>>,
}

#[derive(Debug, Default)]
struct Lately {
    services: BTreeMap<String, VecDeque<EventRecord>>,
    all: VecDeque<EventRecord>,
}

impl History {
    /// What the journal has of before, and what happens from now on.
    pub(crate) fn follow(events: &Events) -> Self {
        let (history, events) = (Self::default(), events.clone());
        let remembering = history.clone();
        let (_, live) = events.follow_from_now();
        tokio::spawn(async move {
            // Without the past the page begins with the present.
            let past = events.kept_after(0).await.unwrap_or_default();
            let last = past.last().map_or(0, |record| record.seq);
            past.into_iter().for_each(|record| remembering.remember(record));
            events.hand_on(live, last, |record| remembering.remember(record.clone())).await;
        });
        history
    }

    /// Of one service, oldest first.
    pub(crate) fn of(&self, service: &str) -> Vec<EventRecord> {
        self.lately().services.get(service).into_iter().flatten().cloned().collect()
    }

    /// Of all, oldest first.
    pub(crate) fn all(&self) -> Vec<EventRecord> {
        self.lately().all.iter().cloned().collect()
    }

    fn remember(&self, record: EventRecord) {
        // What is said of each image again and again would leave no room for the rest.
        if matches!(record.kind.as_str(), "image-judged" | "image-replicated" | "image-skipped") {
            return;
        }
        let mut lately = self.lately();
        if let Some(service) = &record.service {
            push(lately.services.entry(service.clone()).or_default(), record.clone(), OF_A_SERVICE);
        }
        // Those of the cadence, which go well, are in the services' plots; here they would push out what somebody looks for.
        if !matches!(record.kind.as_str(), "image-durable" | "checkpoint-taken") {
            push(&mut lately.all, record, OF_ALL);
        }
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        // Each change is one step.
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push(records: &mut VecDeque<EventRecord>, record: EventRecord, most: usize) {
    if records.len() == most {
        records.pop_front();
    }
    records.push_back(record);
}
