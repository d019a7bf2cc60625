//! Objects under a prefix: whole, named by paths, one of them changed by compare-and-swap. What a bucket of images stands on.

pub(super) mod cloud;
mod folder;

pub use cloud::{Access, Cloud, Provider};
pub use folder::Folder;

use hyper::body::Bytes;

use crate::runtime::Effect;

/// What was found under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its path under the root, as `web/20260101T000000Z-0/manifest`.
    pub key: String,
    /// Its bytes.
    pub length: u64,
}

/// Whether a write that asks for a state of things found it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It was so, and now it is as written.
    Yes,
    /// It was not so, or perhaps we were the ones who changed it: whoever asked has to look.
    Look,
}

/// An object and the version it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// What it held.
    pub bytes: Vec<u8>,
    /// What a swap compares.
    pub version: Version,
}

/// What a swap compares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Version {
    /// What a server calls this version.
    Named {
        /// Its entity tag.
        e_tag: Option<String>,
        /// Its version, where there are such.
        version: Option<String>,
    },
    /// The content itself.
    Content(Vec<u8>),
}

/// A place for objects.
pub trait Objects: std::fmt::Debug + Send + Sync {
    /// Writes one, whatever was there.
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Effect<'a, ()>;

    /// Writes one if there is none (`None`) or if it has this version.
    fn swap<'a>(&'a self, key: &'a str, expected: Option<&'a Version>, bytes: Bytes) -> Effect<'a, Written>;

    /// Reads a small one whole.
    fn get<'a>(&'a self, key: &'a str) -> Effect<'a, Option<Versioned>>;

    /// Everything whose path begins with this folder.
    fn list<'a>(&'a self, folder: &'a str) -> Effect<'a, Vec<Found>>;

    /// The folders at the top.
    fn folders(&self) -> Effect<'_, Vec<String>>;

    /// Removes one, if it is there.
    fn delete<'a>(&'a self, key: &'a str) -> Effect<'a, ()>;
}
