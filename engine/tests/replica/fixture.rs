//! Stores with images in them, and places to send them to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use engine::certificates;
use engine::compat::Host;
use engine::durable::atomic_write;
use engine::images::{About, Codec, Hot, KeySource, Keyring, RuntimeFacts, Settings, StageNeeds, Store};
use engine::replica::bucket::Bucket;
use engine::replica::objects::{Access, Cloud, Folder, Provider};
use engine::replica::peer::{Address, Arrived, Holding, Peer, Receiver};
use engine::replica::tls::Files;
use engine::replica::{Epochs, Pace, Replica};
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::time::WallTime;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::s3;

/// Longer than anything takes on a busy host.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// More than a piece, and no multiple of one.
pub(crate) const BIG: usize = (20 << 20) + 12_345;

/// A store in a folder of its own.
pub(crate) struct Local {
    pub(crate) folder: TempDir,
    pub(crate) store: Store,
}

/// A place, and what has to live as long as it does.
pub(crate) struct Site {
    pub(crate) kind: &'static str,
    pub(crate) replica: Arc<Replica>,
    /// Where its files lie on this host, for damage.
    pub(crate) files: PathBuf,
    /// What it is reached through, to make another one of the same.
    pub(crate) again: Box<dyn Fn() -> Arc<Replica> + Send + Sync>,
    _keep: Vec<Box<dyn std::any::Any + Send + Sync>>,
}

/// A node that receives.
pub(crate) struct Remote {
    pub(crate) folder: PathBuf,
    pub(crate) files: Files,
    pub(crate) holding: Holding,
    pub(crate) port: u16,
    pub(crate) arrived: mpsc::Receiver<Arrived>,
    /// The one that it receives into.
    pub(crate) own: Store,
    task: JoinHandle<()>,
}

impl Local {
    pub(crate) fn new() -> Self {
        Self::with(Keyring::none())
    }

    /// One whose images are encrypted under a key of this byte.
    pub(crate) fn encrypted(byte: u8) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("key");
        atomic_write(&path, &[byte; 32], 0o600).expect("written");
        Self::with(Keyring::load(Some(&KeySource::File(path)), &[]).expect("a key"))
    }

    fn with(keys: Keyring) -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let store = open_with(folder.path(), keys);
        Self { folder, store }
    }

    /// A durable image of so many bytes that no codec makes smaller.
    pub(crate) fn take(&self, id: &str, bytes: usize) -> ImageId {
        let id = image(id);
        self.take_hot(id.as_str(), &noise(&id, bytes));
        self.store.commit(&id, &AtomicBool::new(false)).expect("committed");
        id
    }

    /// An image in memory, with these pages.
    pub(crate) fn take_hot(&self, id: &str, pages: &[u8]) -> Hot {
        let id = image(id);
        let staging = self.store.stage(&service(), &id, StageNeeds::default()).expect("staged");
        fs::write(staging.criu_dir().join("core-1.img"), b"a small one").expect("written");
        fs::write(staging.criu_dir().join("pages-1.img"), pages).expect("written");
        fs::write(staging.files_dir().join("index.json"), b"{}").expect("written");
        staging.seal(about(&id)).expect("sealed")
    }

    pub(crate) fn contents(&self, id: &ImageId) -> BTreeMap<String, Vec<u8>> {
        contents(&self.store, id)
    }
}

