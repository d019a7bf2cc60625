//! The API as its clients see it: over a real socket, with a real store and journal, and a service's task that answers by rote.

mod documents;
mod events;
mod https;
mod images;
mod page;
mod requests;
mod socket;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use engine::compat::Host;
use engine::images::{About, Codec, Keyring, RuntimeFacts, Settings, StageNeeds, Store};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::time::WallTime;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Doors, ReportAnswer};
use crate::control::{Control, Entry};
use crate::events::Events;
use crate::service::Message;
use crate::status::{Action, Answer, NodeStatus, ServiceStatus};

/// No answer of these tests takes that long.
pub(super) const LIMIT: Duration = Duration::from_secs(20);

/// A served API in folders of its own, with one service, `web`.
pub(crate) struct Fixture {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) control: Control,
    pub(crate) stop: CancellationToken,
    pub(crate) node: watch::Sender<NodeStatus>,
    images_changed: Arc<AtomicUsize>,
    serving: Option<JoinHandle<engine::Result<()>>>,
}

impl Fixture {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings {
            path: folder.path().join("store"),
            hot: None,
            hot_max_size: None,
            keep_hot: 0,
            codec: Codec::Zstd,
            keys: Keyring::none(),
            min_free: 0,
            max_total_size: None,
        };
        let (store, _) = Store::open(settings).expect("a store");
        let events = Events::open(&folder.path().join("events")).expect("a journal");
        let (node, published) = watch::channel(node_status());
        let control = Control::new(
            published,
            store.clone(),
            events.clone(),
            no_replicas(store, events),
            (crate::tenure::Tenures::default(), None),
        );
        let images_changed = Arc::new(AtomicUsize::new(0));
        control.insert(service(), web(Arc::clone(&images_changed))).await;
        let stop = CancellationToken::new();
        let mut fixture = Self { folder, control, stop, node, images_changed, serving: None };
        let socket = super::bind(&fixture.socket()).await.expect("a socket");
        let serving = Doors { socket, https: None }.serve(fixture.control.clone(), fixture.stop.clone());
        fixture.serving = Some(tokio::spawn(serving));
        fixture
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    /// Ends it and waits for the end.
    pub(super) async fn end(&mut self) {
        self.stop.cancel();
        let serving = self.serving.take().expect("it is ended once");
        tokio::time::timeout(LIMIT, serving).await.expect("it ends").expect("no panic").expect("no failure");
    }

    /// The status code and the document.
    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.call("GET", path, "").await
    }

    pub(super) async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.call("POST", path, body).await
    }

    async fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let response = self.send(method, path, body).await;
        let status = response.status().as_u16();
        let body = tokio::time::timeout(LIMIT, response.into_body().collect()).await.expect("in time");
        let body = body.expect("whole").to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(super) async fn send(&self, method: &str, path: &str, body: &str) -> Response<Incoming> {
        self.send_with(method, path, &[], body).await
    }

    pub(super) async fn send_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Response<Incoming> {
        let stream = UnixStream::connect(self.socket()).await.expect("somebody listens");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it is HTTP");
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "x");
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(Bytes::from(body.to_owned()))).expect("a request");
        let answered = tokio::time::timeout(LIMIT, sender.send_request(request)).await;
        answered.expect("in time").expect("an answer")
    }

    /// Keeps an image of `web`: two of CRIU's files, one of them too big for one chunk of an archive.
    pub(crate) async fn keep(&self, id: &str) -> ImageId {
        self.image(id, "4.2.1", true).await
    }

    pub(super) async fn image(&self, id: &str, criu: &str, durable: bool) -> ImageId {
        let (store, about) = (self.control.store().clone(), about(criu));
        let id = ImageId::try_from(id).expect("an id");
        let made = id.clone();
        let work = move || {
            let staging = store.stage(&service(), &made, StageNeeds::default()).expect("room");
            std::fs::write(staging.criu_dir().join("core-1.img"), b"core").expect("room");
            std::fs::write(staging.criu_dir().join("pages-1.img"), noise(700_000)).expect("room");
            staging.seal(about).expect("an image");
            if durable {
                store.commit(&made, &AtomicBool::new(false)).expect("room");
            }
        };
        tokio::task::spawn_blocking(work).await.expect("no panic");
        id
    }

    /// Changes one byte of an image on disk.
    pub(crate) fn damage(&self, id: &ImageId) {
        let mut folders = vec![self.folder.path().join("store")];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("it is there") {
                let path = entry.expect("it is there").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|e| e == "seg") && is_of(&path, id) {
                    let mut bytes = std::fs::read(&path).expect("it is there");
                    let middle = bytes.len() / 2;
                    bytes[middle] ^= 1;
                    std::fs::write(&path, bytes).expect("room");
                }
            }
        }
    }

    pub(super) async fn wait_for_images_changed(&self, times: usize) {
        let changed = async {
            while self.images_changed.load(Ordering::SeqCst) < times {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, changed).await.expect("the service's task is told");
    }
}

