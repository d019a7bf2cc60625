//! The API: HTTP/1.1 and JSON on a unix socket that only its owner may open.
//!
//! It shows published state and passes requests on; it never holds a service's state and never delays a service: requests to a
//! service's task have a limit, the store is read on threads of their own, long reading is admitted one at a time.
//! What each address answers stands in `docs/cli.md`.

mod answer;
mod carry;
mod events;
mod images;
mod nodes;
mod replicas;
mod services;
mod socket;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use engine::error::{Error, Report};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

#[cfg(test)]
pub(crate) use answer::LeftImage;
pub(crate) use answer::{ErrorBody, RekeyedImages, VerifiedImage, Version};
pub(crate) use nodes::DrainedService;
pub(crate) use replicas::FetchBody;
pub(crate) use services::ActionBody;

use crate::control::Control;
use crate::status::NodeStatus;
use answer::Failure;

/// The version that stands in every address.
pub(crate) const API_VERSION: u32 = 1;
/// No request needs more, but an archive, which is read as it comes.
const BODY_MAX: usize = 16 << 10;
/// How long requests under way may go on once we are to stop.
const ENDING_MAX: Duration = Duration::from_secs(2);
/// Images that are exported at the same time; verifying and importing go one by one.
const EXPORTS_MAX: usize = 2;

/// What every request gets.
#[derive(Debug, Clone)]
struct Api {
    control: Control,
    stop: CancellationToken,
    verifying: Arc<Semaphore>,
    exporting: Arc<Semaphore>,
    importing: Arc<Semaphore>,
}

/// The bound socket; its file is removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    _file: socket::OwnFile,
}

/// Binds the socket (0600 from its first moment) and takes the place of one that a dead supervisor left.
///
/// # Errors
/// `Refused` when somebody answers there, or something else lies there.
pub(crate) async fn bind(socket: &Path) -> engine::Result<Door> {
    let (listener, file) = socket::bind(socket).await?;
    Ok(Door { listener, _file: file })
}

impl Door {
    /// Answers until `stop`; then requests under way get a moment to end.
    ///
    /// # Errors
    /// `Internal` when the socket fails.
    pub(crate) async fn serve(self, control: Control, stop: CancellationToken) -> engine::Result<()> {
        let Self { listener, _file } = self;
        let api = Api {
            control,
            stop: stop.clone(),
            verifying: Arc::new(Semaphore::new(1)),
            exporting: Arc::new(Semaphore::new(EXPORTS_MAX)),
            importing: Arc::new(Semaphore::new(1)),
        };
        let serving =
            axum::serve(listener, router(api)).with_graceful_shutdown(stop.clone().cancelled_owned());
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(ENDING_MAX).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(|e| Error::Internal(Report::new("serve the API").because(e))),
            () = cut => Ok(()),
        }
    }
}

fn router(api: Api) -> Router {
    Router::new()
        .route("/v1/version", get(version))
        .route("/v1/status", get(status))
        .route("/v1/events", get(events::events))
        .route("/v1/images", get(images::list))
        .route("/v1/images/{id}/verify", post(images::verify))
        .route("/v1/images/{id}/pin", post(images::pin))
        .route("/v1/images/{id}/unpin", post(images::unpin))
        .route("/v1/images/{id}/export", get(carry::export))
        .route("/v1/images/import", post(carry::import))
        .route("/v1/rekey", post(images::rekey))
        .route("/v1/replicas/images", get(replicas::images))
        .route("/v1/replicas/fetch", post(replicas::fetch))
        .route("/v1/nodes", get(nodes::nodes))
        .route("/v1/drain", post(nodes::drain))
        .route("/v1/undrain", post(nodes::undrain))
        .route("/v1/services/{name}/{action}", post(services::act))
        .fallback(async || Failure::absent("no such address; see docs/cli.md for those there are"))
        .method_not_allowed_fallback(async || Failure::method())
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .with_state(api)
}

async fn version(State(api): State<Api>) -> Json<Version> {
    let node = api.control.status().await;
    Json(Version { version: node.version, api: API_VERSION, node: node.node, pid: node.pid })
}

async fn status(State(api): State<Api>) -> Json<NodeStatus> {
    Json(api.control.status().await)
}
#[cfg(test)]
pub(crate) mod tests;
