//! The status page: HTML and SVG drawn here, of published state and of what happened lately; a few lines of script keep it live.
//!
//! ```text
//! GET /, /services/S, /images/ID/restore     drawn whole; the script draws them anew when an event comes
//! POST /images/ID/{pin,unpin,verify,restore}  one form each; restore is asked once more before
//! ```
//!
//! It loads nothing from elsewhere, works without the script, and refuses forms of other sites' pages (`super::sites`).

mod draw;
mod nodes;
mod plots;
mod service;

use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use engine::images::Store;
use maud::{Markup, html};

use super::Api;
use super::answer::Failure;
use super::images;
use crate::status::Action;
use crate::tenure::Nodes;

/// How long a restore is waited for before the page says that it goes on.
const RESTORE_MAX: Duration = Duration::from_secs(60);
/// Nothing from elsewhere, nothing inline, and in nobody's frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; \
    base-uri 'none'; frame-ancestors 'none'";

/// Its addresses.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/", get(overview))
        .route("/services/{name}", get(one_service))
        .route("/images/{id}/{act}", get(ask).post(act))
        .route(
            "/page.css",
            get(async || ([(header::CONTENT_TYPE, "text/css")], include_str!("page/page.css"))),
        )
        .route(
            "/page.js",
            get(async || ([(header::CONTENT_TYPE, "text/javascript")], include_str!("page/page.js"))),
        )
        .layer(middleware::from_fn(protect))
}

async fn protect(request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

async fn overview(State(api): State<Api>) -> Html<String> {
    let node = api.control.status().await;
    let recent = api.control.history().all();
    let nodes = api.control.nodes().map(Nodes::seen).unwrap_or_default();
    Html(draw::overview(&node, &nodes, &recent).into_string())
}

async fn one_service(State(api): State<Api>, Path(name): Path<String>) -> Result<Html<String>, Failure> {
    let node = api.control.status().await;
    let found = node.services.iter().find(|service| service.name == name);
    let found = found.ok_or_else(|| Failure::absent(format!("there is no service {name}")))?;
    let images = images::of(&api, Some(name.clone())).await?;
    let history = api.control.history().of(&name);
    Ok(Html(service::page(&node.node, found, &images, &history).into_string()))
}

/// The second time of asking.
async fn ask(
    State(api): State<Api>,
    Path((id, act)): Path<(String, String)>,
) -> Result<Html<String>, Failure> {
    if act != "restore" {
        return Err(Failure::absent(format!("there is nothing to be asked about {act}")));
    }
    let (service, id) = images::find(&api, &id).await?;
    let body = html! {
        h1 { "Restore " (service) "?" }
        p { "It goes back to the state of image " code { (id) } ". What it has done since is lost, and its connections are closed." }
        (draw::form(&format!("/images/{id}/restore"), "Restore it now", "danger"))
        p { a href={ "/services/" (service) } { "No, go back" } }
    };
    Ok(Html(draw::frame("Restore?", &body).into_string()))
}

async fn act(State(api): State<Api>, Path((id, act)): Path<(String, String)>) -> Result<Response, Failure> {
    let (service, image) = images::find(&api, &id).await?;
    let said = match act.as_str() {
        "pin" => images::mark(&api, &id, Store::pin)
            .await
            .map(|_| "It is kept, whatever retention says.".to_owned()),
        "unpin" => images::mark(&api, &id, Store::unpin)
            .await
            .map(|_| "Retention decides about it again.".to_owned()),
        "verify" => images::verify(State(api.clone()), Path(id))
            .await
            .map(|whole| format!("It is whole: {} files, read in {:.0} ms.", whole.files, whole.took_ms)),
        "restore" => {
            let action = Action::Restore { image: Some(image.to_string()) };
            let asked = api.control.ask(service.as_str(), action, RESTORE_MAX).await;
            asked
                .map(|answer| format!("{}: {}", answer.outcome, answer.text))
                .map_err(|e| Failure::absent(e.to_string()))
        }
        _ => return Err(Failure::absent(format!("there is no action {act}"))),
    };
    let (status, said) = match said {
        Ok(said) => (StatusCode::OK, said),
        Err(failure) => (failure.status(), failure.to_string()),
    };
    Ok((status, Html(draw::frame("Done", &told(service.as_str(), image.as_str(), &said)).into_string()))
        .into_response())
}

fn told(service: &str, image: &str, said: &str) -> Markup {
    html! {
        h1 { "Image " code { (image) } }
        p role="status" { (said) }
        p { a href={ "/services/" (service) } { "Back to " (service) } }
    }
}
