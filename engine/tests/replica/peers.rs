//! A peer on its bad days: cut off, killed, full, not who it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use engine::replica::peer::Arrived;
use engine::replica::{Pace, Replica};
use policies::id::{Epoch, ServiceName};
use policies::image::ImageVerdict;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::fixture::{
    BIG, Local, Remote, Site, contents, files, flip_a_byte, image, listed, peer, replica_of, send, service,
    walk,
};

/// Something between two peers that cuts the connection after so many bytes, or flips one of them.
pub(crate) struct Between {
    pub(crate) port: u16,
    /// Bytes that may still pass towards the peer before everything is cut.
    left: Arc<AtomicU64>,
}

impl Between {
    pub(crate) async fn start(to: u16, bytes: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let left = Arc::new(AtomicU64::new(bytes));
        let shared = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let left = Arc::clone(&shared);
                tokio::spawn(async move {
                    let Ok(server) = TcpStream::connect(("127.0.0.1", to)).await else { return };
                    let mut client = Metered { inner: client, left };
                    let mut server = server;
                    // Cut is what it was to be.
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { port, left }
    }
}

/// Reads no more than it may.
struct Metered {
    inner: TcpStream,
    left: Arc<AtomicU64>,
}

impl tokio::io::AsyncRead for Metered {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let polled = std::pin::Pin::new(&mut self.inner).poll_read(context, buffer);
        let came = (buffer.filled().len() - before) as u64;
        let spend = |left: u64| Some(left.saturating_sub(came));
        let had = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, spend).expect("always some");
        if came > had {
            return std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        polled
    }
}

impl tokio::io::AsyncWrite for Metered {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Two nodes' certificates, a running receiver.
struct Pair {
    keep: tempfile::TempDir,
    alpha: engine::replica::tls::Files,
    remote: Remote,
}

impl Pair {
    async fn start() -> Self {
        let keep = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
        let pki = keep.path().join("pki");
        let alpha = files(&pki, "alpha");
        let remote = Remote::start(&keep.path().join("node"), &files(&pki, "beta"), 0).await;
        Self { keep, alpha, remote }
    }

