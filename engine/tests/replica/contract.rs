//! What every place promises.

use std::collections::BTreeMap;

use engine::error::Error;
use engine::replica::standby::Standby;
use policies::id::Epoch;
use policies::image::ImageVerdict;
use policies::retention;
use policies::time::WallTime;

use crate::fixture::{BIG, Local, Site, biggest, flip_a_byte, image, listed, send, service};

/// The same scenario at each place.
macro_rules! everywhere {
    ($($scenario:ident;)*) => {
        mod folder { use super::*; $(#[tokio::test(flavor = "multi_thread")] async fn $scenario() {
            super::$scenario(&Site::folder()).await;
        })* }
        mod s3 { use super::*; $(#[tokio::test(flavor = "multi_thread")] async fn $scenario() {
            let (site, _server) = Site::s3().await;
            super::$scenario(&site).await;
        })* }
        mod peer { use super::*; $(#[tokio::test(flavor = "multi_thread")] async fn $scenario() {
            let (site, _remote) = Site::peer().await;
            super::$scenario(&site).await;
        })* }
    };
}

everywhere! {
    what_is_sent_comes_back_the_same;
    what_is_there_is_not_sent_again;
    a_stale_epoch_is_refused_whatever_it_writes;
    verdicts_and_retention_reach_the_other_side;
    damage_at_rest_is_noticed_when_it_is_fetched;
    a_standby_keeps_the_newest_good_image_prepared;
    another_image_of_the_same_name_is_refused;
}

async fn what_is_sent_comes_back_the_same(site: &Site) {
    let (here, there) = (Local::new(), Local::new());
    let id = here.take("a-1", BIG);
    assert_eq!(listed(&site.replica).await, [""; 0]);
    site.replica.claim(&service(), Epoch(1)).await.expect("the first");
    send(&site.replica, &here.store, &id, 1).await.expect("sent");
    let seen = (site.again)();
    assert_eq!(listed(&seen).await, ["a-1"]);
    assert_eq!(seen.services().await.expect("listed"), [service()]);
    let sizes = seen.fetch(&there.store, &service(), &id).await.expect("fetched");
    let (sent, come) =
        (here.store.outgoing(&id).expect("durable"), there.store.outgoing(&id).expect("durable"));
    assert_eq!((sent.manifest(), sent.manifest().sizes), (come.manifest(), sizes));
    there.store.verify(&id).expect("whole");
    assert!(there.contents(&id) == here.contents(&id), "{}", site.kind);
    // Once it is here, it isn't fetched again.
    assert_eq!(seen.fetch(&there.store, &service(), &id).await.expect("there"), sizes);
    let absent = seen.fetch(&there.store, &service(), &image("a-9")).await.expect_err("no such image");
    assert_eq!(absent.kind(), "invalid", "{absent}");
}

async fn what_is_there_is_not_sent_again(site: &Site) {
    let here = Local::new();
    let id = here.take("a-1", BIG);
    let first = send(&site.replica, &here.store, &id, 1).await.expect("sent");
    let stored = here.store.outgoing(&id).expect("durable").manifest().sizes.stored;
    assert_eq!((first.bytes, first.skipped), (stored, 0));
    let second = send(&(site.again)(), &here.store, &id, 1).await.expect("there");
    assert_eq!((second.bytes, second.skipped), (0, stored));
}

async fn a_stale_epoch_is_refused_whatever_it_writes(site: &Site) {
    let here = Local::new();
    let (one, two) = (here.take("a-1", 1000), here.take("a-2", 1000));
    send(&site.replica, &here.store, &one, 3).await.expect("sent");
    let newer = (site.again)();
    newer.claim(&service(), Epoch(4)).await.expect("newer");
    newer.claim(&service(), Epoch(4)).await.expect("the same again");
    let stale = |error: Error| assert_eq!(error.kind(), "fenced", "{}: {error}", site.kind);
    stale(site.replica.claim(&service(), Epoch(3)).await.expect_err("older"));
    stale(send(&site.replica, &here.store, &two, 3).await.expect_err("older"));
    stale(site.replica.judge(&service(), &one, ImageVerdict::Suspect, Epoch(3)).await.expect_err("older"));
    let none =
        retention::Settings { max_age: Some(std::time::Duration::ZERO), ..retention::Settings::default() };
    let late = WallTime::from_unix_nanos(u64::MAX);
    send(&newer, &here.store, &two, 4).await.expect("sent");
    stale(site.replica.retain(&service(), &none, (late, Epoch(3))).await.expect_err("older"));
    assert_eq!(listed(&newer).await, ["a-2", "a-1"], "nothing was changed by the stale one");
}

