//! Who may open the socket, and whose it is.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::api::bind;

#[tokio::test]
async fn only_its_owner_can_open_it_and_nothing_else_lies_there() {
    let mut fixture = Fixture::new().await;
    let mode = std::fs::metadata(fixture.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let names = std::fs::read_dir(fixture.folder.path()).expect("it is there");
    let names: Vec<_> = names.map(|entry| entry.expect("it is there").file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().starts_with(".api-")), "{names:?}");
    fixture.end().await;
    assert!(!fixture.socket().exists(), "it is removed at the end");
}

#[tokio::test]
async fn a_dead_supervisors_socket_is_replaced_a_living_ones_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("run/api.sock");
    std::fs::create_dir(folder.path().join("run")).expect("room");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists(), "it was left");
    let first = bind(&path).await.expect("nobody answers there");
    let error = bind(&path).await.expect_err("somebody answers there");
    assert!(error.kind() == "refused" && error.to_string().contains("another supervisor"), "{error}");
    drop(first);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_successors_socket_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    let first = bind(&path).await.expect("a socket");
    std::fs::remove_file(&path).expect("it is there");
    let _second = bind(&path).await.expect("a socket");
    drop(first);
    assert!(path.exists(), "it is not the first one's");
}

#[tokio::test]
async fn what_is_no_socket_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("api.sock");
    std::fs::write(&path, "precious").expect("room");
    assert_eq!(bind(&path).await.expect_err("a file").kind(), "invalid");
    assert_eq!(std::fs::read(&path).expect("it is there"), b"precious");
    let long = folder.path().join("x".repeat(150)).join("api.sock");
    let error = bind(&long).await.expect_err("too long");
    assert!(error.to_string().contains("too long"), "{error}");
}
