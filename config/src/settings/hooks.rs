//! Who is told of events, as plain data.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// `[hooks]` or `[service.NAME.hooks]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooks {
    /// Program and arguments, never empty.
    pub on_event: Option<Vec<String>>,
    /// Where events are posted.
    pub webhook: Option<Webhook>,
    /// The kinds of events; empty: all.
    pub kinds: BTreeSet<String>,
    /// How long the command, or one attempt to post, may take.
    pub timeout: Duration,
}

/// Where events are posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// `http` or `https`.
    pub url: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Who may have signed the receiver's certificate; `None`: whom the host trusts.
    pub ca: Option<PathBuf>,
    /// How often one event is posted at most; never 0.
    pub attempts: u32,
}
