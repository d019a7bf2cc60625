//! A server of S3 in this process. Its writes go one by one: `s3s-fs` looks at a condition and writes in two steps.

use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use s3s::access::S3Access;
use s3s::auth::SimpleAuth;
use s3s::dto::PutObjectInput;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{S3Request, S3Result};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

pub(crate) const BUCKET: &str = "images";

/// Ends when it is dropped.
pub(crate) struct Server {
    pub(crate) endpoint: String,
    pub(crate) folder: PathBuf,
    pub(crate) credentials: PathBuf,
    faults: Arc<Faults>,
    task: JoinHandle<()>,
    _keep: TempDir,
}

/// What goes wrong.
#[derive(Default)]
struct Faults {
    /// Writes that are still let through; negative: all are.
    writes_left: AtomicI64,
    /// Whether conditions are looked at.
    ignores_conditions: AtomicBool,
}

/// Looks at each write after its signature was found right.
struct Gate(Arc<Faults>);

impl S3Access for Gate {
    fn put_object<'s, 'r, 'f>(
        &'s self,
        request: &'r mut S3Request<PutObjectInput>,
    ) -> Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'f>>
    where
        's: 'f,
        'r: 'f,
        Self: 'f,
    {
        if self.0.ignores_conditions.load(Ordering::SeqCst) {
            (request.input.if_match, request.input.if_none_match) = (None, None);
        }
        Box::pin(std::future::ready(Ok(())))
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        let keep = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let folder = keep.path().join("objects");
        std::fs::create_dir_all(folder.join(BUCKET)).expect("created");
        let credentials = keep.path().join("keys");
        std::fs::write(&credentials, "# ours\naws_access_key_id = key\naws_secret_access_key = secret\n")
            .expect("written");
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(&folder).expect("a folder"));
        service.set_auth(SimpleAuth::from_single("key", "secret"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
        let faults = Arc::new(Faults { writes_left: AtomicI64::new(-1), ..Faults::default() });
        service.set_access(Gate(Arc::clone(&faults)));
        let task = tokio::spawn(serve(listener, service.build(), Arc::clone(&faults)));
        Self { endpoint, folder, credentials, faults, task, _keep: keep }
    }

    /// After so many further writes connections break off instead.
    pub(crate) fn break_after(&self, writes: i64) {
        self.faults.writes_left.store(writes, Ordering::SeqCst);
    }

    /// Writes work again.
    pub(crate) fn mend(&self) {
        self.faults.writes_left.store(-1, Ordering::SeqCst);
    }

    /// From now on it is one of the servers that ignore `If-Match` and `If-None-Match`.
    pub(crate) fn ignore_conditions(&self) {
        self.faults.ignores_conditions.store(true, Ordering::SeqCst);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, service: S3Service, faults: Arc<Faults>) {
    let writing = Arc::new(Mutex::new(()));
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let (service, faults, writing) = (service.clone(), Arc::clone(&faults), Arc::clone(&writing));
        let answer = service_fn(move |request: Request<Incoming>| {
            let (service, faults, writing) = (service.clone(), Arc::clone(&faults), Arc::clone(&writing));
            async move {
                let is_write = request.method() == Method::PUT;
                let _alone = if is_write { Some(writing.lock().await) } else { None };
                if is_write && faults.breaks() {
                    return Err(std::io::Error::other("broken on purpose"));
                }
                Service::call(&service, request).await.map_err(|e| std::io::Error::other(format!("{e:?}")))
            }
        });
        tokio::spawn(
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer),
        );
    }
}

impl Faults {
    fn breaks(&self) -> bool {
        let count = |left: i64| if left > 0 { Some(left - 1) } else { None };
        match self.writes_left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count) {
            Ok(_) => false,
            Err(left) => left == 0,
        }
    }
}
