//! What a run says of itself (`STATUS=`), or the members of a group of themselves, for people.

use engine::runtime::Instance;
use engine::shim::Said;
use futures_util::future::select_all;
use tokio::sync::watch;

/// Whoever speaks in a run; a service that is no group has no name here.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    speakers: Vec<(Option<String>, watch::Receiver<Said>)>,
}

impl Spoken {
    pub(super) fn of(instance: &Instance) -> Self {
        let members = instance.said_by_members().into_iter().map(|(name, said)| (Some(name), said));
        let speakers = instance.said().map(|said| (None, said)).into_iter().chain(members).collect();
        Self { speakers }
    }

    /// Waits until somebody says something else.
    pub(super) async fn more(&mut self) {
        if self.speakers.is_empty() {
            return std::future::pending().await;
        }
        let changes = self.speakers.iter_mut().map(|(_, said)| Box::pin(said.changed()));
        let (changed, speaker, _) = select_all(changes).await;
        if changed.is_err() {
            self.speakers.remove(speaker);
        }
    }

    pub(super) fn text(&self) -> Option<String> {
        let all = self.speakers.iter().filter_map(|(name, said)| {
            let status = said.borrow().status.clone();
            let whose = name.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
            (!status.is_empty()).then(|| whose + &status)
        });
        let text = all.collect::<Vec<_>>().join("; ");
        (!text.is_empty()).then_some(text)
    }
}
