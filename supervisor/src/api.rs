//! The API: HTTP/1.1 and JSON on a unix socket that only its owner may open, and over HTTPS for whoever has the token.
//!
//! A route and its description in the OpenAPI document are one thing.
//! It shows published state and passes requests on; it never holds a service's state and never delays a service: requests to a
//! service's task have a limit, the store is read on threads of their own, long reading is admitted one at a time.
//! What each address answers stands in `docs/cli.md`.

mod answer;
mod carry;
mod document;
mod events;
mod https;
mod images;
mod metrics;
mod nodes;
mod page;
mod replicas;
mod services;
mod sites;
mod socket;

use std::future::IntoFuture;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::header;
use axum::routing::get;
use axum::{Json, Router};
use engine::error::{Error, Report};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

#[cfg(test)]
pub(crate) use answer::LeftImage;
pub(crate) use answer::{ErrorBody, RekeyedImages, VerifiedImage, Version};
pub(crate) use https::Entrance;
pub(crate) use nodes::DrainedService;
pub(crate) use replicas::FetchBody;
pub(crate) use services::{ActionBody, ReportAnswer, ReportBody};

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

impl Api {
    fn new(control: Control, stop: CancellationToken) -> Self {
        let one = || Arc::new(Semaphore::new(1));
        let exporting = Arc::new(Semaphore::new(EXPORTS_MAX));
        Self { control, stop, verifying: one(), exporting, importing: one() }
    }
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

/// Everything that answers: the socket, and the way in over HTTPS if there is one.
#[derive(Debug)]
pub(crate) struct Doors {
    /// The socket.
    pub(crate) socket: Door,
    /// The way in over HTTPS.
    pub(crate) https: Option<Entrance>,
}

impl Doors {
    /// Answers until `stop`; then requests under way get a moment to end.
    ///
    /// # Errors
    /// `Internal` when the socket fails.
    pub(crate) async fn serve(self, control: Control, stop: CancellationToken) -> engine::Result<()> {
        let Self { socket: Door { listener, _file }, https } = self;
        let router = router(Api::new(control, stop.clone()));
        let remote = https.map(|https| https.serve(router.clone(), stop.clone()));
        let remote = async {
            if let Some(remote) = remote {
                remote.await;
            }
            Ok(())
        };
        let serving = axum::serve(listener, router).with_graceful_shutdown(stop.clone().cancelled_owned());
        let cut = async {
            stop.cancelled().await;
            tokio::time::sleep(ENDING_MAX).await;
        };
        let both = async { tokio::try_join!(serving.into_future(), remote) };
        tokio::select! {
            ended = both => ended.map(drop).map_err(|e| Error::Internal(Report::new("serve the API").because(e))),
            () = cut => Ok(()),
        }
    }
}

fn router(api: Api) -> Router {
    let (router, document) = routes().split_for_parts();
    let document = Arc::new(document::text(&document));
    let openapi = async move || ([(header::CONTENT_TYPE, "application/json")], document.as_str().to_owned());
    router
        .route("/v1/openapi.json", get(openapi))
        .merge(page::routes())
        .fallback(async || Failure::absent("no such address; see docs/cli.md for those there are"))
        .method_not_allowed_fallback(async || Failure::method())
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(axum::middleware::from_fn(sites::refuse_others))
        .with_state(api)
}

/// Every address that is described, with its description.
fn routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(document::frame())
        .routes(routes!(version))
        .routes(routes!(status))
        .routes(routes!(metrics::metrics))
        .routes(routes!(events::events))
        .routes(routes!(images::list))
        .routes(routes!(images::verify))
        .routes(routes!(images::pin))
        .routes(routes!(images::unpin))
        .routes(routes!(carry::export))
        .routes(routes!(carry::import))
        .routes(routes!(images::rekey))
        .routes(routes!(replicas::images))
        .routes(routes!(replicas::fetch))
        .routes(routes!(nodes::nodes))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::undrain))
        .routes(routes!(nodes::forget))
        .routes(routes!(services::act))
        .routes(routes!(services::report))
}

/// Who answers.
#[utoipa::path(get, path = "/v1/version", responses(
    (status = 200, description = "Who answers", body = Version)))]
async fn version(State(api): State<Api>) -> Json<Version> {
    let node = api.control.status().await;
    Json(Version { version: node.version, api: API_VERSION, node: node.node, pid: node.pid })
}

/// The node and its services as they are now.
#[utoipa::path(get, path = "/v1/status", responses(
    (status = 200, description = "The node", body = NodeStatus)))]
async fn status(State(api): State<Api>) -> Json<NodeStatus> {
    Json(api.control.status().await)
}
#[cfg(test)]
pub(crate) mod tests;
