//! The store of images: where they lie, when they exist, how they come back.
//!
//! ```text
//! stage -> (CRIU dumps) -> seal -> hot -> commit -> durable -> open_for_restore -> hot again
//!             |                     |        |                      |
//!         dropped: gone      reboot: gone    crash: still hot       damaged: marked, never offered again
//! ```
//!
//! An image is durable if and only if its manifest exists; a hot one exists if and only if its seal does. Nothing is edited
//! in place: judgements are marks beside the image. With a key, durable images are encrypted, and nothing unencrypted lies on
//! disk. The format is described byte by byte in `docs/image-format.md`.
//!
//! It refuses to decide: which image to remove or to restore is said by `policies`. All of it is synchronous and may take as long as
//! a disk takes, so callers keep it off the runtime's threads. One process uses a store at a time.

mod archive;
mod block;
mod cipher;
mod commit;
mod digest;
pub(crate) mod envelope;
mod handover;
mod head;
mod hot;
mod incoming;
mod keys;
mod list;
mod manifest;
mod marks;
mod outgoing;
mod places;
mod prune;
mod read;
mod rekey;
mod restore;
mod segment;
mod space;
mod uses;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use policies::id::{ImageId, ServiceName};
use policies::image::ImageVerdict;

pub use block::Codec;
pub use handover::{Base, Given, Known, Seed};
pub use head::{HEAD_LENGTH_MAX, Head};
pub use hot::{Hot, Staging};
pub use incoming::{Incoming, PartWriter, Way};
pub use keys::{KeySource, Keyring};
pub use list::ImageRecord;
pub use manifest::{About, FileEntry, Manifest, RuntimeFacts, SegmentEntry, SegmentKind, Sizes};
pub use outgoing::{Outgoing, Part};
pub use prune::{Removed, Swept};
pub use rekey::{Encryption, Rekeyed};
pub use restore::{Prepared, Source};

use crate::compat;
use crate::durable::{create_dir_all, fail_point, failed};
use crate::error::{Error, Report, Result};
use manifest::Opened;
use marks::Mark;
use places::{Places, Spill};
use space::Place;
use uses::Uses;

/// Between a member's name and a file's in the image of a group. Names of services do not have it.
pub(crate) const MEMBER_MARK: char = '~';

/// How a store is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The folder on disk.
    pub path: PathBuf,
    /// The folder in memory (on tmpfs) for hot images; `None` keeps them on disk, uncompressed and unsynced.
    pub hot: Option<PathBuf>,
    /// Most bytes of hot images in memory; what is over goes to disk.
    pub hot_max_size: Option<u64>,
    /// Hot copies to keep of a service once they are durable, newest first.
    pub keep_hot: usize,
    /// How segments are compressed.
    pub codec: Codec,
    /// What durable images are encrypted under. With a key nothing of an image lies on disk unencrypted: `hot` must be on tmpfs then,
    /// and what does not fit there is not taken.
    pub keys: Keyring,
    /// Bytes that stay free on the store's disk.
    pub min_free: u64,
    /// Most bytes of all durable images.
    pub max_total_size: Option<u64>,
}

/// What a dump will need, roughly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StageNeeds {
    /// Bytes that CRIU will write: about the memory that the service has touched.
    pub memory: u64,
    /// Bytes of captured files.
    pub files: u64,
}

/// What was read and found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Files.
    pub files: usize,
    /// Their bytes, and those of the segments.
    pub sizes: Sizes,
}

/// The images of all services. A clone is the same store.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    settings: Settings,
    places: Places,
    boot_id: String,
    uses: Arc<Uses>,
    /// Of each service one image is fetched at a time.
    fetching: Mutex<HashMap<ServiceName, Arc<tokio::sync::Mutex<()>>>>,
}

impl Store {
    /// Waits until nobody else fetches an image of this service.
    pub async fn fetch_alone(&self, service: &ServiceName) -> tokio::sync::OwnedMutexGuard<()> {
        let own = {
            let mut fetching = self.inner.fetching.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(fetching.entry(service.clone()).or_default())
        };
        own.lock_owned().await
    }

