//! What a put-back is about to do, written down before its first change: with it alone, and what is found on disk, it
//! can be undone.
//!
//! Each step undoes itself by what it finds: something in its slot was moved there and goes back; nothing in it
//! means that the step was not done, or is undone already. So an undo that was itself cut short is simply done again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bytes::{self, TreePath};
use super::index::Meta;
use super::sheet;
use crate::durable;
use crate::error::Result;

/// There as long as a put-back is neither kept nor undone.
pub(super) const NAME: &str = "journal.json";
/// Its name once it has been decided that what is aside may go.
pub(super) const KEPT_NAME: &str = "journal.kept.json";
const VERSION: u32 = 1;
const WHAT: &str = "supervisor-aside";
const LENGTH_MAX: u64 = 1 << 30;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Journal {
    /// In the names of our half-made entries, so that none of a service's is mistaken for one.
    pub(super) token: String,
    pub(super) trees: Vec<TreeJournal>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TreeJournal {
    #[serde(with = "bytes::host_path")]
    pub(super) path: PathBuf,
    /// In the order in which they are done.
    pub(super) steps: Vec<Step>,
    /// What is changed without being replaced: folders in which something is, files with other owners or times.
    pub(super) formers: Vec<Former>,
    /// Names of one file, some of which go aside. A copy (rather than a rename) breaks them apart; the first is the
    /// one to which the others are linked again.
    pub(super) links: Vec<Vec<TreePath>>,
}

/// An entry is moved aside, or made, or the one and then the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    pub(super) path: TreePath,
    /// Its name aside; `None` if there is nothing at the path yet.
    pub(super) slot: Option<u64>,
    /// What is made, by its place in the index; the undo doesn't ask.
    #[serde(skip)]
    pub(super) made: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Former {
    pub(super) path: TreePath,
    pub(super) meta: Meta,
}

impl Journal {
    pub(super) fn read(aside_dir: &Path) -> Result<Self> {
        let path = aside_dir.join(NAME);
        let bytes = durable::read_limited(&path, LENGTH_MAX)?;
        sheet::open(WHAT, VERSION, &bytes, &path)
    }

    pub(super) fn write(&self, aside_dir: &Path) -> Result<()> {
        let bytes = sheet::seal(WHAT, VERSION, self)?;
        durable::atomic_write(&aside_dir.join(NAME), &bytes, durable::FILE_MODE)
    }

    /// The name of the entry that a step makes, until it is whole.
    pub(super) fn unfinished(&self, tree: usize, step: usize) -> String {
        format!(".supervisor-{}-{tree}-{step}", self.token)
    }
}

impl TreeJournal {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.formers.is_empty()
    }
}
