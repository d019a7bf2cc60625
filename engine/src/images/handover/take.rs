//! The taking side: assembles what comes, trusts none of it before its hash is right, and seals it last.

use std::io::Read;
use std::path::Path;

use policies::id::{Epoch, ImageId, ServiceName};

use super::super::block::BLOCK_LENGTH;
use super::super::hot::Hot;
use super::super::{Store, digest};
use super::known::block_at;
use super::words::{Form, Head, Named, Record, array, broken, invalid};
use super::{Base, PAGE};
use crate::durable::{NewFile, fail_point};
use crate::error::{Error, Report, Result};

struct Taker<'a> {
    from: &'a mut dyn Read,
    base: Option<&'a Base>,
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
        base: Option<&Base>,
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
        let needs = head.needs();
        let staging = self.stage_in_memory(service, id, needs)?;
        let total = needs.memory.saturating_add(needs.files);
        let mut taker = Taker { from, base, block: vec![0; BLOCK_LENGTH], done: 0, total, half: false };
        for (folder, files) in [(staging.criu_dir(), &head.criu), (staging.files_dir(), &head.files)] {
            files.iter().try_for_each(|file| taker.file(&folder, file))?;
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
    fn file(&mut self, folder: &Path, named: &Named) -> Result<()> {
        let file = NewFile::create(&folder.join(&named.name))?;
        file.set_length(named.len)?;
        let mut parts = Vec::new();
        for offset in (0..named.len).step_by(BLOCK_LENGTH) {
            let length = block_at(offset, named.len);
            self.block(length, offset, &file)?;
            parts.push(digest::hash_block(&self.block[..length], parts.len() as u64, named.len));
            self.passed(length);
        }
        file.finish_volatile();
        let said = blake3::Hash::from_bytes(array(self.from)?);
        if digest::combine(&parts) == Some(said) {
            return Ok(());
        }
        Err(Error::Corrupt(Report::new(format!("{} did not arrive as it was sent", named.name))))
    }

    /// Assembles a block and writes what of it is not zero.
    fn block(&mut self, length: usize, offset: u64, file: &NewFile) -> Result<()> {
        let (mut at, mut begun) = (0, 0);
        while at < length {
            let record = Record::read(self.from, length - at)?;
            let end = at + record.len as usize;
            let into = &mut self.block[at..end];
            match record.form {
                Form::Zeros => {
                    into.fill(0);
                    file.write_at(&self.block[begun..at], offset + begun as u64)?;
                    begun = end;
                }
                Form::Bytes => self.from.read_exact(into).map_err(broken)?,
                Form::Pages { file, page } => pages(self.base, file, page, into)?,
            }
            at = end;
        }
        file.write_at(&self.block[begun..length], offset + begun as u64)
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
