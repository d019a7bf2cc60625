//! Removing: hot copies that a newer durable image replaces, images that retention gave up, leftovers of a dead supervisor.
//!
//! A removal is one rename (or the end of a seal) that makes the image vanish, then the deletion of what it was made of: a
//! crash in between leaves rubbish with a name that the next start knows, never half an image. What is in use stays.

use std::path::Path;

use policies::id::{ImageId, ServiceName};

use super::hot::Seal;
use super::places::{
    FETCHED, FILES, HOT, INCOMING, SEAL_NAME, SEED, STAGING, Spill, TRASH, ids_in, names_in,
};
use super::{Store, marks, space};
use crate::durable::{TEMPORARY_PREFIX, fail_point, remove_file, remove_tree, rename};
use crate::error::Result;

/// What became of images that were to be removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removed {
    /// Gone.
    pub removed: Vec<ImageId>,
    /// Still in use (being restored, committed or read): they stay for the next time.
    pub in_use: Vec<ImageId>,
    /// There was no such image.
    pub absent: Vec<ImageId>,
}

/// What a start found and cleaned up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// Commits and imports that did not come to their end.
    pub staging: usize,
    /// Removals that did not come to their end.
    pub trash: usize,
    /// Hot copies without a seal or of another boot.
    pub hot: usize,
    /// Captured files without a hot copy.
    pub files: usize,
    /// Marks without an image and half-written small files.
    pub marks: usize,
}

/// Removes one image with all its copies and marks. `false`: it is in use.
pub(super) fn remove(store: &Store, service: &ServiceName, id: &ImageId) -> Result<bool> {
    let Some(_removal) = store.uses().remove(id) else { return Ok(false) };
    let places = store.places();
    // First the hot copy: were it left alone, it would look like an image that was never committed.
    discard_hot(store, service, id)?;
    fail_point("remove.hot");
    let (image, trash) = (places.image(service, id), places.trash(service, id));
    if image.exists() {
        remove_tree(&trash)?;
        rename(&image, &trash)?;
        fail_point("remove.renamed");
    }
    marks::clear_all(places, service, id)?;
    fail_point("remove.marks");
    remove_tree(&trash)?;
    fail_point("remove.done");
    Ok(true)
}

impl Store {
    /// Removes hot images that never became durable here and are older than one that is: on a standby, what was handed over and then not
    /// needed. What is pinned or in use stays.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn forget_overtaken(&self, service: &ServiceName, by: &ImageId) -> Result<()> {
        let places = self.places();
        let mut overtaken = places.hot_images(service)?;
        overtaken.retain(|id| {
            id < by && !places.is_durable(service, id) && !marks::read(places, service, id).pinned
        });
        overtaken.iter().try_for_each(|id| remove(self, service, id).map(drop))
    }
}

/// Removes the hot copies that are durable and older than the newest `keep_hot`, and more if they take too much memory.
pub(super) fn drop_older_hot(store: &Store, service: &ServiceName) -> Result<()> {
    let (places, settings) = (store.places(), store.settings());
    let hot: Vec<ImageId> = places.hot_images(service)?.into_iter().rev().collect();
    let surplus = hot.iter().skip(settings.keep_hot);
    for id in surplus.filter(|id| places.is_durable(service, id)) {
        drop_hot(store, service, id)?;
    }
    drop_plain_on_disk(store, service)?;
    let Some(max) = settings.hot_max_size else { return Ok(()) };
    for id in places.hot_images(service)?.iter().filter(|id| places.is_durable(service, id)) {
        if space::hot_bytes(places)? <= max {
            break;
        }
        drop_hot(store, service, id)?;
    }
    Ok(())
}

