//! The store as its callers see it, on real file systems: the disk's, and tmpfs for what is hot.

#![expect(clippy::disallowed_methods, reason = "tests write as CRIU does, and damage what was written")]

mod carry;
mod crash;
mod damage;
mod encryption;
mod full;
mod handover;
mod life;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::time::WallTime;

use super::{
    About, Codec, Hot, KeySource, Keyring, Manifest, Prepared, RuntimeFacts, Settings, StageNeeds, Store,
};
use crate::compat::Host;
use crate::durable;

const MIB: usize = 1 << 20;
const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

/// A store on disk and in memory, for one test.
struct Fixture {
    disk: tempfile::TempDir,
    memory: tempfile::TempDir,
    /// Key files: that of new images first, then former ones; none, and images are not encrypted.
    keys: Vec<PathBuf>,
}

/// What an image holds: names and contents, CRIU's and the captured.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Content {
    criu: BTreeMap<String, Vec<u8>>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Fixture {
    fn new() -> Self {
        let memory = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        Self { disk: tempfile::tempdir().expect("a folder on disk"), memory, keys: Vec::new() }
    }

    /// One whose disk is in memory too: for tests that damage and look thousands of times, and don't need the syncs.
    fn quick() -> Self {
        let folder = || tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        Self { disk: folder(), memory: folder(), keys: Vec::new() }
    }

    /// The same with images encrypted under a key of these bytes.
    fn encrypted(mut self, key: u8) -> Self {
        self.use_key(key);
        self
    }

    /// From now on new images get another key; the one before it is a former one.
    fn use_key(&mut self, key: u8) {
        let path = self.memory.path().join(format!("key-{key}"));
        durable::atomic_write_volatile(&path, &[key; 32], 0o600).expect("written");
        self.keys.insert(0, path);
    }

    fn settings(&self) -> Settings {
        settings_in(self.disk.path(), self.memory.path(), &self.keys)
    }

    /// Opens the store as a start of the supervisor does.
    fn store(&self) -> Store {
        Store::open(self.settings()).expect("the store opens").0
    }

    fn store_with(&self, change: impl Fn(&mut Settings)) -> Store {
        let mut settings = self.settings();
        change(&mut settings);
        Store::open(settings).expect("the store opens").0
    }

    /// The folder of a durable image.
    fn image(&self, id: &str) -> PathBuf {
        self.disk.path().join("store/web").join(id)
    }

    /// The folder of a hot image.
    fn hot(&self, id: &str) -> PathBuf {
        self.memory.path().join("hot/web").join(id)
    }

    fn mark(&self, name: &str) -> PathBuf {
        self.disk.path().join("store/web/.marks").join(name)
    }
}

impl Content {
    /// A few bytes in every kind of file.
    fn small(seed: u8) -> Self {
        let criu = [
            ("inventory.img", vec![seed; 30]),
            ("core-1.img", noise(seed, 90)),
            ("empty.img", vec![]),
            ("pages-1.img", [noise(seed, 300), vec![0; 8000]].concat()),
        ];
        let files = [("index.json", b"{\"files\": 1}".to_vec()), ("blobs.pack", noise(seed, 70))];
        Self { criu: named(criu), files: named(files) }
    }

    /// Zeros, holes, noise, repetition, odd lengths, more than one block.
    fn varied(seed: u8) -> Self {
        let mut mixed = noise(seed, 2 * MIB + 4097);
        mixed[MIB / 2..MIB + 5000].fill(0);
        let criu = [
            ("inventory.img", vec![seed; 30]),
            ("tmpfs-dev-1.tar.gz.img", noise(seed, MIB + 1)),
            ("pages-1.img", mixed),
            ("pages-2.img", vec![0; MIB + 5]),
            ("pages-10.img", vec![seed | 1; MIB / 2]),
            ("empty.img", vec![]),
            ("pages-3.img", vec![]),
        ];
        let files =
            [("index.json", b"{}".to_vec()), ("blobs.pack", [noise(seed, 70_000), vec![0; MIB]].concat())];
        Self { criu: named(criu), files: named(files) }
    }

