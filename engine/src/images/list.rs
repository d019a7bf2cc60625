//! What images there are, cheaply: manifests, seals and marks are read, data never.
//!
//! An image whose manifest can't be read is listed as damaged, not left out: somebody has to see it, and retention to remove it.

use std::collections::BTreeSet;
use std::fs;

use policies::id::{ImageId, ServiceName};
use policies::image::ImageFacts;
use policies::image::ImageVerdict;
use policies::time::WallTime;

use super::hot::Seal;
use super::keys::Wrapped;
use super::manifest::{About, Glance, Opened, Sizes, Stored};
use super::places::bytes_in;
use super::{Store, marks};
use crate::error::{Error, Result};

/// One image as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageRecord {
    /// Whose image it is.
    pub service: ServiceName,
    /// What policies decide by.
    pub facts: ImageFacts,
    /// When, where and of what it was taken; `None` if neither manifest nor seal can be read.
    pub about: Option<About>,
    /// How big it is; nothing is stored of an image that is only hot.
    pub sizes: Sizes,
    /// Why it is damaged, if it is.
    pub damage: Option<String>,
    /// The id of the key that it is encrypted under on disk, if it is.
    pub key: Option<String>,
}

/// What a manifest says, as far as it can be read.
struct Known {
    glance: Glance,
    key: Option<String>,
    /// Why the rest cannot be read here.
    locked: Option<String>,
}

impl Store {
    /// The images of one service, newest first. Whether they suit this host is for [`crate::compat`] to say.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn list(&self, service: &ServiceName) -> Result<Vec<ImageRecord>> {
        let ids = self.places().images(service)?;
        let mut records = Vec::with_capacity(ids.len());
        for id in ids {
            records.push(record(self, service, id)?);
        }
        records.sort_by(|a, b| (b.facts.taken_at, &b.facts.id).cmp(&(a.facts.taken_at, &a.facts.id)));
        Ok(records)
    }

    /// The ids of one service's images, whatever they are like.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn ids(&self, service: &ServiceName) -> Result<BTreeSet<ImageId>> {
        self.places().images(service)
    }

    /// Every service that has anything in the store.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn services(&self) -> Result<Vec<ServiceName>> {
        Ok(self.places().services()?.into_iter().collect())
    }

    /// Images of one service that are hot and not durable, oldest first: they wait to be committed.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn uncommitted(&self, service: &ServiceName) -> Result<Vec<ImageId>> {
        let places = self.places();
        let waiting = |id: &ImageId| {
            !places.is_durable(service, id) && marks::read(places, service, id).damaged.is_none()
        };
        Ok(places.hot_images(service)?.into_iter().filter(waiting).collect())
    }
}

/// About how many bytes an image will take on disk: by the newest image of the service, else by experience.
pub(super) fn estimate_stored(store: &Store, service: &ServiceName, raw_len: u64) -> Result<u64> {
    let newest = store.places().images(service)?.into_iter().rev();
    let known = newest.filter_map(|id| Stored::read(&store.places().image(service, &id), service, &id).ok());
    let sizes = known.map(|stored| stored.glance().sizes).find(|sizes| sizes.raw > 0);
    let Sizes { raw, stored } = sizes.unwrap_or(Sizes { raw: 2, stored: 1 });
    let scaled = u128::from(raw_len) * u128::from(stored) / u128::from(raw);
    Ok(u64::try_from(scaled).unwrap_or(u64::MAX))
}

fn record(store: &Store, service: &ServiceName, id: ImageId) -> Result<ImageRecord> {
    let places = store.places();
    let folder = places.image(service, &id);
    let in_store = folder.exists();
    let manifest = in_store.then(|| known(store, service, &id));
    let hot = places.hot(service, &id).map(|found| Seal::read(&found, store.boot_id()));
    let marks = marks::read(places, service, &id);
    let unreadable = match (&manifest, &hot) {
        (Some(Err(error)), _) | (None, Some(Err(error))) => Some(error.to_string()),
        _ => None,
    };
    let (known, locked, key) = match manifest {
        Some(Ok(Known { glance, key, locked })) => (Some(glance), locked, key),
        Some(Err(_)) | None => (None, None, None),
    };
    let (about, sizes) = match (known, &hot) {
        // A hot copy needs no key, and says all.
        (Some(glance), Some(Ok(seal))) if locked.is_some() => (Some(seal.about.clone()), glance.sizes),
        (Some(glance), _) => (Some(glance.about), glance.sizes),
        (_, Some(Ok(seal))) => (Some(seal.about.clone()), Sizes { raw: seal.raw_len(), stored: 0 }),
        _ => (None, Sizes { raw: 0, stored: bytes_in(&folder)? }),
    };
    let hot = matches!(hot, Some(Ok(_)));
    let locked = locked.filter(|_| !hot);
    let taken_at = about.as_ref().map_or_else(|| changed_at(&folder), |about| about.taken_at);
    let at_taking = about.as_ref().map_or(ImageVerdict::Suspect, |about| about.verdict);
    let damage = marks.damaged.or(unreadable);
    let facts = ImageFacts {
        taken_at,
        verdict: marks.verdict.unwrap_or(at_taking),
        hot,
        durable: in_store,
        pinned: marks.pinned,
        damaged: damage.is_some(),
        locked: locked.is_some(),
        incompatible: locked,
        size: if in_store { sizes.stored } else { sizes.raw },
        parent: about.as_ref().and_then(|about| about.parent.clone()),
        id,
    };
    Ok(ImageRecord { service: service.clone(), facts, about, sizes, damage, key })
}

/// Reads a manifest, and opens it if that can be done here.
fn known(store: &Store, service: &ServiceName, id: &ImageId) -> Result<Known> {
    let (folder, keys) = (store.places().image(service, id), &store.settings().keys);
    let stored = Stored::read(&folder, service, id)?;
    let glance = stored.glance();
    if !stored.is_sealed() {
        return Ok(Known { glance, key: None, locked: None });
    }
    let wrapped = Wrapped::read(&folder, service, id)?;
    let key = Some(wrapped.key.clone());
    match stored.open(Some(&wrapped), keys) {
        Ok(Opened { manifest, .. }) => {
            let glance = Glance { about: manifest.about, sizes: manifest.sizes };
            Ok(Known { glance, key, locked: None })
        }
        Err(error @ Error::Corrupt(_)) => Err(error),
        Err(why) => Ok(Known { glance, key, locked: Some(why.to_string()) }),
    }
}

/// When a folder was last changed: the best that is known of an image without a readable manifest.
fn changed_at(folder: &std::path::Path) -> WallTime {
    let changed = fs::metadata(folder).and_then(|found| found.modified()).ok();
    let since = changed.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).unwrap_or_default();
    WallTime::from_unix_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
