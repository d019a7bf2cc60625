//! An event as hooks see it: JSON with the node's name in it, and variables of the environment.

use serde::Serialize;

use crate::status::EventRecord;

/// Longest value of a variable, in characters: the kernel allows 128 KiB each, and all of it is in the JSON.
const VARIABLE_MAX: usize = 8192;

/// Whose events they are.
#[derive(Debug, Clone)]
pub(super) struct Sender {
    pub(super) node: String,
}

#[derive(Serialize)]
struct Message<'a> {
    node: &'a str,
    #[serde(flatten)]
    event: &'a EventRecord,
}

impl Sender {
    /// The same as `supervisor events --output json` shows, and the node.
    pub(super) fn json(&self, event: &EventRecord) -> Vec<u8> {
        serde_json::to_vec(&Message { node: &self.node, event }).expect("an event can be written as JSON")
    }

    /// What is known, each under a name of its own; what is not known has none.
    pub(super) fn env(&self, event: &EventRecord) -> Vec<(&'static str, String)> {
        let known = [
            ("SUPERVISOR_NODE", Some(self.node.clone())),
            ("SUPERVISOR_EVENT_SEQ", Some(event.seq.to_string())),
            ("SUPERVISOR_EVENT_AT", Some(event.at.clone())),
            ("SUPERVISOR_EVENT_KIND", Some(event.kind.clone())),
            ("SUPERVISOR_EVENT_TEXT", Some(event.text.clone())),
            ("SUPERVISOR_EVENT_SERVICE", event.service.clone()),
            ("SUPERVISOR_EVENT_IMAGE", event.image.clone()),
            ("SUPERVISOR_EVENT_CAUSE", event.cause.clone()),
            ("SUPERVISOR_EVENT_RUNG", event.rung.clone()),
            ("SUPERVISOR_EVENT_TOOK_MS", event.took_ms.map(|took| took.to_string())),
        ];
        // A zero byte ends a variable.
        let fitting = |text: String| text.chars().filter(|c| *c != '\0').take(VARIABLE_MAX).collect();
        known.into_iter().filter_map(|(name, value)| Some((name, fitting(value?)))).collect()
    }
}
