//! A checkpoint archive of podman's, made an image of one of our podman services.
//!
//! The archive's container and the service's must be of one image and have volumes at the same places; then the archive's files become
//! the service's. What of the archive is not needed for that is read past.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::time::WallTime;
use serde_json::Value;
use tar::EntryType;

use super::package::{JSON_LENGTH_MAX, LAYER, REMOVED, VOLUMES, refuse_dependent};
use super::stream::{Form, Full, Measured};
use super::unpack::{Holes, Item, cannot_read, damaged, each, refused, tree_path};
use crate::capture::{Gathered, Gathering, Kind, Meta, Timestamp, TreePath};
use crate::compat::Host;
use crate::durable::{self, NewFile};
use crate::error::{Error, Report, Result};
use crate::images::{About, Manifest, RuntimeFacts, Store};
use crate::runtime::podman::{CHECKPOINT, CONFIG, NETWORK, SHARED_MEMORY, SPEC};
use crate::runtime::{Layout, ROOT_TREE, Volume};

/// The file without which there is nothing to restore.
const INVENTORY: &str = "inventory.img";
/// Most files of CRIU's.
const DUMPED_MAX: usize = 100_000;
/// Most entries of `/dev/shm`.
const SHARED_MAX: usize = 100_000;

/// Whose image an archive becomes.
#[derive(Debug)]
pub struct Recipient<'a> {
    /// The service.
    pub service: &'a ServiceName,
    /// The image's name.
    pub id: &'a ImageId,
    /// The node's name.
    pub node: &'a str,
    /// What runs the service.
    pub runtime: RuntimeFacts,
    /// The service's container.
    pub layout: &'a Layout,
    /// This host: an archive does not say where it was made.
    pub host: &'a Host,
    /// Now: an archive is not from the future.
    pub now: WallTime,
}

/// What has come so far.
struct Receiving<'a> {
    criu_dir: &'a Path,
    gathering: Gathering,
    layer: Option<Gathered>,
    volumes: BTreeMap<String, Gathered>,
    removed: Vec<TreePath>,
    notes: HashMap<&'static str, Value>,
    dumped: HashSet<String>,
    made_at: Option<Timestamp>,
}

/// Reads an archive; the image exists, pinned, when all of it was found whole.
///
/// # Errors
/// `Corrupt` for a damaged archive, `Refused` for one that is not of this service's container, `Unavailable` without room.
pub fn receive(store: &Store, from: &mut dyn Read, form: Form, to: Recipient<'_>) -> Result<Manifest> {
    if to.runtime.kind != "podman" {
        let text = format!("import an archive of podman for {}, a {} service", to.service, to.runtime.kind);
        return Err(Error::Refused(Report::new(text).remedy("configure it as a podman service")));
    }
    let staging = store.stage_unsized(to.service, to.id)?;
    let (criu_dir, files_dir) = (staging.criu_dir(), staging.files_dir());
    let mut receiving = Receiving::begin(&criu_dir, &files_dir, to.now)?;
    let (room, full) = (|| store.has_room(), Full::default());
    let mut stream = Measured::new(form.unpacked(from)?, &room, &full);
    each(&mut stream, Holes::Refused, &mut |item, content| receiving.take(&item, content))
        .map_err(|error| full.because_of(error))?;
    drop(stream);
    let (made_at, volumes) = receiving.finish(to.layout)?;
    let state = to.layout.state(volumes)?;
    staging.seal(about(&to, made_at, state))?;
    let committed = store.commit(to.id, &AtomicBool::new(false));
    // Retention would weigh it by its age, and it may be old: whoever imports it decides.
    let kept = committed.and_then(|manifest| store.pin(to.id).map(|()| manifest));
    kept.inspect_err(|_| {
        // Hot only, it would be committed later by whoever finds it: it was never wanted like that.
        let _ = store.remove(std::slice::from_ref(to.id));
    })
}

fn about(to: &Recipient<'_>, made_at: Timestamp, runtime_state: Value) -> About {
    let nanos = u64::try_from(made_at.0).unwrap_or(0).saturating_mul(1_000_000_000) + u64::from(made_at.1);
    About {
        taken_at: WallTime::from_unix_nanos(nanos.min(to.now.as_unix_nanos())),
        node: to.node.to_owned(),
        epoch: Epoch(0),
        runtime: to.runtime.clone(),
        host: to.host.clone(),
        container_digest: None,
        parent: None,
        verdict: ImageVerdict::Unjudged,
        pause_us: 0,
        runtime_state,
        volumes: Vec::new(),
    }
}

