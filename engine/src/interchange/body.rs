//! A tar archive that is written from its front to its end, into whatever takes bytes.
//!
//! Lengths are said before the bytes come, and a body of another length is refused: what follows would be read wrongly.

use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;

use tar::{Builder, EntryType, Header};

use super::unwritten;
use crate::capture::Timestamp;
use crate::error::{Error, Report, Result};

const BLOCK: u64 = 512;
/// Longer names and targets go into an extension.
const NAME_MAX: usize = 100;

/// A tar archive being written.
pub(super) struct Body<'a> {
    builder: Builder<Counted<'a>>,
}

/// Whatever takes bytes, and how many it took.
struct Counted<'a> {
    to: &'a mut dyn Write,
    length: u64,
}

/// What stands before an entry's bytes.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) kind: EntryType,
    pub(super) name: Vec<u8>,
    pub(super) target: Vec<u8>,
    pub(super) mode: u32,
    pub(super) owner: (u32, u32),
    pub(super) modified: Timestamp,
    pub(super) device: (u32, u32),
    pub(super) size: u64,
    /// Names and values of extended attributes.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Head {
    /// A file that only root may read.
    pub(super) fn file(name: impl Into<Vec<u8>>, size: u64, modified: Timestamp) -> Self {
        Self {
            kind: EntryType::Regular,
            name: name.into(),
            target: Vec::new(),
            mode: 0o600,
            owner: (0, 0),
            modified,
            device: (0, 0),
            size,
            xattrs: Vec::new(),
        }
    }

    /// A folder that only root may enter.
    pub(super) fn folder(name: impl Into<Vec<u8>>, modified: Timestamp) -> Self {
        Self { kind: EntryType::Directory, mode: 0o700, ..Self::file(name, 0, modified) }
    }

    fn extensions(&self) -> Vec<(String, Vec<u8>)> {
        let mut found = Vec::new();
        if self.name.len() > NAME_MAX {
            found.push(("path".to_owned(), self.name.clone()));
        }
        if self.target.len() > NAME_MAX {
            found.push(("linkpath".to_owned(), self.target.clone()));
        }
        if self.modified.1 != 0 && self.modified.0 >= 0 {
            found.push((
                "mtime".to_owned(),
                format!("{}.{:09}", self.modified.0, self.modified.1).into_bytes(),
            ));
        }
        let xattr = |(name, value): &(Vec<u8>, Vec<u8>)| {
            (format!("SCHILY.xattr.{}", String::from_utf8_lossy(name)), value.clone())
        };
        found.extend(self.xattrs.iter().map(xattr));
        found
    }

    fn header(&self) -> io::Result<Header> {
        let short = |bytes: &[u8]| {
            std::path::PathBuf::from(std::ffi::OsStr::from_bytes(&bytes[..bytes.len().min(NAME_MAX)]))
        };
        let mut header = Header::new_gnu();
        header.set_entry_type(self.kind);
        header.as_old_mut().name[..self.name.len().min(NAME_MAX)]
            .copy_from_slice(&self.name[..self.name.len().min(NAME_MAX)]);
        if !self.target.is_empty() {
            header.set_link_name_literal(short(&self.target).as_os_str().as_bytes())?;
        }
        header.set_mode(self.mode);
        header.set_uid(self.owner.0.into());
        header.set_gid(self.owner.1.into());
        header.set_mtime(u64::try_from(self.modified.0).unwrap_or(0));
        header.set_device_major(self.device.0)?;
        header.set_device_minor(self.device.1)?;
        header.set_size(self.size);
        header.set_cksum();
        Ok(header)
    }
}

impl<'a> Body<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { builder: Builder::new(Counted { to, length: 0 }) }
    }

    /// An entry without bytes.
    pub(super) fn entry(&mut self, head: &Head) -> Result<()> {
        let extensions = head.extensions();
        if !extensions.is_empty() {
            let pairs = extensions.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
            self.builder.append_pax_extensions(pairs).map_err(unwritten)?;
        }
        let header = head.header().map_err(unwritten)?;
        self.builder.append(&header, io::empty()).map_err(unwritten)
    }

    /// An entry whose bytes `write` writes: exactly as many as its head says.
    pub(super) fn filled(
        &mut self,
        head: &Head,
        write: impl FnOnce(&mut dyn Write) -> Result<()>,
    ) -> Result<()> {
        self.entry(head)?;
        let to = self.builder.get_mut();
        let before = to.length;
        write(to)?;
        let written = to.length - before;
        if written != head.size {
            let name = String::from_utf8_lossy(&head.name).into_owned();
            let text = format!("{name} has {written} bytes instead of {}", head.size);
            return Err(Error::Internal(Report::new(text)));
        }
        let gap = usize::try_from(written.next_multiple_of(BLOCK) - written).expect("less than a block");
        to.write_all(&[0; BLOCK as usize][..gap]).map_err(unwritten)
    }

    /// An entry whose bytes are read from somewhere.
    pub(super) fn copied(&mut self, head: &Head, from: &mut dyn Read) -> Result<()> {
        self.filled(head, |to| copy(from, to).map(drop))
    }

    /// Ends the archive; its length.
    pub(super) fn finish(mut self) -> Result<u64> {
        self.builder.finish().map_err(unwritten)?;
        Ok(self.builder.get_ref().length)
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.length += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Copies everything; a failure to read is told from one to write.
fn copy(from: &mut dyn Read, to: &mut dyn Write) -> Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut length = 0;
    loop {
        let read = from
            .read(&mut buffer)
            .map_err(|e| Error::Unavailable(Report::new("read the image").because(e)))?;
        if read == 0 {
            return Ok(length);
        }
        to.write_all(&buffer[..read]).map_err(unwritten)?;
        length += read as u64;
    }
}
