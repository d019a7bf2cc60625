//! The nodes of the cluster, and taking this one out of it for a while.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::{ErrorBody, Failure};
use super::services::{ActionBody, parse, wait};
use crate::drain::{Occasion, bring_to_safety};
use crate::notices::answer;
use crate::status::Answer;
use crate::tenure::{NodeSeen, Nodes};

/// What became of one service when its node was drained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct DrainedService {
    /// Which.
    pub(crate) service: String,
    /// `done`: it serves elsewhere, or was not held here; `stays`: no other node may run it; else as in [`Answer`].
    pub(crate) outcome: String,
    /// For people.
    pub(crate) text: String,
}

/// The nodes of the cluster, as this one sees them.
#[utoipa::path(get, path = "/v1/nodes", responses((status = 200, description = "Nodes", body = Vec<NodeSeen>), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn nodes(State(api): State<Api>) -> Result<Json<Vec<NodeSeen>>, Failure> {
    Ok(Json(known(&api)?.seen()))
}

/// Takes this node out of the cluster: services go elsewhere one after the other, and none comes here any more.
#[utoipa::path(post, path = "/v1/drain", request_body(content = Option<ActionBody>, description = "May be left out"), responses((status = 200, description = "What became of each service", body = Vec<DrainedService>), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn drain(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Vec<DrainedService>>, Failure> {
    let limit = wait(parse(&body?)?.wait_seconds)?;
    if let Some(nodes) = api.control.nodes() {
        nodes.set_draining(true)?;
    }
    let deadline = tokio::time::Instant::now() + limit;
    let mut drained = Vec::new();
    for service in api.control.status().await.services {
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let Answer { outcome, text, .. } =
            bring_to_safety(&api.control, &service, Occasion::Drain, left).await;
        drained.push(DrainedService { service: service.name, outcome, text });
    }
    Ok(Json(drained))
}

/// Puts this node back: it may take services over again. None comes back by itself.
#[utoipa::path(post, path = "/v1/undrain", responses((status = 200, description = "Done", body = Answer), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn undrain(State(api): State<Api>) -> Result<Json<Answer>, Failure> {
    known(&api)?.set_draining(false)?;
    Ok(Json(answer("done", "this node takes services over again")))
}

/// Removes what a node that is gone has said: it is not shown as silent any more.
#[utoipa::path(post, path = "/v1/nodes/{node}/forget", params(("node" = String, Path, description = "Its name")), responses((status = 200, description = "Done", body = Answer), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn forget(
    State(api): State<Api>,
    Path(node): Path<String>,
) -> Result<Json<Answer>, Failure> {
    Ok(Json(match known(&api)?.forget(&node).await {
        Ok(()) => answer("done", format!("{node} is forgotten")),
        Err(why) => answer("denied", why),
    }))
}

fn known(api: &Api) -> Result<&Nodes, Failure> {
    let alone = "this node stands alone: no service has `failover`, so there is no cluster";
    api.control.nodes().ok_or_else(|| Failure::absent(alone))
}
