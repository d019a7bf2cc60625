//! A durable image on its way to somewhere else: held, its manifest read, its segments opened at any offset.
//!
//! Nothing is checked here: whoever receives it reads all of it before it calls it an image.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::path::PathBuf;

use policies::id::{ImageId, ServiceName};
use policies::image::ImageVerdict;

use super::head::Head;
use super::keys::{KEY_LENGTH_MAX, KEY_NAME};
use super::manifest::{MANIFEST_LENGTH_MAX, MANIFEST_NAME, Manifest, Opened};
use super::uses::Use;
use super::{Store, marks};
use crate::durable::{failed, open_regular, read_limited};
use crate::error::{Error, Report, Result};

/// An image that may be sent; it stays as long as this lives.
#[derive(Debug)]
pub struct Outgoing {
    manifest: Manifest,
    head: Head,
    folder: PathBuf,
    verdict: ImageVerdict,
    _held: Use,
}

/// One file of an image, as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub length: u64,
}

impl Store {
    /// A durable image to be sent.
    ///
    /// # Errors
    /// `Invalid` when there is no such durable image, `Corrupt` when it is known not to be whole.
    pub fn outgoing(&self, id: &ImageId) -> Result<Outgoing> {
        let service = self.owner(id)?;
        let held = self.uses().hold(id);
        let marks = marks::read(self.places(), &service, id);
        if let Some(why) = marks.damaged {
            return Err(Error::Corrupt(Report::new(format!("image {id} is damaged: {why}"))));
        }
        if !self.places().is_durable(&service, id) {
            return Err(Error::Invalid(Report::new(format!("image is not durable yet: {id}"))));
        }
        let folder = self.places().image(&service, id);
        let Opened { manifest, key } = Opened::read(&folder, &service, id, &self.settings().keys)?;
        let manifest_file = read_limited(&folder.join(MANIFEST_NAME), MANIFEST_LENGTH_MAX)?;
        let key_file = match key {
            Some(_) => read_limited(&folder.join(KEY_NAME), KEY_LENGTH_MAX)?,
            None => Vec::new(),
        };
        let head = Head::of(&manifest_file, &key_file)?;
        let verdict = marks.verdict.unwrap_or(manifest.about.verdict);
        Ok(Outgoing { manifest, head, folder, verdict, _held: held })
    }
}

impl Outgoing {
    /// Whose image it is.
    pub fn service(&self) -> &ServiceName {
        &self.manifest.service
    }

    /// Its id.
    pub fn id(&self) -> &ImageId {
        &self.manifest.id
    }

    /// Its manifest, as it is.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What it is known by elsewhere.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What is thought of it now.
    pub fn verdict(&self) -> ImageVerdict {
        self.verdict
    }

    /// Its segments, in the order of reading.
    pub fn parts(&self) -> Vec<Part> {
        parts(&self.manifest)
    }

    /// A segment, from an offset on.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn open(&self, part: &Part, offset: u64) -> Result<File> {
        let path = self.folder.join(&part.name);
        let mut file = open_regular(&path)?;
        file.seek(SeekFrom::Start(offset)).map_err(|e| failed("read", &path, e))?;
        Ok(file)
    }
}

/// The segments of an image, as they travel.
pub(super) fn parts(manifest: &Manifest) -> Vec<Part> {
    manifest.segments.iter().map(|s| Part { name: s.name.clone(), length: s.stored_len }).collect()
}
