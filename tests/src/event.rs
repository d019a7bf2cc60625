//! What the supervisor wrote into its journal of events, as anybody may read it.

use std::path::Path;

use engine::durable::Log;
use serde::Deserialize;

/// One event. Fields that a test has no use for are not read.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Event {
    /// Grows with each event of the node, over restarts.
    pub seq: u64,
    /// When, RFC 3339.
    pub at: String,
    /// Which service, if one.
    pub service: Option<String>,
    /// What, as one word.
    pub kind: String,
    /// The same for people.
    pub text: String,
    /// An image, if one is concerned.
    #[serde(default)]
    pub image: Option<String>,
    /// A duration that belongs to it, milliseconds.
    #[serde(default)]
    pub took_ms: Option<f64>,
    /// Why, as one word.
    #[serde(default)]
    pub cause: Option<String>,
    /// The rung, if one is concerned.
    #[serde(default)]
    pub rung: Option<String>,
    /// How long the service stood still, milliseconds.
    #[serde(default)]
    pub pause_ms: Option<f64>,
}

/// A place in the journal: what came later is new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark(pub(crate) u64);

/// All of them, oldest first. None if no supervisor has written yet.
pub(crate) fn read(log: &Path) -> Vec<Event> {
    if !log.exists() {
        return Vec::new();
    }
    // A line that is being written is no whole line yet; the reader leaves it out.
    let replay = Log::read_all(log).expect("the journal of events can be read");
    let decoded = replay.records.iter().map(|bytes| serde_json::from_slice(bytes));
    decoded.collect::<Result<_, _>>().expect("every event is one")
}
