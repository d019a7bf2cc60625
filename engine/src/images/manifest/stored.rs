//! The manifest as it lies on disk: all of it in the clear (version 1), or a readable part and the rest encrypted (version 2).
//!
//! What is readable without the key is what a list, retention and the question whether an image suits this host need. Names, lengths
//! and checksums of files, what was run and what the runtime noted are not: a checksum of a secret is a way to guess it.
//! The readable part is bound to the rest, so it can be looked at without the key but believed only with it.

use std::path::{Path, PathBuf};

use policies::id::{ImageId, ServiceName};
use serde::{Deserialize, Serialize};

use super::{About, MANIFEST_LENGTH_MAX, MANIFEST_NAME, Manifest, Sizes, VERSION, WHAT, text};
use crate::durable::read_limited;
use crate::error::{Error, Report, Result};
use crate::images::cipher::DataKey;
use crate::images::envelope;
use crate::images::keys::{Keyring, Wrapped};
use crate::images::restore::absent_is_corrupt;

/// The version of manifests of encrypted images.
pub(in crate::images) const SEALED_VERSION: u32 = 2;

/// A manifest that was read, and what the rest of the image is read with.
pub(in crate::images) struct Opened {
    pub(in crate::images) manifest: Manifest,
    /// `None`: the image is not encrypted.
    pub(in crate::images) key: Option<DataKey>,
}

/// What is known of an image without a key.
pub(in crate::images) struct Glance {
    pub(in crate::images) about: About,
    pub(in crate::images) sizes: Sizes,
}

/// What a manifest's file holds.
pub(in crate::images) struct Stored {
    content: Content,
    shown: PathBuf,
}

enum Content {
    Plain(Box<Manifest>),
    Sealed { readable: Box<Readable>, line: Vec<u8>, sealed: Vec<u8> },
}

/// The readable part: one line of JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Readable {
    #[serde(with = "text")]
    service: ServiceName,
    #[serde(with = "text")]
    id: ImageId,
    about: About,
    sizes: Sizes,
}

impl Readable {
    fn of(manifest: &Manifest) -> Self {
        let mut about = manifest.about.clone();
        about.runtime.program.clear();
        about.container_digest = None;
        about.runtime_state = serde_json::Value::Null;
        about.volumes.clear();
        Self { service: manifest.service.clone(), id: manifest.id.clone(), about, sizes: manifest.sizes }
    }
}

impl Manifest {
    /// The bytes of the file of an encrypted image.
    pub(in crate::images) fn encode_sealed(&self, key: &DataKey) -> Result<Vec<u8>> {
        self.check().map_err(|e| Error::Internal(e.report().clone()))?;
        let failed =
            |e: serde_json::Error| Error::Internal(Report::new("cannot write a manifest").because(e));
        let mut content = serde_json::to_vec(&Readable::of(self)).map_err(failed)?;
        content.push(b'\n');
        let sealed = key.seal_manifest(&content, &serde_json::to_vec(self).map_err(failed)?)?;
        content.extend_from_slice(&sealed);
        self.short_enough(envelope::seal(WHAT, SEALED_VERSION, &content))
    }
}

impl Stored {
    /// The manifest's file in the folder of an image, which must be this one.
    pub(in crate::images) fn read(folder: &Path, service: &ServiceName, id: &ImageId) -> Result<Self> {
        let path = folder.join(MANIFEST_NAME);
        let bytes = read_limited(&path, MANIFEST_LENGTH_MAX).map_err(absent_is_corrupt)?;
        let stored = Self::decode(&bytes, &path)?;
        if stored.image() == (service, id) {
            return Ok(stored);
        }
        let (service, id) = stored.image();
        let text = format!("manifest is of image {id} of {service}: {}", path.display());
        Err(Error::Corrupt(Report::new(text)))
    }

