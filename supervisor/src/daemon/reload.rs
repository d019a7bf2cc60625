//! The configuration read anew: on SIGHUP and when its file changes. A bad file changes nothing and says so.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use config::{Change, diff};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use policies::id::ServiceName;
use tokio::sync::mpsc;

use super::{Daemon, notify as tell_systemd, start};
use crate::events::plain;
use crate::service::Message;

/// Editors write in several steps; the file is read once they have been still for so long.
const QUIET: Duration = Duration::from_millis(250);

/// Watches the folder of the file, so that a file put in its place by a rename is seen too.
pub(super) struct Watcher {
    changes: mpsc::Receiver<()>,
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
        Self { changes, _watcher: watcher.ok() }
    }

    /// Waits until the file may be another one, and still.
    pub(super) async fn changed(&mut self) {
        if self.changes.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Ok(Some(())) = tokio::time::timeout(QUIET, self.changes.recv()).await {}
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
    /// Reads the file and does what has changed.
    pub(super) async fn reload(&mut self) {
        let config = match start::read_config(&self.options.config) {
            Ok(config) => config,
            Err(error) => return self.refuse(&format!("{error:#}")),
        };
        let difference = diff(&self.config, &config);
        let was_refused = self.status.borrow().config_error.is_some();
        if difference.is_empty() && !was_refused {
            return;
        }
        if let Ok(now) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC) {
            let micros = now.tv_sec() * 1_000_000 + now.tv_nsec() / 1000;
            tell_systemd(&[
                sd_notify::NotifyState::Reloading,
                sd_notify::NotifyState::MonotonicUsec(i128::from(micros)),
            ]);
        }
        self.status.send_modify(|status| status.config_error = None);
        self.config = config;
        for name in &difference.removed {
            self.dismiss(name).await;
        }
        for (name, change) in &difference.changed {
            self.change(name, change).await;
        }
        for name in &difference.added {
            self.start_service(name).await;
        }
        let mut text = format!(
            "configuration read: {} added, {} changed, {} removed",
            difference.added.len(),
            difference.changed.len(),
            difference.removed.len()
        );
        let later = difference.node_changes_needing_restart.join(", ");
        if !later.is_empty() || difference.store_changed {
            let store = if difference.store_changed { " [store]" } else { "" };
            text.push_str(&format!("; takes effect when the supervisor is started again: {later}{store}"));
        }
        self.node.events.record(plain(None, "config-reloaded", text));
        tell_systemd(&[sd_notify::NotifyState::Ready]);
    }

    fn refuse(&self, why: &str) {
        let text = format!("the configuration was not taken over, nothing was changed:\n{why}");
        self.node.events.record(plain(None, "config-refused", text));
        self.status.send_modify(|status| status.config_error = Some(why.to_owned()));
    }

    async fn change(&mut self, name: &ServiceName, change: &Change) {
        let Some(service) = self.config.services.get(name) else { return };
        let entry = self.control.entry(name.as_str()).await;
        let stands_in = entry.as_ref().is_ok_and(|e| e.status.borrow().runtime.is_empty());
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
        if let Ok(entry) = self.control.entry(name.as_str()).await {
            let _ = entry.inbox.send(Message::Dismiss).await;
        }
        self.control.remove(name).await;
        let task = self.tasks.iter().position(|(n, _)| n == name).map(|at| self.tasks.swap_remove(at));
        let (node, name) = (self.node.clone(), name.clone());
        tokio::spawn(async move {
            if let Some((_, task)) = task {
                // Its end is what counts, not how.
                let _ = task.await;
            }
            if let Err(error) = node.journal.forget(&name) {
                tracing::warn!(%error, service = %name, "its record could not be removed");
            }
            node.events.record(plain(
                Some(name.as_str()),
                "removed",
                "no longer configured: ended; its images are kept",
            ));
        });
    }
}
