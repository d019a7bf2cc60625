//! Requests to one service: `POST /v1/services/{name}/{action}`.
//!
//! It refuses to wait longer than an hour; what takes longer goes on by itself and is seen in the events.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use policies::id::NodeName;
use serde::{Deserialize, Serialize};

use super::Api;
use super::answer::{ErrorBody, Failure};
use crate::status::{Action, Answer};

/// Longest wait for an answer, in seconds.
const WAIT_SECONDS_MAX: f64 = 3600.0;

/// The body of a request; it may be left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ActionBody {
    /// How long to wait for the end of it.
    pub(crate) wait_seconds: f64,
    /// Which image to restore.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) image: Option<String>,
    /// Which node to migrate to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
}

impl Default for ActionBody {
    fn default() -> Self {
        Self { wait_seconds: 60.0, image: None, node: None }
    }
}

/// Asks something of a service and waits for the end of it: `checkpoint`, `restore`, `stop`, `start`, `suspend`, `resume`, `migrate`, `fail-over`,
/// `pause`, `unpause`.
#[utoipa::path(post, path = "/v1/services/{name}/{action}",
    params(("name" = String, Path, description = "The service"), ("action" = String, Path, description = "What is asked")),
    request_body(content = Option<ActionBody>, description = "May be left out"),
    responses(
        (status = 200, description = "Done, or so already", body = Answer),
        (status = 202, description = "Not finished in the time given; it goes on", body = Answer),
        (status = 409, description = "Denied", body = Answer),
        (status = 500, description = "Failed", body = Answer),
        (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn act(
    State(api): State<Api>,
    Path((name, action)): Path<(String, String)>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let body = parse(&body?)?;
    let limit = wait(body.wait_seconds)?;
    let answer = match action.as_str() {
        "migrate" | "fail-over" => api.control.move_to(&name, target(&action, body.node)?, limit).await,
        _ => api.control.ask(&name, to_action(&action, body.image)?, limit).await,
    };
    let answer = answer.map_err(|unknown| Failure::absent(unknown.to_string()))?;
    Ok((status_of(&answer), Json(answer)).into_response())
}

/// What somebody outside has found of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReportBody {
    /// Whether it is well; null: not known yet.
    pub(crate) healthy: Option<bool>,
    /// Why not, for people.
    #[serde(default)]
    pub(crate) text: String,
    /// How long this counts; never longer than the probe's `max_age`.
    pub(crate) holds_seconds: f64,
    /// The run that it was found of, as the last answer has named it. Without it nothing is counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) run: Option<String>,
    /// The service's probe of the kind `report`, if there are several.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(crate) probe: Option<String>,
}

/// What became of a report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ReportAnswer {
    /// `counted`; `other-run`: look again, and name `run`; `denied`.
    pub(crate) outcome: String,
    /// For people.
    pub(crate) text: String,
    /// What runs now; null: nothing.
    pub(crate) run: Option<String>,
}

/// Tells how a service is, as a result of its probe of the kind `report`. Silence is no result.
#[utoipa::path(post, path = "/v1/services/{name}/report",
    params(("name" = String, Path, description = "The service")),
    request_body = ReportBody,
    responses(
        (status = 200, description = "Counted", body = ReportAnswer),
        (status = 409, description = "Not counted", body = ReportAnswer),
        (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn report(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, Failure> {
    let body = serde_json::from_slice(&body?);
    let body = body.map_err(|e| Failure::bad(format!("the body is not understood: {e}")))?;
    let answer = api.control.report(&name, body).await;
    let answer = answer.map_err(|unknown| Failure::absent(unknown.to_string()))?;
    let status = if answer.outcome == "counted" { StatusCode::OK } else { StatusCode::CONFLICT };
    Ok((status, Json(answer)).into_response())
}

/// The node that is asked for; the best standby for `fail-over`.
fn target(action: &str, node: Option<String>) -> Result<Option<NodeName>, Failure> {
    match (action, node) {
        ("migrate", None) => Err(Failure::bad("migrate needs the name of a node".to_owned())),
        ("fail-over", Some(_)) => Err(Failure::bad("fail-over takes no node; migrate does".to_owned())),
        (_, node) => {
            let node = node.map(|node| NodeName::try_from(node.as_str())).transpose();
            node.map_err(|e| Failure::bad(format!("that is no name of a node: {e}")))
        }
    }
}

pub(super) fn parse(body: &[u8]) -> Result<ActionBody, Failure> {
    if body.is_empty() {
        return Ok(ActionBody::default());
    }
    serde_json::from_slice(body).map_err(|e| Failure::bad(format!("the body is not understood: {e}")))
}

pub(super) fn wait(seconds: f64) -> Result<Duration, Failure> {
    if (0.0..=WAIT_SECONDS_MAX).contains(&seconds) {
        return Ok(Duration::from_secs_f64(seconds));
    }
    Err(Failure::bad(format!("wait_seconds is not between 0 and {WAIT_SECONDS_MAX}: {seconds}")))
}

fn to_action(word: &str, image: Option<String>) -> Result<Action, Failure> {
    let action = match word {
        "restore" => return Ok(Action::Restore { image }),
        "checkpoint" => Action::Checkpoint,
        "stop" => Action::Stop,
        "start" => Action::Start,
        "suspend" => Action::Suspend,
        "resume" => Action::Resume,
        "pause" => Action::Pause,
        "unpause" => Action::Unpause,
        _ => return Err(Failure::absent(format!("there is no action {word}"))),
    };
    if image.is_some() {
        return Err(Failure::bad(format!("only restore takes an image, {word} doesn't")));
    }
    Ok(action)
}

fn status_of(answer: &Answer) -> StatusCode {
    match answer.outcome.as_str() {
        "done" | "already-so" => StatusCode::OK,
        "accepted" => StatusCode::ACCEPTED,
        "denied" => StatusCode::CONFLICT,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
