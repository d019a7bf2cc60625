//! What is asked of the API again and again: the status each second and whenever something happens, the events as they come, the
//! images of the service that somebody looks at.
//!
//! A supervisor that is away is asked again every second.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::super::client::{Client, encode};
use super::super::events::{Lines, Since, Wanted};
use super::model::Input;
use crate::status::{EventRecord, ImageStatus, NodeStatus};

/// How often ages are brought up to date, and whoever is away is asked again.
const EVERY: Duration = Duration::from_secs(1);
/// How much of the past is shown.
const PAST: Duration = Duration::from_secs(3600);

/// What gathers them; dropped, it ends.
pub(super) struct News {
    tasks: JoinSet<()>,
}

impl News {
    /// Begins. The other end takes the name of the service that is looked at.
    pub(super) fn gather(client: &Client, to: &mpsc::Sender<Input>) -> (Self, watch::Sender<Option<String>>) {
        let (of, looked_at) = watch::channel(None);
        let happened = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        tasks.spawn(states(client.clone(), to.clone(), looked_at, Arc::clone(&happened)));
        tasks.spawn(events(client.clone(), to.clone(), happened));
        (Self { tasks }, of)
    }

    /// Comes back if one of them ended, which none does by itself.
    pub(super) async fn broken(&mut self) {
        let _ = self.tasks.join_next().await;
    }
}

async fn states(
    client: Client,
    to: mpsc::Sender<Input>,
    mut looked_at: watch::Receiver<Option<String>>,
    happened: Arc<Notify>,
) {
    loop {
        let next = Instant::now() + EVERY;
        let node = client.get::<NodeStatus>("/v1/status").await.map_err(|failure| failure.to_string());
        if to.send(Input::Status(node)).await.is_err() {
            return;
        }
        let service = looked_at.borrow_and_update().clone();
        if let Some(service) = service {
            let path = format!("/v1/images?service={}", encode(&service));
            // A failure shows in the status as well.
            if let Ok(images) = client.get::<Vec<ImageStatus>>(&path).await
                && to.send(Input::Images { service, images }).await.is_err()
            {
                return;
            }
        }
        let woken = async {
            tokio::select! {
                () = happened.notified() => {}
                Ok(()) = looked_at.changed() => {}
            }
        };
        let _ = timeout_at(next, woken).await;
    }
}

async fn events(client: Client, to: mpsc::Sender<Input>, happened: Arc<Notify>) {
    let wanted = Wanted { follow: true, since: Some(Since::Ago(PAST)), service: None };
    let mut path = wanted.path(engine::clock::wall());
    loop {
        // What breaks it off shows in the status as well.
        if let Ok(mut lines) = Lines::open(&client, &path).await {
            while let Ok(Some(line)) = lines.next().await {
                let Ok(record) = serde_json::from_str::<EventRecord>(&line) else { continue };
                path = format!("/v1/events?follow=true&since_seq={}", record.seq);
                if to.send(Input::Happened(record)).await.is_err() {
                    return;
                }
                happened.notify_one();
            }
        }
        sleep(EVERY).await;
    }
}
