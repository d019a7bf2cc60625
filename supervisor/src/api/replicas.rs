//! Replicas over the API: what they have, and the way back from them.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::{BytesRejection, QueryRejection};
use axum::extract::{Query, State};
use engine::replica::Replica;
use policies::id::ServiceName;
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::{ErrorBody, Failure};
use crate::replicas::{self, FetchedImage, ReplicaImage};

/// Which replica, and whose images.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// The replica's URL, or its number from 0.
    replica: String,
    /// Only images of this service.
    service: Option<String>,
}

/// What is to be fetched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchBody {
    /// The replica's URL or number.
    pub(crate) replica: String,
    /// The image.
    pub(crate) image: String,
}

/// What a replica has.
#[utoipa::path(get, path = "/v1/replicas/images",
    params(Which),
    responses((status = 200, description = "Images", body = Vec<ReplicaImage>), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn images(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<ReplicaImage>>, Failure> {
    let Query(Which { replica, service }) = which.map_err(|e| Failure::bad(e.body_text()))?;
    Ok(Json(replicas::images(find(&api, &replica)?.as_ref(), service.as_deref()).await?))
}

/// Brings an image back from a replica; answers when it is in the store, whole.
#[utoipa::path(post, path = "/v1/replicas/fetch",
    request_body(content = FetchBody),
    responses((status = 200, description = "It is in the store", body = FetchedImage), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn fetch(
    State(api): State<Api>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<FetchedImage>, Failure> {
    let FetchBody { replica, image } = serde_json::from_slice(&body?)
        .map_err(|e| Failure::bad(format!("the body is not understood: {e}")))?;
    let fetched = replicas::fetch(find(&api, &replica)?.as_ref(), api.control.store(), &image).await?;
    if let Ok(service) = ServiceName::try_from(fetched.service.as_str()) {
        api.control.images_changed(&service).await;
    }
    Ok(Json(fetched))
}

fn find(api: &Api, named: &str) -> Result<Arc<Replica>, Failure> {
    let found = api.control.replicas().find(named);
    found.ok_or_else(|| Failure::absent(format!("there is no replica {named} in the configuration")))
}
