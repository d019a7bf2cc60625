//! Signals to the supervisor itself.

use anyhow::Context;
use futures_util::StreamExt;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::exfiltrator::WithOrigin;
use signal_hook_tokio::SignalsInfo;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Come to rest and end.
    Stop,
    /// Read the configuration anew.
    Reload,
}

/// The stream of them.
pub(crate) struct Signals {
    stream: SignalsInfo<WithOrigin>,
}

impl Signals {
    /// Begins to listen. A second request to stop ends the process at once.
    pub(crate) fn listen() -> anyhow::Result<Self> {
        let asked = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // The order matters: the second of these arms the first.
            signal_hook::flag::register_conditional_shutdown(signal, 1, std::sync::Arc::clone(&asked))?;
            signal_hook::flag::register(signal, std::sync::Arc::clone(&asked))?;
        }
        let stream = SignalsInfo::new([SIGTERM, SIGINT, SIGHUP]).context("listen for signals")?;
        Ok(Self { stream })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) -> Asked {
        let Some(origin) = self.stream.next().await else { return Asked::Stop };
        let sender = origin.process.map_or(0, |p| p.pid);
        tracing::info!(signal = origin.signal, sender, "signal received");
        if origin.signal == SIGHUP { Asked::Reload } else { Asked::Stop }
    }
}