    fn replica(&self, port: u16) -> Arc<Replica> {
        replica_of(peer(port, &self.alpha))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_middle_is_gone_on_with() {
    let here = Local::new();
    let id = here.take("a-1", BIG);
    let mut pair = Pair::start().await;
    let between = Between::start(pair.remote.port, 8 << 20).await;
    let replica = pair.replica(between.port);
    let error = send(&replica, &here.store, &id, 1).await.expect_err("cut");
    assert_eq!(error.kind(), "unavailable", "{error}");
    between.left.store(u64::MAX, Ordering::SeqCst);
    let sent = send(&replica, &here.store, &id, 1).await.expect("gone on with");
    assert!(sent.skipped > 1 << 20, "what had come is not sent again: {sent:?}");
    assert_eq!(
        pair.remote.arrived.recv().await,
        Some(Arrived { service: service(), id: id.clone(), epoch: Epoch(1) })
    );
    pair.remote.store().verify(&id).expect("whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_in_the_middle_goes_on_with_what_it_has() {
    let here = Local::new();
    let id = here.take("a-1", BIG);
    let mut pair = Pair::start().await;
    let between = Between::start(pair.remote.port, 8 << 20).await;
    let replica = pair.replica(between.port);
    send(&replica, &here.store, &id, 1).await.expect_err("cut");
    between.left.store(u64::MAX, Ordering::SeqCst);
    pair.remote = pair.remote.restart().await;
    let sent = send(&replica, &here.store, &id, 1).await.expect("gone on with");
    assert!(sent.skipped > 1 << 20, "{sent:?}");
    pair.remote.store().verify(&id).expect("whole");
}

/// After a power cut the end of a file may be anything: the whole is read before it counts, thrown away, and sent from its beginning.
#[tokio::test(flavor = "multi_thread")]
async fn what_came_and_is_not_what_was_sent_is_thrown_away() {
    let here = Local::new();
    let id = here.take("a-1", BIG);
    let pair = Pair::start().await;
    let between = Between::start(pair.remote.port, 8 << 20).await;
    let replica = pair.replica(between.port);
    send(&replica, &here.store, &id, 1).await.expect_err("cut");
    between.left.store(u64::MAX, Ordering::SeqCst);
    let half = pair.remote.folder.join("images/web/.incoming-a-1/memory-0.seg");
    flip_a_byte(&half);
    let error = send(&replica, &here.store, &id, 1).await.expect_err("not whole");
    assert_eq!(error.kind(), "corrupt", "{error}");
    assert_eq!(listed(&replica).await, [""; 0]);
    assert!(!half.exists());
    let sent = send(&replica, &here.store, &id, 1).await.expect("sent again");
    assert_eq!(sent.skipped, 0);
    pair.remote.store().verify(&id).expect("whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_image_takes_the_place_of_half_an_older_one() {
    let here = Local::new();
    let (one, two) = (here.take("a-1", BIG), here.take("a-2", 1000));
    let pair = Pair::start().await;
    let between = Between::start(pair.remote.port, 8 << 20).await;
    let replica = pair.replica(between.port);
    send(&replica, &here.store, &one, 1).await.expect_err("cut");
    between.left.store(u64::MAX, Ordering::SeqCst);
    send(&replica, &here.store, &two, 1).await.expect("sent");
    let left = walk(&pair.remote.folder.join("images"))
        .into_iter()
        .filter(|p| p.display().to_string().contains("incoming"));
    assert_eq!(left.count(), 0);
    assert_eq!(listed(&replica).await, ["a-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_is_not_to_be_had_or_judged_under_another_services_name() {
    let (here, there) = (Local::new(), Local::new());
    let (site, _remote) = Site::peer().await;
    let id = here.take("a-1", BIG);
    send(&site.replica, &here.store, &id, 1).await.expect("sent");
    let other = ServiceName::try_from("other").expect("a name");
    let judged = site.replica.judge(&other, &id, ImageVerdict::Suspect, Epoch(1)).await;
    assert_eq!(judged.expect_err("not its image").kind(), "invalid");
    let fetched = site.replica.fetch(&there.store, &other, &id).await;
    assert_eq!(fetched.expect_err("not its image").kind(), "invalid");
    site.replica.fetch(&there.store, &service(), &id).await.expect("under its own name");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_certificates_of_the_same_authority_are_let_in() {
    let here = Local::new();
    let id = here.take("a-1", 1000);
    let pair = Pair::start().await;
    let stranger = files(&pair.keep.path().join("another"), "alpha");
    // Ours, but he does not believe the other side; and one who believes it and shows what it does not believe.
    let believing = engine::replica::tls::Files { ca: pair.alpha.ca.clone(), ..stranger.clone() };
    for files in [stranger, believing] {
        let error = send(&replica_of(peer(pair.remote.port, &files)), &here.store, &id, 1)
            .await
            .expect_err("a stranger");
        assert_eq!(error.kind(), "refused", "{error}");
        assert!(error.report().remedy_text().is_some_and(|text| text.contains("cert init")), "{error}");
    }
    send(&pair.replica(pair.remote.port), &here.store, &id, 1).await.expect("one of ours");
}

/// A certificate for another name than the one that is called.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_who_was_called_is_refused() {
    let keep = tempfile::tempdir_in("/dev/shm").expect("a folder in memory");
    let pki = keep.path().join("pki");
    let alpha = files(&pki, "alpha");
    let node = engine::certificates::Node { name: "gamma".to_owned(), addresses: Vec::new(), days: 30 };
    let issued = engine::certificates::issue(&pki, &node).expect("issued");
    let gamma = engine::replica::tls::Files { ca: alpha.ca.clone(), cert: issued.cert, key: issued.key };
    let remote = Remote::start(&keep.path().join("node"), &gamma, 0).await;
    let error =
        replica_of(peer(remote.port, &alpha)).claim(&service(), Epoch(1)).await.expect_err("not 127.0.0.1");
    assert_eq!(error.kind(), "refused", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_no_images_of_what_it_holds_itself() {
    let here = Local::new();
    let id = here.take("a-1", 1000);
    let pair = Pair::start().await;
    pair.remote.holding.hold(service());
    let replica = pair.replica(pair.remote.port);
    assert_eq!(send(&replica, &here.store, &id, 1).await.expect_err("held there").kind(), "refused");
    pair.remote.holding.release(&service());
    send(&replica, &here.store, &id, 1).await.expect("no longer");
}

#[tokio::test(flavor = "multi_thread")]
async fn epochs_are_remembered_over_a_restart_of_the_receiver() {
    let mut pair = Pair::start().await;
    let replica = pair.replica(pair.remote.port);
    replica.claim(&service(), Epoch(5)).await.expect("claimed");
    pair.remote = pair.remote.restart().await;
    assert_eq!(
        replica_of(peer(pair.remote.port, &pair.alpha))
            .claim(&service(), Epoch(4))
            .await
            .expect_err("older")
            .kind(),
        "fenced"
    );
}

/// A receiver without room says so, keeps what it has, and takes the image once there is room.
#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_without_room_says_so() {
    let here = Local::new();
    let (one, two) = (here.take("a-1", 1000), here.take("a-2", BIG));
    let keep = tempfile::tempdir().expect("a folder");
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16m", "none"])
        .arg(keep.path())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return eprintln!("SKIPPED: no tmpfs can be mounted here");
    }
    let pki = keep.path().join("pki");
    let alpha = files(&pki, "alpha");
    let remote = Remote::start(&keep.path().join("node"), &files(&pki, "beta"), 0).await;
    let replica = replica_of(peer(remote.port, &alpha));
    send(&replica, &here.store, &one, 1).await.expect("it fits");
    let error = send(&replica, &here.store, &two, 1).await.expect_err("it does not");
    assert_eq!(error.kind(), "unavailable", "{error}");
    assert!(error.to_string().contains("not enough space"), "{error}");
    remote.store().verify(&one).expect("what was there is as it was");
    let grown =
        std::process::Command::new("mount").args(["-o", "remount,size=64m"]).arg(keep.path()).status();
    assert!(grown.is_ok_and(|status| status.success()));
    send(&replica, &here.store, &two, 1).await.expect("it fits now");
    remote.stop().await;
    let unmounted = std::process::Command::new("umount").arg("-l").arg(keep.path()).status();
    assert!(unmounted.is_ok_and(|status| status.success()));
}

/// Nobody at the other end, then somebody.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_away_is_unavailable_until_it_is_back() {
    let here = Local::new();
    let id = here.take("a-1", 1000);
    let pair = Pair::start().await;
    let (port, folder, beta) = (pair.remote.port, pair.remote.folder.clone(), pair.remote.files.clone());
    let replica = replica_of(peer(port, &pair.alpha));
    replica.claim(&service(), Epoch(1)).await.expect("there");
    pair.remote.stop().await;
    assert_eq!(send(&replica, &here.store, &id, 1).await.expect_err("away").kind(), "unavailable");
    let _remote = Remote::start(&folder, &beta, port).await;
    send(&replica, &here.store, &id, 1).await.expect("back");
    assert_eq!(listed(&replica).await, [image("a-1").to_string()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_line_is_not_taken_for_silence() {
    let here = Local::new();
    let id = here.take("a-1", 3 << 20);
    let pair = Pair::start().await;
    // 64 KiB/s would be too slow for a test; what matters is that a chunk waits for its turn.
    let limited = Replica::new("peer", Box::new(peer(pair.remote.port, &pair.alpha)), Pace::limited(2 << 20));
    send(&limited, &here.store, &id, 1).await.expect("sent");
    let (site, _remote) = Site::peer().await;
    assert_eq!(listed(&site.replica).await, [""; 0], "each has its own");
}

/// A standby fetches what its holder is sending to it just then, and looks twice itself.
#[tokio::test(flavor = "multi_thread")]
async fn sent_and_fetched_at_once_it_is_there_once_and_whole() {
    let here = Local::new();
    let (to, remote) = Site::peer().await;
    let from = Site::folder();
    for site in [&to, &from] {
        site.replica.claim(&service(), Epoch(1)).await.expect("claimed");
    }
    for round in 0..6 {
        let id = here.take(&format!("a-{round}"), BIG);
        send(&from.replica, &here.store, &id, 1).await.expect("sent");
        let (of, again) = (service(), (from.again)());
        let (sent, one, two) = tokio::join!(
            send(&to.replica, &here.store, &id, 1),
            from.replica.fetch(&remote.own, &of, &id),
            again.fetch(&remote.own, &of, &id),
        );
        sent.expect("sent");
        one.expect("fetched");
        two.expect("fetched");
        assert!(contents(&remote.own, &id) == here.contents(&id), "round {round}");
        let half_way = |path: &std::path::PathBuf| {
            [".incoming-", ".fetched-"].iter().any(|name| path.display().to_string().contains(name))
        };
        assert_eq!(walk(&remote.folder).iter().filter(|path| half_way(path)).count(), 0);
    }
}
