//! From hot to durable: segments, each synced, then the manifest, then one rename.
//!
//! One pass over the data with buffers of 1 MiB: each byte is read once, hashed, compressed, written. Whatever goes wrong before the
//! rename leaves no image and removes what was written; the hot copy stays in any case. What was changed since the seal is refused.
//! With encryption each commit makes a data key of its own, so that what an earlier attempt wrote has no nonce in common with it.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use policies::id::{ImageId, ServiceName};

use super::block::{BLOCK_LENGTH, Codec};
use super::cipher::{BlockCipher, DataKey};
use super::hot::{Seal, SealedFile, criu_dir};
use super::keys::Wrapped;
use super::manifest::{
    FileEntry, MANIFEST_NAME, Manifest, SEALED_VERSION, SegmentEntry, SegmentKind, Sizes, VERSION,
};
use super::segment::{Sealing, SegmentWriter};
use super::{MEMBER_MARK, Store, digest, space};
use crate::durable::{self, FILE_MODE, atomic_write, fail_point, failed, open_regular, remove_tree};
use crate::error::{Error, Report, Result};

/// How much is written between two syncs and looks at the free space.
const STRIDE: u64 = 64 << 20;

/// What has to be known to write one image.
struct Writer<'a> {
    store: &'a Store,
    folder: PathBuf,
    cancel: &'a AtomicBool,
    codec: Codec,
    key: Option<DataKey>,
    cipher: Option<BlockCipher>,
    buffer: Vec<u8>,
    segments: Vec<SegmentEntry>,
    files: Vec<FileEntry>,
}

/// A segment before it is written.
struct Plan<'a> {
    name: String,
    kind: SegmentKind,
    folder: PathBuf,
    files: Vec<&'a SealedFile>,
}

/// Writes the image into its staging folder and gives it its name. The caller holds the image and has looked for room.
pub(super) fn commit(
    store: &Store,
    service: &ServiceName,
    id: &ImageId,
    (hot, seal): (&Path, &Seal),
    cancel: &AtomicBool,
) -> Result<Manifest> {
    let staging = store.places().staging(service, id);
    remove_tree(&staging)?;
    let written = write(store, service, id, (hot, seal), cancel).and_then(|manifest| {
        // An image that was handed over may be brought here as well. Of two who bring it one is first.
        let _alone = store.uses().unpack(id);
        if store.places().is_durable(service, id) {
            remove_tree(&staging)?;
            return store.opened(service, id).map(|opened| opened.manifest);
        }
        durable::rename(&staging, &store.places().image(service, id)).map(|()| manifest)
    });
    if written.is_err() {
        // What cannot be removed now is swept at the next start; without its name it is no image.
        let _ = remove_tree(&staging);
    }
    fail_point("image.rename.after");
    written
}

fn write(
    store: &Store,
    service: &ServiceName,
    id: &ImageId,
    (hot, seal): (&Path, &Seal),
    cancel: &AtomicBool,
) -> Result<Manifest> {
    let folder = store.places().staging(service, id);
    durable::create_dir(&store.places().service(service))?;
    durable::create_new_dir(&folder)?;
    fail_point("image.staging");
    let codec = store.settings().codec;
    let key = data_key(store, service, id, &folder)?;
    let cipher = key.as_ref().map(|key| key.blocks(service, id));
    let buffer = vec![0; BLOCK_LENGTH];
    let (segments, files) = (Vec::new(), Vec::new());
    let mut writer = Writer { store, folder, cancel, codec, key, cipher, buffer, segments, files };
    for plan in plan(&criu_dir(hot), &store.places().files(service, id), seal) {
        writer.segment(&plan)?;
        fail_point("image.segment");
    }
    // The times of the files were compared one by one while they were read; this finds files that came or went.
    seal.check(hot, &store.places().files(service, id))?;
    writer.finish(service, id, seal)
}

/// A key for the image, wrapped into its folder, if images are to be encrypted.
fn data_key(store: &Store, service: &ServiceName, id: &ImageId, folder: &Path) -> Result<Option<DataKey>> {
    let keys = &store.settings().keys;
    if !keys.encrypts() {
        return Ok(None);
    }
    let key = DataKey::random()?;
    let wrapped = Wrapped::new(keys, service, id, &key)?;
    wrapped.ok_or_else(|| Error::Internal(Report::new("there is no key to encrypt with")))?.write(folder)?;
    fail_point("image.key");
    Ok(Some(key))
}

