//! What every store of leases must do.

use std::time::Duration;

use policies::id::{Epoch, NodeName};
use policies::lease::{AtRest, Expiry, Legacy};

use super::{Stage, image, replicated, service, until};
use crate::error::Error;
use crate::lease::Said;

/// All of it, each part with a service of its own.
pub(super) async fn holds(stage: &Stage) {
    stage.alpha.check().await.unwrap();
    tokio::join!(
        one_of_many_wins(stage),
        epochs_grow_over_releases(stage),
        a_renewed_lease_holds(stage),
        a_lease_that_is_not_renewed_goes(stage),
        what_was_replicated_outlives_its_epoch(stage),
        a_stale_sighting_wins_nothing(stage),
        what_is_said_for_the_next_holder_reaches_it(stage),
        what_nodes_say_is_read_by_all(stage),
    );
}

async fn one_of_many_wins(stage: &Stage) {
    let service = service("race");
    let over = stage.beta.read(&service).await.unwrap();
    assert_eq!((over.epoch, over.is_free()), (Epoch(0), true));
    let attempt = |node: &'static str| stage.acquire(&service, node, &over);
    let (a, b, c, d) = tokio::join!(attempt("alpha"), attempt("beta"), attempt("alpha"), attempt("beta"));
    let won: Vec<_> = [a, b, c, d].into_iter().flatten().collect();
    let [held] = won.as_slice() else { panic!("{} won", won.len()) };
    assert_eq!(held.epoch(), Epoch(1));
    let seen = stage.beta.read(&service).await.unwrap();
    assert_eq!((seen.epoch, seen.holding.unwrap().node), (Epoch(1), held.node.clone()));
}

async fn epochs_grow_over_releases(stage: &Stage) {
    let service = service("epochs");
    let mut last = Epoch(0);
    for node in ["alpha", "beta", "beta", "alpha"] {
        let over = stage.alpha.read(&service).await.unwrap();
        assert!(over.is_free() && over.epoch == last, "{over:?}");
        let held = stage.acquire(&service, node, &over).await.unwrap();
        assert_eq!(held.epoch(), last.next());
        last = held.epoch();
        stage.beta.release(&held).await.unwrap();
        assert!(matches!(stage.alpha.renew(&held, &Legacy::default()).await, Err(Error::Fenced(_))));
    }
    let seen = stage.beta.read(&service).await.unwrap();
    assert_eq!((seen.epoch, seen.former.unwrap().as_str()), (Epoch(4), "alpha"));
}

async fn a_renewed_lease_holds(stage: &Stage) {
    let service = service("renewed");
    let held = stage.acquired(&service, "alpha").await;
    let begun = std::time::Instant::now();
    let mut last = None;
    let (mut passed, part) = (Duration::ZERO, stage.ttl / 4);
    until("one and a half lease", async || {
        (stage.pass)(part);
        passed += part;
        stage.alpha.renew(&held, &Legacy::default()).await.unwrap();
        let seen = stage.beta.read(&service).await.unwrap();
        let holding = seen.holding.clone().unwrap();
        assert_eq!((seen.epoch, holding.node.as_str(), holding.ttl), (Epoch(1), "alpha", stage.ttl));
        if holding.expiry == Expiry::ByReader {
            assert_ne!(last.replace(seen.version), Some(seen.version), "a beat that stands still");
        }
        (begun.elapsed() > stage.ttl * 3 / 2 || passed > stage.ttl * 30).then_some(())
    })
    .await;
}

async fn a_lease_that_is_not_renewed_goes(stage: &Stage) {
    let service = service("gone");
    let held = stage.acquired(&service, "alpha").await;
    let over = until("the lease to go", async || {
        (stage.pass)(stage.ttl / 4);
        let seen = stage.beta.read(&service).await.unwrap();
        // Who reads a store that lets nothing expire has to watch; that is policies' part.
        let by_reader = seen.holding.as_ref().is_some_and(|holding| holding.expiry == Expiry::ByReader);
        (seen.is_free() || by_reader).then_some(seen)
    })
    .await;
    let next = stage.acquire(&service, "beta", &over).await.unwrap();
    assert_eq!(next.epoch(), Epoch(2));
    assert!(matches!(stage.alpha.renew(&held, &Legacy::default()).await, Err(Error::Fenced(_))));
    // The stale holder lets go of nothing but its own.
    stage.alpha.release(&held).await.unwrap();
    stage.beta.renew(&next, &Legacy::default()).await.unwrap();
    let seen = stage.alpha.read(&service).await.unwrap();
    assert_eq!((seen.epoch, seen.holding.unwrap().node.as_str()), (Epoch(2), "beta"));
}

