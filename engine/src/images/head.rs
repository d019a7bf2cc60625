//! What an image is known by elsewhere: its manifest and, if it is encrypted, its wrapped data key, as one document.
//!
//! ```text
//! 4       length of the manifest (little-endian)
//! ...     the manifest's file
//! ...     the file `key`, to the end; nothing for an image that is not encrypted
//! ```
//!
//! What it says of the image can be read without any key, and is believed only when the image was opened with it.

use std::path::Path;

use policies::id::{ImageId, ServiceName};

use super::keys::{KEY_LENGTH_MAX, Keyring, Wrapped};
use super::manifest::{About, MANIFEST_LENGTH_MAX, Opened, Sizes, Stored};
use crate::error::{Error, Report, Result};

const SHOWN: &str = "manifest from elsewhere";
const LENGTH: usize = 4;

/// Longest document.
pub const HEAD_LENGTH_MAX: u64 = LENGTH as u64 + MANIFEST_LENGTH_MAX + KEY_LENGTH_MAX;

/// The document, taken apart.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    bytes: Vec<u8>,
    split: usize,
    service: ServiceName,
    id: ImageId,
    about: About,
    sizes: Sizes,
    wrapped: Option<Wrapped>,
}

impl Head {
    /// Takes a document apart.
    ///
    /// # Errors
    /// `Corrupt` for what is none.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let not_one = || Error::Corrupt(Report::new(format!("not a {SHOWN}")));
        let (length, rest) = bytes.split_first_chunk::<LENGTH>().ok_or_else(not_one)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| not_one())?;
        let (manifest, key) = rest.split_at_checked(length).ok_or_else(not_one)?;
        let stored = Stored::decode(manifest, Path::new(SHOWN))?;
        let (service, id) = (stored.image().0.clone(), stored.image().1.clone());
        let wrapped = match (stored.is_sealed(), key.is_empty()) {
            (true, _) => Some(Wrapped::decode(key, Path::new(SHOWN), &service, &id)?),
            (false, true) => None,
            (false, false) => return Err(not_one()),
        };
        let glance = stored.glance();
        let (about, sizes) = (glance.about, glance.sizes);
        Ok(Self { bytes: bytes.to_vec(), split: LENGTH + length, service, id, about, sizes, wrapped })
    }

    /// The document of an image, from its two files.
    pub(super) fn of(manifest: &[u8], key: &[u8]) -> Result<Self> {
        let length = u32::try_from(manifest.len())
            .map_err(|e| Error::Internal(Report::new("a manifest is too long to be sent").because(e)))?;
        Self::decode(&[&length.to_le_bytes(), manifest, key].concat())
    }

    /// The document.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whose image it is.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Its id.
    pub fn id(&self) -> &ImageId {
        &self.id
    }

    /// When, where and of what it was taken, as far as that is not encrypted.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// How big it is.
    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Whether it is of the same image; its data key may be wrapped anew.
    pub fn is_of_the_same(&self, other: &Self) -> bool {
        self.manifest() == other.manifest()
    }

    pub(super) fn manifest(&self) -> &[u8] {
        &self.bytes[LENGTH..self.split]
    }

    pub(super) fn wrapped(&self) -> Option<&Wrapped> {
        self.wrapped.as_ref()
    }

    /// All of the manifest, and the data key.
    ///
    /// # Errors
    /// `Refused` when it is encrypted under a key that is not ours.
    pub(super) fn open(&self, keys: &Keyring) -> Result<Opened> {
        Stored::decode(self.manifest(), Path::new(SHOWN))?.open(self.wrapped(), keys)
    }
}
