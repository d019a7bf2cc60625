//! Against tonic's health service, and against servers that are none.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic_health::ServingStatus;

use super::Grpc;
use crate::probe::{Outcome, Probe};

const PLENTY: Duration = Duration::from_secs(20);

async fn ask(port: u16, service: &str, limit: Duration) -> Outcome {
    Probe::Grpc(Grpc::new("127.0.0.1", port, service).expect("an address")).run(limit).await
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let port = listener.local_addr().expect("address").port();
    (listener, port)
}

#[tokio::test]
async fn the_health_services_word_is_taken() {
    let (listener, port) = listener().await;
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(Server::builder().add_service(health).serve_with_incoming(TcpIncoming::from(listener)));

    let whole = ask(port, "", PLENTY).await;
    assert!(whole.passed && whole.detail == "serving", "{}", whole.detail);
    let unknown = ask(port, "shop.Cart", PLENTY).await;
    assert!(!unknown.passed && unknown.detail.contains("does not know the service"), "{}", unknown.detail);
    for (status, passes, says) in [
        (ServingStatus::NotServing, false, "it is not serving"),
        (ServingStatus::Serving, true, "serving"),
        (ServingStatus::Unknown, false, "status is unknown (0)"),
    ] {
        reporter.set_service_status("shop.Cart", status).await;
        let outcome = ask(port, "shop.Cart", PLENTY).await;
        assert!(outcome.passed == passes && outcome.detail.ends_with(says), "{status}: {}", outcome.detail);
    }
}

#[tokio::test]
async fn a_server_without_a_health_service_fails_and_says_so() {
    let (listener, port) = listener().await;
    let nothing = tonic::service::Routes::default();
    tokio::spawn(Server::builder().add_routes(nothing).serve_with_incoming(TcpIncoming::from(listener)));
    let outcome = ask(port, "", PLENTY).await;
    assert!(!outcome.passed && outcome.detail.contains("has no health service"), "{}", outcome.detail);
}

#[tokio::test]
async fn what_is_no_grpc_server_fails() {
    let (listener, port) = listener().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let outcome = ask(port, "", PLENTY).await;
    assert!(!outcome.passed, "{}", outcome.detail);

    // Nobody listens any more.
    let outcome = ask(port, "", PLENTY).await;
    assert!(!outcome.passed && outcome.detail.contains("cannot connect"), "{}", outcome.detail);
}

#[tokio::test]
async fn a_silent_server_costs_the_time_limit_and_its_connection_is_closed() {
    let (listener, port) = listener().await;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut said = Vec::new();
        // To the end of the connection.
        let ended = stream.read_to_end(&mut said).await;
        (ended.is_ok() || !said.is_empty()).then_some(said)
    });
    let outcome = ask(port, "", Duration::from_millis(150)).await;
    assert!(!outcome.passed && outcome.detail.starts_with("no answer within"), "{}", outcome.detail);
    let said = tokio::time::timeout(PLENTY, server).await.expect("the connection ends").expect("server");
    assert!(said.is_some_and(|said| said.starts_with(b"PRI * HTTP/2.0")));
}
