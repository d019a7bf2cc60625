//! One health check, carried out once: asks a service and says what it answered.
//!
//! It refuses to judge: a row of outcomes becomes a verdict in `policies::health`. It never panics, never takes longer than
//! its limit, and leaves nothing behind, neither a connection nor a process, also when the caller drops it half-way.

mod exec;
mod grpc;
mod heartbeat;
mod http;
mod notify;
mod tcp;
mod tls;

use std::time::{Duration, Instant};

pub use exec::Exec;
pub use grpc::Grpc;
pub use heartbeat::Heartbeat;
pub use http::Http;
pub use notify::Notify;
pub use tcp::Tcp;
pub use tls::Trust;

use crate::runtime::Instance;

/// How much of what a service or a command said goes into a detail.
const EXCERPT_MAX: usize = 300;

/// A health check of one kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// Asks by HTTP/1.1 and looks at the status code.
    Http(Http),
    /// Opens a connection and closes it.
    Tcp(Tcp),
    /// Runs a command and looks at its exit code.
    Exec(Exec),
    /// Asks gRPC's standard health service.
    Grpc(Grpc),
    /// Waits for a file to be touched.
    Heartbeat(Heartbeat),
    /// Listens to what the service says of itself.
    Notify(Notify),
}

/// What came of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the service answered as it should.
    pub passed: bool,
    /// What it answered, or what went wrong: one line, for people.
    pub detail: String,
    /// How long it took.
    pub took: Duration,
}

impl Probe {
    /// The probe of one run of a service, for what is asked inside of its processes or said by them.
    #[must_use]
    pub fn of_run(self, run: Option<&Instance>) -> Self {
        match self {
            Self::Exec(exec) => Self::Exec(exec.of_run(run.map(|run| &run.handle))),
            Self::Notify(notify) => Self::Notify(notify.of_run(run)),
            other @ (Self::Http(_) | Self::Tcp(_) | Self::Grpc(_) | Self::Heartbeat(_)) => other,
        }
    }

    /// Probes once. An answer that is not there after `timeout` is a failed one.
    pub async fn run(&self, timeout: Duration) -> Outcome {
        let begun = Instant::now();
        let answer = match self {
            // The command's limit is kept where its processes are killed.
            Self::Exec(exec) => exec.ask(timeout).await,
            Self::Http(http) => within(timeout, http.ask()).await,
            Self::Tcp(tcp) => within(timeout, tcp.ask()).await,
            Self::Grpc(grpc) => within(timeout, grpc.ask()).await,
            Self::Heartbeat(heartbeat) => heartbeat.feel(timeout).await,
            Self::Notify(notify) => notify.listen(timeout).await,
        };
        let (passed, detail) = match answer {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        Outcome { passed, detail, took: begun.elapsed() }
    }

    /// Whether a good answer may be about the time before it was asked for, back to the check before.
    pub fn looks_back(&self) -> bool {
        matches!(self, Self::Notify(notify) if notify.looks_back())
    }

    /// Waits until it is worth asking about the time from now on: at once, but where the service speaks when it likes.
    pub async fn may_be_asked(&self) {
        if let Self::Notify(notify) = self {
            notify.speaks_again().await;
        }
    }

    /// Waits until the service asks to be recovered, which most never do.
    pub async fn asks_for_help(&self) {
        match self {
            Self::Notify(notify) => notify.asks_for_help().await,
            Self::Http(_) | Self::Tcp(_) | Self::Exec(_) | Self::Grpc(_) | Self::Heartbeat(_) => {
                std::future::pending().await
            }
        }
    }
}

/// `Ok` with what was answered if the probe passed, `Err` with the reason if it failed.
type Answer = std::result::Result<String, String>;

async fn within(limit: Duration, asking: impl Future<Output = Answer>) -> Answer {
    match tokio::time::timeout(limit, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {}", humantime::format_duration(limit))),
    }
}

/// The end of `text` in one line.
fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let surplus = line.chars().count().saturating_sub(EXCERPT_MAX);
    if surplus == 0 { line } else { format!("...{}", line.chars().skip(surplus).collect::<String>()) }
}

#[cfg(test)]
mod tests;
