//! What the API answers besides published state: refusals with a status code and a word, and small results.

use axum::Json;
use axum::extract::rejection::BytesRejection;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use engine::Error;
use serde::{Deserialize, Serialize};

/// The body of every refusal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct ErrorBody {
    /// For people: what was tried, why it failed, what to do about it.
    pub(crate) error: String,
    /// `unknown`, `bad-request`, or a kind of the engine's errors (`unavailable`, `refused`, `corrupt`, ...).
    pub(crate) kind: String,
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Version {
    /// The supervisor's version.
    pub(crate) version: String,
    /// The API's version.
    pub(crate) api: u32,
    /// The node's name.
    pub(crate) node: String,
    /// The supervisor's pid.
    pub(crate) pid: u32,
}

/// An image that was read and found whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct VerifiedImage {
    /// Its id.
    pub(crate) id: String,
    /// Whose.
    pub(crate) service: String,
    /// Its files.
    pub(crate) files: usize,
    /// Their bytes.
    pub(crate) size_bytes: u64,
    /// Bytes on disk.
    pub(crate) stored_bytes: u64,
    /// How long reading took, milliseconds.
    pub(crate) took_ms: f64,
}

/// What a rotation of keys has done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct RekeyedImages {
    /// The id of the key that images are encrypted under now.
    pub(crate) key: String,
    /// Images whose data key was wrapped anew.
    pub(crate) done: Vec<String>,
    /// How many were under that key already.
    pub(crate) already: usize,
    /// How many are not encrypted.
    pub(crate) plain: usize,
    /// Images that were not done.
    pub(crate) left: Vec<LeftImage>,
}

/// An image that is still under another key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct LeftImage {
    /// Its id.
    pub(crate) id: String,
    /// Why.
    pub(crate) why: String,
}

/// A request that was not granted.
#[derive(Debug)]
pub(super) struct Failure {
    status: StatusCode,
    kind: &'static str,
    error: String,
}

impl Failure {
    /// There is no such thing.
    pub(super) fn absent(what: impl Into<String>) -> Self {
        Self { status: StatusCode::NOT_FOUND, kind: "unknown", error: what.into() }
    }

    /// The request must change.
    pub(super) fn bad(why: impl Into<String>) -> Self {
        Self { status: StatusCode::BAD_REQUEST, kind: "bad-request", error: why.into() }
    }

    /// The address exists, not with this method.
    pub(super) fn method() -> Self {
        let error = "this address wants another method; see docs/cli.md".to_owned();
        Self { status: StatusCode::METHOD_NOT_ALLOWED, kind: "bad-request", error }
    }

    /// Somebody else's page asks in the name of whoever looks at it.
    pub(super) fn foreign() -> Self {
        let error = "a page of another site must not ask for this".to_owned();
        Self { status: StatusCode::FORBIDDEN, kind: "refused", error }
    }

    /// Who asks has not shown the token.
    pub(super) fn stranger() -> Self {
        let error =
            "show the token: `Authorization: Bearer TOKEN`, or as the password of any user".to_owned();
        Self { status: StatusCode::UNAUTHORIZED, kind: "unauthorized", error }
    }

    /// Not now.
    pub(super) fn busy(why: impl Into<String>) -> Self {
        Self { status: StatusCode::SERVICE_UNAVAILABLE, kind: "unavailable", error: why.into() }
    }
}

impl Failure {
    /// For pages, which say it in their own way.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)
    }
}

impl From<BytesRejection> for Failure {
    fn from(rejection: BytesRejection) -> Self {
        Self { status: rejection.status(), kind: "bad-request", error: rejection.body_text() }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Refused(_) | Error::Fenced(_) | Error::Invalid(_) => StatusCode::CONFLICT,
            Error::Corrupt(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, kind: error.kind(), error: error.to_string() }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let body = ErrorBody { error: self.error, kind: self.kind.to_owned() };
        (self.status, Json(body)).into_response()
    }
}
