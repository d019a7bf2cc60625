//! One image as one stream of bytes, for carrying it elsewhere.
//!
//! `SVARCHIV`, version (u32), number of entries (u32); for each entry the length of its name (u32), the name, the length of its content
//! (u64), the content; at the end BLAKE3 of all bytes before. Entries: the manifest, `key` if the image is encrypted (version 2 then), the
//! segments in their order, `verdict`. An encrypted image leaves as it lies on disk and is imported only where its key is.
//! An import believes nothing: lengths are bound by the manifest, the whole is read and checked as any image before it
//! gets its name. Bytes after the end are refused.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use policies::id::ServiceName;
use policies::image::ImageVerdict;

use super::keys::{KEY_LENGTH_MAX, KEY_NAME, Keyring, Wrapped};
use super::manifest::{MANIFEST_LENGTH_MAX, MANIFEST_NAME, Manifest, Opened, Stored};
use super::read::{Target, read_image};
use super::{Store, marks, space};
use crate::durable::{
    self, FILE_MODE, NewFile, atomic_write, fail_point, open_regular, read_limited, remove_tree,
};
use crate::error::{Error, Report, Result};

const MAGIC: &[u8; 8] = b"SVARCHIV";
const VERSION: u32 = 1;
/// With a key.
const SEALED_VERSION: u32 = 2;
const VERDICT_NAME: &str = "verdict";
const VERDICT_LENGTH_MAX: u64 = 32;
const BUFFER_LENGTH: usize = 256 << 10;

/// Bytes on their way out, hashed as they pass.
struct Out<'a> {
    to: &'a mut dyn Write,
    hasher: blake3::Hasher,
    length: u64,
}

/// Bytes on their way in, hashed as they pass.
struct In<'a> {
    from: &'a mut dyn Read,
    hasher: blake3::Hasher,
}

/// What an archive begins with.
struct Beginning {
    opened: Opened,
    bytes: Vec<u8>,
    wrapped: Option<Wrapped>,
}

/// Writes the archive of a durable image that was just verified; returns its length.
pub(super) fn export(
    folder: &Path,
    Opened { manifest, key }: &Opened,
    verdict: ImageVerdict,
    to: &mut dyn Write,
) -> Result<u64> {
    let mut out = Out { to, hasher: blake3::Hasher::new(), length: 0 };
    let version = if key.is_some() { SEALED_VERSION } else { VERSION };
    let count = entries(manifest, version);
    out.write(MAGIC)?;
    out.write(&version.to_le_bytes())?;
    out.write(&u32::try_from(count).expect("a manifest is too short for more").to_le_bytes())?;
    let small = [(MANIFEST_NAME, MANIFEST_LENGTH_MAX), (KEY_NAME, KEY_LENGTH_MAX)];
    for (name, length_max) in small.into_iter().take(if key.is_some() { 2 } else { 1 }) {
        let bytes = read_limited(&folder.join(name), length_max)?;
        out.entry(name, bytes.len() as u64, &mut bytes.as_slice())?;
    }
    for segment in &manifest.segments {
        let mut file = open_regular(&folder.join(&segment.name))?;
        out.entry(&segment.name, segment.stored_len, &mut file)?;
    }
    let verdict = verdict.name().as_bytes();
    out.entry(VERDICT_NAME, verdict.len() as u64, &mut &verdict[..])?;
    let digest = *out.hasher.finalize().as_bytes();
    out.write(&digest)?;
    out.to.flush().map_err(|e| Error::Unavailable(Report::new("cannot write the archive").because(e)))?;
    Ok(out.length)
}

/// Reads an archive; the image exists only if all of it is whole.
pub(super) fn import(
    store: &Store,
    from: &mut dyn Read,
    admit: &dyn Fn(&ServiceName) -> Result<()>,
) -> Result<Manifest> {
    let mut input = In { from, hasher: blake3::Hasher::new() };
    let beginning = input.beginning(&store.settings().keys)?;
    let manifest = &beginning.opened.manifest;
    admit(&manifest.service)?;
    if store.places().owner(&manifest.id)?.is_some() {
        let text = format!("image exists already: {}", manifest.id);
        return Err(Error::Invalid(Report::new(text).remedy("remove it first, or keep it")));
    }
    space::disk_has(&store.places().store, manifest.sizes.stored, store.settings().min_free)?;
    let staging = store.places().staging(&manifest.service, &manifest.id);
    durable::create_dir(&store.places().service(&manifest.service))?;
    durable::create_new_dir(&staging)?;
    let written = receive(store, &mut input, &staging, &beginning);
    if written.is_err() {
        // What cannot be removed now is swept at the next start; without its name it is no image.
        let _ = remove_tree(&staging);
    }
    written.map(|()| beginning.opened.manifest)
}

fn receive(store: &Store, input: &mut In, staging: &Path, beginning: &Beginning) -> Result<()> {
    let Beginning { opened, bytes, wrapped } = beginning;
    let manifest = &opened.manifest;
    for segment in &manifest.segments {
        let length = input.entry(&segment.name, segment.stored_len)?;
        if length != segment.stored_len {
            return Err(damaged("length of a segment"));
        }
        let mut file = NewFile::create(&staging.join(&segment.name))?;
        input.copy(length, |part| file.write(part))?;
        file.finish()?;
    }
    let verdict = input.verdict()?;
    input.end()?;
    adopt(store, staging, (bytes, opened, wrapped.as_ref()), verdict)
}