    /// Opens a store, creating its folders, and removes what a dead supervisor left half-done.
    ///
    /// # Errors
    /// `Refused` when the folders cannot be created or written to; `Unavailable` when the disk is full.
    pub fn open(settings: Settings) -> Result<(Self, Swept)> {
        let boot_id = compat::boot_id()?;
        for folder in std::iter::once(&settings.path).chain(&settings.hot) {
            create_dir_all(folder)?;
            is_writable(folder)?;
        }
        let spill = spill(&settings)?;
        let places = Places { store: settings.path.clone(), memory: settings.hot.clone(), spill };
        let inner =
            Inner { settings, places, boot_id, uses: Arc::new(Uses::default()), fetching: Mutex::default() };
        let store = Self { inner: Arc::new(inner) };
        let swept = prune::sweep(&store)?;
        rekey::adopt(&store)?;
        Ok((store, swept))
    }

    /// A place for a new image of `service`: in memory if it fits, else on disk.
    ///
    /// # Errors
    /// `Unavailable` when there is room nowhere; `Invalid` when the id is taken.
    pub fn stage(&self, service: &ServiceName, id: &ImageId, needs: StageNeeds) -> Result<Staging> {
        let (places, settings) = (self.places(), self.settings());
        let in_memory = match places.spill {
            Spill::ToDisk => needs.memory,
            Spill::Never => needs.memory.saturating_add(needs.files),
        };
        let place = space::place_for(places, in_memory, settings.hot_max_size, settings.min_free)?;
        if needs.files > 0 && places.spill == Spill::ToDisk {
            space::disk_has(&places.store, needs.files, settings.min_free)?;
        }
        self.stage_at(service, id, place)
    }

    /// The same for what comes from elsewhere and has no size yet: on disk, or in memory where nothing unencrypted may lie there. Whoever
    /// fills it asks [`Store::has_room`] now and then.
    ///
    /// # Errors
    /// As [`Store::stage`].
    pub fn stage_unsized(&self, service: &ServiceName, id: &ImageId) -> Result<Staging> {
        let place = self.room_for_unsized()?;
        self.stage_at(service, id, place)
    }

    /// Whether there is room left where that lies.
    ///
    /// # Errors
    /// `Unavailable` when it has not.
    pub fn has_room(&self) -> Result<()> {
        self.room_for_unsized().map(drop)
    }

    fn room_for_unsized(&self) -> Result<Place> {
        let (places, settings) = (self.places(), self.settings());
        match places.spill {
            Spill::ToDisk => space::disk_has(&places.store, 0, settings.min_free).map(|()| Place::Disk),
            Spill::Never => space::place_for(places, 0, settings.hot_max_size, settings.min_free),
        }
    }

    fn stage_at(&self, service: &ServiceName, id: &ImageId, place: Place) -> Result<Staging> {
        let places = self.places();
        let held = self.uses().hold(id);
        let taken = |folder: &PathBuf| folder.exists();
        let candidates = places.hot_candidates(service, id);
        if places.owner(id)?.is_some() || candidates.iter().any(taken) || places.files(service, id).exists() {
            return Err(Error::Invalid(Report::new(format!("image exists already: {id}"))));
        }
        let (folder, files) = (restore::hot_folder(places, service, id, place), places.files(service, id));
        let staging = hot::staging(self, service, id, (folder.clone(), files.clone()), held);
        hot::create_folders(&folder, &files)?;
        fail_point("image.stage");
        Ok(staging)
    }

    /// Makes a hot image durable and drops the older hot copies that it replaces. One that is durable already is left as it is.
    ///
    /// # Errors
    /// `Unavailable` when the disk is full or `cancel` was set, `Corrupt` when the hot copy was touched. The hot copy stays, nothing else
    /// is left.
    pub fn commit(&self, id: &ImageId, cancel: &AtomicBool) -> Result<Manifest> {
        let service = self.owner(id)?;
        let held = self.uses().hold(id);
        if self.places().is_durable(&service, id) {
            return self.opened(&service, id).map(|opened| opened.manifest);
        }
        let hot = self.places().hot(&service, id).ok_or_else(|| absent(id))?;
        let seal =
            restore::whole_hot(self, &service, id).map_err(|error| self.quarantine(&service, id, error))?;
        let seal = seal.ok_or_else(|| absent(id))?;
        self.room_for(&service, seal.raw_len())?;
        let manifest = commit::commit(self, &service, id, (&hot, &seal), cancel)?;
        drop(held);
        prune::drop_older_hot(self, &service)?;
        Ok(manifest)
    }

