//! A copy of a base's pages where the next image will lie, made while the service still runs: what has not changed by then need not be
//! written, nor hashed, while it stands still.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use policies::id::ServiceName;

use super::super::block::BLOCK_LENGTH;
use super::super::digest::{self, Part};
use super::super::places::SEED;
use super::super::{StageNeeds, Store};
use super::known::block_at;
use super::take::Place;
use super::words::{Form, Record};
use super::{Base, Folder, PAGE};
use crate::durable::{NewFile, create_dir, create_new_dir, remove_tree, rename};
use crate::error::{Error, Report, Result};

/// Each has a folder of its own: one that is being removed is in nobody's way.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// The copies. What is not used goes with it.
#[derive(Debug)]
pub struct Seed {
    folder: PathBuf,
    files: Vec<Copied>,
    bytes: u64,
}

/// One of them: a file that is there already, up to what has changed.
#[derive(Debug)]
pub(super) struct Copied {
    name: String,
    /// Its number in the base.
    number: usize,
    len: u64,
    /// The hashes of its blocks.
    parts: Vec<Part>,
}

impl Store {
    /// Copies what is worth it: files of pages, longer than a block.
    ///
    /// # Errors
    /// `Unavailable` without room in memory.
    pub fn seed(&self, service: &ServiceName, base: &Base) -> Result<Seed> {
        let Some(memory) = &self.places().memory else {
            return Err(Error::Unavailable(Report::new("no hot images are kept in memory")));
        };
        let worth_it = base.files.iter().enumerate();
        let worth_it = worth_it.filter(|(_, file)| file.of == Folder::Criu && file.len > BLOCK_LENGTH as u64);
        let bytes = worth_it.clone().map(|(_, file)| file.len).sum();
        self.has_room_in_memory(StageNeeds { memory: bytes, files: 0 })?;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{SEED}{}-{}-{number}", base.id, std::process::id());
        let folder = memory.join(service.as_str()).join(name);
        create_dir(&memory.join(service.as_str()))?;
        create_new_dir(&folder)?;
        let mut seed = Seed { folder, files: Vec::new(), bytes };
        for (number, file) in worth_it {
            let parts = copy(base, number, &seed.folder.join(&file.name))?;
            seed.files.push(Copied { name: file.name.clone(), number, len: file.len, parts });
        }
        Ok(seed)
    }
}

impl Seed {
    /// Bytes that need no room any more.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts the copy of this name where it is wanted, if there is one.
    pub(super) fn plant(&mut self, name: &str, path: &Path) -> Result<Option<(Copied, NewFile)>> {
        let Some(at) = self.files.iter().position(|copied| copied.name == name) else { return Ok(None) };
        let copied = self.files.swap_remove(at);
        rename(&self.folder.join(name), path)?;
        Ok(Some((copied, NewFile::reopen(path)?)))
    }
}

impl Copied {
    /// The hash of a block, if the record says that all of it is as it was copied.
    pub(super) fn same(&self, record: Record, place: Place) -> Option<Part> {
        let Form::Pages { file, page } = record.form else { return None };
        let in_place = file as usize == self.number && page == place.offset / PAGE as u64;
        let there = self.len.checked_sub(place.offset).filter(|left| *left > 0);
        let whole = record.len as usize == place.length
            && there.is_some_and(|_| block_at(place.offset, self.len) == place.length);
        self.parts
            .get(place.index)
            .copied()
            .filter(|part| in_place && whole && matches!(part, Part::Subtree(_)))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _ = remove_tree(&self.folder);
    }
}

fn copy(base: &Base, number: usize, path: &Path) -> Result<Vec<Part>> {
    let (from, to) = (&base.files[number], NewFile::create(path)?);
    let (mut parts, mut buffer) = (Vec::new(), vec![0; BLOCK_LENGTH]);
    to.set_length(from.len)?;
    for offset in (0..from.len).step_by(BLOCK_LENGTH) {
        let block = &mut buffer[..block_at(offset, from.len)];
        from.read(block, offset)?;
        to.write_at(block, offset)?;
        parts.push(digest::hash_block(block, parts.len() as u64, from.len));
    }
    to.finish_volatile();
    Ok(parts)
}
