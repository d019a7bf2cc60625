//! Rotation of keys: data keys are wrapped under the current key, image by image; and what is encrypted under what.
//!
//! Each `key` file is replaced in one step, so that an image opens with the former key or with the new one at any time, and a rotation
//! that was cut short is simply done again. The former key stays named until all are done. It refuses to encrypt what isn't.

use std::path::Path;

use policies::id::{ImageId, ServiceName};

use super::Store;
use super::keys::{Keyring, Wrapped};
use super::manifest::Stored;
use super::places::{Places, Spill, ids_in};
use crate::durable::fail_point;
use crate::error::{Error, Report, Result};

/// What became of the images in a rotation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rekeyed {
    /// The id of the key that they are under now.
    pub key: String,
    /// Wrapped anew.
    pub done: Vec<ImageId>,
    /// Under the current key already.
    pub already: usize,
    /// Not encrypted.
    pub plain: usize,
    /// Not done, and why.
    pub left: Vec<(ImageId, String)>,
}

/// How the durable images of a store are encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Encryption {
    /// The id of the key that new ones get; `None`: they are not encrypted.
    pub key: Option<String>,
    /// Under the current key.
    pub current: usize,
    /// Under a former key that is named.
    pub former: usize,
    /// Not encrypted.
    pub plain: usize,
    /// Under a key that is not ours, and why they cannot be read.
    pub locked: Vec<(ImageId, String)>,
}

impl Store {
    /// Wraps the data key of every durable image under the current key. May be cut short and done again.
    ///
    /// # Errors
    /// `Refused` without a current key; otherwise when the folders cannot be read.
    pub fn rekey(&self) -> Result<Rekeyed> {
        let key = self.settings().keys.current_id()?.ok_or_else(|| {
            let report = Report::new("there is no key to wrap data keys under");
            Error::Refused(report.remedy("set store.encryption_key_file or store.encryption_passphrase_file"))
        })?;
        let mut outcome = Rekeyed { key, ..Rekeyed::default() };
        for (service, id) in durable(self.places())? {
            let _held = self.uses().hold(&id);
            match self.rekey_one(&service, &id, &outcome.key) {
                // Removed since the list was made.
                _ if !self.places().is_durable(&service, &id) => {}
                Ok(Some(true)) => outcome.done.push(id),
                Ok(Some(false)) => outcome.already += 1,
                Ok(None) => outcome.plain += 1,
                Err(error) => outcome.left.push((id, error.to_string())),
            }
        }
        Ok(outcome)
    }

    /// How the durable images are encrypted; damaged ones are left out.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn encryption(&self) -> Result<Encryption> {
        look(self.places(), &self.settings().keys)
    }

    /// Whether its data key was wrapped anew; `None` if it has none.
    fn rekey_one(&self, service: &ServiceName, id: &ImageId, current: &str) -> Result<Option<bool>> {
        let (folder, keys) = (self.places().image(service, id), &self.settings().keys);
        if !Stored::read(&folder, service, id)?.is_sealed() {
            return Ok(None);
        }
        let wrapped = Wrapped::read(&folder, service, id)?;
        let data_key = wrapped.open(keys)?;
        if wrapped.key == current {
            return Ok(Some(false));
        }
        let anew = Wrapped::new(keys, service, id, &data_key)?;
        fail_point("rekey.before");
        anew.map_or(Ok(()), |anew| anew.write(&folder))?;
        fail_point("rekey.after");
        Ok(Some(true))
    }
}

impl Encryption {
    /// Of a store that somebody else may have open: looked at, nothing is changed.
    ///
    /// # Errors
    /// When the folders cannot be read.
    pub fn of(store: &Path, keys: &Keyring) -> Result<Self> {
        look(&Places { store: store.to_owned(), memory: None, spill: Spill::ToDisk }, keys)
    }
}

fn look(places: &Places, keys: &Keyring) -> Result<Encryption> {
    let mut found = Encryption { key: keys.current_id()?, ..Encryption::default() };
    for (service, id) in durable(places)? {
        let folder = places.image(&service, &id);
        let Ok(stored) = Stored::read(&folder, &service, &id) else { continue };
        if !stored.is_sealed() {
            found.plain += 1;
            continue;
        }
        let Ok(wrapped) = Wrapped::read(&folder, &service, &id) else { continue };
        match wrapped.open(keys) {
            Ok(_) if found.key.as_ref() == Some(&wrapped.key) => found.current += 1,
            Ok(_) => found.former += 1,
            Err(Error::Corrupt(_)) => {}
            Err(why) => found.locked.push((id, why.to_string())),
        }
    }
    Ok(found)
}

fn durable(places: &Places) -> Result<Vec<(ServiceName, ImageId)>> {
    let mut all = Vec::new();
    for service in places.services()? {
        let ids = ids_in(&places.service(&service), "")?;
        let durable = ids.into_iter().filter(|id| places.is_durable(&service, id));
        all.extend(durable.map(|id| (service.clone(), id)));
    }
    Ok(all)
}

/// Goes on with the salt of the images there are, the newest first, if the current passphrase is theirs.
pub(super) fn adopt(store: &Store) -> Result<()> {
    for (service, id) in durable(store.places())?.into_iter().rev() {
        let folder = store.places().image(&service, &id);
        if let Ok(wrapped) = Wrapped::read(&folder, &service, &id)
            && store.settings().keys.adopt(&wrapped)?
        {
            return Ok(());
        }
    }
    Ok(())
}
