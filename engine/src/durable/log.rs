//! A file of records that is only ever appended to: the journal's ground.
//!
//! One record a line: 16 hexadecimal digits of the BLAKE3 of the payload, a space, the payload, a newline. An append is on the
//! disk when it returns. After a crash the last line may be torn: it is cut off at the next start. A damaged
//! line further up is left out and counted, never guessed at. It refuses payloads with a newline.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{FILE_MODE, atomic_write, failed, open_regular, sync_dir};
use crate::error::{Error, Report, Result};

/// Longest payload in bytes; also the most that one damaged line can make us hold.
pub const RECORD_LENGTH_MAX: usize = 1 << 20;
const CHECK_LENGTH: usize = 16;

/// An open log; one process, one of these.
#[derive(Debug)]
pub struct Log {
    file: File,
    path: PathBuf,
    /// Everything up to here is whole lines that are on the disk.
    length: u64,
}

/// What a log held when it was opened.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replay {
    /// The payloads, oldest first.
    pub records: Vec<Vec<u8>>,
    /// Bytes of a torn last line: what a crash in the middle of an append leaves.
    pub torn_bytes: u64,
    /// Lines with a wrong checksum before the last whole one: a damaged disk, not a crash.
    pub damaged_lines: usize,
}

impl Log {
    /// Opens or creates the log, reads it, and cuts a torn tail off so that the next record begins a line.
    ///
    /// # Errors
    /// `Refused` when the path can't be read and written; `Unavailable` when the disk is full or broken.
    pub fn open(path: &Path) -> Result<(Self, Replay)> {
        let flags = libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let mut options = OpenOptions::new();
        options.append(true).read(true).create(true).mode(FILE_MODE).custom_flags(flags);
        let file = options.open(path).map_err(|e| failed("open", path, e))?;
        path.parent().map_or(Ok(()), sync_dir)?;
        let (replay, length) = replay(&file, path)?;
        let log = Self { file, path: path.to_owned(), length };
        if replay.torn_bytes > 0 {
            log.cut_back()?;
        }
        Ok((log, replay))
    }

    /// Reads the records of a log that another process may be writing; changes nothing.
    ///
    /// # Errors
    /// As [`Log::open`].
    pub fn read_all(path: &Path) -> Result<Replay> {
        replay(&open_regular(path)?, path).map(|(replay, _)| replay)
    }

    /// Appends one record; it is on the disk when this returns. If it fails, the log is as it was.
    ///
    /// # Errors
    /// `Internal` for a payload with a newline or over [`RECORD_LENGTH_MAX`]; `Unavailable` when the disk is full.
    pub fn append(&mut self, payload: &[u8]) -> Result<()> {
        self.append_all([payload])
    }

    /// Appends records with one wait for the disk. If it fails, the log is as it was.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn append_all<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        let lines = encode_all(payloads)?;
        let written = self.file.write_all(&lines).and_then(|()| self.file.sync_data());
        match written {
            Ok(()) => {
                self.length += lines.len() as u64;
                Ok(())
            }
            Err(e) => {
                // A part of a line may be there; the next record must not be glued to it.
                self.cut_back()?;
                Err(failed("append to", &self.path, e))
            }
        }
    }

    /// Replaces the whole log by these records in one step: how it is kept short.
    ///
    /// # Errors
    /// As [`Log::append`]; the log is then as it was.
    pub fn rewrite<'a>(&mut self, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<()> {
        atomic_write(&self.path, &encode_all(payloads)?, FILE_MODE)?;
        let (log, _) = Self::open(&self.path)?;
        *self = log;
        Ok(())
    }

    /// Bytes that the log holds.
    pub fn length(&self) -> u64 {
        self.length
    }

    fn cut_back(&self) -> Result<()> {
        let cut = self.file.set_len(self.length).and_then(|()| self.file.sync_all());
        cut.map_err(|e| failed("cut the torn end off", &self.path, e))
    }
}

fn encode_all<'a>(payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<u8>> {
    let mut lines = Vec::new();
    for payload in payloads {
        lines.extend(encode(payload)?);
    }
    Ok(lines)
}

fn encode(payload: &[u8]) -> Result<Vec<u8>> {
    if payload.contains(&b'\n') || payload.len() > RECORD_LENGTH_MAX {
        let text = format!("a record of {} bytes is too long or has a newline", payload.len());
        return Err(Error::Internal(Report::new(text)));
    }
    let mut line = Vec::with_capacity(CHECK_LENGTH + payload.len() + 2);
    line.extend_from_slice(check(payload).as_bytes());
    line.push(b' ');
    line.extend_from_slice(payload);
    line.push(b'\n');
    Ok(line)
}

fn check(payload: &[u8]) -> String {
    blake3::hash(payload).to_hex()[..CHECK_LENGTH].to_owned()
}

/// The payload of a line without its newline, if the line is whole.
fn decode(line: &[u8]) -> Option<&[u8]> {
    let payload = line.get(CHECK_LENGTH + 1..).filter(|_| line[CHECK_LENGTH] == b' ')?;
    (line[..CHECK_LENGTH] == *check(payload).as_bytes()).then_some(payload)
}

/// What is in the file, and the length of what may stay: up to the end of the last whole line.
fn replay(mut file: &File, path: &Path) -> Result<(Replay, u64)> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(|e| failed("read", path, e))?;
    let mut found = Replay::default();
    let (mut kept, mut at, mut bad_since) = (0, 0, 0);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        at += line.len() as u64;
        let payload = line.strip_suffix(b"\n").and_then(decode);
        if let Some(payload) = payload {
            found.records.push(payload.to_vec());
            found.damaged_lines += std::mem::take(&mut bad_since);
            kept = at;
        } else {
            bad_since += 1;
        }
    }
    found.torn_bytes = at - kept;
    Ok((found, kept))
}
