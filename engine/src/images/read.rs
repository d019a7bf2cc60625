//! Reading a durable image: one pass that checks everything, and on the way unpacks it if asked to.
//!
//! One thread reads the segments from front to end, a few others check, decompress, hash and write the blocks: restoring from disk
//! waits for the disk, not for one core. Memory is bounded by the number of threads. No byte reaches a decompressor before its
//! checksum was right, and the caller calls the outcome an image only after all of it was.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::block::{Codec, Decoder, HEADER_LENGTH, Header, is_zeros};
use super::cipher::{BlockCipher, BlockPlace};
use super::digest::{self, Part};
use super::manifest::{FileEntry, Manifest, Opened, SegmentKind};
use super::segment::{Block, Lying, SegmentReader};
use crate::durable::NewFile;
use crate::error::{Error, Report, Result};

/// More threads wait for the memory bus.
const THREADS_MAX: usize = 4;

/// What becomes of the files.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target<'a> {
    /// They are only checked.
    Nowhere,
    /// They are written into these two folders, unsynced.
    Folders { criu: &'a Path, files: &'a Path },
}

/// One block on its way from the reader to a worker.
struct Job {
    codec: Codec,
    read: Block,
    stored: Vec<u8>,
    place: BlockPlace,
    file: usize,
    block: u64,
    out: Option<Arc<NewFile>>,
}

/// What the threads share.
struct Shared<'a> {
    manifest: &'a Manifest,
    cipher: Option<BlockCipher>,
    failure: Mutex<Option<Error>>,
    stopped: AtomicBool,
    parts: Mutex<Vec<Vec<Option<Part>>>>,
    /// Buffers that were used and can be again.
    spare: Mutex<Vec<Vec<u8>>>,
    cancel: &'a AtomicBool,
}

/// Reads and checks all of the image in `folder`.
///
/// # Errors
/// `Corrupt` for anything that isn't as it was written; then the target holds an unknown part of it.
pub(super) fn read_image(folder: &Path, opened: &Opened, target: Target, cancel: &AtomicBool) -> Result<()> {
    let manifest = &opened.manifest;
    let parts = manifest.files.iter().map(|file| vec![None; usize::try_from(file.blocks()).unwrap_or(0)]);
    let shared = Shared {
        manifest,
        cipher: opened.key.as_ref().map(|key| key.blocks(&manifest.service, &manifest.id)),
        failure: Mutex::new(None),
        stopped: AtomicBool::new(false),
        parts: Mutex::new(parts.collect()),
        spare: Mutex::new(Vec::new()),
        cancel,
    };
    let count = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let (sender, receiver) = sync_channel(count);
    // Owned by the workers alone: if all of them should panic, the reader notices instead of waiting for ever.
    let receiver = Arc::new(Mutex::new(receiver));
    let shared = &shared;
    let fed = thread::scope(|scope| {
        for _ in 1..count {
            let receiver = Arc::clone(&receiver);
            scope.spawn(move || shared.work(&receiver));
        }
        scope.spawn(move || shared.work(&receiver));
        // Owned by this closure: the workers end when the reader has ended.
        let sender = sender;
        feed(folder, manifest, target, &sender, shared)
    });
    let failure = lock(&shared.failure).take();
    // What a worker found comes first: the reader only noticed that it had to stop.
    failure.map_or(fed, Err)?;
    let parts = lock(&shared.parts);
    manifest.files.iter().zip(parts.iter()).try_for_each(|(file, parts)| check_file(manifest, file, parts))
}

/// Reads the segments in their order and hands the blocks out.
fn feed(
    folder: &Path,
    manifest: &Manifest,
    target: Target,
    sender: &SyncSender<Job>,
    shared: &Shared,
) -> Result<()> {
    let lying = if shared.cipher.is_some() { Lying::Sealed } else { Lying::Plain };
    for (number, segment) in manifest.segments.iter().enumerate() {
        let mut reader = SegmentReader::open(folder, segment, lying)?;
        let mut place = BlockPlace { segment: number as u64, block: 0 };
        for (index, file) in manifest.files.iter().enumerate().filter(|(_, file)| file.segment == number) {
            if reader.position() != file.offset {
                return Err(reader.damaged("place of a file"));
            }
            let out = target.create(segment.kind, file)?.map(Arc::new);
            for block in 0..file.blocks() {
                shared.go_on()?;
                let mut stored = lock(&shared.spare).pop().unwrap_or_default();
                let read = reader.next(&mut stored)?;
                let (codec, out) = (segment.codec, out.clone());
                let job = Job { codec, read, stored, place, file: index, block, out };
                place.block += 1;
                if sender.send(job).is_err() {
                    return Err(stopped());
                }
            }
        }
        reader.finish(segment)?;
    }
    Ok(())
}