impl<'a> Receiving<'a> {
    fn begin(criu_dir: &'a Path, files_dir: &Path, now: WallTime) -> Result<Self> {
        let seconds = i64::try_from(now.as_unix_nanos() / 1_000_000_000).unwrap_or(0);
        Ok(Self {
            criu_dir,
            gathering: Gathering::create(files_dir, Timestamp(seconds, 0))?,
            layer: None,
            volumes: BTreeMap::new(),
            removed: Vec::new(),
            notes: HashMap::new(),
            dumped: HashSet::new(),
            made_at: None,
        })
    }

    fn take(&mut self, item: &Item, content: &mut dyn Read) -> Result<()> {
        let path = std::str::from_utf8(item.path.as_bytes()).unwrap_or_default();
        match path.split_once('/') {
            None if path == CONFIG => self.note(CONFIG, item, content),
            None if path == SPEC => self.note(SPEC, item, content),
            None if path == NETWORK => self.note(NETWORK, item, content),
            None if path == REMOVED => self.take_removed(item, content),
            None if path == SHARED_MEMORY => self.take_shared(item, content),
            None if path == LAYER => {
                regular(item)?;
                let tree = self.take_tree(content)?;
                self.layer.replace(tree).map_or(Ok(()), |_| Err(twice(item)))
            }
            Some((CHECKPOINT, name)) => self.take_dumped(name, item, content),
            Some((VOLUMES, name)) => {
                regular(item)?;
                let name = name.strip_suffix(".tar").filter(|name| !name.contains('/'));
                let name = name.ok_or_else(|| refused(&item.path, "what is no volume"))?;
                let tree = self.take_tree(content)?;
                self.volumes.insert(name.to_owned(), tree).map_or(Ok(()), |_| Err(twice(item)))
            }
            // Logs, statistics, folders, and what other versions may write beside it.
            _ => Ok(()),
        }
    }

    fn note(&mut self, name: &'static str, item: &Item, content: &mut dyn Read) -> Result<()> {
        let (value, bytes) = json(item, content)?;
        if self.notes.insert(name, value).is_some() {
            return Err(twice(item));
        }
        durable::atomic_write_volatile(&self.criu_dir.join(name), &bytes, durable::FILE_MODE)
    }

    fn take_removed(&mut self, item: &Item, content: &mut dyn Read) -> Result<()> {
        let (value, _) = json(item, content)?;
        let paths: Vec<String> = serde_json::from_value(value)
            .map_err(|e| Error::Corrupt(Report::new(format!("no list of paths: {REMOVED}")).because(e)))?;
        for path in paths {
            let path = tree_path(path.trim_start_matches('/').as_bytes())?;
            if path.is_root() {
                return Err(damaged("the root of its container is removed"));
            }
            self.removed.push(path);
        }
        Ok(())
    }

    fn take_dumped(&mut self, name: &str, item: &Item, content: &mut dyn Read) -> Result<()> {
        if name == "parent" {
            let text = "import a checkpoint that needs an earlier one (--with-previous)";
            return Err(Error::Refused(Report::new(text).remedy("export one that stands alone")));
        }
        regular(item)?;
        let known = [CONFIG, SPEC, NETWORK, SHARED_MEMORY].contains(&name);
        if known || name.starts_with('.') || name.contains('/') || name.len() > 255 {
            return Err(refused(&item.path, "what CRIU does not write"));
        }
        if !self.dumped.insert(name.to_owned()) {
            return Err(twice(item));
        }
        if self.dumped.len() > DUMPED_MAX {
            return Err(refused(&item.path, "more files than CRIU writes"));
        }
        if name == INVENTORY {
            self.made_at = Some(item.meta.modified);
        }
        let mut file = NewFile::create(&self.criu_dir.join(name))?;
        Tee { from: content, to: &mut file, failed: None }.drain()?;
        file.finish_volatile();
        Ok(())
    }