    /// Makes an image ready for CRIU: the hot copy without reading it, else the durable one, every byte checked.
    ///
    /// # Errors
    /// `Corrupt` when no copy of it is whole: it is then marked as damaged. `Unavailable` when there is no room to unpack it.
    pub fn open_for_restore(&self, id: &ImageId) -> Result<Prepared> {
        restore::prepare(self, self.owner(id)?, id)
    }

    /// Reads all of a durable image and compares every checksum. One that is not whole is marked as damaged.
    ///
    /// # Errors
    /// `Corrupt` says what isn't as it was written; `Invalid` when there is no such durable image; `Refused` when it is encrypted under
    /// a key that is not ours.
    pub fn verify(&self, id: &ImageId) -> Result<Verified> {
        let service = self.owner(id)?;
        let _held = self.uses().hold(id);
        self.read_all(&service, id)
            .map(|Opened { manifest, .. }| Verified { files: manifest.files.len(), sizes: manifest.sizes })
            .map_err(|error| self.quarantine(&service, id, error))
    }

    /// Judges an image.
    ///
    /// # Errors
    /// `Invalid` when there is no such image; otherwise by what the disk says.
    pub fn set_verdict(&self, id: &ImageId, verdict: ImageVerdict) -> Result<()> {
        self.mark(id, Mark::Verdict, verdict.name())
    }

    /// Keeps an image whatever retention says.
    ///
    /// # Errors
    /// As [`Store::set_verdict`].
    pub fn pin(&self, id: &ImageId) -> Result<()> {
        self.mark(id, Mark::Pinned, "")
    }

    /// Lets retention decide again.
    ///
    /// # Errors
    /// As [`Store::set_verdict`].
    pub fn unpin(&self, id: &ImageId) -> Result<()> {
        marks::clear(self.places(), &self.owner(id)?, id, Mark::Pinned)
    }

    /// Never offers this image again; it is kept for inspection until it is removed.
    ///
    /// # Errors
    /// As [`Store::set_verdict`].
    pub fn mark_damaged(&self, id: &ImageId, why: &str) -> Result<()> {
        self.mark(id, Mark::Damaged, why)
    }

    /// Removes images; those in use stay for the next time.
    ///
    /// # Errors
    /// By what the disk says; some may be removed by then.
    pub fn remove(&self, ids: &[ImageId]) -> Result<Removed> {
        let mut outcome = Removed::default();
        for id in ids {
            let list = match self.places().owner(id)? {
                None => &mut outcome.absent,
                Some(service) if prune::remove(self, &service, id)? => &mut outcome.removed,
                Some(_) => &mut outcome.in_use,
            };
            list.push(id.clone());
        }
        Ok(outcome)
    }

    /// Verifies an image and writes it as one archive, encrypted if it is; returns the archive's length in bytes.
    ///
    /// # Errors
    /// As [`Store::verify`]; `Unavailable` when `to` takes no more.
    pub fn export(&self, id: &ImageId, to: &mut dyn Write) -> Result<u64> {
        let service = self.owner(id)?;
        let _held = self.uses().hold(id);
        let opened = self.read_all(&service, id).map_err(|error| self.quarantine(&service, id, error))?;
        let at_taking = opened.manifest.about.verdict;
        let verdict = marks::read(self.places(), &service, id).verdict.unwrap_or(at_taking);
        archive::export(&self.places().image(&service, id), &opened, verdict, to)
    }

    /// Reads an archive; the image exists when all of it was found whole.
    ///
    /// # Errors
    /// `Corrupt` for a damaged archive, `Invalid` for none or for an image that exists, `Unavailable` without room.
    pub fn import(&self, from: &mut dyn Read) -> Result<Manifest> {
        archive::import(self, from, &|_| Ok(()))
    }

    /// The same, if it is an image of this service.
    ///
    /// # Errors
    /// As [`Store::import`]; `Invalid` for an image of another service.
    pub fn import_for(&self, service: &ServiceName, from: &mut dyn Read) -> Result<Manifest> {
        archive::import(self, from, &|found| {
            if found == service {
                return Ok(());
            }
            let text = format!("the archive holds an image of service {found}, not of {service}");
            Err(Error::Invalid(Report::new(text).remedy(format!("import it for {found}"))))
        })
    }

