//! `key`: the data key of an image, wrapped under a key of the operator's. The one file of an image that is ever replaced, whole.
//!
//! It refuses to be the key of another image.

use std::path::Path;

use policies::id::{ImageId, ServiceName};
use serde::{Deserialize, Serialize};

use super::Keyring;
use super::secret::{Derivation, MasterKey};
use crate::durable::{FILE_MODE, atomic_write, read_limited};
use crate::error::{Error, Report, Result};
use crate::images::cipher::{DataKey, bound};
use crate::images::envelope;
use crate::images::manifest::text;

/// Its name in the image's folder.
pub(in crate::images) const KEY_NAME: &str = "key";
/// Longest accepted.
pub(in crate::images) const KEY_LENGTH_MAX: u64 = 4 << 10;
const WHAT: &str = "supervisor-key";
const VERSION: u32 = 1;

/// A wrapped data key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::images) struct Wrapped {
    #[serde(with = "text")]
    service: ServiceName,
    #[serde(with = "text")]
    id: ImageId,
    /// The id of the key it is wrapped under.
    pub(in crate::images) key: String,
    pub(super) derivation: Derivation,
    /// Nonce, encrypted data key, tag.
    #[serde(with = "crate::capture::hex")]
    wrapped: Vec<u8>,
}

impl Wrapped {
    /// Wraps a data key under the key that new images get; `None` if there is none.
    pub(in crate::images) fn new(
        keys: &Keyring,
        service: &ServiceName,
        id: &ImageId,
        data_key: &DataKey,
    ) -> Result<Option<Self>> {
        let Some((master, derivation)) = keys.current()? else { return Ok(None) };
        let about = about(service, id, &master, &derivation)?;
        let wrapped = data_key.wrap(&master.key, &about)?;
        let (service, id) = (service.clone(), id.clone());
        Ok(Some(Self { service, id, key: master.id.clone(), derivation, wrapped }))
    }

    /// The data key.
    ///
    /// # Errors
    /// `Refused` when none of our keys is the one, `Corrupt` when it is one of ours and does not fit.
    pub(in crate::images) fn open(&self, keys: &Keyring) -> Result<DataKey> {
        let Some(master) = keys.find(&self.derivation, &self.key)? else { return Err(self.locked(keys)) };
        let about = about(&self.service, &self.id, &master, &self.derivation)?;
        DataKey::unwrap(&master.key, &about, &self.wrapped)
            .ok_or_else(|| Error::Corrupt(Report::new(format!("data key of image {} is damaged", self.id))))
    }

    /// Writes it in one step, in the place of another if there is one.
    pub(in crate::images) fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_vec_pretty(self)
            .map_err(|e| Error::Internal(Report::new("cannot write a data key").because(e)))?;
        atomic_write(&folder.join(KEY_NAME), &envelope::seal(WHAT, VERSION, &json), FILE_MODE)
    }

    /// The file as it stands in the folder of an image.
    pub(in crate::images) fn read(folder: &Path, service: &ServiceName, id: &ImageId) -> Result<Self> {
        let path = folder.join(KEY_NAME);
        let bytes = read_limited(&path, KEY_LENGTH_MAX).map_err(super::super::restore::absent_is_corrupt)?;
        Self::decode(&bytes, &path, service, id)
    }

    /// Reads one that must be of this image; `shown` is only for messages.
    pub(in crate::images) fn decode(
        bytes: &[u8],
        shown: &Path,
        service: &ServiceName,
        id: &ImageId,
    ) -> Result<Self> {
        let corrupt = |what: String| Error::Corrupt(Report::new(format!("{what}: {}", shown.display())));
        let (_, json) = envelope::open(WHAT, VERSION, bytes, shown)?;
        let read: Self = serde_json::from_slice(json).map_err(|e| {
            Error::Corrupt(Report::new(format!("not a data key: {}", shown.display())).because(e))
        })?;
        if (&read.service, &read.id) != (service, id) {
            return Err(corrupt(format!("data key is of image {} of {}", read.id, read.service)));
        }
        if !read.derivation.is_sound() {
            return Err(corrupt("data key asks for a derivation that cannot be".to_owned()));
        }
        Ok(read)
    }

    fn locked(&self, keys: &Keyring) -> Error {
        let text = format!("image {} is encrypted under key {}, which is not configured", self.id, self.key);
        let remedy = match (keys.encrypts(), &self.derivation) {
            (false, _) => "set store.encryption_key_file or store.encryption_passphrase_file",
            (true, Derivation::KeyFile) => {
                "name the right file in store.encryption_key_file, or a former one in \
                store.encryption_old_key_files"
            }
            (true, Derivation::Argon2id { .. }) => {
                "name the right passphrase in store.encryption_passphrase_file, or a \
                former one in store.encryption_old_passphrase_files"
            }
        };
        Error::Refused(Report::new(text).remedy(remedy))
    }
}

/// What a wrapped key is bound to.
fn about(
    service: &ServiceName,
    id: &ImageId,
    master: &MasterKey,
    derivation: &Derivation,
) -> Result<Vec<u8>> {
    let derivation = serde_json::to_vec(derivation)
        .map_err(|e| Error::Internal(Report::new("cannot write a derivation").because(e)))?;
    let mut about = bound("supervisor-key 1", service, id);
    about.extend_from_slice(master.id.as_bytes());
    about.extend_from_slice(&derivation);
    Ok(about)
}
