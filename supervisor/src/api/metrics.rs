//! `GET /metrics`, for Prometheus and whoever reads its text.

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use engine::error::{Error, Report};

use super::Api;
use super::answer::{ErrorBody, Failure};
use super::images::in_store;
use crate::metrics::{Format, StoreFacts};
use crate::tenure::Nodes;

/// All metrics: Prometheus' text, or OpenMetrics for whoever accepts it.
#[utoipa::path(get, path = "/metrics", responses(
    (status = 200, description = "The metrics", content_type = "text/plain", body = String),
    (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn metrics(State(api): State<Api>, headers: HeaderMap) -> Result<Response, Failure> {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let format = Format::accepted(accept.unwrap_or_default());
    let store = in_store(&api, StoreFacts::of).await?;
    let nodes = api.control.nodes().map(Nodes::seen).unwrap_or_default();
    let encoded = api.control.metrics().encode(&api.control.status().await, &nodes, store, format);
    let encoded = encoded.map_err(|e| Error::Internal(Report::new("write the metrics").because(e)))?;
    Ok(([(header::CONTENT_TYPE, format.content_type())], encoded).into_response())
}