    /// podman unpacks it into a folder of the host's, following whatever it finds there: so nothing may stand in it twice, and nothing
    /// below what is no folder.
    fn take_shared(&mut self, item: &Item, content: &mut dyn Read) -> Result<()> {
        regular(item)?;
        if !self.dumped.insert(SHARED_MEMORY.to_owned()) {
            return Err(twice(item));
        }
        let mut file = NewFile::create(&self.criu_dir.join(SHARED_MEMORY))?;
        let mut tee = Tee { from: content, to: &mut file, failed: None };
        let mut seen: HashMap<TreePath, EntryType> = HashMap::new();
        let checked = each(&mut tee, Holes::Skipped, &mut |inner, _| check_shared(&mut seen, &inner));
        tee.failed.map_or(checked, Err)?;
        file.finish_volatile();
        Ok(())
    }

    fn take_tree(&mut self, content: &mut dyn Read) -> Result<Gathered> {
        let mut tree = Gathered::default();
        let gathering = &mut self.gathering;
        each(content, Holes::Refused, &mut |item, content| {
            let kind = match item.kind {
                EntryType::Regular | EntryType::Continuous => {
                    gathering.content(item.size, content, &cannot_read)?
                }
                EntryType::Directory => Kind::Directory,
                EntryType::Symlink => Kind::Symlink { target: item.target },
                EntryType::Fifo => Kind::Fifo,
                EntryType::Link => return tree.link(item.path, tree_path(&item.target)?),
                _ => return Err(refused(&item.path, "a device or something else that is no file")),
            };
            if item.path.is_root() && !matches!(kind, Kind::Directory) {
                return Err(damaged("its root is no folder"));
            }
            tree.insert(item.path, kind, item.meta)
        })?;
        Ok(tree)
    }

    /// All of it has come: does it fit the container, and is it whole? Says when the checkpoint was made, and
    /// where the archive's volumes are here.
    fn finish(mut self, layout: &Layout) -> Result<(Timestamp, BTreeMap<String, PathBuf>)> {
        let definition = self.notes.get(CONFIG).ok_or_else(|| lacks(CONFIG))?;
        if !self.notes.contains_key(SPEC) {
            return Err(lacks(SPEC));
        }
        let made_at = self.made_at.ok_or_else(|| lacks(INVENTORY))?;
        refuse_dependent(definition)?;
        refuse_other_image(definition, layout)?;
        let volumes = matched(definition, layout)?;
        let mut layer = self.layer.take().unwrap_or_default();
        for path in std::mem::take(&mut self.removed) {
            layer.white_out(path)?;
        }
        let base = |path: &TreePath| below(&layout.lower, path);
        self.gathering.add(ROOT_TREE.to_owned(), &layout.changes, layer, &base)?;
        for (name, volume) in &volumes {
            let tree = self.volumes.remove(name).ok_or_else(|| {
                let report = Report::new(format!("the archive does not hold the files of volume {name}"));
                Error::Refused(report.remedy("export it without --ignore-volumes"))
            })?;
            self.gathering.add(volume.source.display().to_string(), &volume.source, tree, &|_| None)?;
        }
        self.gathering.finish()?;
        // By the archive's names, which its definition has: so it can leave again.
        Ok((made_at, volumes.into_iter().map(|(name, volume)| (name, volume.source.clone())).collect()))
    }
}

fn refuse_other_image(definition: &Value, layout: &Layout) -> Result<()> {
    let image = definition["rootfsImageID"].as_str().unwrap_or_default();
    if image == layout.image {
        return Ok(());
    }
    let name = definition["rootfsImageName"].as_str().unwrap_or_default();
    let text = format!(
        "import the archive: its container was made of the image {name} {image}, the service's is made of {}",
        layout.image
    );
    Err(Error::Refused(Report::new(text).remedy("create the service's container of the same image")))
}

