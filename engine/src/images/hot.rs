//! Hot images: complete in memory (or on disk, unsynced), usable on this host until it reboots.
//!
//! A dump writes into a [`Staging`]; [`Staging::seal`] makes it an image by one last file, the seal, which remembers length, inode and
//! times of every file. A hot image is believed as long as these agree, without reading its data: that is what makes a
//! restore from memory fast. So a hot copy protects against half-written and touched files, not against failing memory.
//! Unsealed folders and those of another boot are no images.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use policies::id::{ImageId, ServiceName};
use serde::{Deserialize, Serialize};

use super::Store;
use super::envelope;
use super::manifest::{About, is_plain_name};
use super::places::SEAL_NAME;
use super::uses::Use;
use crate::durable::{
    FILE_MODE, atomic_write_volatile, create_dir, create_new_dir, fail_point, failed, remove_tree,
};
use crate::error::{Error, Report, Result};

const WHAT: &str = "supervisor-seal";
const VERSION: u32 = 1;
const SEAL_LENGTH_MAX: u64 = 16 << 20;
/// Where CRIU's files lie in the folder of a hot image.
const CRIU: &str = "criu";

/// A place for one dump, removed when dropped without a seal.
#[derive(Debug)]
pub struct Staging {
    store: Store,
    service: ServiceName,
    id: ImageId,
    folder: PathBuf,
    files: PathBuf,
    held: Option<Use>,
}

/// A hot image: may be restored from now on, on this host and this boot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hot {
    /// Whose image it is.
    pub service: ServiceName,
    /// Its id.
    pub id: ImageId,
    /// Bytes of all its files.
    pub raw_len: u64,
}

/// The content of a seal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seal {
    pub(super) boot_id: String,
    pub(super) about: About,
    pub(super) criu: Vec<SealedFile>,
    pub(super) files: Vec<SealedFile>,
}

/// One file as it was when the image was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SealedFile {
    pub(super) name: String,
    pub(super) len: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Staging {
    /// The folder into which CRIU dumps; its work folder (logs) has to be another one.
    pub fn criu_dir(&self) -> PathBuf {
        self.folder.join(CRIU)
    }

    /// The folder for captured files, on the store's disk or, with encryption, in memory: plain files, no folders.
    pub fn files_dir(&self) -> PathBuf {
        self.files.clone()
    }

    /// The image that this will be.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// Makes it an image. Reads no data: a look at every file, a change of its mode to 0600, and one small file.
    ///
    /// # Errors
    /// `Invalid` when there is nothing or something else than plain files in it; the staging is then removed.
    pub fn seal(mut self, about: About) -> Result<Hot> {
        let seal = Seal {
            boot_id: self.store.boot_id().to_owned(),
            about,
            criu: close_folder(&self.criu_dir())?,
            files: close_folder(&self.files)?,
        };
        if seal.criu.is_empty() {
            return Err(Error::Invalid(Report::new(format!("nothing was dumped into image {}", self.id))));
        }
        fail_point("image.seal.before");
        write_seal(&self.folder, &seal)?;
        fail_point("image.sealed");
        let hot = Hot { service: self.service.clone(), id: self.id.clone(), raw_len: seal.raw_len() };
        // Given up: what is sealed stays.
        self.held = None;
        Ok(hot)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if self.held.take().is_some() {
            // What cannot be removed now is swept at the next start; it is no image without a seal.
            let _ = remove_tree(&self.folder);
            let _ = remove_tree(&self.files);
        }
    }
}

impl Seal {
    pub(super) fn raw_len(&self) -> u64 {
        self.criu.iter().chain(&self.files).map(|file| file.len).sum()
    }

    /// Reads the seal of a hot copy of this boot.
    pub(super) fn read(folder: &Path, boot_id: &str) -> Result<Self> {
        let path = folder.join(SEAL_NAME);
        let json = envelope::read(WHAT, VERSION, &path, SEAL_LENGTH_MAX)?;
        let read: Result<Self, _> = serde_json::from_slice(&json);
        let seal = read
            .map_err(|e| Error::Corrupt(Report::new(format!("not a seal: {}", path.display())).because(e)))?;
        if seal.boot_id == boot_id {
            return Ok(seal);
        }
        Err(corrupt(format!("hot image is of another boot: {}", path.display())))
    }