async fn verdicts_and_retention_reach_the_other_side(site: &Site) {
    let here = Local::new();
    for number in 1..=5 {
        let id = here.take(&format!("a-{number}"), 1000);
        send(&site.replica, &here.store, &id, 1).await.expect("sent");
    }
    let judge = async |id: &str, verdict| {
        site.replica.judge(&service(), &image(id), verdict, Epoch(1)).await.expect("judged")
    };
    judge("a-1", ImageVerdict::Suspect).await;
    judge("a-1", ImageVerdict::Good).await;
    judge("a-5", ImageVerdict::Suspect).await;
    let verdicts = async || -> BTreeMap<String, ImageVerdict> {
        let images = (site.again)().images(&service()).await.expect("listed");
        images.iter().map(|copy| (copy.head.id().to_string(), copy.verdict)).collect()
    };
    let before = verdicts().await;
    assert_eq!(
        (before["a-1"], before["a-2"], before["a-5"]),
        (ImageVerdict::Good, ImageVerdict::Unjudged, ImageVerdict::Suspect)
    );
    let settings = retention::Settings { max_checkpoints: 2, ..retention::Settings::default() };
    let now = WallTime::from_unix_nanos(1000);
    let removed = site.replica.retain(&service(), &settings, (now, Epoch(1))).await.expect("planned");
    assert_eq!(removed.len(), 3);
    // The newest good one and the newest of all.
    assert_eq!(listed(&(site.again)()).await, ["a-5", "a-1"]);
}

async fn damage_at_rest_is_noticed_when_it_is_fetched(site: &Site) {
    let (here, there) = (Local::new(), Local::new());
    let (one, two) = (here.take("a-1", BIG), here.take("a-2", 1000));
    for id in [&one, &two] {
        send(&site.replica, &here.store, id, 1).await.expect("sent");
    }
    flip_a_byte(&biggest(&site.files, "memory-0.seg"));
    let error = (site.again)().fetch(&there.store, &service(), &one).await.expect_err("damaged");
    assert_eq!(error.kind(), "corrupt", "{}: {error}", site.kind);
    assert!(there.store.list(&service()).expect("listed").is_empty(), "half an image is none");
    (site.again)().fetch(&there.store, &service(), &two).await.expect("the other is whole");
}

async fn a_standby_keeps_the_newest_good_image_prepared(site: &Site) {
    let (here, there) = (Local::new(), Local::new());
    let host = here.store.outgoing(&here.take("a-1", 1000)).expect("durable").manifest().about.host.clone();
    let mut standby = Standby::new(there.store.clone(), service(), host.clone(), Some((site.again)()));
    assert_eq!(standby.refresh().await.expect("nothing there"), None);
    send(&site.replica, &here.store, &image("a-1"), 1).await.expect("sent");
    assert_eq!(standby.refresh().await.expect("fetched"), Some(&image("a-1")));
    send(&site.replica, &here.store, &here.take("a-2", 1000), 1).await.expect("sent");
    site.replica.judge(&service(), &image("a-2"), ImageVerdict::Suspect, Epoch(1)).await.expect("judged");
    assert_eq!(standby.refresh().await.expect("looked"), Some(&image("a-1")), "a suspect one is none");
    send(&site.replica, &here.store, &here.take("a-3", 1000), 1).await.expect("sent");
    assert_eq!(standby.refresh().await.expect("fetched"), Some(&image("a-3")));
    let held = there.store.remove(&[image("a-1"), image("a-3")]).expect("tried");
    assert_eq!(
        (held.removed, held.in_use),
        (vec![image("a-1")], vec![image("a-3")]),
        "the prepared one stays"
    );
    let foreign = engine::compat::Host { architecture: "riscv64".to_owned(), ..host };
    let mut elsewhere = Standby::new(Local::new().store, service(), foreign, Some((site.again)()));
    assert_eq!(elsewhere.refresh().await.expect("looked"), None, "nothing that may run there");
}

async fn another_image_of_the_same_name_is_refused(site: &Site) {
    let (here, other) = (Local::new(), Local::new());
    send(&site.replica, &here.store, &here.take("a-1", 1000), 1).await.expect("sent");
    let error = send(&site.replica, &other.store, &other.take("a-1", 2000), 1).await.expect_err("another");
    assert_eq!(error.kind(), "invalid", "{}: {error}", site.kind);
}
