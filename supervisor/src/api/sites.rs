//! Pages of other sites must not ask for anything in the name of whoever looks at them.
//!
//! A browser adds the password of this site to requests that another site's page makes. It also says where they come from
//! (`Sec-Fetch-Site`, `Origin`); what is not from our own pages may look and not change. Programs say nothing of the kind and are let through.

use axum::extract::Request;
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer::Failure;

/// Refuses what another site's page asks to change.
pub(super) async fn refuse_others(request: Request, next: Next) -> Response {
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if changes && is_foreign(request.headers()) {
        return Failure::foreign().into_response();
    }
    next.run(request).await
}

fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let host = text(header::HOST.as_str()).unwrap_or_default();
    let own = |origin: &str| origin.split_once("://").is_some_and(|(_, authority)| authority == host);
    text(header::ORIGIN.as_str()).is_some_and(|origin| !own(origin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn foreign(pairs: &[(&'static str, &str)]) -> bool {
        let pairs = pairs.iter().map(|(name, value)| {
            (header::HeaderName::from_static(name), value.parse().expect("a header's value"))
        });
        is_foreign(&pairs.collect())
    }

    #[test]
    fn only_our_own_pages_and_programs_may_ask() {
        assert!(!foreign(&[("host", "a:1")]), "a program");
        assert!(!foreign(&[("host", "a:1"), ("origin", "https://a:1")]));
        assert!(!foreign(&[("host", "a:1"), ("sec-fetch-site", "same-origin"), ("origin", "https://a:1")]));
        assert!(!foreign(&[("host", "a:1"), ("sec-fetch-site", "none")]), "typed by a person");
        assert!(foreign(&[("host", "a:1"), ("origin", "https://b:1")]));
        assert!(foreign(&[("host", "a:1"), ("origin", "https://a:2")]), "another port is another site");
        assert!(foreign(&[("host", "a:1"), ("origin", "null")]));
        assert!(foreign(&[("host", "a:1"), ("sec-fetch-site", "cross-site")]));
        assert!(foreign(&[("host", "a:1"), ("sec-fetch-site", "same-site"), ("origin", "https://a:1")]));
        assert!(foreign(&[("origin", "https://a:1")]), "to no host");
    }
}