fn is_of(path: &std::path::Path, id: &ImageId) -> bool {
    path.components().any(|part| part.as_os_str() == id.as_str())
}

pub(super) fn service() -> ServiceName {
    ServiceName::try_from("web").expect("a name")
}

/// The task of `web`: checkpoints, refuses to stop, fails to restore, and never says how starting went.
fn web(images_changed: Arc<AtomicUsize>) -> Entry {
    let (inbox, mut messages) = mpsc::channel(8);
    let status = ServiceStatus { name: "web".to_owned(), state: "running".to_owned(), ..Default::default() };
    let (publish, published) = watch::channel(status);
    tokio::spawn(async move {
        let mut unanswered = Vec::new();
        while let Some(message) = messages.recv().await {
            match message {
                Message::Request { action: Action::Start, reply } => unanswered.push(reply),
                Message::Request { action, reply } => reply.send(by_rote(action)).expect("somebody waits"),
                Message::Report { report, reply } => {
                    let is_ours = report.run.as_deref() == Some("r1");
                    let outcome = if is_ours { "counted" } else { "other-run" }.to_owned();
                    let answer = ReportAnswer { outcome, text: report.text, run: Some("r1".to_owned()) };
                    reply.send(answer).expect("somebody waits");
                }
                Message::ImagesChanged(_) => {
                    images_changed.fetch_add(1, Ordering::SeqCst);
                }
                _ => {}
            }
        }
        drop(publish);
    });
    Entry { inbox, status: published }
}

fn by_rote(action: Action) -> Answer {
    let answer = |outcome: &str, text: &str, image: Option<String>| Answer {
        outcome: outcome.to_owned(),
        text: text.to_owned(),
        image,
        took_ms: Some(8.0),
    };
    match action {
        Action::Checkpoint => answer("done", "checkpoint taken", Some("i1".to_owned())),
        Action::Restore { image } => answer("failed", "cannot be restored", image),
        Action::Stop => answer("denied", "not now", None),
        Action::Start | Action::Suspend | Action::Resume | Action::Pause | Action::Unpause => {
            answer("already-so", "it is so", None)
        }
    }
}

pub(crate) fn node_status() -> NodeStatus {
    NodeStatus {
        node: "alpha".to_owned(),
        version: "0.1.0".to_owned(),
        pid: 1,
        criu: "4.2.1".to_owned(),
        started_at: "2026-11-22T20:00:00Z".to_owned(),
        config_file: "ha.toml".to_owned(),
        config_error: None,
        services: Vec::new(),
    }
}

fn about(criu: &str) -> About {
    About {
        taken_at: WallTime::from_unix_nanos(1_700_000_000_000_000_000),
        node: "alpha".to_owned(),
        epoch: Epoch(1),
        runtime: RuntimeFacts {
            kind: "process".to_owned(),
            program: "0123".to_owned(),
            versions: Default::default(),
        },
        host: Host::probe(criu).expect("/proc is there"),
        container_digest: None,
        parent: None,
        verdict: ImageVerdict::Good,
        pause_us: 8100,
        runtime_state: Value::Null,
        volumes: Vec::new(),
    }
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u8::try_from(state >> 56).expect("eight bits")
    };
    std::iter::repeat_with(next).take(length).collect()
}

/// A node that sends its images nowhere.
fn no_replicas(store: Store, events: Events) -> crate::replicas::Replicas {
    crate::replicas::Replicas::new(
        Vec::new(),
        store,
        events,
        (Arc::new(|_| policies::id::Epoch(0)), Arc::new(|_, _| ())),
    )
}
