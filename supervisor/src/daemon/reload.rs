//! The configuration read anew: on SIGHUP and when its file changes. A bad file changes nothing and says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Change, Config, Diff, diff};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use policies::id::ServiceName;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Daemon, notify as tell_systemd, start};
use crate::control::Entry;
use crate::events::plain;
use crate::service::Message;

/// Editors write in several steps; the file is read once they have been still for so long.
const QUIET: Duration = Duration::from_millis(250);
/// In a folder that is never still it is read all the same, so long after the first step.
const QUIET_MAX: Duration = Duration::from_secs(2);

/// Why the file is read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// Somebody asked for it and waits for an answer.
    Asked,
    /// Something in its folder changed.
    Seen,
}

/// Watches the folder of the file, so that a file put in its place by a rename is seen too.
pub(super) struct Watcher {
    changes: mpsc::Receiver<()>,
    /// When it is to be read, as things are, and at the latest.
    due: Option<(Instant, Instant)>,
    _watcher: Option<RecommendedWatcher>,
}

impl Watcher {
    /// Begins to watch. If that cannot be done, SIGHUP remains.
    pub(super) fn start(file: &Path) -> Self {
        let (sender, changes) = mpsc::channel(1);
        let watcher = watcher(file, sender);
        if let Err(error) = &watcher {
            tracing::warn!(%error, file = %file.display(), "the configuration file cannot be watched; SIGHUP reloads it");
        }
        Self { changes, due: None, _watcher: watcher.ok() }
    }

    /// Waits until the file may be another one, and still. Dropped and called again it goes on where it was.
    pub(super) async fn changed(&mut self) {
        loop {
            let change = match self.due {
                Some((at, latest)) => tokio::time::timeout_at(at.min(latest), self.changes.recv()).await,
                None => Ok(self.changes.recv().await),
            };
            match change {
                Ok(Some(())) => {
                    let now = Instant::now();
                    let latest = self.due.map_or(now + QUIET_MAX, |(_, latest)| latest);
                    self.due = Some((now + QUIET, latest));
                }
                Ok(None) => std::future::pending().await,
                Err(_) => {
                    self.due = None;
                    return;
                }
            }
        }
    }
}

