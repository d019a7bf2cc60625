//! Where everything of an image lies.
//!
//! ```text
//! <store>/<service>/<id>/              a durable image: manifest, state.seg, memory-N.seg, files-N.seg, key if it is encrypted
//! <store>/<service>/.staging-<id>/     one that is being committed or imported
//! <store>/<service>/.incoming-<id>/    one that a peer sends: kept over a restart, to be gone on with
//! <store>/<service>/.fetched-<id>/     one that is fetched from a replica: the same; apart, so that whoever brings it has its own
//! <store>/<service>/.trash-<id>/       one that is being removed
//! <store>/<service>/.files-<id>/       captured files of a hot image (on disk: they may be big)
//! <store>/<service>/.hot-<id>/         a hot image when memory is short: criu/, seal
//! <store>/<service>/.marks/            <id>.verdict, <id>.pinned, <id>.damaged
//! <hot>/<service>/<id>/                a hot image in memory: criu/, seal
//! <hot>/<service>/.seed-<id>-*/        a copy of an image's pages that is about to become the next image's, when that is handed over
//! <hot>/<service>/.files-<id>/         captured files of a hot image, when nothing of it may lie on disk
//! ```
//!
//! Names of services and ids begin with a letter or digit, so a name with a dot in front is always ours.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use policies::id::{ImageId, ServiceName};

use super::manifest::MANIFEST_NAME;
use crate::durable::failed;
use crate::error::Result;

pub(super) const STAGING: &str = ".staging-";
pub(super) const INCOMING: &str = ".incoming-";
pub(super) const FETCHED: &str = ".fetched-";
pub(super) const TRASH: &str = ".trash-";
pub(super) const FILES: &str = ".files-";
pub(super) const HOT: &str = ".hot-";
pub(super) const SEED: &str = ".seed-";
/// The file whose presence makes a hot copy complete.
pub(super) const SEAL_NAME: &str = "seal";

/// The two roots, and the paths under them.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) store: PathBuf,
    /// A folder on tmpfs, if there is one.
    pub(super) memory: Option<PathBuf>,
    pub(super) spill: Spill,
}

/// Whether what is not encrypted may lie on disk: hot images when memory is short, and captured files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spill {
    ToDisk,
    /// Images are encrypted; what isn't stays in memory, or is not made.
    Never,
}

impl Places {
    pub(super) fn service(&self, service: &ServiceName) -> PathBuf {
        self.store.join(service.as_str())
    }

    pub(super) fn image(&self, service: &ServiceName, id: &ImageId) -> PathBuf {
        self.service(service).join(id.as_str())
    }

    pub(super) fn staging(&self, service: &ServiceName, id: &ImageId) -> PathBuf {
        self.service(service).join(format!("{STAGING}{id}"))
    }

    /// `way` is [`INCOMING`] or [`FETCHED`].
    pub(super) fn incoming(&self, service: &ServiceName, id: &ImageId, way: &str) -> PathBuf {
        self.service(service).join(format!("{way}{id}"))
    }

    pub(super) fn trash(&self, service: &ServiceName, id: &ImageId) -> PathBuf {
        self.service(service).join(format!("{TRASH}{id}"))
    }

    /// The captured files of a hot image: where they are, or where new ones go.
    pub(super) fn files(&self, service: &ServiceName, id: &ImageId) -> PathBuf {
        let candidates = self.files_candidates(service, id);
        let there = candidates.iter().find(|folder| folder.exists()).cloned();
        let fresh = match (self.spill, self.files_in_memory(service, id)) {
            (Spill::Never, Some(memory)) => memory,
            (Spill::Never, None) | (Spill::ToDisk, _) => self.files_on_disk(service, id),
        };
        there.unwrap_or(fresh)
    }

    pub(super) fn files_on_disk(&self, service: &ServiceName, id: &ImageId) -> PathBuf {
        self.service(service).join(format!("{FILES}{id}"))
    }

    pub(super) fn files_in_memory(&self, service: &ServiceName, id: &ImageId) -> Option<PathBuf> {
        self.memory.as_ref().map(|m| m.join(service.as_str()).join(format!("{FILES}{id}")))
    }

    /// Both places where captured files may lie.
    pub(super) fn files_candidates(&self, service: &ServiceName, id: &ImageId) -> Vec<PathBuf> {
        self.files_in_memory(service, id).into_iter().chain([self.files_on_disk(service, id)]).collect()
    }

