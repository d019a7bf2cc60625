//! An S3 server in this process: s3s over a folder, one request at a time, since its comparing and writing are two steps.

use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{IF_MATCH, IF_NONE_MATCH};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use object_store::aws::AmazonS3Builder;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::lease::Keeper;
use crate::lease::bucket::Bucket;
use crate::lease::swap::SwapKeeper;

pub(super) struct S3Server {
    pub(super) port: u16,
    _folder: tempfile::TempDir,
}

impl S3Server {
    /// A server that does as it is told.
    pub(super) fn honest(request: Request<Incoming>) -> Request<Incoming> {
        request
    }

    /// One that does not know conditions.
    pub(super) fn careless(mut request: Request<Incoming>) -> Request<Incoming> {
        request.headers_mut().remove(IF_MATCH);
        request.headers_mut().remove(IF_NONE_MATCH);
        request
    }

    pub(super) async fn start(understands: fn(Request<Incoming>) -> Request<Incoming>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bucket")).unwrap();
        let service = S3ServiceBuilder::new(FileSystem::new(folder.path()).unwrap()).build();
        let one_at_a_time = Arc::new(Mutex::new(()));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, one_at_a_time) = (service.clone(), Arc::clone(&one_at_a_time));
                let answer = service_fn(move |request| {
                    let (service, one_at_a_time) = (service.clone(), Arc::clone(&one_at_a_time));
                    async move {
                        let _turn = one_at_a_time.lock().await;
                        service.call(understands(request).map(s3s::Body::from)).await
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
            }
        });
        Self { port, _folder: folder }
    }

    /// A keeper that reaches the server by this port.
    pub(super) fn keeper(&self, port: u16, limit: Duration) -> Arc<dyn Keeper> {
        let builder = AmazonS3Builder::new()
            .with_endpoint(format!("http://127.0.0.1:{port}"))
            .with_region("here")
            .with_skip_signature(true);
        let cells = Bucket::open("s3://bucket/some/prefix", builder, limit).unwrap();
        Arc::new(SwapKeeper { cells, clock: None, limit })
    }
}
