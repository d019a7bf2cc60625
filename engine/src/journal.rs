//! What was meant for each service, written before it is done: what the next supervisor goes by.
//!
//! One small file a service, replaced as a whole. A file that cannot be read is an error and never a guess: the
//! service is then not adopted but ended and recovered.

use std::path::PathBuf;

use policies::id::ServiceName;
use serde::{Deserialize, Serialize};

use crate::capture::Timestamp;
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::runtime::Handle;

const VERSION: u32 = 1;
const LENGTH_MAX: u64 = 1 << 20;
/// No file is older.
const NOTHING_IS_BASE: Timestamp = Timestamp(0, 0);

/// What was meant for one service, and what names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    version: u32,
    /// The intent, in the words of `policies::reclaim::Intent`.
    pub intent: String,
    /// The runtime that it ran under.
    pub runtime: String,
    /// What names its running processes.
    pub handle: Option<Handle>,
    /// The image that is being or was restored.
    pub image: Option<String>,
    /// Policies are held.
    pub paused: bool,
}

impl Record {
    /// A record of the present format.
    pub fn new(intent: String, runtime: String) -> Self {
        Self { version: VERSION, intent, runtime, handle: None, image: None, paused: false }
    }
}

/// The records of all services of a node.
#[derive(Debug, Clone)]
pub struct Journal {
    folder: PathBuf,
}

impl Journal {
    /// The journal in this folder, which is made if it is not there.
    pub fn open(folder: PathBuf) -> Result<Self> {
        durable::create_dir_all(&folder)?;
        Ok(Self { folder })
    }

    /// What was written last of the service.
    pub fn read(&self, service: &ServiceName) -> Result<Option<Record>> {
        let path = self.path(service);
        if !path.exists() {
            return Ok(None);
        }
        let unreadable =
            |why: String| Error::Corrupt(Report::new(format!("read the journal {}: {why}", path.display())));
        let bytes = durable::read_limited(&path, LENGTH_MAX)?;
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| unreadable(e.to_string()))?;
        if record.version > VERSION {
            return Err(unreadable(format!(
                "it has version {}; this supervisor knows {VERSION}",
                record.version
            )));
        }
        Ok(Some(record))
    }

    /// Writes a record. It is on the disk when this returns.
    pub fn write(&self, service: &ServiceName, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(record)
            .map_err(|e| Error::Internal(Report::new("write a journal record").because(e)))?;
        durable::atomic_write(&self.path(service), &bytes, 0o600)
    }

    /// Removes a service's records.
    pub fn forget(&self, service: &ServiceName) -> Result<()> {
        durable::remove_file(&self.path(service))?;
        durable::remove_file(&self.baseline_path(service))
    }

    /// When the root of a container was as it came; now, if that was not written down yet. Once the clock has been set back to before
    /// that, the times of files say nothing about what has changed since, and none counts as the container's own any more.
    pub fn baseline(&self, service: &ServiceName, now: Timestamp) -> Result<Timestamp> {
        let base = match self.noted_baseline(service)? {
            Some(noted) if noted <= now => return Ok(noted),
            Some(_) => NOTHING_IS_BASE,
            None => now,
        };
        let bytes = serde_json::to_vec(&base)
            .map_err(|e| Error::Internal(Report::new("write a baseline").because(e)))?;
        durable::atomic_write(&self.baseline_path(service), &bytes, 0o600)?;
        Ok(base)
    }

    fn noted_baseline(&self, service: &ServiceName) -> Result<Option<Timestamp>> {
        let path = self.baseline_path(service);
        if !path.exists() {
            return Ok(None);
        }
        let noted = serde_json::from_slice(&durable::read_limited(&path, LENGTH_MAX)?);
        noted.map(Some).map_err(|e| {
            Error::Corrupt(Report::new(format!("read the baseline {}", path.display())).because(e))
        })
    }

    /// Every service that has a record.
    pub fn services(&self) -> Result<Vec<ServiceName>> {
        let entries = std::fs::read_dir(&self.folder).map_err(|e| {
            Error::Unavailable(Report::new(format!("read {}", self.folder.display())).because(e))
        })?;
        let name = |entry: std::fs::DirEntry| {
            let name = entry.file_name().into_string().ok()?;
            ServiceName::try_from(name.strip_suffix(".json")?).ok()
        };
        Ok(entries.filter_map(|e| name(e.ok()?)).collect())
    }

    fn baseline_path(&self, service: &ServiceName) -> PathBuf {
        self.folder.join(format!("{service}.base"))
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.folder.join(format!("{service}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_ends_the_base_for_good() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::open(folder.path().to_owned()).expect("opened");
        let service = ServiceName::try_from("web").expect("a name");
        let baseline = |seconds| journal.baseline(&service, Timestamp(seconds, 0)).expect("noted");
        assert_eq!([1000, 2000].map(baseline), [Timestamp(1000, 0); 2]);
        assert_eq!([900, 3000].map(baseline), [NOTHING_IS_BASE; 2]);
    }
}
