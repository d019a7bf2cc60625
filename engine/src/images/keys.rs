//! The keys that the operator gives, and the small file that keeps an image's data key under one of them.
//!
//! ```text
//!   key file or passphrase -> key -> wraps the data key of each image -> blocks and manifest of that image
//! ```
//!
//! Rotation wraps data keys anew; blocks stay as they are. A key is known by its id, which says nothing about it, so a wrong key is
//! told apart from a damaged image. It refuses key files that others may read, and to guess between keys.

mod secret;
mod wrapped;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::error::{Error, Report, Result};
use secret::{Derivation, MasterKey, Secret};
pub(super) use wrapped::{KEY_LENGTH_MAX, KEY_NAME, Wrapped};

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file of exactly 32 bytes.
    File(PathBuf),
    /// A file with a passphrase, from which a key is made by Argon2id.
    Passphrase(PathBuf),
}

/// The keys of a store: the one that new images are encrypted under, and those that older ones may be under. A clone is the same.
#[derive(Clone)]
pub struct Keyring {
    inner: Arc<Inner>,
}

struct Inner {
    current: Option<Key>,
    old: Vec<Key>,
    /// How a new image's key is made of the current secret.
    derivation: OnceLock<Derivation>,
    /// What was derived already: a passphrase takes a while.
    derived: Mutex<Vec<Derived>>,
}

struct Key {
    source: KeySource,
    secret: Secret,
}

struct Derived {
    from: KeySource,
    by: Derivation,
    key: Arc<MasterKey>,
}

impl KeySource {
    /// The file.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Passphrase(path) => path,
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "key file {}", path.display()),
            Self::Passphrase(path) => write!(f, "passphrase file {}", path.display()),
        }
    }
}

impl Keyring {
    /// No key: images are not encrypted, and encrypted ones cannot be read.
    pub fn none() -> Self {
        Self::of(None, Vec::new())
    }

    /// Reads the key that new images get, and former ones.
    ///
    /// # Errors
    /// `Invalid` when a file is absent or holds no key, `Refused` when others may read it.
    pub fn load(current: Option<&KeySource>, old: &[KeySource]) -> Result<Self> {
        let current = current.map(Key::load).transpose()?;
        let old = old.iter().map(Key::load).collect::<Result<_>>()?;
        Ok(Self::of(current, old))
    }

    fn of(current: Option<Key>, old: Vec<Key>) -> Self {
        let (derivation, derived) = (OnceLock::new(), Mutex::default());
        Self { inner: Arc::new(Inner { current, old, derivation, derived }) }
    }

    /// Whether new images are encrypted.
    pub fn encrypts(&self) -> bool {
        self.inner.current.is_some()
    }

    /// The id of the key that new images are encrypted under.
    ///
    /// # Errors
    /// `Unavailable` when there is no memory to make a key of a passphrase.
    pub fn current_id(&self) -> Result<Option<String>> {
        self.current().map(|found| found.map(|(key, _)| key.id.clone()))
    }

    /// Goes on with the derivation of an image that the current secret opens. A restart then derives one key, not two.
    pub(super) fn adopt(&self, wrapped: &Wrapped) -> Result<bool> {
        let Some(current) = &self.inner.current else { return Ok(true) };
        if matches!(current.secret, Secret::Raw(_)) {
            return Ok(true);
        }
        let known = self.derive(current, &wrapped.derivation)?.is_some_and(|key| key.id == wrapped.key);
        Ok(known && self.inner.derivation.set(wrapped.derivation.clone()).is_ok())
    }

    /// The key for new images, and how it was made.
    fn current(&self) -> Result<Option<(Arc<MasterKey>, Derivation)>> {
        let Some(current) = &self.inner.current else { return Ok(None) };
        let fresh = current.secret.fresh_derivation()?;
        let derivation = self.inner.derivation.get_or_init(|| fresh).clone();
        let key = self.derive(current, &derivation)?;
        let key = key.ok_or_else(|| Error::Internal(Report::new("key was not made as it is meant to be")))?;
        Ok(Some((key, derivation)))
    }

    /// The key of this id, if it is one of ours.
    fn find(&self, derivation: &Derivation, id: &str) -> Result<Option<Arc<MasterKey>>> {
        for key in self.inner.current.iter().chain(&self.inner.old) {
            if let Some(found) = self.derive(key, derivation)?.filter(|found| found.id == id) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// `None` if a secret of this kind is not used in this way.
    fn derive(&self, key: &Key, by: &Derivation) -> Result<Option<Arc<MasterKey>>> {
        // Held while deriving: two who need the same key shall not both work for it.
        let mut derived = self.inner.derived.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = derived.iter().find(|d| d.from == key.source && d.by == *by) {
            return Ok(Some(Arc::clone(&known.key)));
        }
        let Some(made) = key.secret.derive(by)? else { return Ok(None) };
        let made = Arc::new(made);
        derived.push(Derived { from: key.source.clone(), by: by.clone(), key: Arc::clone(&made) });
        Ok(Some(made))
    }
}

impl Key {
    fn load(source: &KeySource) -> Result<Self> {
        Ok(Self { source: source.clone(), secret: Secret::load(source)? })
    }
}

/// The same files; what is in them is nobody's business.
impl PartialEq for Keyring {
    fn eq(&self, other: &Self) -> bool {
        let sources = |keyring: &Self| -> Vec<Option<KeySource>> {
            let source = |key: &Key| key.source.clone();
            let old = keyring.inner.old.iter().map(|key| Some(source(key)));
            std::iter::once(keyring.inner.current.as_ref().map(source)).chain(old).collect()
        };
        sources(self) == sources(other)
    }
}

impl Eq for Keyring {}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let old: Vec<&KeySource> = self.inner.old.iter().map(|key| &key.source).collect();
        let current = self.inner.current.as_ref().map(|key| &key.source);
        f.debug_struct("Keyring").field("current", &current).field("old", &old).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
