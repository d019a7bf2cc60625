//! An image on its way in: segments that come piece by piece, in any number of attempts, then the manifest, which makes it an image once
//! every byte was read and found whole.
//!
//! What has come is kept over a cut, our own death or a reboot, and gone on with at its end: the manifest comes first here, so that
//! nothing is taken that it does not name, and no more of it than it says. What turns out not to be whole is thrown away.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use policies::id::{ImageId, ServiceName};
use policies::image::ImageVerdict;

use super::head::Head;
use super::manifest::{Manifest, Opened};
use super::outgoing::{Part, parts};
use super::places::{FETCHED, INCOMING, ids_in};
use super::uses::Use;
use super::{Store, archive, space};
use crate::durable::{self, NewFile, fail_point, failed, remove_tree};
use crate::error::{Error, Report, Result};

/// Who brings an image. Each way has a folder of its own: what one writes the other never touches, and whoever is first makes the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A peer sends it.
    Sent,
    /// It is fetched from a replica.
    Fetched,
}

/// Half an image, or less.
#[derive(Debug)]
pub struct Incoming {
    store: Store,
    opened: Opened,
    head: Head,
    folder: PathBuf,
    _held: Use,
}

impl Store {
    /// A place for the image of this head, with what has come of it earlier by this way; there must be one at a time for each service and way.
    /// `None`: the image is there already, and the same.
    ///
    /// # Errors
    /// `Corrupt` for what is no head of an image; `Refused` when it is encrypted under a key that is not ours, so that nobody here could see whether
    /// it is whole; `Invalid` when another image of that name is there; `Unavailable` without room.
    pub fn incoming(&self, head: &[u8], way: Way) -> Result<Option<Incoming>> {
        let head = Head::decode(head)?;
        let opened = head.open(&self.settings().keys)?;
        let (service, id) = (head.service().clone(), head.id().clone());
        let held = self.uses().hold(&id);
        let owner = self.places().owner(&id)?;
        if self.places().image(&service, &id).exists() || owner.is_some_and(|owner| owner != service) {
            return self.has_the_same(&opened.manifest).map(|()| None);
        }
        let folder = self.places().incoming(&service, &id, way.prefix());
        durable::create_dir(&self.places().service(&service))?;
        durable::create_dir(&folder)?;
        let incoming = Incoming { store: self.clone(), opened, head, folder, _held: held };
        incoming.has_room()?;
        Ok(Some(incoming))
    }

    /// Throws away what has come by this way of images of a service that nobody goes on with.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn forget_incoming(&self, service: &ServiceName, way: Way, but: Option<&ImageId>) -> Result<()> {
        let begun = ids_in(&self.places().service(service), way.prefix())?;
        let mut given_up = begun.iter().filter(|id| Some(*id) != but);
        given_up.try_for_each(|id| remove_tree(&self.places().incoming(service, id, way.prefix())))
    }

    /// That the image which bears this id is the one that is meant.
    fn has_the_same(&self, manifest: &Manifest) -> Result<()> {
        let folder = self.places().image(&manifest.service, &manifest.id);
        match Opened::read(&folder, &manifest.service, &manifest.id, &self.settings().keys) {
            Ok(found) if found.manifest.is_of_the_same(manifest) => Ok(()),
            Ok(_) | Err(Error::Invalid(_)) => {
                let text = format!("another image of this name is here: {}", manifest.id);
                Err(Error::Invalid(Report::new(text)))
            }
            Err(error) => Err(error),
        }
    }
}

impl Way {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Sent => INCOMING,
            Self::Fetched => FETCHED,
        }
    }
}

impl Incoming {
    /// What it will be.
    pub fn manifest(&self) -> &Manifest {
        &self.opened.manifest
    }

    /// Whether it was begun with this head.
    pub fn is_of(&self, head: &[u8]) -> bool {
        self.head.bytes() == head
    }

    /// Its segments, in the order of reading.
    pub fn parts(&self) -> Vec<Part> {
        parts(self.manifest())
    }