async fn what_was_replicated_outlives_its_epoch(stage: &Stage) {
    let service = service("marks");
    let first = stage.acquired(&service, "alpha").await;
    stage.alpha.renew(&first, &replicated(image(1, "b"))).await.unwrap();
    stage.alpha.renew(&first, &replicated(image(1, "a"))).await.unwrap();
    stage.alpha.renew(&first, &Legacy::default()).await.unwrap();
    stage.alpha.release(&first).await.unwrap();
    let second = stage.acquired(&service, "beta").await;
    assert_eq!(stage.alpha.read(&service).await.unwrap().legacy.replicated, Some(image(1, "b")));
    stage.beta.renew(&second, &replicated(image(2, "a"))).await.unwrap();
    assert_eq!(stage.alpha.read(&service).await.unwrap().legacy.replicated, Some(image(2, "a")));
}

async fn a_stale_sighting_wins_nothing(stage: &Stage) {
    let service = service("stale");
    let before = stage.beta.read(&service).await.unwrap();
    let held = stage.acquired(&service, "alpha").await;
    assert!(stage.acquire(&service, "beta", &before).await.is_none());
    stage.alpha.release(&held).await.unwrap();
    assert!(stage.acquire(&service, "beta", &before).await.is_none());
    let free = stage.beta.read(&service).await.unwrap();
    assert_eq!(stage.acquire(&service, "beta", &free).await.unwrap().epoch(), Epoch(2));
}

async fn what_is_said_for_the_next_holder_reaches_it(stage: &Stage) {
    let service = service("legacy");
    let held = stage.acquired(&service, "alpha").await;
    let next = Some(NodeName::try_from("beta").unwrap());
    let said = Legacy { next, at_rest: Some(AtRest::Suspended), replicated: Some(image(1, "a")) };
    stage.alpha.renew(&held, &Legacy { replicated: None, ..said.clone() }).await.unwrap();
    stage.alpha.renew(&held, &said).await.unwrap();
    stage.alpha.release(&held).await.unwrap();
    assert_eq!(stage.beta.read(&service).await.unwrap().legacy, said);
    // A new epoch is nobody's yet to leave, but what is stopped stays so.
    let held = stage.acquired(&service, "beta").await;
    assert_eq!(stage.alpha.read(&service).await.unwrap().legacy, Legacy { next: None, ..said });
    stage.beta.renew(&held, &Legacy::default()).await.unwrap();
    let left = stage.alpha.read(&service).await.unwrap().legacy;
    assert_eq!(left, replicated(image(1, "a")));
}

async fn what_nodes_say_is_read_by_all(stage: &Stage) {
    let node = |name: &str| NodeName::try_from(name).unwrap();
    let said = |beat, body: &str| Said { beat, body: body.into() };
    stage.alpha.say(&node("alpha"), &said(1, "hello")).await.unwrap();
    stage.beta.say(&node("beta.example"), &said(1, "hello too")).await.unwrap();
    stage.alpha.say(&node("alpha"), &said(2, "hello again")).await.unwrap();
    let all = stage.beta.nodes().await.unwrap();
    let wanted = [(node("alpha"), said(2, "hello again")), (node("beta.example"), said(1, "hello too"))];
    assert_eq!(all, wanted.into());
    for _ in 0..2 {
        stage.beta.forget(&node("alpha")).await.unwrap();
        let left = stage.alpha.nodes().await.unwrap();
        assert_eq!(left, [(node("beta.example"), said(1, "hello too"))].into());
    }
    stage.alpha.say(&node("alpha"), &said(3, "still here")).await.unwrap();
    assert_eq!(stage.beta.nodes().await.unwrap().len(), 2);
}
