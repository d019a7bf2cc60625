//! A hot image that goes to another node hot: from memory to memory, the pages that are known there by reference.
//!
//! ```text
//! here                                                 there
//! Base: a durable image that both have, unpacked ───── Base: the same, by the hash of its manifest
//! Known: its pages by content                          Seed: a copy of them, where the next image will lie
//! give: each file in blocks of 1 MiB ── zeros, bytes, pages of the base ──> take: assembled, hashed, sealed: hot, or nothing
//! ```
//!
//! What travels is described in [`words`]. What is taken is believed file by file, by BLAKE3 of all its bytes; whatever differs leaves
//! nothing. It refuses to write anything durable, and to lie down anywhere but in memory.

mod give;
mod known;
mod seed;
mod take;
mod words;

use std::fs::File;
use std::os::unix::fs::FileExt;

use policies::id::{ImageId, ServiceName};

pub use give::Given;
pub use known::Known;
pub use seed::Seed;

use super::manifest::{MANIFEST_LENGTH_MAX, MANIFEST_NAME};
use super::places::{Spill, names_in};
use super::restore::Prepared;
use super::space::{Place, disk_has, place_for};
use super::{StageNeeds, Store, hot};
use crate::durable::{failed, open_regular, read_limited};
use crate::error::{Error, Report, Result};

/// Pages are compared and named by this length.
const PAGE: usize = 4096;

/// An image that two nodes have, ready to be read; it stays as long as this lives.
#[derive(Debug)]
pub struct Base {
    id: ImageId,
    identity: String,
    files: Vec<BaseFile>,
    _held: Prepared,
}

/// One of its files.
#[derive(Debug)]
struct BaseFile {
    name: String,
    of: Folder,
    file: File,
    len: u64,
}

/// Which of the two folders of a hot image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    Criu,
    Captured,
}

impl Store {
    /// A durable image of this service, made ready: unpacked if it is not hot.
    ///
    /// # Errors
    /// As [`Store::open_for_restore`]; `Invalid` when it is not durable or of another service.
    pub fn base(&self, service: &ServiceName, id: &ImageId) -> Result<Base> {
        self.is_of(service, id)?;
        let prepared = self.open_for_restore(id)?;
        let manifest =
            read_limited(&self.places().image(service, id).join(MANIFEST_NAME), MANIFEST_LENGTH_MAX)?;
        let mut files = Vec::new();
        for (of, folder) in [(Folder::Criu, prepared.criu_dir()), (Folder::Captured, prepared.files_dir())] {
            for name in names_in(folder)? {
                let path = folder.join(&name);
                let file = open_regular(&path)?;
                let len = file.metadata().map_err(|e| failed("look at", &path, e))?.len();
                files.push(BaseFile { name, of, file, len });
            }
        }
        let identity = blake3::hash(&manifest).to_hex().to_string();
        Ok(Base { id: id.clone(), identity, files, _held: prepared })
    }

    /// Whether a hot image of so many bytes would find room in memory.
    ///
    /// # Errors
    /// `Unavailable` when it would not, or nothing is kept in memory.
    pub fn has_room_in_memory(&self, needs: StageNeeds) -> Result<()> {
        let (places, settings) = (self.places(), self.settings());
        let in_memory = match places.spill {
            Spill::ToDisk => needs.memory,
            Spill::Never => needs.memory.saturating_add(needs.files),
        };
        if place_for(places, in_memory, settings.hot_max_size, settings.min_free)? == Place::Disk {
            let text = format!("no room in memory for a hot image of {in_memory} bytes");
            return Err(Error::Unavailable(
                Report::new(text).remedy("raise store.hot_max_size, or give the host more memory"),
            ));
        }
        if needs.files > 0 && places.spill == Spill::ToDisk {
            disk_has(&places.store, needs.files, settings.min_free)?;
        }
        Ok(())
    }

    /// `there` bytes of it take room already.
    fn stage_in_memory(
        &self,
        (service, id): (&ServiceName, &ImageId),
        needs: StageNeeds,
        there: u64,
    ) -> Result<hot::Staging> {
        self.has_room_in_memory(StageNeeds { memory: needs.memory.saturating_sub(there), ..needs })?;
        self.stage_at(service, id, Place::Memory)
    }
}

impl Base {
    /// Its id.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// BLAKE3 of its manifest, which holds that of each of its files: two nodes that agree on it have the same bytes.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Bytes of all its files: about what an image a moment later will have.
    pub fn raw_len(&self) -> u64 {
        self.files.iter().map(|file| file.len).sum()
    }
}

impl BaseFile {
    fn read(&self, into: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(into, offset).map_err(|e| {
            Error::Unavailable(Report::new(format!("cannot read {} of a hot image", self.name)).because(e))
        })
    }
}
