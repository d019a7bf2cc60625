//! The contents of a podman checkpoint archive, put together from one of our images.
//!
//! It refuses an image that would not be a whole service elsewhere.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::body::{Body, Head};
use super::tree::{self, From, Of};
use super::unwritten;
use crate::capture::{Contents, INDEX_NAME, Index, Timestamp, TreeIndex};
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::images::Prepared;
use crate::runtime::podman::{CHECKPOINT, CONFIG, NOTES, SPEC};
use crate::runtime::{ROOT_TREE, volumes_of};

/// podman's names in an archive.
pub(super) const LAYER: &str = "rootfs-diff.tar";
pub(super) const REMOVED: &str = "deleted.files";
pub(super) const VOLUMES: &str = "volumes";
/// Longest file that is read as JSON.
pub(super) const JSON_LENGTH_MAX: u64 = 4 << 20;

/// What an archive is written of.
pub(super) struct Package<'a> {
    criu_dir: &'a Path,
    taken_at: Timestamp,
    definition: Value,
    /// CRIU's files.
    dumped: Vec<PathBuf>,
    files: Option<(Index, Contents)>,
    volumes: Vec<(String, PathBuf)>,
}

impl<'a> Package<'a> {
    pub(super) fn of(image: &'a Prepared) -> Result<Self> {
        let about = image.about();
        if about.runtime.kind != "podman" {
            return Err(other_runtime(&about.runtime.kind));
        }
        let criu_dir = image.criu_dir();
        if !criu_dir.join(CONFIG).exists() || !criu_dir.join(SPEC).exists() {
            let text =
                format!("write image {} for others: it does not hold its container's definition", image.id());
            return Err(Error::Refused(
                Report::new(text).remedy("take another checkpoint: older supervisors did not note it"),
            ));
        }
        let definition = read_json(&criu_dir.join(CONFIG))?;
        refuse_dependent(&definition)?;
        let nanos = about.taken_at.as_unix_nanos();
        let taken_at = Timestamp(i64::try_from(nanos / 1_000_000_000).unwrap_or(i64::MAX), 0);
        let mut package = Self {
            criu_dir,
            taken_at,
            definition,
            dumped: dumped(criu_dir)?,
            files: None,
            volumes: volumes_of(&about.runtime_state).into_iter().collect(),
        };
        if image.files_dir().join(INDEX_NAME).exists() {
            package.files = Some((Index::read(image.files_dir())?, Contents::open(image.files_dir())?));
        }
        package.check()?;
        Ok(package)
    }

    /// The container's definition, in podman's words.
    pub(super) fn definition(&self) -> &Value {
        &self.definition
    }

    /// Writes the archive; its length. The same bytes each time.
    pub(super) fn write(&self, to: &mut dyn Write) -> Result<u64> {
        let mut body = Body::new(to);
        for name in NOTES {
            let path = self.criu_dir.join(name);
            if path.exists() {
                self.copy(&mut body, name, &path)?;
            }
        }
        body.entry(&Head::folder(format!("{CHECKPOINT}/"), self.taken_at))?;
        for path in &self.dumped {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            self.copy(&mut body, &format!("{CHECKPOINT}/{name}"), path)?;
        }
        if let Some(tree) = self.tree(ROOT_TREE) {
            self.pack(&mut body, LAYER, tree, Of::Layer)?;
            let removed = tree::removed(tree);
            if !removed.is_empty() {
                let bytes = Value::from(removed).to_string().into_bytes();
                body.copied(&Head::file(REMOVED, bytes.len() as u64, self.taken_at), &mut bytes.as_slice())?;
            }
        }
        for (name, source) in &self.volumes {
            // Checked: each has one.
            if let Some(tree) = self.tree(&source.display().to_string()) {
                self.pack(&mut body, &format!("{VOLUMES}/{name}.tar"), tree, Of::Volume)?;
            }
        }
        body.finish()
    }

    fn copy(&self, body: &mut Body<'_>, name: &str, path: &Path) -> Result<()> {
        let mut file = durable::open_regular(path)?;
        let length = file.metadata().map_err(|e| durable::failed("look at", path, e))?.len();
        body.copied(&Head::file(name, length, self.taken_at), &mut file)
    }

    /// An archive in the archive. Its length must be known first.
    fn pack(&self, body: &mut Body<'_>, name: &str, tree: &TreeIndex, of: Of) -> Result<()> {
        let Some((_, contents)) = &self.files else { return Ok(()) };
        let length = tree::write(tree, of, From::Zeros, &mut std::io::sink())?;
        body.filled(&Head::file(name, length, self.taken_at), |to| {
            tree::write(tree, of, From::Image(contents), to).map(drop)
        })
    }

    fn tree(&self, name: &str) -> Option<&TreeIndex> {
        self.files.as_ref().and_then(|(index, _)| index.tree(name))
    }

    fn check(&self) -> Result<()> {
        let trees = self.files.iter().flat_map(|(index, _)| &index.trees);
        for tree in trees {
            let is_volume = self.volumes.iter().any(|(_, source)| source.display().to_string() == tree.name);
            if tree.name != ROOT_TREE && !is_volume {
                let text = format!(
                    "write the files of {} for others: podman's archives hold no bind mounts",
                    tree.name
                );
                return Err(Error::Refused(
                    Report::new(text).remedy("export it natively, or use a named volume"),
                ));
            }
            tree::check(tree)?;
        }
        let without =
            self.volumes.iter().find(|(_, source)| self.tree(&source.display().to_string()).is_none());
        match without {
            Some((name, _)) => Err(Error::Refused(Report::new(format!(
                "write the image for others: it does not hold the files of volume {name}"
            )))),
            None => Ok(()),
        }
    }
}

pub(super) fn other_runtime(kind: &str) -> Error {
    let text = format!("write an image of a {kind} service for podman or as an OCI image");
    let why = match kind {
        "docker" => "docker's containers are defined in docker's own words, which podman does not read",
        _ => "it has no container definition that podman would restore it into",
    };
    Error::Refused(Report::new(format!("{text}: {why}")).remedy("export it natively (`--format native`)"))
}

/// A container that is nothing without others.
pub(super) fn refuse_dependent(definition: &Value) -> Result<()> {
    let in_pod = definition["pod"].as_str().is_some_and(|pod| !pod.is_empty());
    let depends = definition["Dependencies"].as_array().is_some_and(|all| !all.is_empty());
    if !in_pod && !depends {
        return Ok(());
    }
    let text = "carry a container of a pod, or one that shares another one's namespaces, elsewhere";
    Err(Error::Refused(Report::new(text)))
}

fn dumped(criu_dir: &Path) -> Result<Vec<PathBuf>> {
    let cannot = |e| durable::failed("list", criu_dir, e);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(criu_dir).map_err(cannot)? {
        let entry = entry.map_err(cannot)?;
        if !NOTES.iter().any(|name| entry.file_name() == *name) {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths)
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = durable::read_limited(path, JSON_LENGTH_MAX)?;
    serde_json::from_slice(&bytes)
        .map_err(|e| Error::Corrupt(Report::new(format!("not JSON: {}", path.display())).because(e)))
}

/// For a file that is on its way: a failure to write it is the taker's.
pub(super) fn taken(to: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).map_err(unwritten)
}
