//! The API over HTTPS, with real certificates: who is let in, and that the command line gets there.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::*;
use crate::api::Entrance;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A way in at a port of its own, beside the fixture's socket.
struct Remote {
    folder: tempfile::TempDir,
    port: u16,
    _serving: JoinHandle<()>,
}

impl Remote {
    async fn before(fixture: &Fixture) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port =
            std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port();
        engine::certificates::init(folder.path()).expect("an authority");
        let node = engine::certificates::Node {
            name: "alpha".to_owned(),
            addresses: vec!["127.0.0.1".to_owned()],
            days: 1,
        };
        let issued = engine::certificates::issue(folder.path(), &node).expect("a certificate");
        write_token(folder.path(), TOKEN);
        let https = config::Https {
            listen: config::Address { host: "127.0.0.1".to_owned(), port },
            token_file: folder.path().join("token"),
            cert: issued.cert,
            key: issued.key,
        };
        let api = config::Api { socket: fixture.socket(), listen: None, tls: None, https: Some(https) };
        let entrance = Entrance::bind(&api).await.expect("bound").expect("it is configured");
        let router = crate::api::router(crate::api::Api::new(fixture.control.clone(), fixture.stop.clone()));
        Self { folder, port, _serving: tokio::spawn(entrance.serve(router, fixture.stop.clone())) }
    }

    async fn ask(&self, path: &str, authorization: Option<&str>) -> Response<Incoming> {
        let ca = self.folder.path().join("ca.crt");
        let stream = engine::https::connect("127.0.0.1", self.port, Some(&ca)).await.expect("it is ours");
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it is HTTP");
        tokio::spawn(connection);
        let mut request = Request::builder().uri(path).header("host", format!("127.0.0.1:{}", self.port));
        if let Some(shown) = authorization {
            request = request.header("authorization", shown);
        }
        let request = request.body(Full::new(Bytes::new())).expect("a request");
        tokio::time::timeout(LIMIT, sender.send_request(request)).await.expect("in time").expect("an answer")
    }
}

fn write_token(folder: &Path, token: &str) {
    let file = folder.join("token");
    std::fs::write(&file, format!("{token}\n")).expect("room");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("ours");
}

#[tokio::test]
async fn only_who_has_the_token_is_let_in() {
    let fixture = Fixture::new().await;
    let remote = Remote::before(&fixture).await;
    let basic = |pair: &str| format!("Basic {}", BASE64_STANDARD.encode(pair));
    for path in ["/metrics", "/v1/status", "/v1/openapi.json", "/v1/events", "/nothing"] {
        for wrong in
            [None, Some("Bearer x"), Some(TOKEN), Some("Bearer"), Some("Basic x"), Some(&*basic(TOKEN))]
        {
            let refused = remote.ask(path, wrong).await;
            assert_eq!(refused.status(), 401, "{path} {wrong:?}");
            assert_eq!(refused.headers().get_all("www-authenticate").iter().count(), 2);
        }
    }
    for right in [
        format!("Bearer {TOKEN}"),
        format!("bearer  {TOKEN}"),
        basic(&format!("ada:{TOKEN}")),
        basic(&format!(":{TOKEN}")),
    ] {
        assert_eq!(remote.ask("/v1/version", Some(&right)).await.status(), 200, "{right}");
    }
    let scraped = remote.ask("/metrics", Some(&format!("Bearer {TOKEN}"))).await;
    assert_eq!(scraped.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let scraped = scraped.into_body().collect().await.expect("whole").to_bytes();
    assert!(
        String::from_utf8_lossy(&scraped)
            .contains("supervisor_service_state{service=\"web\",state=\"running\"} 1")
    );

    write_token(remote.folder.path(), &TOKEN.to_uppercase());
    assert_eq!(
        remote.ask("/v1/version", Some(&format!("Bearer {TOKEN}"))).await.status(),
        401,
        "a former one"
    );
    std::fs::remove_file(remote.folder.path().join("token")).expect("it is there");
    assert_eq!(remote.ask("/v1/version", Some(&format!("Bearer {TOKEN}"))).await.status(), 503);
}

#[tokio::test]
async fn without_tls_nothing_is_answered() {
    let fixture = Fixture::new().await;
    let remote = Remote::before(&fixture).await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", remote.port)).await.expect("it listens");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("a connection");
    tokio::spawn(connection);
    let request = Request::builder().uri("/v1/version").header("authorization", format!("Bearer {TOKEN}"));
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let answered = tokio::time::timeout(LIMIT, sender.send_request(request)).await.expect("in time");
    assert!(answered.is_err(), "{answered:?}");
    let refused = engine::https::connect("127.0.0.1", remote.port, None).await.expect_err("not known here");
    assert_eq!(refused.kind(), "refused", "{refused}");
}

#[tokio::test]
async fn the_command_line_gets_there() {
    let fixture = Fixture::new().await;
    fixture.keep("i1").await;
    let remote = Remote::before(&fixture).await;
    let folder = remote.folder.path().display();
    let way =
        format!("--url https://127.0.0.1:{} --token-file {folder}/token --ca {folder}/ca.crt", remote.port);
    for (command, code) in [
        ("status", 0),
        ("images web --output json", 0),
        ("checkpoint web", 0),
        ("stop nobody", 4),
        ("verify i1", 0),
    ] {
        assert_eq!(crate::cli::tests::run(&format!("supervisor {way} {command}")).await, code, "{command}");
    }
    let other = remote.folder.path().join("other");
    std::fs::create_dir(&other).expect("room");
    write_token(&other, &TOKEN.to_uppercase());
    let stranger = way.replace("/token ", "/other/token ");
    assert_eq!(crate::cli::tests::run(&format!("supervisor {stranger} status")).await, 4);
    let unknown = way.split(" --ca").next().expect("the rest");
    assert_eq!(
        crate::cli::tests::run(&format!("supervisor {unknown} status")).await,
        3,
        "nobody vouches for it"
    );
}
