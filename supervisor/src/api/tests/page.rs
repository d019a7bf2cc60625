//! The status page as a browser without scripts gets it.

use super::*;
use crate::events::plain;
use crate::status::EventRecord;

async fn text(fixture: &Fixture, method: &str, path: &str) -> (u16, String) {
    let response = fixture.send(method, path, "").await;
    let status = response.status().as_u16();
    let body = tokio::time::timeout(LIMIT, response.into_body().collect()).await.expect("in time");
    (status, String::from_utf8(body.expect("whole").to_bytes().to_vec()).expect("text"))
}

/// Waits until what was recorded is remembered.
async fn remembered(fixture: &Fixture, count: usize) {
    let all = async {
        while fixture.control.history().of("web").len() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, all).await.expect("it is remembered");
}

#[tokio::test]
async fn services_and_what_happened_are_drawn_and_nothing_of_it_is_taken_for_html() {
    let fixture = Fixture::new().await;
    let id = fixture.keep("i1").await;
    for pause in [8.0, 9.0] {
        let taken = plain(Some("web"), "checkpoint-taken", "<script>taken</script>");
        fixture.control.events().record(EventRecord { pause_ms: Some(pause), ..taken });
    }
    fixture.control.events().record(plain(Some("web"), "noticed", "<script>noticed</script>"));
    remembered(&fixture, 3).await;
    let (status, overview) = text(&fixture, "GET", "/").await;
    assert_eq!(status, 200);
    assert!(
        overview.contains("<a href=\"/services/web\">web</a>") && overview.contains("&lt;script&gt;noticed")
    );
    assert!(!overview.contains("<script>noticed") && !overview.contains("script&gt;taken"), "{overview}");
    let (status, page) = text(&fixture, "GET", "/services/web").await;
    assert_eq!(status, 200);
    assert!(page.contains("&lt;script&gt;taken") && !page.contains("<script>taken"), "{page}");
    for part in ["<svg", "pause, ms", id.as_str(), "action=\"/images/i1/pin\"", "href=\"/images/i1/restore\""]
    {
        assert!(page.contains(part), "no {part} in {page}");
    }
    for elsewhere in ["http://", "https://", "src=\"//", "style=\""] {
        let drawn = page.replace("http://www.w3.org/", "");
        assert!(!drawn.contains(elsewhere), "{elsewhere} in {page}");
    }
    assert_eq!(text(&fixture, "GET", "/services/nobody").await.0, 404);
}

#[tokio::test]
async fn images_are_pinned_verified_and_restored_after_a_second_question() {
    let fixture = Fixture::new().await;
    fixture.keep("i1").await;
    let (status, asked) = text(&fixture, "GET", "/images/i1/restore").await;
    assert!(status == 200 && asked.contains("Restore web?") && asked.contains("method=\"post\""), "{asked}");
    assert_eq!(text(&fixture, "POST", "/images/i1/pin").await.0, 200);
    let (_, images) = fixture.get("/v1/images").await;
    assert_eq!(images[0]["pinned"], true);
    let (status, verified) = text(&fixture, "POST", "/images/i1/verify").await;
    assert!(status == 200 && verified.contains("It is whole: 2 files"), "{verified}");
    let (_, restored) = text(&fixture, "POST", "/images/i1/restore").await;
    assert!(restored.contains("cannot be restored"), "the service's own answer: {restored}");
    for (method, path, expected) in
        [("POST", "/images/i9/pin", 404), ("POST", "/images/i1/explode", 404), ("GET", "/images/i1/pin", 404)]
    {
        assert_eq!(text(&fixture, method, path).await.0, expected, "{method} {path}");
    }
    let foreign = [("sec-fetch-site", "cross-site")];
    assert_eq!(fixture.send_with("POST", "/images/i1/restore", &foreign, "").await.status(), 403);
}

#[tokio::test]
async fn nothing_from_elsewhere_may_be_loaded_and_nobody_may_frame_it() {
    let fixture = Fixture::new().await;
    for path in ["/", "/services/web", "/page.css", "/page.js"] {
        let response = fixture.send("GET", path, "").await;
        assert_eq!(response.status(), 200, "{path}");
        let policy = response.headers()["content-security-policy"].to_str().expect("text");
        assert!(
            policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
    }
}
