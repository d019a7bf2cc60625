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
}

impl Default for ActionBody {
    fn default() -> Self {
        Self { wait_seconds: 60.0, image: None }
    }
}

/// Asks something of a service and waits for the end of it: `checkpoint`, `restore`, `stop`, `start`, `suspend`, `resume`, `fail-over`, `pause`,
/// `unpause`.
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
    if action == "fail-over" {
        return hand_over(&api, &name).await;
    }
    let action = to_action(&action, body.image)?;
    let answer = api.control.ask(&name, action, limit).await;
    let answer = answer.map_err(|unknown| Failure::absent(unknown.to_string()))?;
    Ok((status_of(&answer), Json(answer)).into_response())
}

/// It goes on by itself: the events tell how, and the other node's when the service is there.
async fn hand_over(api: &Api, name: &str) -> Result<Response, Failure> {
    api.control.entry(name).await.map_err(|unknown| Failure::absent(unknown.to_string()))?;
    let (outcome, text) = match api.control.hand_over(name) {
        true => (
            "accepted",
            "the service is handed over if it runs here; `supervisor events --follow` tells how it goes on",
        ),
        false => ("denied", "no other node may run this service: it has no `failover`"),
    };
    let answer = crate::notices::answer(outcome, text);
    Ok((status_of(&answer), Json(answer)).into_response())
}

fn parse(body: &[u8]) -> Result<ActionBody, Failure> {
    if body.is_empty() {
        return Ok(ActionBody::default());
    }
    serde_json::from_slice(body).map_err(|e| Failure::bad(format!("the body is not understood: {e}")))
}

fn wait(seconds: f64) -> Result<Duration, Failure> {
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
