//! The held lease in writing, for the next supervisor of this node.

use engine::lease::{Held, Note};

use super::Task;

impl Task {
    pub(super) fn noted(&self) -> Option<Held> {
        let note: Note = serde_json::from_slice(&std::fs::read(self.note_path()).ok()?).ok()?;
        note.held().filter(|held| *held.service() == self.service)
    }

    pub(super) fn note(&self, held: &Held) {
        let path = self.note_path();
        let written = serde_json::to_vec(&Note::of(held)).map_err(|e| e.to_string()).and_then(|note| {
            engine::durable::atomic_write(&path, &note, engine::durable::FILE_MODE).map_err(|e| e.to_string())
        });
        if let Err(error) = written {
            tracing::warn!(error, service = %self.service, "the lease could not be noted: the next supervisor here cannot go on with it");
        }
    }

    pub(super) fn forget(&self) {
        // One that stays is refused by the store.
        let _ = engine::durable::remove_file(&self.note_path());
    }

    pub(super) fn note_path(&self) -> std::path::PathBuf {
        self.ground.cluster.folder.join(self.service.as_str())
    }
}