    /// Writes it as CRIU and the capture do.
    fn write(&self, criu: &Path, files: &Path) {
        for (folder, content) in [(criu, &self.criu), (files, &self.files)] {
            content.iter().for_each(|(name, bytes)| fs::write(folder.join(name), bytes).expect("written"));
        }
    }

    fn of(prepared: &Prepared) -> Self {
        Self { criu: contents(prepared.criu_dir()), files: contents(prepared.files_dir()) }
    }
}

fn settings_in(disk: &Path, memory: &Path, keys: &[PathBuf]) -> Settings {
    Settings {
        path: disk.join("store"),
        hot: Some(memory.join("hot")),
        hot_max_size: None,
        keep_hot: 1,
        codec: Codec::Zstd,
        keys: keyring(keys),
        min_free: 0,
        max_total_size: None,
    }
}

fn keyring(keys: &[PathBuf]) -> Keyring {
    let sources: Vec<KeySource> = keys.iter().cloned().map(KeySource::File).collect();
    Keyring::load(sources.first(), sources.get(1..).unwrap_or_default()).expect("keys")
}

/// Stages, dumps and seals.
fn take(store: &Store, id: &str, content: &Content) -> Hot {
    let staging = store.stage(&service(), &image(id), StageNeeds::default()).expect("staged");
    content.write(&staging.criu_dir(), &staging.files_dir());
    staging.seal(about(id)).expect("sealed")
}

fn commit(store: &Store, id: &str) -> Manifest {
    store.commit(&image(id), &AtomicBool::new(false)).expect("committed")
}

/// Takes an image and makes it durable.
fn keep(store: &Store, id: &str, content: &Content) {
    take(store, id, content);
    commit(store, id);
}

fn restored(store: &Store, id: &str) -> Content {
    Content::of(&store.open_for_restore(&image(id)).expect("it can be restored"))
}

fn service() -> ServiceName {
    ServiceName::try_from("web").expect("a name")
}

fn image(id: &str) -> ImageId {
    ImageId::try_from(id).expect("an id")
}

fn ids(store: &Store) -> Vec<String> {
    store.list(&service()).expect("listed").iter().map(|record| record.facts.id.to_string()).collect()
}

fn about(id: &str) -> About {
    About {
        // Ids of these tests end in a digit: later ones were taken later.
        taken_at: WallTime::from_unix_nanos(u64::from(id.bytes().last().expect("not empty"))),
        node: "node-1".to_owned(),
        epoch: Epoch(7),
        runtime: RuntimeFacts {
            kind: "process".to_owned(),
            program: "0123".to_owned(),
            versions: BTreeMap::new(),
        },
        host: Host {
            boot_id: "a boot".to_owned(),
            kernel: "6.18.5".to_owned(),
            architecture: "x86_64".to_owned(),
            cpu_features: vec!["avx".to_owned(), "sse".to_owned()],
            criu: "4.1.1".to_owned(),
        },
        container_digest: None,
        parent: None,
        verdict: ImageVerdict::Unjudged,
        pause_us: 1234,
        runtime_state: serde_json::json!({"pid": 7}),
        volumes: vec!["/data".to_owned()],
    }
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry"));
    let name = |entry: &fs::DirEntry| entry.file_name().into_string().expect("UTF-8");
    entries.map(|entry| (name(&entry), fs::read(entry.path()).expect("read"))).collect()
}

/// Everything under a folder, as paths relative to it.
fn tree(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).expect("a folder") {
            let path = entry.expect("an entry").path();
            found.push(path.strip_prefix(folder).expect("under it").to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

fn named<const N: usize>(files: [(&str, Vec<u8>); N]) -> BTreeMap<String, Vec<u8>> {
    files.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

/// Reproducible bytes that no codec makes smaller.
fn noise(seed: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut bytes);
    bytes
}