    /// That every file is as it was sealed, and that there is none besides.
    pub(super) fn check(&self, folder: &Path, files: &Path) -> Result<()> {
        check_folder(&criu_dir(folder), &self.criu)?;
        check_folder(files, &self.files)
    }
}

impl SealedFile {
    pub(super) fn of(name: &str, found: &fs::Metadata) -> Self {
        Self {
            name: name.to_owned(),
            len: found.len(),
            inode: found.ino(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Creates the folders of a new hot copy: its own, CRIU's in it, and the one for captured files.
pub(super) fn create_folders(folder: &Path, files: &Path) -> Result<()> {
    folder.parent().map_or(Ok(()), create_dir)?;
    files.parent().map_or(Ok(()), create_dir)?;
    create_new_dir(folder)?;
    create_new_dir(&criu_dir(folder))?;
    create_new_dir(files)
}

/// A staging in folders that are about to be created; whatever happens from now on, they are removed again.
pub(super) fn staging(
    store: &Store,
    service: &ServiceName,
    id: &ImageId,
    (folder, files): (PathBuf, PathBuf),
    held: Use,
) -> Staging {
    Staging {
        store: store.clone(),
        service: service.clone(),
        id: id.clone(),
        folder,
        files,
        held: Some(held),
    }
}

/// Seals what was unpacked from a durable copy.
pub(super) fn seal_unpacked(folder: &Path, files: &Path, boot_id: &str, about: &About) -> Result<()> {
    let seal = Seal {
        boot_id: boot_id.to_owned(),
        about: about.clone(),
        criu: close_folder(&criu_dir(folder))?,
        files: close_folder(files)?,
    };
    write_seal(folder, &seal)
}

pub(super) fn criu_dir(folder: &Path) -> PathBuf {
    folder.join(CRIU)
}

fn write_seal(folder: &Path, seal: &Seal) -> Result<()> {
    let json = serde_json::to_vec(seal)
        .map_err(|e| Error::Internal(Report::new("cannot write a seal").because(e)))?;
    // Not synced: a hot image is worthless after a reboot.
    atomic_write_volatile(&folder.join(SEAL_NAME), &envelope::seal(WHAT, VERSION, &json), FILE_MODE)
}

/// Makes every file private (CRIU writes 0644) and remembers it.
fn close_folder(folder: &Path) -> Result<Vec<SealedFile>> {
    for (name, found) in entries(folder)? {
        if !found.is_file() || !is_plain_name(&name) {
            let text =
                format!("an image holds plain files only, but there is {name} in {}", folder.display());
            return Err(Error::Invalid(Report::new(text)));
        }
        if found.mode() & 0o7777 != FILE_MODE {
            let path = folder.join(&name);
            fs::set_permissions(&path, fs::Permissions::from_mode(FILE_MODE))
                .map_err(|e| failed("close", &path, e))?;
        }
    }
    // A second look: the change of the mode changed the times.
    sealed(folder)
}

fn check_folder(folder: &Path, expected: &[SealedFile]) -> Result<()> {
    let found = sealed(folder)?;
    if found == expected {
        return Ok(());
    }
    let differs = expected.iter().find(|file| !found.contains(file)).map(|file| &file.name);
    let differs = differs.or(found.iter().find(|file| !expected.contains(file)).map(|file| &file.name));
    let name = differs.map_or("its order", String::as_str);
    Err(corrupt(format!("hot image was changed after it was sealed: {name} in {}", folder.display())))
}

fn sealed(folder: &Path) -> Result<Vec<SealedFile>> {
    let entries = entries(folder)?;
    Ok(entries.iter().map(|(name, found)| SealedFile::of(name, found)).collect())
}

/// What is in a folder, by name; symbolic links are looked at, not through.
fn entries(folder: &Path) -> Result<Vec<(String, fs::Metadata)>> {
    let mut entries = Vec::new();
    for name in super::places::names_in(folder)? {
        let path = folder.join(&name);
        let found = fs::symlink_metadata(&path).map_err(|e| failed("look at", &path, e))?;
        entries.push((name, found));
    }
    Ok(entries)
}

fn corrupt(text: String) -> Error {
    Error::Corrupt(Report::new(text))
}