/// Makes an image of segments that came from elsewhere and are synced, once all of them were read and found whole.
pub(super) fn adopt(
    store: &Store,
    staging: &Path,
    (bytes, opened, wrapped): (&[u8], &Opened, Option<&Wrapped>),
    verdict: ImageVerdict,
) -> Result<()> {
    let manifest = &opened.manifest;
    read_image(staging, opened, Target::Nowhere, &AtomicBool::new(false))?;
    wrapped.map_or(Ok(()), |wrapped| wrapped.write(staging))?;
    fail_point("import.manifest.before");
    atomic_write(&staging.join(MANIFEST_NAME), bytes, FILE_MODE)?;
    let (places, service, id) = (store.places(), &manifest.service, &manifest.id);
    // Before the image exists: the next start removes a mark without an image.
    marks::set(places, service, id, marks::Mark::Verdict, verdict.name())?;
    durable::rename(staging, &places.image(service, id))?;
    fail_point("import.rename.after");
    Ok(())
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        self.to
            .write_all(bytes)
            .map_err(|e| Error::Unavailable(Report::new("cannot write the archive").because(e)))
    }

    fn entry(&mut self, name: &str, length: u64, content: &mut dyn Read) -> Result<()> {
        self.write(&u32::try_from(name.len()).expect("our names are short").to_le_bytes())?;
        self.write(name.as_bytes())?;
        self.write(&length.to_le_bytes())?;
        let (mut buffer, mut left) = (vec![0; BUFFER_LENGTH], length);
        while left > 0 {
            let wanted = usize::try_from(left.min(BUFFER_LENGTH as u64)).expect("at most the buffer");
            let part = &mut buffer[..wanted];
            let read = content.read_exact(part);
            read.map_err(|e| {
                Error::Corrupt(Report::new(format!("cannot read {name} to its end")).because(e))
            })?;
            self.write(part)?;
            left -= wanted as u64;
        }
        Ok(())
    }
}

impl In<'_> {
    fn beginning(&mut self, keys: &Keyring) -> Result<Beginning> {
        if self.take::<8>()? != *MAGIC {
            let report = Report::new("not an archive of an image")
                .remedy("give a file that `supervisor export` wrote");
            return Err(Error::Invalid(report));
        }
        let version = u32::from_le_bytes(self.take()?);
        if !(VERSION..=SEALED_VERSION).contains(&version) {
            let text = format!("archive has version {version}, known here is {SEALED_VERSION}");
            let report = Report::new(text).remedy("use the supervisor that wrote it, or a newer one");
            return Err(Error::Invalid(report));
        }
        let count = u32::from_le_bytes(self.take()?);
        let length = self.entry(MANIFEST_NAME, MANIFEST_LENGTH_MAX)?;
        let bytes = self.bytes(length)?;
        let stored = Stored::decode(&bytes, Path::new("archive"))?;
        if stored.is_sealed() != (version == SEALED_VERSION) {
            return Err(damaged("version"));
        }
        let wrapped = if stored.is_sealed() { Some(self.key(&stored)?) } else { None };
        let opened = stored.open(wrapped.as_ref(), keys)?;
        if count as usize != entries(&opened.manifest, version) {
            return Err(damaged("number of entries"));
        }
        Ok(Beginning { opened, bytes, wrapped })
    }

    fn key(&mut self, of: &Stored) -> Result<Wrapped> {
        let length = self.entry(KEY_NAME, KEY_LENGTH_MAX)?;
        let bytes = self.bytes(length)?;
        let (service, id) = of.image();
        Wrapped::decode(&bytes, Path::new("archive"), service, id)
    }

    fn verdict(&mut self) -> Result<ImageVerdict> {
        let length = self.entry(VERDICT_NAME, VERDICT_LENGTH_MAX)?;
        let bytes = self.bytes(length)?;
        let word = std::str::from_utf8(&bytes).ok().and_then(|text| text.parse().ok());
        word.ok_or_else(|| damaged("verdict"))
    }

    /// The length of the next entry, which must have this name and be no longer.
    fn entry(&mut self, name: &str, length_max: u64) -> Result<u64> {
        let name_length = u32::from_le_bytes(self.take()?) as usize;
        if name_length != name.len() || self.bytes(name.len() as u64)? != name.as_bytes() {
            return Err(damaged("name of an entry"));
        }
        let length = u64::from_le_bytes(self.take()?);
        if length > length_max { Err(damaged("length of an entry")) } else { Ok(length) }
    }

    /// `length` was compared with a limit; still nothing is allocated before it has come.
    fn bytes(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.copy(length, |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        Ok(bytes)
    }

    fn copy(&mut self, length: u64, mut give: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut buffer, mut left) = (vec![0; BUFFER_LENGTH], length);
        while left > 0 {
            let wanted = usize::try_from(left.min(BUFFER_LENGTH as u64)).expect("at most the buffer");
            self.fill(&mut buffer[..wanted])?;
            give(&buffer[..wanted])?;
            left -= wanted as u64;
        }
        Ok(())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.from.read_exact(bytes).map_err(cannot_read)?;
        self.hasher.update(bytes);
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        let expected = *self.hasher.finalize().as_bytes();
        if self.take::<32>()? != expected {
            return Err(damaged("checksum"));
        }
        let mut more = [0];
        loop {
            match self.from.read(&mut more) {
                Ok(0) => return Ok(()),
                Ok(_) => return Err(damaged("end")),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(cannot_read(e)),
            }
        }
    }
}

/// The manifest, the segments and the verdict, and a key.
fn entries(manifest: &Manifest, version: u32) -> usize {
    manifest.segments.len() + if version == SEALED_VERSION { 3 } else { 2 }
}

fn cannot_read(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged("end"),
        _ => Error::Unavailable(Report::new("cannot read the archive").because(error)),
    }
}

fn damaged(what: &str) -> Error {
    let report = Report::new(format!("archive is damaged: {what}"));
    Error::Corrupt(report.remedy("export the image again"))
}