/// CRIU's small files together, each file of pages and each captured file alone.
fn plan<'a>(criu: &Path, files: &Path, seal: &'a Seal) -> Vec<Plan<'a>> {
    let (memory, state): (Vec<_>, Vec<_>) = seal.criu.iter().partition(|file| holds_pages(&file.name));
    let single = |(number, file): (usize, &'a SealedFile), prefix: &str, kind, folder: &Path| Plan {
        name: format!("{prefix}-{number}.seg"),
        kind,
        folder: folder.to_owned(),
        files: vec![file],
    };
    let state = Plan {
        name: "state.seg".to_owned(),
        kind: SegmentKind::State,
        folder: criu.to_owned(),
        files: state,
    };
    let memory = memory.into_iter().enumerate().map(|file| single(file, "memory", SegmentKind::Memory, criu));
    let files = seal.files.iter().enumerate().map(|file| single(file, "files", SegmentKind::Files, files));
    std::iter::once(state).chain(memory).chain(files).collect()
}

/// `pages-1.img`, ...: memory, as CRIU writes it; in the image of a group the member's name comes before it.
fn holds_pages(name: &str) -> bool {
    let name = name.rsplit_once(MEMBER_MARK).map_or(name, |(_, name)| name);
    name.starts_with("pages-") && Path::new(name).extension().is_some_and(|e| e == "img")
}

impl Writer<'_> {
    fn segment(&mut self, plan: &Plan) -> Result<()> {
        let sealing = self.cipher.clone().map(|cipher| Sealing::new(cipher, self.segments.len() as u64));
        let mut segment = SegmentWriter::create(&self.folder.join(&plan.name), self.codec, sealing)?;
        for file in &plan.files {
            self.file(&mut segment, &plan.folder, file)?;
        }
        let (stored_len, blake3) = segment.finish()?;
        let entry =
            SegmentEntry { name: plan.name.clone(), kind: plan.kind, codec: self.codec, stored_len, blake3 };
        self.segments.push(entry);
        Ok(())
    }

    fn file(&mut self, segment: &mut SegmentWriter, folder: &Path, sealed: &SealedFile) -> Result<()> {
        let path = folder.join(&sealed.name);
        let mut file = open_regular(&path)?;
        unchanged(&file, &path, sealed)?;
        let (offset, mut parts, mut left) = (segment.length(), Vec::new(), sealed.len);
        while left > 0 {
            self.go_on()?;
            let length = usize::try_from(left.min(BLOCK_LENGTH as u64)).expect("at most a block");
            let raw = &mut self.buffer[..length];
            file.read_exact(raw).map_err(|e| failed("read", &path, e))?;
            parts.push(digest::hash_block(raw, parts.len() as u64, sealed.len));
            let before = segment.length();
            segment.write(raw)?;
            if before / STRIDE != segment.length() / STRIDE {
                segment.sync_so_far()?;
                space::disk_has(&self.folder, 0, self.store.settings().min_free)?;
            }
            left -= length as u64;
        }
        unchanged(&file, &path, sealed)?;
        let hash = digest::combine(&parts)
            .ok_or_else(|| Error::Internal(Report::new("blocks do not make a file")))?;
        self.files.push(FileEntry {
            name: sealed.name.clone(),
            segment: self.segments.len(),
            offset,
            raw_len: sealed.len,
            blake3: hash.to_hex().to_string(),
        });
        Ok(())
    }

    fn go_on(&self) -> Result<()> {
        if self.cancel.load(Ordering::Relaxed) {
            return Err(Error::Unavailable(Report::new("commit of an image was cancelled")));
        }
        Ok(())
    }

    fn finish(self, service: &ServiceName, id: &ImageId, seal: &Seal) -> Result<Manifest> {
        let stored = self.segments.iter().map(|s| s.stored_len).sum();
        let manifest = Manifest {
            version: if self.key.is_some() { SEALED_VERSION } else { VERSION },
            service: service.clone(),
            id: id.clone(),
            about: seal.about.clone(),
            sizes: Sizes { raw: seal.raw_len(), stored },
            segments: self.segments,
            files: self.files,
        };
        fail_point("image.manifest.before");
        let bytes = match &self.key {
            Some(key) => manifest.encode_sealed(key)?,
            None => manifest.encode()?,
        };
        atomic_write(&self.folder.join(MANIFEST_NAME), &bytes, FILE_MODE)?;
        fail_point("image.manifest.after");
        Ok(manifest)
    }
}

fn unchanged(file: &File, path: &Path, sealed: &SealedFile) -> Result<()> {
    let found = file.metadata().map_err(|e| failed("look at", path, e))?;
    if SealedFile::of(&sealed.name, &found) == *sealed {
        return Ok(());
    }
    let text = format!("hot image was changed after it was sealed: {}", path.display());
    Err(Error::Corrupt(Report::new(text)))
}
