//! What the other node has already: the pages of a base by their content, made while the service runs.
//!
//! The hash only says where to look: what is found is compared byte by byte before it is named.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use super::super::block::BLOCK_LENGTH;
use super::super::digest::{self, Part};
use super::{Base, Folder, PAGE};
use crate::error::Result;

/// Pages that are found by content: 16 GiB of them take about 100 MiB. The others are found in their place.
const PAGES_MAX: usize = 4 << 20;

/// A base with what is known of its pages.
#[derive(Debug)]
pub struct Known {
    base: Base,
    pages: HashMap<u64, (u32, u32), BuildHasherDefault<AsItIs>>,
    /// Of each file, the hashes of its blocks.
    parts: Vec<Vec<Part>>,
}

impl Known {
    /// Reads all of the base. Takes as long as memory does, and is done beforehand.
    ///
    /// # Errors
    /// By what the kernel says.
    pub fn of(base: Base) -> Result<Self> {
        let mut known = Self { base, pages: HashMap::default(), parts: Vec::new() };
        let mut buffer = vec![0; BLOCK_LENGTH];
        for number in 0..known.base.files.len() {
            let length = known.base.files[number].len;
            let mut parts = Vec::new();
            for offset in (0..length).step_by(BLOCK_LENGTH) {
                let block = &mut buffer[..block_at(offset, length)];
                known.base.files[number].read(block, offset)?;
                parts.push(digest::hash_block(block, parts.len() as u64, length));
                known.note(number, offset, block);
            }
            known.parts.push(parts);
        }
        Ok(known)
    }

    /// What it is made of.
    pub fn base(&self) -> &Base {
        &self.base
    }

    /// The number of the file of this name.
    pub(super) fn file(&self, of: Folder, name: &str) -> Option<usize> {
        self.base.files.iter().position(|file| file.of == of && file.name == name)
    }

    /// The hash of a block, as it is in any file that has these bytes at the same place, if both files are longer than a block.
    pub(super) fn part(&self, file: usize, block: usize) -> Option<Part> {
        self.parts.get(file)?.get(block).copied().filter(|part| matches!(part, Part::Subtree(_)))
    }

    /// Where this page is, if the base has it.
    pub(super) fn find(&self, page: &[u8]) -> Result<Option<(usize, u64)>> {
        let Some(&(file, number)) = self.pages.get(&hash(page)) else { return Ok(None) };
        let mut there = [0; PAGE];
        let (file, number) = (file as usize, u64::from(number));
        self.base.files[file].read(&mut there, number * PAGE as u64)?;
        Ok((there == *page).then_some((file, number)))
    }

    fn note(&mut self, file: usize, offset: u64, block: &[u8]) {
        let Ok(file) = u32::try_from(file) else { return };
        for (number, page) in block.chunks_exact(PAGE).enumerate() {
            let Ok(number) = u32::try_from(offset / PAGE as u64 + number as u64) else { return };
            if self.pages.len() < PAGES_MAX
                && !is_zero(page)
                && let Entry::Vacant(free) = self.pages.entry(hash(page))
            {
                free.insert((file, number));
            }
        }
    }
}

/// Whether there is nothing but zeros in a page, or less than one.
pub(super) fn is_zero(page: &[u8]) -> bool {
    const ZEROS: [u8; PAGE] = [0; PAGE];
    ZEROS.get(..page.len()) == Some(page)
}

/// How long the block at this offset of a file is.
pub(super) fn block_at(offset: u64, length: u64) -> usize {
    usize::try_from((length - offset).min(BLOCK_LENGTH as u64)).expect("at most a block")
}

/// Quick, and good enough to look by.
fn hash(page: &[u8]) -> u64 {
    const FACTORS: [u64; 4] =
        [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0xD6E8_FEB8_6659_FD93];
    let mut lanes = FACTORS;
    for words in page.chunks_exact(32) {
        for (lane, (word, factor)) in lanes.iter_mut().zip(words.chunks_exact(8).zip(FACTORS)) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            *lane = (*lane ^ word).wrapping_mul(factor).rotate_left(29);
        }
    }
    lanes.iter().fold(0, |sum: u64, lane| (sum ^ lane).wrapping_mul(FACTORS[0]).rotate_left(31))
}

/// The keys are hashes already.
#[derive(Debug, Default)]
pub(super) struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}
