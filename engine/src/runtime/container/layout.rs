//! What a container is made of, and what of that its images note.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Report, Result};

/// What an image notes of its container.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Noted {
    pub(super) image: String,
    /// Names of the volumes and where they were on the host.
    #[serde(default)]
    pub(super) volumes: BTreeMap<String, PathBuf>,
}

impl Noted {
    /// What an image says; empty if it says nothing.
    pub(super) fn read(state: &serde_json::Value) -> Self {
        serde_json::from_value(state.clone()).unwrap_or_default()
    }

    pub(super) fn written(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self)
            .map_err(|e| Error::Internal(Report::new("note what belongs to an image").because(e)))
    }
}

/// What a container is made of, for images that come from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The digest of its image.
    pub image: String,
    /// Where its own changes are.
    pub changes: PathBuf,
    /// The layers under them, the uppermost first.
    pub lower: Vec<PathBuf>,
    /// Its named volumes.
    pub volumes: Vec<Volume>,
}

/// A named volume of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Where the container sees it.
    pub destination: PathBuf,
    /// Where it is on this host.
    pub source: PathBuf,
}

impl Layout {
    /// What an image of this container has as [`Dumped::state`](crate::runtime::Dumped::state), with its volumes under these names.
    ///
    /// # Errors
    /// `Internal` when it cannot be written down.
    pub fn state(&self, volumes: BTreeMap<String, PathBuf>) -> Result<serde_json::Value> {
        Noted { image: self.image.clone(), volumes }.written()
    }
}

/// The volumes that an image notes: names, and where they were.
pub fn volumes_of(state: &serde_json::Value) -> BTreeMap<String, PathBuf> {
    Noted::read(state).volumes
}