fn watcher(file: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the file makes events too; those must not bring us here again.
        let matters = event.is_ok_and(|e| {
            !matches!(
                e.kind,
                EventKind::Access(notify::event::AccessKind::Open(_) | notify::event::AccessKind::Read)
            )
        });
        if matters {
            // One waiting change says as much as two.
            let _ = sender.try_send(());
        }
    })?;
    watcher.watch(&folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

impl Daemon {
    /// Reads the file and does what has changed. Whoever asked is answered, whatever came of it.
    pub(super) async fn reload(&mut self, trigger: Trigger) {
        let read = start::read_config(&self.options.config);
        if trigger == Trigger::Seen && self.is_known(&read) {
            return;
        }
        tell_reloading();
        match read {
            Ok(config) => self.take_over(config).await,
            Err(error) => self.refuse(&format!("{error:#}")),
        }
        tell_systemd(&[sd_notify::NotifyState::Ready]);
    }

    /// Whether it says what was read before.
    fn is_known(&self, read: &anyhow::Result<Config>) -> bool {
        let refused = self.status.borrow().config_error.clone();
        match read {
            Ok(config) => refused.is_none() && diff(&self.config, config).is_empty(),
            Err(error) => refused == Some(format!("{error:#}")),
        }
    }

    async fn take_over(&mut self, config: Config) {
        let difference = diff(&self.config, &config);
        self.status.send_modify(|status| status.config_error = None);
        self.config = config;
        if difference.hooks_changed {
            self.hooks.replace(&self.config);
        }
        if difference.telemetry_changed {
            self.telemetry.replace(&self.config).await;
        }
        for name in &difference.removed {
            self.dismiss(name).await;
        }
        for (name, change) in &difference.changed {
            self.change(name, change).await;
        }
        // What kept a service from being put together may lie outside of the file.
        let failed = self.stand_ins().await;
        for name in
            failed.iter().filter(|name| !difference.changed.contains_key(*name)).chain(&difference.added)
        {
            self.start_service(name).await;
        }
        self.tell_reloaded(&difference);
    }

    fn tell_reloaded(&self, difference: &Diff) {
        let mut text = format!(
            "configuration read: {} added, {} changed, {} removed",
            difference.added.len(),
            difference.changed.len(),
            difference.removed.len()
        );
        if difference.hooks_changed {
            text.push_str("; hooks changed");
        }
        if difference.telemetry_changed {
            text.push_str("; telemetry changed");
        }
        let later = difference.node_changes_needing_restart.join(", ");
        if !later.is_empty() || difference.store_changed {
            let store = if difference.store_changed { " [store]" } else { "" };
            text.push_str(&format!("; takes effect when the supervisor is started again: {later}{store}"));
        }
        self.node.events.record(plain(None, "config-reloaded", text));
    }

    fn refuse(&self, why: &str) {
        let text = format!("the configuration was not taken over, nothing was changed:\n{why}");
        self.node.events.record(plain(None, "config-refused", text));
        self.status.send_modify(|status| status.config_error = Some(why.to_owned()));
    }

    /// Services that could not even be put together.
    async fn stand_ins(&self) -> Vec<ServiceName> {
        let entries = self.control.entries().await;
        entries.into_iter().filter(|(_, entry)| stands_in(entry)).map(|(name, _)| name).collect()
    }

    async fn change(&mut self, name: &ServiceName, change: &Change) {
        let Some(service) = self.config.services.get(name) else { return };
        let entry = self.control.entry(name.as_str()).await;
        let stands_in = entry.as_ref().is_ok_and(stands_in);
        if stands_in {
            return self.start_service(name).await;
        }
        let parts = match self.ground.parts(name, service) {
            Ok(parts) => Arc::new(parts),
            Err(error) => {
                self.node.events.record(plain(Some(name.as_str()), "config-refused", error.to_string()));
                return;
            }
        };
        let Ok(entry) = entry else { return };
        let message = if change.needs_restart() { Message::Restart(parts) } else { Message::Reload(parts) };
        // A task that has ended cannot be changed.
        let _ = entry.inbox.send(message).await;
    }

    /// Ends a service that is not configured any more; its images stay.
    async fn dismiss(&mut self, name: &ServiceName) {
        self.forget_lease(name);
        if let Ok(entry) = self.control.entry(name.as_str()).await {
            let _ = entry.inbox.send(Message::Dismiss).await;
        }
        self.control.remove(name).await;
        let task = self.tasks.iter().position(|(n, _)| n == name).map(|at| self.tasks.swap_remove(at));
        self.leaving.insert(name.clone());
        self.node.replicas.leave(name);
        let (node, gone, leaves) = (self.node.clone(), self.gone.clone(), name.clone());
        let tail = tokio::spawn(async move {
            if let Some((_, task)) = task {
                // Its end is what counts, not how.
                let _ = task.await;
            }
            if let Err(error) = node.journal.forget(&leaves) {
                tracing::warn!(%error, service = %leaves, "its record could not be removed");
            }
            let text = "no longer configured: ended; its images are kept";
            node.events.record(plain(Some(leaves.as_str()), "removed", text));
            // Nobody listens once the supervisor stops.
            let _ = gone.send(leaves).await;
        });
        // The supervisor's own end waits for it.
        self.tasks.push((name.clone(), tail));
    }

    /// A service that was taken out has ended. It may have been put back meanwhile.
    pub(super) async fn has_gone(&mut self, name: &ServiceName) {
        self.leaving.remove(name);
        if !self.config.services.contains_key(name) {
            self.holding.release(name);
        }
        if self.config.services.contains_key(name) {
            self.start_service(name).await;
        }
    }
}

/// Whether nothing runs behind it. A task that has not published anything yet has no state.
fn stands_in(entry: &Entry) -> bool {
    let status = entry.status.borrow();
    status.runtime.is_empty() && !status.state.is_empty()
}

/// A reload begins. systemd wants to know when.
fn tell_reloading() {
    let Ok(now) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) else { return };
    let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
    let since = sd_notify::NotifyState::MonotonicUsec(i128::from(micros));
    tell_systemd(&[sd_notify::NotifyState::Reloading, since]);
}
