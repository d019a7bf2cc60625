//! Stores that are away, stand still, or lose answers.

use std::sync::Arc;
use std::time::Duration;

use policies::id::Epoch;
use policies::lease::Legacy;

use super::etcd::Etcd;
use super::proxy::{Mode, Proxy};
use super::s3::S3Server;
use super::{LIMIT, Stage, service};
use crate::error::{Error, Result};
use crate::lease::fake::{Fault, Store};
use crate::lease::{Acquisition, Held, Keeper};

/// A call to a store that does not answer ends by this.
const SHORT: Duration = Duration::from_secs(1);

fn is_unavailable<T: std::fmt::Debug>(answer: &Result<T>) -> bool {
    matches!(answer, Err(Error::Unavailable(_)))
}

/// Every call ends, and says that nobody knows.
async fn every_call_ends(keeper: &Arc<dyn Keeper>, held: &Held) {
    let stage = stage_of(keeper);
    let service = service("away");
    let all = async {
        assert!(is_unavailable(&keeper.read(&service).await));
        let over = policies::lease::Sighting::default();
        assert!(is_unavailable(&keeper.acquire(&service, &stage.claim("beta"), &over).await));
        assert!(is_unavailable(&keeper.renew(held, &Legacy::default()).await));
        assert!(is_unavailable(&keeper.release(held).await));
        assert!(is_unavailable(&keeper.check().await));
    };
    tokio::time::timeout(LIMIT, all).await.expect("every call ends within its limit");
}

fn stage_of(keeper: &Arc<dyn Keeper>) -> Stage {
    Stage {
        alpha: Arc::clone(keeper),
        beta: Arc::clone(keeper),
        ttl: Duration::from_secs(30),
        pass: Box::new(drop),
    }
}

#[tokio::test]
async fn a_fake_store_that_is_away_is_unavailable() {
    let store = Store::default();
    let keeper = store.keeper(SHORT);
    let held = stage_of(&keeper).acquired(&service("a"), "alpha").await;
    for fault in [Fault::Unreachable, Fault::Frozen] {
        store.fail(fault);
        every_call_ends(&keeper, &held).await;
    }
    store.mend();
    keeper.renew(&held, &Legacy::default()).await.unwrap();
}

#[tokio::test]
async fn an_answer_that_was_lost_is_asked_for() {
    let store = Store::default();
    let stage = stage_of(&store.keeper(SHORT));
    let service = service("a");
    let over = stage.alpha.read(&service).await.unwrap();
    // Loading goes well, the swap takes effect unheard, and is found by reading.
    store.next_requests([None, Some(Fault::AnswerLost)]);
    let held = stage.acquire(&service, "alpha", &over).await.unwrap();
    store.next_requests([None, Some(Fault::AnswerLost)]);
    stage.alpha.renew(&held, &Legacy::default()).await.unwrap();
    // Nobody can read either: nobody knows, and it holds all the same.
    store.next_requests([None, Some(Fault::AnswerLost), Some(Fault::Unreachable)]);
    assert!(is_unavailable(&stage.alpha.renew(&held, &Legacy::default()).await));
    stage.alpha.renew(&held, &Legacy::default()).await.unwrap();
    store.next_requests([None, Some(Fault::AnswerLost)]);
    stage.alpha.release(&held).await.unwrap();
    assert!(stage.beta.read(&service).await.unwrap().is_free());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_stands_still_is_unavailable_and_lost_answers_are_asked_for() {
    let server = S3Server::start(S3Server::honest).await;
    let proxy = Proxy::start(server.port).await;
    lost_answers(&server.keeper(proxy.port, LIMIT), &proxy, &[Mode::Pass, Mode::LoseAnswer]).await;
    let keeper = server.keeper(proxy.port, SHORT);
    let held = stage_of(&keeper).acquired(&service("frozen"), "alpha").await;
    proxy.all(Mode::Freeze);
    every_call_ends(&keeper, &held).await;
    proxy.all(Mode::Pass);
    keeper.renew(&held, &Legacy::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_answers_of_etcd_are_asked_for() {
    let Some(etcd) = Etcd::start_or_skip("lost_answers_of_etcd_are_asked_for").await else { return };
    let proxy = Proxy::start(etcd.port).await;
    // The grant goes well, the transaction takes effect unheard.
    lost_answers(&etcd.keeper(&[proxy.port], LIMIT), &proxy, &[Mode::Pass, Mode::LoseAnswer]).await;
}

/// Before a write that is to be lost these requests are made.
async fn lost_answers(keeper: &Arc<dyn Keeper>, proxy: &Proxy, requests: &[Mode]) {
    let stage = stage_of(keeper);
    let service = service("lost");
    let over = keeper.read(&service).await.unwrap();
    proxy.next(requests);
    let held = stage.acquire(&service, "alpha", &over).await.unwrap();
    assert_eq!((held.epoch(), proxy.lost()), (Epoch(1), 1));
    // Whatever is lost of a renewal, the next one finds the lease as it left it.
    proxy.next(requests);
    let renewed = keeper.renew(&held, &Legacy::default()).await;
    assert!(renewed.is_ok() || is_unavailable(&renewed), "{renewed:?}");
    assert_eq!(proxy.lost(), 2);
    keeper.renew(&held, &Legacy::default()).await.unwrap();
    keeper.release(&held).await.unwrap();
    let free = keeper.read(&service).await.unwrap();
    assert!(free.is_free(), "{free:?}");
    assert!(matches!(
        keeper.acquire(&service, &stage.claim("beta"), &free).await,
        Ok(Acquisition::Acquired(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_etcd_is_unavailable_and_another_endpoint_is_asked() {
    let name = "a_frozen_etcd_is_unavailable_and_another_endpoint_is_asked";
    let Some(etcd) = Etcd::start_or_skip(name).await else { return };
    let keeper = etcd.keeper(&[etcd.port], SHORT);
    let held = stage_of(&keeper).acquired(&service("frozen"), "alpha").await;
    etcd.freeze();
    every_call_ends(&keeper, &held).await;
    etcd.thaw();
    let proxy = Proxy::start(etcd.port).await;
    proxy.all(Mode::Freeze);
    let keeper = etcd.keeper(&[proxy.port, etcd.port], SHORT * 4);
    // The frozen one may still do what it was asked for then, letting go among it.
    let held = stage_of(&keeper).acquired(&service("thawed"), "alpha").await;
    keeper.renew(&held, &Legacy::default()).await.unwrap();
}
