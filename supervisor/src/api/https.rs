//! The API over HTTPS, for whoever has the token: programs as `Authorization: Bearer`, browsers as the password of any user.
//!
//! It refuses everybody else, whatever they ask for, before anything is looked at. Without a token there is no such way in.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::error::{Error, Report};
use engine::https::{self, Shown, Token};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::answer::Failure;

/// Both ways of showing it, for browsers and for programs.
const CHALLENGES: [&str; 2] =
    ["Basic realm=\"supervisor\", charset=\"UTF-8\"", "Bearer realm=\"supervisor\""];

/// The bound address.
#[derive(Debug)]
pub(crate) struct Entrance {
    listener: TcpListener,
    shown: Shown,
    token: Token,
}

/// What each request passes.
#[derive(Clone)]
struct Gate {
    token: Arc<Token>,
    under_way: TaskTracker,
}

impl Entrance {
    /// Binds; `None` if the API is to be on its socket only.
    ///
    /// # Errors
    /// `Invalid` or `Refused` for a token, certificates or an address that cannot be used.
    pub(crate) async fn bind(api: &config::Api) -> engine::Result<Option<Self>> {
        let Some(wanted) = &api.https else { return Ok(None) };
        let shown = Shown { cert: wanted.cert.clone(), key: wanted.key.clone() };
        shown.server()?;
        let token = Token::new(wanted.token_file.clone())?;
        let listener = https::bind(&wanted.listen.host, wanted.listen.port, "api.https.listen").await?;
        Ok(Some(Self { listener, shown, token }))
    }

    /// Answers until `stop`, and then as long as requests are under way.
    pub(super) async fn serve(self, router: Router, stop: CancellationToken) {
        let Self { listener, shown, token } = self;
        let gate = Gate { token: Arc::new(token), under_way: TaskTracker::new() };
        let under_way = gate.under_way.clone();
        let router = router.layer(middleware::from_fn_with_state(gate, admit));
        let answering = https::serve(listener, move || shown.server(), TowerToHyperService::new(router));
        let ending = async {
            stop.cancelled().await;
            under_way.close();
            under_way.wait().await;
        };
        tokio::select! {
            () = answering => {}
            () = ending => {}
        }
    }
}

async fn admit(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    match is_known(&gate.token, request.headers()).await {
        Ok(true) => gate.under_way.track_future(next.run(request)).await,
        Ok(false) => {
            tracing::warn!(path = request.uri().path(), "a request without the token was refused");
            let mut refusal = Failure::stranger().into_response();
            for challenge in CHALLENGES {
                refusal.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            refusal
        }
        Err(error) => {
            tracing::warn!(%error, "nobody can show the token");
            Failure::busy("the token cannot be read; the supervisor's log says more").into_response()
        }
    }
}

async fn is_known(token: &Arc<Token>, headers: &HeaderMap) -> engine::Result<bool> {
    let Some(shown) = headers.get(header::AUTHORIZATION).and_then(shown) else { return Ok(false) };
    let token = Arc::clone(token);
    // Its file is read, which may take as long as a disk takes.
    let compared = tokio::task::spawn_blocking(move || token.is(&shown)).await;
    compared.map_err(|e| Error::Internal(Report::new("compare a token").because(e)))?
}

/// What stands there as token.
fn shown(authorization: &HeaderValue) -> Option<Vec<u8>> {
    let (scheme, rest) = authorization.to_str().ok()?.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().as_bytes().to_vec());
    }
    let pair = scheme.eq_ignore_ascii_case("basic").then(|| BASE64_STANDARD.decode(rest.trim()).ok())??;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}