    /// How much of each segment has come.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn lengths(&self) -> Result<BTreeMap<String, u64>> {
        let length = |part: Part| {
            let path = self.folder.join(&part.name);
            match fs::symlink_metadata(&path) {
                Ok(found) => Ok((part.name, found.len())),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok((part.name, 0)),
                Err(e) => Err(failed("look at", &path, e)),
            }
        };
        self.parts().into_iter().map(length).collect()
    }

    /// A segment, to be written on from `offset`, which has to be its present end.
    ///
    /// # Errors
    /// `Invalid` when there is no such segment or it does not end there.
    pub fn part(&self, name: &str, offset: u64) -> Result<PartWriter> {
        let part = self.parts().into_iter().find(|part| part.name == name);
        let part = part.ok_or_else(|| {
            Error::Invalid(Report::new(format!("image {} has no segment {name}", self.manifest().id)))
        })?;
        let (file, length) = NewFile::resume(&self.folder.join(name))?;
        if length != offset {
            let text = format!("segment {name} of {} ends at {length}, not at {offset}", self.manifest().id);
            return Err(Error::Invalid(Report::new(text)));
        }
        Ok(PartWriter { file, left: part.length.saturating_sub(length), name: part.name })
    }

    /// Reads all of it and, if it is whole, makes it an image. What is not whole is thrown away.
    ///
    /// # Errors
    /// `Corrupt` when it isn't as it was sent; `Invalid` when something has not come yet.
    pub fn commit(self, verdict: ImageVerdict) -> Result<Manifest> {
        let lengths = self.lengths()?;
        if let Some(part) = self.parts().iter().find(|part| lengths.get(&part.name) < Some(&part.length)) {
            let text = format!("segment {} of {} is not complete", part.name, self.manifest().id);
            return Err(Error::Invalid(Report::new(text)));
        }
        for part in self.parts() {
            NewFile::resume(&self.folder.join(&part.name))?.0.finish()?;
        }
        fail_point("incoming.complete");
        let (service, id) = (&self.manifest().service, &self.manifest().id);
        // Of two who bring it one is first.
        let alone = self.store.uses().unpack(id);
        if self.store.places().image(service, id).exists() {
            self.store.has_the_same(self.manifest())?;
            drop(alone);
            let manifest = self.opened.manifest.clone();
            return self.discard().map(|()| manifest);
        }
        let known = (self.head.manifest(), &self.opened, self.head.wrapped());
        match archive::adopt(&self.store, &self.folder, known, verdict) {
            Ok(()) => Ok(self.opened.manifest),
            Err(error @ (Error::Corrupt(_) | Error::Invalid(_))) => {
                self.discard()?;
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    /// Throws away what has come.
    ///
    /// # Errors
    /// By what the disk says.
    pub fn discard(self) -> Result<()> {
        remove_tree(&self.folder)
    }

    fn has_room(&self) -> Result<()> {
        let come: u64 = self.lengths()?.values().sum();
        let to_come = self.manifest().sizes.stored.saturating_sub(come);
        let min_free = self.store.settings().min_free;
        let room = space::disk_has(&self.store.places().store, to_come, min_free);
        if room.is_err() {
            // Half an image that cannot become a whole one only takes space from others.
            remove_tree(&self.folder)?;
        }
        room
    }
}

/// A segment that is being received.
#[derive(Debug)]
pub struct PartWriter {
    file: NewFile,
    left: u64,
    name: String,
}

impl PartWriter {
    /// Appends what has come.
    ///
    /// # Errors
    /// `Invalid` when it is more than the manifest says, `Unavailable` when the disk is full.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let length = bytes.len() as u64;
        if length > self.left {
            return Err(Error::Invalid(Report::new(format!(
                "segment {} is longer than it may be",
                self.name
            ))));
        }
        self.file.write(bytes)?;
        self.left -= length;
        Ok(())
    }
}
