//! The giving side: reads a hot image once, names what the base has, sends the rest.

use std::io::{Read, Write};
use std::path::Path;

use super::super::block::BLOCK_LENGTH;
use super::super::digest::{self, Part};
use super::super::hot::{Hot, SealedFile, criu_dir};
use super::super::{Store, absent, restore};
use super::known::{block_at, is_zero};
use super::words::{BaseName, Form, Head, Named, Record};
use super::{Folder, Known, PAGE};
use crate::durable::{fail_point, failed, open_regular};
use crate::error::{Error, Report, Result};

/// How much is gathered before it is sent: often enough that nobody thinks we have fallen silent, and that the other side has work.
const GATHERED: usize = 128 << 10;
/// Blocks after which what was gathered is sent, be it ever so little.
const BLOCKS: usize = 8;
/// How often a block is looked for in the base.
const LOOKS_MAX: usize = 3;

/// What became of an image's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Given {
    /// Bytes that travelled.
    pub sent: u64,
    /// Bytes that were named as pages of the base.
    pub referenced: u64,
    /// Bytes of pages that are all zero.
    pub zero: u64,
}

struct Giver<'a> {
    known: Option<&'a Known>,
    to: &'a mut dyn Write,
    gathered: Vec<u8>,
    blocks: usize,
    given: Given,
    done: u64,
    total: u64,
    half: bool,
}

/// One file, and where its like is in the base.
struct Giving<'a> {
    file: std::fs::File,
    path: &'a Path,
    len: u64,
    /// The base's file of the same name.
    like: Option<usize>,
    /// Where the next page is probably found.
    guess: Option<(usize, u64)>,
    /// A block of the base, as it was read last.
    there: Vec<u8>,
    /// How often it was read for this block: pages that lie about are not worth a block each.
    looks: usize,
}

impl Store {
    /// Writes a hot image for [`Store::take`] of another node.
    ///
    /// # Errors
    /// `Corrupt` when the image was touched since its seal; `Unavailable` when `to` takes no more.
    pub fn give(&self, hot: &Hot, known: Option<&Known>, to: &mut dyn Write) -> Result<Given> {
        let _held = self.uses().hold(&hot.id);
        let folder = self.places().hot(&hot.service, &hot.id).ok_or_else(|| absent(&hot.id))?;
        let files = self.places().files(&hot.service, &hot.id);
        let seal = restore::whole_hot(self, &hot.service, &hot.id)?.ok_or_else(|| absent(&hot.id))?;
        let named = |files: &[SealedFile]| {
            files.iter().map(|file| Named { name: file.name.clone(), len: file.len }).collect()
        };
        let head = Head {
            service: hot.service.clone(),
            id: hot.id.clone(),
            about: seal.about.clone(),
            base: known.map(|known| {
                let base = known.base();
                BaseName { id: base.id().clone(), identity: base.identity().to_owned() }
            }),
            criu: named(&seal.criu),
            files: named(&seal.files),
        };
        let (gathered, hash) = head.encode()?;
        let total = seal.raw_len();
        let given = Given::default();
        let mut giver = Giver { known, to, gathered, blocks: 0, given, done: 0, total, half: false };
        for (of, folder, sealed) in
            [(Folder::Criu, criu_dir(&folder), &seal.criu), (Folder::Captured, files.clone(), &seal.files)]
        {
            sealed.iter().try_for_each(|file| giver.file(of, &folder.join(&file.name), file))?;
        }
        seal.check(&folder, &files)?;
        giver.gathered.extend(hash.as_bytes());
        giver.flush()?;
        Ok(giver.given)
    }
}

