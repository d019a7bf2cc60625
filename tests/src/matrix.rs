//! The matrix of what can be checkpointed: rows of services and of features of Linux, in each runtime.
//!
//! ```text
//! table      the rows as data: what runs, how it is spoken to, what is expected of each cell
//!   cell     one cell, for real: started under a supervisor, given a number, checkpointed, killed, restored, asked
//!   report   what a cell came to, as a line of JSON
//! document   docs/compatibility.md of the table and of what the cells reported
//! ```
//!
//! It refuses to expect anything that no cell shows.

mod cell;
mod client;
mod document;
mod program;
mod report;
mod table;
mod tree;

pub use cell::run;
pub use document::{differences, written};
pub use table::{ROWS, Row};

/// What runs the service of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// A plain process in a pid namespace of its own.
    Process,
    /// A bundle of runc.
    Runc,
    /// A container of docker.
    Docker,
    /// A container of podman.
    Podman,
}

/// All of them, in the order of the columns.
pub const PLACES: [Place; 4] = [Place::Process, Place::Runc, Place::Docker, Place::Podman];

impl Place {
    /// Its word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Runc => "runc",
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }
}

/// What is to become of a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// The service comes back as it was at the checkpoint, and goes on.
    Works,
    /// It comes back, but with something gone: a question is then answered by an error with these words. Why.
    Loses(&'static str, &'static str),
    /// The trial finds that it cannot be dumped; these words are in what `status` says.
    Refused(&'static [&'static str]),
    /// There is no such cell; why.
    Absent(&'static str),
}
