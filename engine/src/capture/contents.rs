//! The contents of a captured file as one stream, holes included.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::PACK_NAME;
use super::index::Extent;
use crate::durable;
use crate::error::Result;

/// The pack of an image, to be read from.
#[derive(Debug)]
pub struct Contents {
    pack: File,
}

/// One file of it.
#[derive(Debug)]
pub struct Reading<'a> {
    pack: &'a File,
    extents: &'a [Extent],
    position: u64,
    size: u64,
}

impl Contents {
    /// Opens the pack in an image's folder of files.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn open(blobs_dir: &Path) -> Result<Self> {
        Ok(Self { pack: durable::open_regular(&blobs_dir.join(PACK_NAME))? })
    }

    /// A file of that size with its data at these places; what none of them covers reads as zeros.
    pub fn read<'a>(&'a self, size: u64, extents: &'a [Extent]) -> Reading<'a> {
        Reading { pack: &self.pack, extents, position: 0, size }
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.extents.first().is_some_and(|extent| extent.start + extent.length <= self.position) {
            self.extents = &self.extents[1..];
        }
        let within = |length: u64| usize::try_from(length).map_or(buffer.len(), |n| n.min(buffer.len()));
        let read = match self.extents.first() {
            Some(extent) if extent.start <= self.position => {
                let into = self.position - extent.start;
                let wanted = within(extent.length - into);
                self.pack.read_at(&mut buffer[..wanted], extent.at + into)?
            }
            next => {
                let end = next.map_or(self.size, |extent| extent.start);
                let zeros = within(end - self.position);
                buffer[..zeros].fill(0);
                zeros
            }
        };
        self.position += read as u64;
        Ok(read)
    }
}