impl Giver<'_> {
    fn file(&mut self, of: Folder, path: &Path, sealed: &SealedFile) -> Result<()> {
        let like = self.known.and_then(|known| known.file(of, &sealed.name));
        let mut giving = Giving {
            file: open_regular(path)?,
            path,
            len: sealed.len,
            like,
            guess: like.map(|file| (file, 0)),
            there: Vec::new(),
            looks: 0,
        };
        let (mut parts, mut raw) = (Vec::new(), vec![0; BLOCK_LENGTH]);
        for offset in (0..sealed.len).step_by(BLOCK_LENGTH) {
            let raw = &mut raw[..block_at(offset, sealed.len)];
            giving.file.read_exact(raw).map_err(|e| failed("read", giving.path, e))?;
            let part = self.block(&mut giving, parts.len(), raw)?;
            parts.push(part);
            self.passed(raw.len())?;
        }
        let hash = digest::combine(&parts)
            .ok_or_else(|| Error::Internal(Report::new("blocks do not make a file")))?;
        self.gathered.extend(hash.as_bytes());
        Ok(())
    }

    fn block(&mut self, giving: &mut Giving, index: usize, raw: &[u8]) -> Result<Part> {
        if let Some(part) = self.same_block(giving, index, raw)? {
            return Ok(part);
        }
        giving.looks = 0;
        giving.look_at_guess(self.known, raw.len())?;
        let mut records: Vec<Record> = Vec::new();
        for (number, page) in raw.chunks(PAGE).enumerate() {
            let form = giving.form(self.known, number, page)?;
            match records.last_mut().filter(|last| last.goes_on_with(form)) {
                Some(last) => last.len += length(page),
                None => records.push(Record { form, len: length(page) }),
            }
        }
        giving.go_on(raw.len());
        let mut rest = raw;
        for record in records {
            let (bytes, after) = rest.split_at(record.len as usize);
            rest = after;
            self.record(record, bytes)?;
        }
        Ok(digest::hash_block(raw, index as u64, giving.len))
    }

    /// The block as a whole is where it was: the usual case of a big service, and quicker than page by page.
    fn same_block(&mut self, giving: &mut Giving, index: usize, raw: &[u8]) -> Result<Option<Part>> {
        let (Some(known), Some(like)) = (self.known, giving.like) else { return Ok(None) };
        let page = (index * (BLOCK_LENGTH / PAGE)) as u64;
        let Some(part) = known.part(like, index) else { return Ok(None) };
        let base = &known.base().files[like];
        let offset = page * PAGE as u64;
        let in_place = giving.guess == Some((like, page)) && giving.len > BLOCK_LENGTH as u64;
        if !in_place || raw.len() % PAGE != 0 || block_at(offset, base.len) != raw.len() {
            return Ok(None);
        }
        giving.there.resize(raw.len(), 0);
        base.read(&mut giving.there, offset)?;
        if giving.there != raw {
            return Ok(None);
        }
        let file = u32::try_from(like).map_err(|e| Error::Internal(Report::new("name a file").because(e)))?;
        self.record(Record { form: Form::Pages { file, page }, len: length(raw) }, raw)?;
        giving.go_on(raw.len());
        Ok(Some(part))
    }

    fn record(&mut self, record: Record, bytes: &[u8]) -> Result<()> {
        record.encode(&mut self.gathered);
        let counted = match record.form {
            Form::Zeros => &mut self.given.zero,
            Form::Pages { .. } => &mut self.given.referenced,
            Form::Bytes => {
                self.gathered.extend(bytes);
                return if self.gathered.len() >= GATHERED { self.flush() } else { Ok(()) };
            }
        };
        *counted += bytes.len() as u64;
        Ok(())
    }

    fn passed(&mut self, bytes: usize) -> Result<()> {
        self.done += bytes as u64;
        self.blocks += 1;
        if self.blocks % BLOCKS == 0 {
            self.flush()?;
        }
        if self.done * 2 >= self.total && !std::mem::replace(&mut self.half, true) {
            self.flush()?;
            fail_point("handover.half");
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        self.given.sent += self.gathered.len() as u64;
        let written = self.to.write_all(&self.gathered).and_then(|()| self.to.flush());
        self.gathered.clear();
        written.map_err(|e| Error::Unavailable(Report::new("cannot send a hot image").because(e)))
    }
}

impl Giving<'_> {
    /// Reads what the next block is probably like.
    fn look_at_guess(&mut self, known: Option<&Known>, len: usize) -> Result<()> {
        self.there.clear();
        self.looks += 1;
        let (Some(known), Some((file, page))) = (known, self.guess) else { return Ok(()) };
        let base = &known.base().files[file];
        let offset = page * PAGE as u64;
        if offset < base.len {
            self.there.resize(block_at(offset, base.len).min(len), 0);
            base.read(&mut self.there, offset)?;
        }
        Ok(())
    }

    fn form(&mut self, known: Option<&Known>, number: usize, page: &[u8]) -> Result<Form> {
        if is_zero(page) {
            return Ok(Form::Zeros);
        }
        let (Some(known), true) = (known, page.len() == PAGE) else { return Ok(Form::Bytes) };
        let there = self.there.get(number * PAGE..(number + 1) * PAGE);
        if let Some((file, first)) = self.guess.filter(|_| there == Some(page)) {
            return Ok(pages(file, first + number as u64));
        }
        let Some((file, found)) = known.find(page)? else { return Ok(Form::Bytes) };
        // What follows is probably found behind it.
        if let Some(first) = found.checked_sub(number as u64).filter(|_| self.looks < LOOKS_MAX) {
            self.guess = Some((file, first));
            self.look_at_guess(Some(known), BLOCK_LENGTH)?;
        }
        Ok(pages(file, found))
    }

    fn go_on(&mut self, len: usize) {
        if let Some((_, page)) = &mut self.guess {
            *page += (len / PAGE) as u64;
        }
    }
}

impl Record {
    fn goes_on_with(&self, form: Form) -> bool {
        match (self.form, form) {
            (Form::Zeros, Form::Zeros) | (Form::Bytes, Form::Bytes) => true,
            (Form::Pages { file, page }, Form::Pages { file: next_file, page: next }) => {
                file == next_file && page + u64::from(self.len) / PAGE as u64 == next
            }
            _ => false,
        }
    }
}

fn pages(file: usize, page: u64) -> Form {
    Form::Pages { file: u32::try_from(file).unwrap_or(u32::MAX), page }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("at most a block")
}