/// With encryption: removes what lies on disk unencrypted from before it was configured, as soon as it is durable as well.
fn drop_plain_on_disk(store: &Store, service: &ServiceName) -> Result<()> {
    let places = store.places();
    if places.spill == Spill::ToDisk {
        return Ok(());
    }
    let mut plain = places.hot_images(service)?;
    plain.retain(|id| places.is_durable(service, id) && places.is_plain_on_disk(service, id));
    plain.iter().try_for_each(|id| drop_hot(store, service, id))
}

/// Removes the hot copy of a durable image, unless somebody uses it.
fn drop_hot(store: &Store, service: &ServiceName, id: &ImageId) -> Result<()> {
    match store.uses().remove(id) {
        Some(_removal) => discard_hot(store, service, id),
        None => Ok(()),
    }
}

/// Removes a hot copy wherever it lies; the seal first, since without it the rest is no image.
pub(super) fn discard_hot(store: &Store, service: &ServiceName, id: &ImageId) -> Result<()> {
    let places = store.places();
    for folder in places.hot_candidates(service, id) {
        if folder.exists() {
            remove_file(&folder.join(SEAL_NAME))?;
            fail_point("remove.seal");
            remove_tree(&folder)?;
        }
    }
    places.files_candidates(service, id).iter().try_for_each(|folder| remove_tree(folder))
}

/// Removes what a dead supervisor left. Nobody uses the store yet.
pub(super) fn sweep(store: &Store) -> Result<Swept> {
    let mut swept = Swept::default();
    for service in store.places().services()? {
        sweep_service(store, &service, &mut swept)?;
    }
    Ok(swept)
}

fn sweep_service(store: &Store, service: &ServiceName, swept: &mut Swept) -> Result<()> {
    let places = store.places();
    let folder = places.service(service);
    swept.staging += remove_all(&folder, STAGING)?;
    swept.trash += remove_all(&folder, TRASH)?;
    for way in [INCOMING, FETCHED] {
        for id in ids_in(&folder, way)?.iter().filter(|id| places.image(service, id).exists()) {
            remove_tree(&places.incoming(service, id, way))?;
            swept.staging += 1;
        }
    }
    let mut hot = ids_in(&folder, HOT)?;
    if let Some(memory) = &places.memory {
        swept.staging += remove_all(&memory.join(service.as_str()), SEED)?;
        hot.extend(ids_in(&memory.join(service.as_str()), "")?);
    }
    for id in hot {
        let usable =
            places.hot(service, &id).is_some_and(|found| Seal::read(&found, store.boot_id()).is_ok());
        if !usable {
            discard_hot(store, service, &id)?;
            swept.hot += 1;
        }
    }
    let mut files = ids_in(&folder, FILES)?;
    if let Some(memory) = &places.memory {
        files.extend(ids_in(&memory.join(service.as_str()), FILES)?);
    }
    for id in files.iter().filter(|id| places.hot(service, id).is_none()) {
        discard_hot(store, service, id)?;
        swept.files += 1;
    }
    drop_plain_on_disk(store, service)?;
    for id in ids_in(&folder, "")? {
        // A key that was about to be replaced.
        swept.marks += remove_half_written(&places.image(service, &id))?;
    }
    swept.marks += remove_half_written(&places.marks(service))?;
    let exists = |id: &ImageId| places.image(service, id).exists() || places.hot(service, id).is_some();
    swept.marks += marks::sweep(places, service, exists)?;
    Ok(())
}

fn remove_all(folder: &Path, prefix: &str) -> Result<usize> {
    let names = names_in(folder)?;
    let leftovers: Vec<_> = names.iter().filter(|name| name.starts_with(prefix)).collect();
    leftovers.iter().try_for_each(|name| remove_tree(&folder.join(name)))?;
    Ok(leftovers.len())
}

fn remove_half_written(folder: &Path) -> Result<usize> {
    let names = names_in(folder)?;
    let leftovers: Vec<_> = names.iter().filter(|name| name.starts_with(TEMPORARY_PREFIX)).collect();
    leftovers.iter().try_for_each(|name| remove_file(&folder.join(name)))?;
    Ok(leftovers.len())
}