    /// Whether anything of a hot image that is not encrypted lies on disk.
    pub(super) fn is_plain_on_disk(&self, service: &ServiceName, id: &ImageId) -> bool {
        self.hot_on_disk(service, id).exists() || self.files_on_disk(service, id).exists()
    }

    pub(super) fn marks(&self, service: &ServiceName) -> PathBuf {
        self.service(service).join(".marks")
    }

    pub(super) fn hot_on_disk(&self, service: &ServiceName, id: &ImageId) -> PathBuf {
        self.service(service).join(format!("{HOT}{id}"))
    }

    pub(super) fn hot_in_memory(&self, service: &ServiceName, id: &ImageId) -> Option<PathBuf> {
        self.memory.as_ref().map(|m| m.join(service.as_str()).join(id.as_str()))
    }

    /// Both places where a hot copy of this image may lie, whether or not one does.
    pub(super) fn hot_candidates(&self, service: &ServiceName, id: &ImageId) -> Vec<PathBuf> {
        self.hot_in_memory(service, id).into_iter().chain([self.hot_on_disk(service, id)]).collect()
    }

    /// The folder of the complete hot copy, if there is one.
    pub(super) fn hot(&self, service: &ServiceName, id: &ImageId) -> Option<PathBuf> {
        self.hot_candidates(service, id).into_iter().find(|folder| folder.join(SEAL_NAME).exists())
    }

    pub(super) fn is_durable(&self, service: &ServiceName, id: &ImageId) -> bool {
        self.image(service, id).join(MANIFEST_NAME).exists()
    }

    /// Every service that has anything here. A file that somebody put beside their folders is nobody's.
    pub(super) fn services(&self) -> Result<BTreeSet<ServiceName>> {
        let mut services = BTreeSet::new();
        for root in std::iter::once(&self.store).chain(&self.memory) {
            let folders = names_in(root)?.into_iter().filter(|name| root.join(name).is_dir());
            services.extend(folders.filter_map(|name| ServiceName::try_from(name.as_str()).ok()));
        }
        Ok(services)
    }

    /// Every image of a service that is durable or hot.
    pub(super) fn images(&self, service: &ServiceName) -> Result<BTreeSet<ImageId>> {
        let mut ids: BTreeSet<ImageId> = ids_in(&self.service(service), "")?;
        ids.extend(self.hot_images(service)?);
        Ok(ids)
    }

    /// Every image of a service that has a complete hot copy.
    pub(super) fn hot_images(&self, service: &ServiceName) -> Result<BTreeSet<ImageId>> {
        let mut ids = ids_in(&self.service(service), HOT)?;
        if let Some(memory) = &self.memory {
            ids.extend(ids_in(&memory.join(service.as_str()), "")?);
        }
        ids.retain(|id| self.hot(service, id).is_some());
        Ok(ids)
    }

    /// Whose image this is.
    pub(super) fn owner(&self, id: &ImageId) -> Result<Option<ServiceName>> {
        let here =
            |service: &ServiceName| self.image(service, id).exists() || self.hot(service, id).is_some();
        Ok(self.services()?.into_iter().find(here))
    }
}

/// The names in a folder; none if it doesn't exist. Names that aren't UTF-8 aren't ours.
pub(super) fn names_in(folder: &Path) -> Result<BTreeSet<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(e) => return Err(failed("list", folder, e)),
    };
    let names = entries.map(|entry| entry.map(|e| e.file_name().into_string().ok()));
    let names: io::Result<Vec<Option<String>>> = names.collect();
    names.map(|names| names.into_iter().flatten().collect()).map_err(|e| failed("list", folder, e))
}

/// The ids that follow `prefix` in the names of a folder.
pub(super) fn ids_in(folder: &Path, prefix: &str) -> Result<BTreeSet<ImageId>> {
    let names = names_in(folder)?;
    Ok(names
        .iter()
        .filter_map(|n| n.strip_prefix(prefix))
        .filter_map(|n| ImageId::try_from(n).ok())
        .collect())
}

/// Bytes of the files in a folder, not of folders in it.
pub(super) fn bytes_in(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for name in names_in(folder)? {
        // One that vanished meanwhile takes no space.
        if let Ok(found) = fs::symlink_metadata(folder.join(name)) {
            sum += if found.is_file() { found.len() } else { 0 };
        }
    }
    Ok(sum)
}
