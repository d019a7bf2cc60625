//! The newest epoch that was seen of each service, remembered over a restart: what a stale holder's writes are refused by.
//!
//! One small file a service, replaced as a whole. One that cannot be read refuses everybody: whoever is stale cannot be told
//! from whoever isn't.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use policies::id::{Epoch, ServiceName};

use super::fenced;
use crate::durable::{self, FILE_MODE, atomic_write};
use crate::error::{Error, Report, Result};
use crate::images::envelope;

const WHAT: &str = "supervisor-epoch";
const VERSION: u32 = 1;
const LENGTH_MAX: u64 = 4096;

/// What was seen. Clones are the same.
#[derive(Debug, Clone)]
pub struct Epochs {
    folder: PathBuf,
    writing: Arc<Mutex<()>>,
}

impl Epochs {
    /// Kept in this folder, which is made if it is not there.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn open(folder: PathBuf) -> Result<Self> {
        durable::create_dir_all(&folder)?;
        Ok(Self { folder, writing: Arc::default() })
    }

    /// Somebody writes under this epoch: remembered before it is let in. Blocks.
    ///
    /// # Errors
    /// `Fenced` when a newer one was seen; `Corrupt` when it is not known what was.
    pub fn present(&self, service: &ServiceName, epoch: Epoch) -> Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match self.read(service)? {
            Some(seen) if seen > epoch => Err(fenced(service, (epoch, seen), "this node")),
            Some(seen) if seen == epoch => Ok(()),
            Some(_) | None => self.write(service, epoch),
        }
    }

    /// The newest that was seen.
    ///
    /// # Errors
    /// `Corrupt` when it cannot be read.
    pub fn seen(&self, service: &ServiceName) -> Result<Option<Epoch>> {
        self.read(service)
    }

    fn read(&self, service: &ServiceName) -> Result<Option<Epoch>> {
        let path = self.path(service);
        if !path.exists() {
            return Ok(None);
        }
        let content = envelope::read(WHAT, VERSION, &path, LENGTH_MAX)?;
        let number = std::str::from_utf8(&content).ok().and_then(|text| text.parse().ok());
        let number = number
            .ok_or_else(|| Error::Corrupt(Report::new(format!("epoch is no number: {}", path.display()))))?;
        Ok(Some(Epoch(number)))
    }

    fn write(&self, service: &ServiceName, epoch: Epoch) -> Result<()> {
        let content = envelope::seal(WHAT, VERSION, epoch.0.to_string().as_bytes());
        atomic_write(&self.path(service), &content, FILE_MODE)
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.folder.join(service.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_epoch_is_refused_also_by_the_next_start() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = || Epochs::open(folder.path().join("epochs")).expect("opened");
        let (web, db) = ("web".try_into().expect("a name"), "db".try_into().expect("a name"));
        let epochs = open();
        assert_eq!(epochs.seen(&web).expect("read"), None);
        for epoch in [0, 3, 3] {
            epochs.present(&web, Epoch(epoch)).expect("not older");
        }
        epochs.present(&db, Epoch(1)).expect("each service has its own");
        assert_eq!(open().present(&web, Epoch(2)).expect_err("older").kind(), "fenced");
        assert_eq!(open().seen(&web).expect("read"), Some(Epoch(3)));
        #[expect(clippy::disallowed_methods, reason = "damage is what this is about")]
        std::fs::write(folder.path().join("epochs/web"), "9").expect("written");
        assert_eq!(open().present(&web, Epoch(9)).expect_err("nobody knows").kind(), "corrupt");
    }
}