fn check_file(manifest: &Manifest, file: &FileEntry, parts: &[Option<Part>]) -> Result<()> {
    let parts: Option<Vec<Part>> = parts.iter().copied().collect();
    let hash = parts.and_then(|parts| digest::combine(&parts));
    if hash.is_some_and(|hash| *hash.to_hex() == *file.blake3) {
        return Ok(());
    }
    Err(Error::Corrupt(Report::new(format!("checksum of {} in image {} is wrong", file.name, manifest.id))))
}

impl Target<'_> {
    fn create(&self, kind: SegmentKind, file: &FileEntry) -> Result<Option<NewFile>> {
        let path: PathBuf = match (self, kind) {
            (Self::Nowhere, _) => return Ok(None),
            (Self::Folders { criu, .. }, SegmentKind::State | SegmentKind::Memory) => criu.join(&file.name),
            (Self::Folders { files, .. }, SegmentKind::Files) => files.join(&file.name),
        };
        let created = NewFile::create(&path)?;
        created.set_length(file.raw_len)?;
        Ok(Some(created))
    }
}

impl Shared<'_> {
    /// Takes blocks until there are no more, or until something is wrong.
    fn work(&self, jobs: &Mutex<Receiver<Job>>) {
        let mut decoders: Vec<(Codec, Decoder)> = Vec::new();
        loop {
            // Held while waiting: the next block goes to whoever waits here, the others wait for the lock.
            let job = lock(jobs).recv();
            let Ok(job) = job else { return };
            if self.stopped.load(Ordering::Relaxed) {
                continue;
            }
            if let Err(error) = self.block(job, &mut decoders) {
                lock(&self.failure).get_or_insert(error);
                self.stopped.store(true, Ordering::Relaxed);
            }
        }
    }

    fn block(&self, mut job: Job, decoders: &mut Vec<(Codec, Decoder)>) -> Result<()> {
        let file = &self.manifest.files[job.file];
        let opened = self.open(&mut job);
        let opened = opened.and_then(|(header, from)| match header.raw_length() as u64 {
            length if length == file.block_len(job.block) => Ok((header, from)),
            _ => Err(Error::Corrupt(Report::new("length of a block is damaged"))),
        });
        let (header, from) = opened.map_err(|error| self.located(error, &job))?;
        let raw = decoder(decoders, job.codec)?.decode(&header, &job.stored[from..]);
        let raw = raw.map_err(|error| self.located(error, &job))?;
        let part = digest::hash_block(raw, job.block, file.raw_len);
        if let Some(out) = job.out.filter(|_| !is_zeros(&header)) {
            out.write_at(raw, job.block * super::block::BLOCK_LENGTH as u64)?;
        }
        let block = usize::try_from(job.block).expect("it has a place in the list");
        lock(&self.parts)[job.file][block] = Some(part);
        lock(&self.spare).push(job.stored);
        Ok(())
    }

    /// Decrypts a block in place, if it is encrypted; its header, and where its stored bytes begin.
    fn open(&self, job: &mut Job) -> Result<(Header, usize)> {
        match (&job.read, &self.cipher) {
            (Block::Plain(header), None) => Ok((header.clone(), 0)),
            (Block::Sealed(tag), Some(cipher)) => {
                cipher.open(job.place, &mut job.stored, *tag)?;
                let header = job.stored.first_chunk::<HEADER_LENGTH>();
                let header = header.ok_or_else(|| Error::Corrupt(Report::new("block is cut off")))?;
                Ok((Header::decode(header)?, HEADER_LENGTH))
            }
            (Block::Plain(_), Some(_)) | (Block::Sealed(_), None) => {
                Err(Error::Internal(Report::new("block was read in a way that is not its image's")))
            }
        }
    }

    /// Says where the damage lies.
    fn located(&self, error: Error, job: &Job) -> Error {
        let file = &self.manifest.files[job.file];
        let (name, segment) = (&file.name, &self.manifest.segments[file.segment].name);
        let text = format!("{}: block {} of {name} in {segment}", error.report(), job.block);
        Error::Corrupt(Report::new(text))
    }

    fn go_on(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Unavailable(Report::new("reading of an image was cancelled")));
        }
        if self.stopped.load(Ordering::Relaxed) { Err(stopped()) } else { Ok(()) }
    }
}

fn decoder(decoders: &mut Vec<(Codec, Decoder)>, codec: Codec) -> Result<&mut Decoder> {
    let at = match decoders.iter().position(|(known, _)| *known == codec) {
        Some(at) => at,
        None => {
            decoders.push((codec, Decoder::new(codec)?));
            decoders.len() - 1
        }
    };
    Ok(&mut decoders[at].1)
}

/// Never seen by a caller: the failure that stopped the workers is reported instead.
fn stopped() -> Error {
    Error::Internal(Report::new("reading of an image was stopped"))
}

/// What is behind these locks is whole after every statement, so one who panicked while holding one left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
