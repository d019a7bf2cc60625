//! Making an image ready for CRIU: the hot copy as it is, else the durable one, checked and unpacked.
//!
//! The hot copy is used without reading its data if its seal still agrees; otherwise the durable copy of the same image has to
//! serve. An image of which nothing serves is marked as damaged, so that it is never offered again. Refused are images that bear
//! that mark already.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use policies::id::{ImageId, ServiceName};

use super::hot::{self, Seal, criu_dir};
use super::manifest::{About, Opened, SegmentKind};
use super::places::{Places, Spill};
use super::prune::discard_hot;
use super::read::{Target, read_image};
use super::space::{Place, disk_has, place_for};
use super::uses::Use;
use super::{Store, marks};
use crate::durable::fail_point;
use crate::error::{Error, Report, Result};

/// An image that CRIU may read now; it stays as long as this lives.
#[derive(Debug)]
pub struct Prepared {
    service: ServiceName,
    id: ImageId,
    about: About,
    criu: PathBuf,
    files: PathBuf,
    source: Source,
    _held: Use,
}

/// Where the files came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// They were there, as the dump wrote them.
    Hot,
    /// They were unpacked from the disk and checked.
    Unpacked,
}

impl Prepared {
    /// Whose image it is.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its id.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// When, where and of what it was taken.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// CRIU's images folder. Nothing may be written into it: the work folder (logs) has to be another one.
    pub fn criu_dir(&self) -> &Path {
        &self.criu
    }

    /// The folder with the captured files.
    pub fn files_dir(&self) -> &Path {
        &self.files
    }

    /// Where the files came from.
    pub fn source(&self) -> Source {
        self.source
    }
}

/// Makes the image ready. The caller has found out whose it is.
pub(super) fn prepare(store: &Store, service: ServiceName, id: &ImageId) -> Result<Prepared> {
    let held = store.uses().hold(id);
    if let Some(why) = marks::read(store.places(), &service, id).damaged {
        return Err(Error::Corrupt(Report::new(format!("image {id} is damaged: {why}"))));
    }
    if let Ok(Some(seal)) = whole_hot(store, &service, id) {
        return Ok(prepared(store, service, id, seal.about, Source::Hot, held));
    }
    let unpacking = store.uses().unpack(id);
    // Somebody else may have unpacked it while we waited.
    let about = match whole_hot(store, &service, id) {
        Ok(Some(seal)) => Ok(seal.about),
        Ok(None) => unpack(store, &service, id),
        Err(why) => replace_hot(store, &service, id, why),
    };
    drop(unpacking);
    let about = about.inspect_err(|error| {
        if let Error::Corrupt(report) = error {
            // If even the mark cannot be written, the next restore finds the same damage.
            let _ = marks::set(store.places(), &service, id, marks::Mark::Damaged, &report.to_string());
        }
    })?;
    Ok(prepared(store, service, id, about, Source::Unpacked, held))
}

/// The hot copy if it is whole, and nothing else.
pub(super) fn hot_only(store: &Store, service: ServiceName, id: &ImageId) -> Option<Prepared> {
    let held = store.uses().hold(id);
    let seal = whole_hot(store, &service, id).ok().flatten();
    seal.map(|seal| prepared(store, service, id, seal.about, Source::Hot, held))
}

fn prepared(
    store: &Store,
    service: ServiceName,
    id: &ImageId,
    about: About,
    source: Source,
    held: Use,
) -> Prepared {
    let places = store.places();
    let folder = places.hot(&service, id).unwrap_or_else(|| places.hot_on_disk(&service, id));
    let files = places.files(&service, id);
    Prepared { service, id: id.clone(), about, criu: criu_dir(&folder), files, source, _held: held }
}

/// The seal of the hot copy if all of it is as it was; `None` if there is no hot copy.
pub(super) fn whole_hot(store: &Store, service: &ServiceName, id: &ImageId) -> Result<Option<Seal>> {
    let Some(folder) = store.places().hot(service, id) else { return Ok(None) };
    let seal = Seal::read(&folder, store.boot_id())?;
    seal.check(&folder, &store.places().files(service, id))?;
    Ok(Some(seal))
}

/// The hot copy is no good: the durable one has to serve, if there is one.
fn replace_hot(store: &Store, service: &ServiceName, id: &ImageId, why: Error) -> Result<About> {
    if !store.places().is_durable(service, id) {
        // Kept for inspection, under the mark that the caller sets.
        return Err(why);
    }
    tracing::warn!(%service, image = %id, error = %why, "hot image is not as it was; unpacking the durable one");
    unpack(store, service, id)
}

fn unpack(store: &Store, service: &ServiceName, id: &ImageId) -> Result<About> {
    let folder = store.places().image(service, id);
    let opened = Opened::read(&folder, service, id, &store.settings().keys)?;
    let places = store.places();
    let (all, files) = (|_| true, |kind| kind == SegmentKind::Files);
    let in_memory = match places.spill {
        Spill::ToDisk => opened.manifest.raw_of(|kind| kind != SegmentKind::Files),
        Spill::Never => opened.manifest.raw_of(all),
    };
    // Restoring goes before keeping some space free: a service is down.
    let place = place_for(places, in_memory, store.settings().hot_max_size, 0)?;
    if places.spill == Spill::ToDisk {
        disk_has(&places.store, opened.manifest.raw_of(files), 0)?;
    }
    let unpacked = unpack_into(store, &folder, &opened, place);
    let may_spill = places.spill == Spill::ToDisk;
    match (unpacked, place) {
        (Err(Error::Unavailable(why)), Place::Memory)
            if may_spill && disk_has(&places.store, in_memory, 0).is_ok() =>
        {
            tracing::warn!(%service, image = %id, error = %why, "no room in memory; unpacking to disk");
            unpack_into(store, &folder, &opened, Place::Disk)?;
        }
        (outcome, _) => outcome?,
    }
    Ok(opened.manifest.about)
}

fn unpack_into(store: &Store, folder: &Path, opened: &Opened, place: Place) -> Result<()> {
    let manifest = &opened.manifest;
    let (places, service, id) = (store.places(), &manifest.service, &manifest.id);
    // Whatever is there without a seal, or with one that doesn't agree.
    discard_hot(store, service, id)?;
    let (hot, files) = (hot_folder(places, service, id, place), places.files(service, id));
    hot::create_folders(&hot, &files)?;
    fail_point("image.unpack");
    let (criu, never) = (criu_dir(&hot), AtomicBool::new(false));
    let unpacked = read_image(folder, opened, Target::Folders { criu: &criu, files: &files }, &never)
        .and_then(|()| hot::seal_unpacked(&hot, &files, store.boot_id(), &manifest.about));
    if unpacked.is_err() {
        // What cannot be removed now is swept at the next start; it is no image without a seal.
        let _ = discard_hot(store, service, id);
    }
    fail_point("image.unpacked");
    unpacked
}

/// Where a new hot copy goes.
pub(super) fn hot_folder(places: &Places, service: &ServiceName, id: &ImageId, place: Place) -> PathBuf {
    let memory = match place {
        Place::Memory => places.hot_in_memory(service, id),
        Place::Disk => None,
    };
    memory.unwrap_or_else(|| places.hot_on_disk(service, id))
}

/// A folder of an image without a manifest, or one that can't be read: the image is lost.
pub(super) fn absent_is_corrupt(error: Error) -> Error {
    match error {
        Error::Invalid(report) | Error::Refused(report) => Error::Corrupt(report),
        other => other,
    }
}