    /// The folder with the captured files of the newest hot image of a service, and what keeps it there: a capture that starts from
    /// it need not copy what has not changed. `None` if there is none.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn newest_hot(&self, service: &ServiceName) -> Result<Option<Prepared>> {
        let newest = self.places().hot_images(service)?.into_iter().next_back();
        Ok(newest.and_then(|id| restore::hot_only(self, service.clone(), &id)))
    }

    /// Bytes free on the store's disk.
    ///
    /// # Errors
    /// By what the kernel says.
    pub fn free_space(&self) -> Result<u64> {
        crate::durable::free_space(&self.places().store)
    }

    /// How it is kept.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    fn opened(&self, service: &ServiceName, id: &ImageId) -> Result<Opened> {
        Opened::read(&self.places().image(service, id), service, id, &self.settings().keys)
    }

    fn read_all(&self, service: &ServiceName, id: &ImageId) -> Result<Opened> {
        let folder = self.places().image(service, id);
        if !folder.exists() {
            return Err(Error::Invalid(Report::new(format!("image is not durable yet: {id}"))));
        }
        let opened = self.opened(service, id)?;
        read::read_image(&folder, &opened, read::Target::Nowhere, &AtomicBool::new(false))?;
        Ok(opened)
    }

    /// That the disk has room for an image and the store is allowed to have it.
    fn room_for(&self, service: &ServiceName, raw_len: u64) -> Result<()> {
        let estimate = list::estimate_stored(self, service, raw_len)?;
        space::disk_has(&self.places().store, estimate, self.settings().min_free)?;
        let Some(max) = self.settings().max_total_size else { return Ok(()) };
        let there = space::durable_bytes(self.places())?;
        if there.saturating_add(estimate) <= max {
            return Ok(());
        }
        let text = format!("store is full: {there} bytes of images, about {estimate} to come, {max} allowed");
        Err(Error::Unavailable(Report::new(text).remedy("raise max_total_size, or lower max_checkpoints")))
    }

    fn mark(&self, id: &ImageId, mark: Mark, text: &str) -> Result<()> {
        let service = self.owner(id)?;
        let _held = self.uses().hold(id);
        marks::set(self.places(), &service, id, mark, text)
    }

    /// Remembers damage, and gives the error back.
    fn quarantine(&self, service: &ServiceName, id: &ImageId, error: Error) -> Error {
        if let Error::Corrupt(report) = &error {
            // If even the mark cannot be written, the next look finds the same damage.
            let _ = marks::set(self.places(), service, id, Mark::Damaged, &report.to_string());
        }
        error
    }

    /// That an image is one of this service's, whatever whoever names it says.
    ///
    /// # Errors
    /// `Invalid` when it isn't.
    pub fn is_of(&self, service: &ServiceName, id: &ImageId) -> Result<()> {
        if self.owner(id)? == *service { Ok(()) } else { Err(absent(id)) }
    }

    fn owner(&self, id: &ImageId) -> Result<ServiceName> {
        self.places().owner(id)?.ok_or_else(|| absent(id))
    }

    fn places(&self) -> &Places {
        &self.inner.places
    }

    fn uses(&self) -> &Arc<Uses> {
        &self.inner.uses
    }

    fn boot_id(&self) -> &str {
        &self.inner.boot_id
    }
}

/// Where unencrypted bytes may go.
fn spill(settings: &Settings) -> Result<Spill> {
    if !settings.keys.encrypts() {
        return Ok(Spill::ToDisk);
    }
    match &settings.hot {
        Some(folder) if space::is_in_memory(folder)? => Ok(Spill::Never),
        _ => {
            let report = Report::new("encryption of images needs a folder on tmpfs for hot ones");
            Err(Error::Refused(report.remedy("mount a tmpfs at /dev/shm, and set store.hot = \"memory\"")))
        }
    }
}

/// A disk that is read-only is said at once, not by every checkpoint. One that is full is no reason not to begin.
fn is_writable(folder: &Path) -> Result<()> {
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK)
        .map_err(|errno| failed("write to", folder, errno.into()))
}

fn absent(id: &ImageId) -> Error {
    Error::Invalid(
        Report::new(format!("no such image: {id}")).remedy("`supervisor images` lists those there are"),
    )
}

#[cfg(test)]
mod tests;
