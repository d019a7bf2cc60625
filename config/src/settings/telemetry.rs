//! Where measurements and traces are sent, as plain data.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// `[telemetry.otlp]`: a collector of OpenTelemetry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Otlp {
    /// `http` or `https`, without the paths of its kinds of messages.
    pub endpoint: String,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
    /// Who may have signed the collector's certificate; `None`: whom the host trusts.
    pub ca: Option<PathBuf>,
    /// How often it is sent.
    pub interval: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}
