//! A service that cannot even be put together (its bundle is not one, say), or not yet: seen as such, and answering so, until a reload
//! or time mends it.

use policies::id::ServiceName;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::control::Entry;
use crate::notices::answer;
use crate::service::Message;
use crate::status::ServiceStatus;

/// Starts the stand-in.
pub(super) fn spawn(name: &ServiceName, state: &str, why: &str) -> (Entry, JoinHandle<()>) {
    let (inbox, mut messages) = mpsc::channel(16);
    let status = ServiceStatus {
        name: name.to_string(),
        state: state.to_owned(),
        failed: Some(why.to_owned()),
        ..ServiceStatus::default()
    };
    let (sender, published) = watch::channel(status);
    let why = why.to_owned();
    let task = tokio::spawn(async move {
        while let Some(message) = messages.recv().await {
            match message {
                Message::Request { reply, .. } => {
                    // Whoever asked may have gone.
                    let _ = reply.send(answer("failed", why.clone()));
                }
                Message::Shutdown(_) | Message::Dismiss => break,
                _ => {}
            }
        }
        drop(sender);
    });
    (Entry { inbox, status: published }, task)
}