/// Which of the archive's volumes is which of the service's: the one at the same place.
fn matched<'a>(definition: &Value, layout: &'a Layout) -> Result<Vec<(String, &'a Volume)>> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let theirs = definition["namedVolumes"].as_array().into_iter().flatten();
    let theirs: Vec<(String, String)> =
        theirs.map(|volume| (text(&volume["volumeName"]), text(&volume["dest"]))).collect();
    let mut found = Vec::new();
    for (name, destination) in &theirs {
        let ours = layout.volumes.iter().find(|volume| volume.destination == Path::new(destination));
        let ours = ours.ok_or_else(|| {
            let text = format!("import the archive: the service's container has no volume at {destination}");
            Error::Refused(
                Report::new(text).remedy(format!("create it with `--volume {name}:{destination}`")),
            )
        })?;
        found.push((name.clone(), ours));
    }
    let is_theirs = |volume: &&Volume| theirs.iter().any(|(_, at)| volume.destination == Path::new(at));
    match layout.volumes.iter().find(|volume| !is_theirs(volume)) {
        Some(other) => {
            let at = other.destination.display();
            let text = format!(
                "import the archive: the service's container has a volume at {at}, the archive's none"
            );
            Err(Error::Refused(Report::new(text)))
        }
        None => Ok(found),
    }
}

/// A folder of the layers below, as a container sees it that has not changed it.
fn below(lower: &[PathBuf], path: &TreePath) -> Option<Meta> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;
    let path = std::ffi::OsStr::from_bytes(path.as_bytes());
    let found = lower.iter().find_map(|layer| std::fs::symlink_metadata(layer.join(path)).ok())?;
    let nanos = u32::try_from(found.mtime_nsec()).unwrap_or(0);
    found.is_dir().then(|| Meta {
        mode: found.mode() & 0o7777,
        uid: found.uid(),
        gid: found.gid(),
        modified: Timestamp(found.mtime(), nanos),
        xattrs: Some(Vec::new()),
    })
}

fn check_shared(seen: &mut HashMap<TreePath, EntryType>, item: &Item) -> Result<()> {
    use EntryType as E;
    let kind = item.kind;
    let known = matches!(kind, E::Regular | E::GNUSparse | E::Directory | E::Symlink | E::Fifo | E::Link);
    let above = std::iter::successors(item.path.parent(), TreePath::parent);
    let leads_out =
        above.into_iter().any(|folder| seen.get(&folder).is_some_and(|kind| *kind != E::Directory));
    if !known || leads_out || seen.len() >= SHARED_MAX {
        return Err(refused(&item.path, "what does not belong into /dev/shm"));
    }
    if kind == E::Link && !matches!(seen.get(&tree_path(&item.target)?), Some(E::Regular | E::GNUSparse)) {
        return Err(damaged("a hard link to nothing in /dev/shm"));
    }
    match seen.insert(item.path.clone(), kind) {
        Some(_) => Err(twice(item)),
        None => Ok(()),
    }
}

fn regular(item: &Item) -> Result<()> {
    match item.kind {
        EntryType::Regular | EntryType::Continuous => Ok(()),
        _ => Err(refused(&item.path, "what is no plain file")),
    }
}

fn json(item: &Item, content: &mut dyn Read) -> Result<(Value, Vec<u8>)> {
    regular(item)?;
    if item.size > JSON_LENGTH_MAX {
        return Err(refused(&item.path, "a file that is too long"));
    }
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(cannot_read)?;
    let value = serde_json::from_slice(&bytes).map_err(|e| {
        Error::Corrupt(Report::new(format!("not JSON in the archive: {}", item.path)).because(e))
    })?;
    Ok((value, bytes))
}

fn twice(item: &Item) -> Error {
    damaged(&format!("{} stands in it twice", item.path))
}

fn lacks(name: &str) -> Error {
    let report = Report::new(format!("not a whole checkpoint archive: {name} is not in it"));
    Error::Corrupt(report.remedy("give a file that `podman container checkpoint --export` wrote"))
}

/// Writes down what is read.
struct Tee<'a> {
    from: &'a mut dyn Read,
    to: &'a mut NewFile,
    failed: Option<Error>,
}

impl Tee<'_> {
    fn drain(mut self) -> Result<()> {
        let copied = io::copy(&mut self, &mut io::sink()).map_err(cannot_read);
        self.failed.map_or(copied.map(drop), Err)
    }
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(buffer)?;
        if let Err(error) = self.to.write(&buffer[..read]) {
            self.failed = Some(error);
            return Err(io::ErrorKind::StorageFull.into());
        }
        Ok(read)
    }
}