/// What CRIU would be given.
pub(crate) fn contents(store: &Store, id: &ImageId) -> BTreeMap<String, Vec<u8>> {
    let prepared = store.open_for_restore(id).expect("it can be restored");
    let entries = fs::read_dir(prepared.criu_dir()).expect("a folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|e| (e.file_name().into_string().expect("UTF-8"), fs::read(e.path()).expect("read")))
        .collect()
}

impl Site {
    pub(crate) fn folder() -> Self {
        let keep = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let root = keep.path().to_owned();
        let again = move || bucket(Arc::new(Folder::new(root.clone())), "file");
        Self {
            kind: "folder",
            replica: again(),
            files: keep.path().to_owned(),
            again: Box::new(again),
            _keep: vec![Box::new(keep)],
        }
    }

    pub(crate) async fn s3() -> (Self, s3::Server) {
        let server = s3::Server::start().await;
        let endpoint = server.endpoint.clone();
        let credentials = server.credentials.clone();
        let again = move || {
            let access = Access {
                provider: Provider::S3,
                url: format!("s3://{}/some/prefix", s3::BUCKET),
                endpoint: Some(endpoint.clone()),
                region: Some("us-east-1".to_owned()),
                credentials_file: Some(credentials.clone()),
                timeout: Duration::from_secs(10),
            };
            bucket(Arc::new(Cloud::new(&access).expect("usable")), "s3")
        };
        let files = server.folder.join(s3::BUCKET).join("some/prefix");
        (Self { kind: "s3", replica: again(), files, again: Box::new(again), _keep: Vec::new() }, server)
    }

    pub(crate) async fn peer() -> (Self, Remote) {
        let keep = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let pki = keep.path().join("pki");
        let files = files(&pki, "alpha");
        let remote = Remote::start(&keep.path().join("node"), &self::files(&pki, "beta"), 0).await;
        let port = remote.port;
        let again = move || replica_of(peer(port, &files));
        let folder = remote.folder.join("images");
        (
            Self {
                kind: "peer",
                replica: again(),
                files: folder,
                again: Box::new(again),
                _keep: vec![Box::new(keep)],
            },
            remote,
        )
    }
}

impl Remote {
    pub(crate) async fn start(folder: &Path, files: &Files, port: u16) -> Self {
        let own = open(folder);
        let store = own.clone();
        let epochs = Epochs::open(folder.join("epochs")).expect("opened");
        let (sender, arrived) = mpsc::channel(64);
        let holding = Holding::default();
        let receiver =
            Receiver::new(store, (epochs, holding.clone()), files.clone(), sender).expect("usable");
        let receiver = receiver.named("beta".to_owned());
        let listener = engine::https::bind("127.0.0.1", port, "api.listen").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let task = tokio::spawn(receiver.serve(listener));
        Self { folder: folder.to_owned(), files: files.clone(), holding, port, arrived, own, task }
    }

    /// Ends it as a kill does: connections are cut, nothing is said; and starts another on the same port and folder.
    pub(crate) async fn restart(self) -> Self {
        let (folder, files, port) = (self.folder.clone(), self.files.clone(), self.port);
        self.stop().await;
        Self::start(&folder, &files, port).await
    }

    pub(crate) async fn stop(self) {
        self.task.abort();
        // Aborted is what it was to be.
        let _ = self.task.await;
    }

    pub(crate) fn store(&self) -> Store {
        open(&self.folder)
    }
}

/// The certificate of a node, made by the authority in a folder, which is made if there is none.
pub(crate) fn files(pki: &Path, name: &str) -> Files {
    if !pki.join("ca.crt").exists() {
        certificates::init(pki).expect("an authority");
    }
    let addresses = vec!["127.0.0.1".to_owned()];
    let node = certificates::Node { name: name.to_owned(), addresses, days: 30 };
    let issued = certificates::issue(pki, &node).expect("issued");
    Files { ca: pki.join("ca.crt"), cert: issued.cert, key: issued.key }
}

pub(crate) fn peer(port: u16, files: &Files) -> Peer {
    let timeout = Duration::from_secs(10);
    Peer::new(Address { host: "127.0.0.1".to_owned(), port, files: files.clone(), timeout })
}

pub(crate) fn replica_of(place: impl engine::replica::Place + 'static) -> Arc<Replica> {
    Arc::new(Replica::new("test://replica", Box::new(place), Pace::unlimited()))
}

pub(crate) fn bucket(objects: Arc<dyn engine::replica::objects::Objects>, url: &str) -> Arc<Replica> {
    replica_of(Bucket::new(objects, url, "alpha"))
}

pub(crate) fn open(folder: &Path) -> Store {
    open_with(folder, Keyring::none())
}

fn open_with(folder: &Path, keys: Keyring) -> Store {
    let settings = Settings {
        path: folder.join("images"),
        hot: Some(folder.join("hot")),
        hot_max_size: None,
        keep_hot: 0,
        codec: Codec::None,
        min_free: 0,
        max_total_size: None,
        keys,
    };
    Store::open(settings).expect("the store opens").0
}

/// Sends an image as the supervisor does.
pub(crate) async fn send(
    replica: &Replica,
    store: &Store,
    id: &ImageId,
    epoch: u64,
) -> engine::Result<engine::replica::Sent> {
    let outgoing = Arc::new(store.outgoing(id).expect("durable"));
    replica.send(&outgoing, Epoch(epoch)).await
}

pub(crate) async fn listed(replica: &Replica) -> Vec<String> {
    let images = replica.images(&service()).await.expect("listed");
    images.iter().map(|copy| copy.head.id().to_string()).collect()
}

pub(crate) fn service() -> ServiceName {
    ServiceName::try_from("web").expect("a name")
}

pub(crate) fn image(id: &str) -> ImageId {
    ImageId::try_from(id).expect("an id")
}

/// The biggest file whose path holds this word, under a folder.
pub(crate) fn biggest(folder: &Path, word: &str) -> PathBuf {
    let files = walk(folder).into_iter().filter(|path| path.display().to_string().contains(word));
    files.max_by_key(|path| fs::metadata(path).map_or(0, |m| m.len())).expect("there is one")
}

pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

pub(crate) fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn about(id: &ImageId) -> About {
    About {
        // Ids of these tests end in a digit: later ones were taken later.
        taken_at: WallTime::from_unix_nanos(u64::from(id.as_str().bytes().last().expect("not empty"))),
        node: "alpha".to_owned(),
        epoch: Epoch(1),
        runtime: RuntimeFacts {
            kind: "process".to_owned(),
            program: "0123".to_owned(),
            versions: BTreeMap::new(),
        },
        host: Host {
            boot_id: "a boot".to_owned(),
            kernel: "6.18.5".to_owned(),
            architecture: "x86_64".to_owned(),
            cpu_features: vec!["sse".to_owned()],
            criu: "4.1.1".to_owned(),
        },
        container_digest: None,
        parent: None,
        verdict: ImageVerdict::Unjudged,
        pause_us: 1,
        runtime_state: serde_json::json!({}),
        volumes: Vec::new(),
    }
}

fn noise(id: &ImageId, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(id.as_str().as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}
