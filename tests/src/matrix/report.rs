//! What a cell came to, as a line of JSON in a folder that the environment names.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::Place;

/// Where the lines go, one file each; nothing is reported without it.
pub(super) const VARIABLE: &str = "SUPERVISOR_MATRIX_DIR";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    pub(super) row: String,
    pub(super) place: Place,
    /// `works`, `loses` or `refused`.
    pub(super) outcome: String,
    /// What `status` says, or the service itself.
    pub(super) said: Option<String>,
    /// Of what runs it.
    pub(super) version: String,
}

fn folder() -> Option<PathBuf> {
    std::env::var_os(VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

impl Line {
    pub(super) fn write(&self) {
        let Some(folder) = folder() else { return };
        fs::create_dir_all(&folder).expect("a folder for what the matrix reports");
        let text = serde_json::to_string(self).expect("it is plain");
        let file = folder.join(format!("{}-{}.json", self.row, self.place.word()));
        fs::write(file, text + "\n").expect("a line is written");
    }
}

/// All lines of the folder; none if the environment names no folder.
pub(super) fn lines() -> Option<Vec<Line>> {
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder()?).expect("the folder of the matrix can be read").flatten() {
        let text = fs::read_to_string(entry.path()).expect("a line can be read");
        lines.push(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{:?}: {e}", entry.path())));
    }
    lines.sort_by(|a: &Line, b: &Line| (&a.row, a.place).cmp(&(&b.row, b.place)));
    Some(lines)
}