    /// Reads a manifest of either version; `shown` is only for messages.
    pub(in crate::images) fn decode(bytes: &[u8], shown: &Path) -> Result<Self> {
        let (version, content) = envelope::open(WHAT, SEALED_VERSION, bytes, shown)?;
        let content = match version {
            VERSION => Content::Plain(Box::new(Manifest::parse(content, VERSION, shown)?)),
            _ => split(content, shown)?,
        };
        Ok(Self { content, shown: shown.to_owned() })
    }

    /// Whose image it is, and which.
    pub(in crate::images) fn image(&self) -> (&ServiceName, &ImageId) {
        match &self.content {
            Content::Plain(manifest) => (&manifest.service, &manifest.id),
            Content::Sealed { readable, .. } => (&readable.service, &readable.id),
        }
    }

    pub(in crate::images) fn is_sealed(&self) -> bool {
        matches!(self.content, Content::Sealed { .. })
    }

    pub(in crate::images) fn glance(&self) -> Glance {
        match &self.content {
            Content::Plain(manifest) => Glance { about: manifest.about.clone(), sizes: manifest.sizes },
            Content::Sealed { readable, .. } => {
                Glance { about: readable.about.clone(), sizes: readable.sizes }
            }
        }
    }

    /// All of it, and the data key in the image's folder.
    pub(in crate::images) fn open_in(self, folder: &Path, keys: &Keyring) -> Result<Opened> {
        let wrapped = match self.is_sealed() {
            true => {
                let (service, id) = self.image();
                Some(Wrapped::read(folder, service, id)?)
            }
            false => None,
        };
        self.open(wrapped.as_ref(), keys)
    }

    /// All of it. An encrypted one needs its wrapped key.
    pub(in crate::images) fn open(self, wrapped: Option<&Wrapped>, keys: &Keyring) -> Result<Opened> {
        let (readable, line, sealed) = match self.content {
            Content::Plain(manifest) => return Ok(Opened { manifest: *manifest, key: None }),
            Content::Sealed { readable, line, sealed } => (readable, line, sealed),
        };
        let shown = self.shown;
        let corrupt = |what: &str| Error::Corrupt(Report::new(format!("{what}: {}", shown.display())));
        let key = wrapped.ok_or_else(|| corrupt("encrypted manifest without a key"))?.open(keys)?;
        let json = key.open_manifest(&line, &sealed);
        let json = json.ok_or_else(|| corrupt("encrypted manifest is not the one of this image and key"))?;
        let manifest = Manifest::parse(&json, SEALED_VERSION, &shown)?;
        if Readable::of(&manifest) != *readable {
            return Err(corrupt("readable part of the manifest is not that of the rest"));
        }
        Ok(Opened { manifest, key: Some(key) })
    }
}

impl std::fmt::Debug for Opened {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("manifest", &self.manifest).finish_non_exhaustive()
    }
}

impl Opened {
    /// Reads the manifest of the image in `folder`, with its key if it has one.
    ///
    /// # Errors
    /// `Refused` when it is encrypted under a key that is not ours; `Corrupt` for anything that isn't as it was written.
    pub(in crate::images) fn read(
        folder: &Path,
        service: &ServiceName,
        id: &ImageId,
        keys: &Keyring,
    ) -> Result<Self> {
        Stored::read(folder, service, id)?.open_in(folder, keys)
    }
}

/// The readable line with its newline, and what is behind it.
fn split(content: &[u8], shown: &Path) -> Result<Content> {
    let corrupt = || Report::new(format!("not a manifest: {}", shown.display()));
    let end = content.iter().position(|b| *b == b'\n').ok_or_else(|| Error::Corrupt(corrupt()))?;
    let (line, sealed) = content.split_at(end + 1);
    let readable: Readable =
        serde_json::from_slice(line).map_err(|e| Error::Corrupt(corrupt().because(e)))?;
    Ok(Content::Sealed { readable: Box::new(readable), line: line.to_vec(), sealed: sealed.to_vec() })
}
