//! What `supervisor sidecar` does, as plain data.

use std::path::PathBuf;
use std::time::Duration;

use policies::id::ServiceName;

use super::{Address, Probe};

/// `[sidecar]`
#[derive(Clone, Debug, PartialEq)]
pub struct Sidecar {
    /// Where it answers.
    pub listen: Address,
    /// Whom it tells; `None`: nobody.
    pub report: Option<Report>,
    /// What it asks.
    pub probes: Vec<Probe>,
}

/// `[sidecar.report]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The supervisor's socket.
    pub socket: PathBuf,
    /// The service there.
    pub service: ServiceName,
    /// Its probe of the kind `report`; `None`: the only one.
    pub probe: Option<String>,
    /// Time between two reports.
    pub interval: Duration,
}
