//! Hand-overs over mutual TLS: agreed on, taken, refused, cut off.

use std::sync::Arc;

use engine::images::{Hot, Known};
use engine::replica::peer::{HandOver, Offer, Peer};
use policies::id::{Epoch, ImageId};
use policies::image::ImageVerdict;

use crate::fixture::{BIG, Local, Remote, contents, files, peer, replica_of, send, service, walk};
use crate::peers::Between;

/// Two nodes; the one that gives has an image that was sent to the other, and its successor in memory.
struct Two {
    here: Local,
    remote: Remote,
    alpha: engine::replica::tls::Files,
    base: ImageId,
    hot: Hot,
    keep: tempfile::TempDir,
}

impl Two {
    async fn new() -> Self {
        Self::with(Local::new()).await
    }

    async fn with(here: Local) -> Self {
        let keep = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let pki = keep.path().join("pki");
        let alpha = files(&pki, "alpha");
        let remote = Remote::start(&keep.path().join("node"), &files(&pki, "beta"), 0).await;
        let base = here.take("a-1", BIG);
        let mut pages = here.contents(&base).remove("pages-1.img").expect("it has pages");
        pages[BIG / 2..BIG / 2 + 5000].fill(3);
        let hot = here.take_hot("b-2", &pages);
        Self { here, remote, alpha, base, hot, keep }
    }

    fn peer(&self) -> Peer {
        peer(self.remote.port, &self.alpha)
    }

    async fn send_base(&self) {
        send(&replica_of(self.peer()), &self.here.store, &self.base, 1).await.expect("sent");
    }

    fn known(&self) -> Arc<Known> {
        let base = self.here.store.base(&service(), &self.base).expect("it is durable");
        Arc::new(Known::of(base).expect("read"))
    }

    fn offer(&self) -> Offer {
        let base = self.here.store.base(&service(), &self.base).expect("it is durable");
        Offer {
            node: "beta".to_owned(),
            base: self.base.to_string(),
            identity: base.identity().to_owned(),
            bytes: base.raw_len(),
            encrypted: false,
        }
    }

    async fn agreed(&self, peer: &Peer) -> (HandOver, bool) {
        let (hand_over, offered) = peer.offer(&service(), &self.offer(), Epoch(1)).await.expect("agreed");
        (hand_over, offered.base)
    }

    fn assert_nothing_there(&self) {
        let left = walk(self.keep.path());
        assert!(left.iter().all(|path| !path.display().to_string().contains("b-2")), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_image_is_one_there_when_it_is_answered() {
    let mut two = Two::new().await;
    two.send_base().await;
    two.remote.arrived.recv().await.expect("the base");
    let (hand_over, has_base) = two.agreed(&two.peer()).await;
    assert!(has_base);
    let given = hand_over
        .give(&two.here.store, (&two.hot, ImageVerdict::Good), Some(two.known()))
        .await
        .expect("given");
    assert!(given.sent < 50_000 && given.referenced > BIG as u64 - 50_000, "{given:?}");
    let there = &two.remote.own;
    assert!(contents(there, &two.hot.id) == two.here.contents(&two.hot.id));
    assert!(there.uncommitted(&service()).expect("read").contains(&two.hot.id));
    let listed = there.list(&service()).expect("listed").remove(0).facts;
    assert_eq!((listed.id, listed.verdict), (two.hot.id.clone(), ImageVerdict::Good));
    assert_eq!(two.remote.arrived.recv().await.expect("told").id, two.hot.id);
    // It was not needed: the service runs on where it was.
    hand_over.take_back(&two.hot.id).await.expect("taken back");
    two.assert_nothing_there();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_without_the_base_gets_every_page() {
    let two = Two::new().await;
    let (hand_over, has_base) = two.agreed(&two.peer()).await;
    assert!(!has_base, "nothing was sent");
    let given = hand_over.give(&two.here.store, (&two.hot, ImageVerdict::Good), None).await.expect("given");
    assert!(given.sent >= BIG as u64 && given.referenced == 0, "{given:?}");
    assert!(contents(&two.remote.own, &two.hot.id) == two.here.contents(&two.hot.id));
}

/// It was agreed on, and is gone when it is needed: that is said, and nothing is made.
#[tokio::test(flavor = "multi_thread")]
async fn a_base_that_is_lost_meanwhile_is_refused() {
    let two = Two::new().await;
    two.send_base().await;
    let (hand_over, has_base) = two.agreed(&two.peer()).await;
    assert!(has_base);
    let mut other = two.offer();
    other.identity = "0".repeat(64);
    two.peer().offer(&service(), &other, Epoch(1)).await.expect("agreed, without it");
    let error = hand_over
        .give(&two.here.store, (&two.hot, ImageVerdict::Good), Some(two.known()))
        .await
        .expect_err("lost");
    assert_eq!(error.kind(), "refused", "{error}");
    two.assert_nothing_there();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_a_holder_a_stale_epoch_and_plain_disks_are_refused() {
    let two = Two::new().await;
    let peer = two.peer();
    let refused = async |offer: Offer, epoch| {
        peer.offer(&service(), &offer, Epoch(epoch)).await.expect_err("refused").kind()
    };
    assert_eq!(refused(Offer { node: "gamma".to_owned(), ..two.offer() }, 1).await, "refused");
    assert_eq!(refused(Offer { encrypted: true, ..two.offer() }, 1).await, "refused");
    assert_eq!(refused(Offer { bytes: u64::MAX / 4, ..two.offer() }, 1).await, "unavailable");
    let (hand_over, _) = two.agreed(&peer).await;
    peer.offer(&service(), &two.offer(), Epoch(2)).await.expect("a newer holder");
    assert_eq!(refused(two.offer(), 1).await, "fenced");
    let error =
        hand_over.give(&two.here.store, (&two.hot, ImageVerdict::Good), None).await.expect_err("stale");
    assert_eq!(error.kind(), "fenced", "{error}");
    two.remote.holding.hold(service());
    assert_eq!(refused(two.offer(), 2).await, "refused");
    two.assert_nothing_there();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_leaves_nothing_and_nobody_knows() {
    let two = Two::new().await;
    let between = Between::start(two.remote.port, 8 << 20).await;
    let (hand_over, _) = two.agreed(&peer(between.port, &two.alpha)).await;
    let error = hand_over.give(&two.here.store, (&two.hot, ImageVerdict::Good), None).await.expect_err("cut");
    assert_eq!(error.kind(), "unavailable", "{error}");
    let begun = std::time::Instant::now();
    while walk(two.keep.path()).iter().any(|path| path.display().to_string().contains("b-2")) {
        assert!(begun.elapsed() < crate::fixture::LIMIT, "half an image is left");
        tokio::task::yield_now().await;
    }
    let (hand_over, _) = two.agreed(&two.peer()).await;
    hand_over.give(&two.here.store, (&two.hot, ImageVerdict::Good), None).await.expect("once more");
}
