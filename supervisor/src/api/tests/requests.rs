//! Addresses, requests to a service, and refusals.

use serde_json::json;

use super::*;

#[tokio::test]
async fn what_is_published_is_shown() {
    let fixture = Fixture::new().await;
    let (status, version) = fixture.get("/v1/version").await;
    assert_eq!((status, version), (200, json!({ "version": "0.1.0", "api": 1, "node": "alpha", "pid": 1 })));
    let (status, node) = fixture.get("/v1/status").await;
    assert_eq!((status, &node["services"][0]["name"]), (200, &json!("web")));
    fixture.node.send_modify(|node| node.config_error = Some("a mistake".to_owned()));
    let (_, node) = fixture.get("/v1/status").await;
    assert_eq!(node["config_error"], "a mistake");
}

#[tokio::test]
async fn a_request_is_answered_by_the_service() {
    let fixture = Fixture::new().await;
    let (status, answer) = fixture.post("/v1/services/web/checkpoint", "").await;
    assert_eq!((status, &answer["outcome"], &answer["image"]), (200, &json!("done"), &json!("i1")));
    let (status, answer) = fixture.post("/v1/services/web/pause", "{}").await;
    assert_eq!((status, &answer["outcome"]), (200, &json!("already-so")));
    let (status, answer) = fixture.post("/v1/services/web/stop", r#"{"wait_seconds": 1}"#).await;
    assert_eq!((status, &answer["outcome"]), (409, &json!("denied")));
    let (status, answer) = fixture.post("/v1/services/web/restore", r#"{"image": "i7"}"#).await;
    assert_eq!((status, &answer["outcome"], &answer["image"]), (500, &json!("failed"), &json!("i7")));
    let (status, answer) = fixture.post("/v1/services/web/start", r#"{"wait_seconds": 0.01}"#).await;
    assert_eq!((status, &answer["outcome"]), (202, &json!("accepted")));
}

#[tokio::test]
async fn a_report_is_counted_if_it_is_of_the_run_that_there_is() {
    let fixture = Fixture::new().await;
    let report = json!({ "healthy": false, "text": "slow", "holds_seconds": 15.0 });
    let (status, answer) = fixture.post("/v1/services/web/report", &report.to_string()).await;
    assert_eq!((status, answer), (409, json!({ "outcome": "other-run", "text": "slow", "run": "r1" })));
    let report = json!({ "healthy": null, "holds_seconds": 15.0, "run": "r1" });
    let (status, answer) = fixture.post("/v1/services/web/report", &report.to_string()).await;
    assert_eq!((status, answer), (200, json!({ "outcome": "counted", "text": "", "run": "r1" })));
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_a_word() {
    let fixture = Fixture::new().await;
    let long = format!(r#"{{"image": "{}"}}"#, "x".repeat(20_000));
    let table = [
        ("POST", "/v1/services/nobody/stop", "", 404, "unknown"),
        ("POST", "/v1/services/..%2Fweb/stop", "", 404, "unknown"),
        ("POST", "/v1/services/web/explode", "", 404, "unknown"),
        ("POST", "/v1/services/web/stop", "{", 400, "bad-request"),
        ("POST", "/v1/services/web/stop", r#"{"wait": 1}"#, 400, "bad-request"),
        ("POST", "/v1/services/web/stop", r#"{"wait_seconds": -1}"#, 400, "bad-request"),
        ("POST", "/v1/services/web/stop", r#"{"wait_seconds": 1e9}"#, 400, "bad-request"),
        ("POST", "/v1/services/web/stop", r#"{"image": "i1"}"#, 400, "bad-request"),
        ("POST", "/v1/services/nobody/report", r#"{"healthy": true, "holds_seconds": 1}"#, 404, "unknown"),
        ("POST", "/v1/services/web/report", "", 400, "bad-request"),
        ("POST", "/v1/services/web/report", r#"{"healthy": 1, "holds_seconds": 1}"#, 400, "bad-request"),
        ("POST", "/v1/images/nothing/verify", "", 404, "unknown"),
        ("POST", "/v1/images/-x/pin", "", 404, "unknown"),
        ("GET", "/v1/images/nothing/export", "", 404, "unknown"),
        ("GET", "/v1/images?service=nobody", "", 404, "unknown"),
        ("GET", "/v1/images?servce=web", "", 400, "bad-request"),
        ("GET", "/v1/events?since=noon", "", 400, "bad-request"),
        ("GET", "/v1/events?since_seq=-1", "", 400, "bad-request"),
        ("GET", "/v2/status", "", 404, "unknown"),
        ("DELETE", "/v1/status", "", 405, "bad-request"),
        ("POST", "/v1/services/web/restore", &long, 413, "bad-request"),
    ];
    for (method, path, body, status, kind) in table {
        let (found, answer) = fixture.call(method, path, body).await;
        assert_eq!((found, answer["kind"].as_str()), (status, Some(kind)), "{method} {path} {answer}");
        assert!(answer["error"].as_str().is_some_and(|text| !text.is_empty()), "{method} {path} {answer}");
    }
}

#[tokio::test]
async fn a_page_of_another_site_may_look_and_not_ask() {
    let fixture = Fixture::new().await;
    let foreign = [("sec-fetch-site", "cross-site"), ("origin", "https://elsewhere")];
    let refused = fixture.send_with("POST", "/v1/services/web/checkpoint", &foreign, "").await;
    assert_eq!(refused.status(), 403);
    assert_eq!(fixture.send_with("GET", "/v1/status", &foreign, "").await.status(), 200);
    let own = [("sec-fetch-site", "same-origin"), ("origin", "http://x")];
    assert_eq!(fixture.send_with("POST", "/v1/services/web/checkpoint", &own, "").await.status(), 200);
}
