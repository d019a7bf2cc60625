//! The taking side: assembles what comes, trusts none of it before its hash is right, and seals it last.

use std::io::Read;
use std::path::Path;

use policies::id::{Epoch, ImageId, ServiceName};

use super::super::Store;
use super::super::block::BLOCK_LENGTH;
use super::super::digest::{self, Part};
use super::super::hot::Hot;
use super::known::block_at;
use super::seed::{Copied, Seed};
use super::words::{Form, Head, Named, Record, array, broken, invalid};
use super::{Base, PAGE};
use crate::durable::{NewFile, fail_point};
use crate::error::{Error, Report, Result};

/// A block of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) index: usize,
    pub(super) offset: u64,
    pub(super) length: usize,
}

struct Taker<'a> {
    from: &'a mut dyn Read,
    base: Option<&'a Base>,
    seed: Option<Seed>,
    block: Vec<u8>,
    done: u64,
    total: u64,
    half: bool,
}

impl Store {
    /// Makes a hot image of what [`Store::give`] of another node writes: all of it, or nothing.
    ///
    /// # Errors
    /// `Refused` when the base is not the one that is meant, or it was taken under another epoch; `Unavailable` when what comes breaks off or finds
    /// no room in memory; `Corrupt` when it isn't what the other side says; `Invalid` when it is no hand-over of this image, or the
    /// image is here already.
    pub fn take(
        &self,
        (service, id): (&ServiceName, &ImageId),
        epoch: Epoch,
        (base, seed): (Option<&Base>, Option<Seed>),
        from: &mut dyn Read,
    ) -> Result<Hot> {
        let (head, hash) = Head::read(from)?;
        if (&head.service, &head.id) != (service, id) {
            let text = format!("what comes is image {} of {}, not {id} of {service}", head.id, head.service);
            return Err(invalid(text));
        }
        if head.about.epoch != epoch {
            let text = format!("image {id} was taken in epoch {}, not in epoch {epoch}", head.about.epoch);
            return Err(Error::Refused(Report::new(text)));
        }
        let base = same_base(&head, base)?;
        let (needs, seed) = (head.needs(), seed.filter(|_| base.is_some()));
        let there = seed.as_ref().map_or(0, Seed::bytes);
        let staging = self.stage_in_memory((service, id), needs, there)?;
        let total = needs.memory.saturating_add(needs.files);
        let block = vec![0; BLOCK_LENGTH];
        let mut taker = Taker { from, base, seed, block, done: 0, total, half: false };
        for file in &head.criu {
            let path = staging.criu_dir().join(&file.name);
            let planted = taker.seed.as_mut().map_or(Ok(None), |seed| seed.plant(&file.name, &path))?;
            taker.file(&path, file, planted)?;
        }
        for file in &head.files {
            taker.file(&staging.files_dir().join(&file.name), file, None)?;
        }
        taker.end(&hash)?;
        staging.seal(head.about)
    }
}

/// The base that the head means, if it means one.
fn same_base<'a>(head: &Head, base: Option<&'a Base>) -> Result<Option<&'a Base>> {
    let Some(meant) = &head.base else { return Ok(None) };
    let same = base.filter(|base| (base.id(), base.identity()) == (&meant.id, meant.identity.as_str()));
    let report = || Report::new(format!("image {} is not here any more, or is another one", meant.id));
    same.map(Some).ok_or_else(|| Error::Refused(report().remedy("send all pages of it")))
}

impl Taker<'_> {
    fn file(&mut self, path: &Path, named: &Named, planted: Option<(Copied, NewFile)>) -> Result<()> {
        let (copied, file) = match planted {
            Some((copied, file)) => (Some(copied), file),
            None => (None, NewFile::create(path)?),
        };
        file.set_length(named.len)?;
        let mut parts = Vec::new();
        for offset in (0..named.len).step_by(BLOCK_LENGTH) {
            let place = Place { index: parts.len(), offset, length: block_at(offset, named.len) };
            parts.push(self.block(place, named.len, copied.as_ref(), &file)?);
            self.passed(place.length);
        }
        file.finish_volatile();
        let said = blake3::Hash::from_bytes(array(self.from)?);
        if digest::combine(&parts) == Some(said) {
            return Ok(());
        }
        Err(Error::Corrupt(Report::new(format!("{} did not arrive as it was sent", named.name))))
    }

    /// Assembles a block and writes it, unless it lies there already; of a new file, only what is not zero.
    fn block(
        &mut self,
        place: Place,
        file_length: u64,
        copied: Option<&Copied>,
        file: &NewFile,
    ) -> Result<Part> {
        let Place { index, offset, length } = place;
        let (mut at, mut begun) = (0, 0);
        while at < length {
            let record = Record::read(self.from, length - at)?;
            if let Some(part) = copied.filter(|_| at == 0).and_then(|copied| copied.same(record, place)) {
                if file_length > BLOCK_LENGTH as u64 {
                    return Ok(part);
                }
            }
            let end = at + record.len as usize;
            let into = &mut self.block[at..end];
            match record.form {
                Form::Zeros => {
                    into.fill(0);
                    if copied.is_none() {
                        file.write_at(&self.block[begun..at], offset + begun as u64)?;
                        begun = end;
                    }
                }
                Form::Bytes => self.from.read_exact(into).map_err(broken)?,
                Form::Pages { file, page } => pages(self.base, file, page, into)?,
            }
            at = end;
        }
        file.write_at(&self.block[begun..length], offset + begun as u64)?;
        Ok(digest::hash_block(&self.block[..length], index as u64, file_length))
    }

    fn passed(&mut self, bytes: usize) {
        self.done += bytes as u64;
        if self.done.saturating_mul(2) >= self.total && !std::mem::replace(&mut self.half, true) {
            fail_point("handover.taken-half");
        }
    }

    fn end(&mut self, hash: &blake3::Hash) -> Result<()> {
        if blake3::Hash::from_bytes(array(self.from)?) != *hash {
            return Err(Error::Corrupt(Report::new("the head of a hand-over is not as it was sent")));
        }
        match self.from.read(&mut [0]).map_err(broken)? {
            0 => Ok(()),
            _ => Err(invalid("something follows a hand-over".to_owned())),
        }
    }
}

fn pages(base: Option<&Base>, file: u32, page: u64, into: &mut [u8]) -> Result<()> {
    let outside = || invalid(format!("there is no page {page} in file {file} of the base"));
    let file = base.and_then(|base| base.files.get(usize::try_from(file).ok()?)).ok_or_else(outside)?;
    let offset = page.checked_mul(PAGE as u64).ok_or_else(outside)?;
    let end = offset.checked_add(into.len() as u64).ok_or_else(outside)?;
    if end > file.len {
        return Err(outside());
    }
    file.read(into, offset)
}
