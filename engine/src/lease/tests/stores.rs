//! The contract on every store.

use std::time::Duration;

use super::etcd::Etcd;
use super::s3::S3Server;
use super::{LIMIT, Stage, contract};
use crate::error::Error;
use crate::lease::{bucket, fake, local};

#[tokio::test]
async fn the_fake_keeps_the_contract() {
    let store = fake::Store::default();
    let clock = store.clone();
    let stage = Stage {
        alpha: store.keeper(LIMIT),
        beta: store.keeper(LIMIT),
        // Parts of the contract run side by side, and each lets the time go on.
        ttl: Duration::from_secs(1000),
        pass: Box::new(move |by| clock.advance(by / 8)),
    };
    contract::holds(&stage).await;
}

#[tokio::test]
async fn the_fake_without_a_clock_keeps_the_contract() {
    let store = fake::Store::default();
    let stage = Stage {
        alpha: store.keeper_without_clock(LIMIT),
        beta: store.keeper_without_clock(LIMIT),
        ttl: Duration::from_millis(200),
        pass: Box::new(drop),
    };
    contract::holds(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_this_host_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("leases");
    let stage = Stage {
        alpha: local::open(&place, LIMIT).unwrap(),
        beta: local::open(&place, LIMIT).unwrap(),
        ttl: Duration::from_secs(2),
        pass: Box::new(drop),
    };
    contract::holds(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shared_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().display());
    let stage = Stage {
        alpha: bucket::open(&url, LIMIT).unwrap(),
        beta: bucket::open(&url, LIMIT).unwrap(),
        ttl: Duration::from_secs(1),
        pass: Box::new(drop),
    };
    contract::holds(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_keeps_the_contract() {
    let server = S3Server::start(S3Server::honest).await;
    let stage = Stage {
        alpha: server.keeper(server.port, LIMIT),
        beta: server.keeper(server.port, LIMIT),
        ttl: Duration::from_secs(1),
        pass: Box::new(drop),
    };
    contract::holds(&stage).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_whose_server_ignores_conditions_is_refused() {
    let server = S3Server::start(S3Server::careless).await;
    let refused = server.keeper(server.port, LIMIT).check().await;
    let Err(Error::Refused(report)) = refused else { panic!("{refused:?}") };
    assert!(report.to_string().contains("it ignores If-None-Match"), "{report}");
}

#[test]
fn what_is_no_bucket_is_refused() {
    for url in ["s3://", "http://bucket", "file://relative", "bucket"] {
        assert!(matches!(bucket::open(url, LIMIT), Err(Error::Invalid(_))), "{url}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_the_contract() {
    let Some(etcd) = Etcd::start_or_skip("etcd_keeps_the_contract").await else { return };
    contract::holds(&etcd.stage()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_behind_certificates_keeps_the_contract() {
    let name = "etcd_behind_certificates_keeps_the_contract";
    let Some(etcd) = Etcd::start_with_tls_or_skip(name).await else { return };
    contract::holds(&etcd.stage()).await;
    let stranger = etcd.keeper_without_certificate(LIMIT).check().await;
    assert!(matches!(stranger, Err(Error::Unavailable(_))), "{stranger:?}");
}
