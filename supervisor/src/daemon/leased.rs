//! Services that other nodes may run: they begin when their lease is ours and end when it is not any more.

use std::time::Duration;

use engine::error::Report;
use policies::id::ServiceName;
use policies::service::{Event, Failure, FailureKind};

use super::{Daemon, stand_in};
use crate::service::Message;
use crate::tenure::{self, Change};

/// How long the end of a service whose lease was lost is waited for. Its fence stands behind that.
const END_MAX: Duration = Duration::from_secs(30);

impl Daemon {
    /// The service waits for its lease, which is watched from now on.
    pub(super) async fn wait_for_lease(&mut self, name: &ServiceName) {
        self.stand_by(name).await;
        let Some(service) = self.config.services.get(name) else { return };
        if let (Some(leases), Some(failover)) = (&self.leases, service.failover.clone())
            && !self.watched.contains_key(name)
        {
            let window = service.policy.ladder.window;
            let watching = tenure::spawn(leases, name.clone(), (failover, window), &self.node);
            self.watched.insert(name.clone(), watching);
        }
    }

    /// Its lease is not watched any more; held, it expires.
    pub(super) fn forget_lease(&mut self, name: &ServiceName) {
        if let Some(watching) = self.watched.remove(name) {
            watching.cancel();
            self.node.tenures.leave(name);
        }
    }

    pub(super) async fn tenure_changed(&mut self, change: Change) {
        match change {
            Change::Begin { service, arrival } => self.begin(&service, arrival).await,
            Change::End { service, why, done } => {
                self.put_down(&service, &why).await;
                // The task may have ended with the supervisor.
                let _ = done.send(());
            }
        }
    }

    /// Whatever it is doing, it is killed; then it waits again.
    async fn put_down(&mut self, name: &ServiceName, why: &str) {
        self.node.replicas.leave(name);
        if let Ok(entry) = self.control.entry(name.as_str()).await {
            let failure = Failure::new(FailureKind::Fenced, why);
            // A task that has ended needs neither.
            let _ = entry.inbox.send(Message::Event(Event::Fenced { failure })).await;
            let _ = entry.inbox.send(Message::Dismiss).await;
        }
        let task =
            self.tasks.iter().position(|(other, _)| other == name).map(|at| self.tasks.swap_remove(at));
        if let Some((_, task)) = task
            && tokio::time::timeout(END_MAX, task).await.is_err()
        {
            let report = Report::new(format!("end {name}: it did not within {END_MAX:?}"));
            tracing::error!(error = %report, "a service whose lease was lost may still run; its fence stops it");
        }
        self.stand_by(name).await;
    }

    async fn stand_by(&mut self, name: &ServiceName) {
        let (entry, task) = stand_in::spawn(name, "standby", "another node may run it; this one stands by");
        self.control.insert(name.clone(), entry).await;
        self.tasks.push((name.clone(), task));
    }
}
