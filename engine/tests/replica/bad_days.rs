//! Cuts, full disks, servers that are not what they should be.

use std::sync::Arc;
use std::time::Duration;

use engine::durable;
use engine::replica::objects::{Cloud, Folder, Objects};
use engine::replica::{Pace, Replica};
use policies::id::Epoch;

use crate::fixture::{BIG, LIMIT, Local, Site, bucket, listed, send, service, walk};
use crate::s3::Server;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_cut_goes_on_with_the_next_piece() {
    let here = Local::new();
    let id = here.take("a-1", BIG);
    let (site, server) = Site::s3().await;
    site.replica.claim(&service(), Epoch(1)).await.expect("claimed");
    server.break_after(2);
    let error = send(&site.replica, &here.store, &id, 1).await.expect_err("cut");
    assert_eq!(error.kind(), "unavailable", "{error}");
    assert_eq!(listed(&site.replica).await, [""; 0], "half an image is none");
    server.mend();
    let sent = send(&(site.again)(), &here.store, &id, 1).await.expect("gone on with");
    assert!(sent.skipped > 0 && sent.bytes > 0, "{sent:?}");
    site.replica.fetch(&Local::new().store, &service(), &id).await.expect("whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_was_given_up_is_cleared_away_by_the_next_one() {
    let here = Local::new();
    let (one, two) = (here.take("a-1", BIG), here.take("a-2", 1000));
    let (site, server) = Site::s3().await;
    site.replica.claim(&service(), Epoch(1)).await.expect("claimed");
    server.break_after(2);
    send(&site.replica, &here.store, &one, 1).await.expect_err("cut");
    server.mend();
    let of_one =
        || walk(&site.files).into_iter().filter(|path| path.display().to_string().contains("/a-1/")).count();
    assert!(of_one() > 0);
    send(&site.replica, &here.store, &two, 1).await.expect("sent");
    assert_eq!(of_one(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ignores_conditions_is_refused() {
    let (site, server) = Site::s3().await;
    server.ignore_conditions();
    let error = site.replica.claim(&service(), Epoch(1)).await.expect_err("two could hold it");
    assert_eq!(error.kind(), "refused", "{error}");
    assert!(error.to_string().contains("conditional writes"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_are_refused_with_their_remedy() {
    let server = Server::start().await;
    std::fs::write(&server.credentials, "aws_access_key_id = key\naws_secret_access_key = wrong\n")
        .expect("written");
    let access = engine::replica::objects::Access {
        provider: engine::replica::objects::Provider::S3,
        url: "s3://images".to_owned(),
        endpoint: Some(server.endpoint.clone()),
        region: None,
        credentials_file: Some(server.credentials.clone()),
        timeout: Duration::from_secs(5),
    };
    let replica = bucket(Arc::new(Cloud::new(&access).expect("usable")), "s3");
    let error = replica.claim(&service(), Epoch(1)).await.expect_err("not ours");
    assert_eq!(error.kind(), "refused", "{error}");
    assert!(error.to_string().contains("credentials_file"), "{error}");
}

/// Of many who claim different epochs at once, the greatest wins, and everybody else is refused or was there before.
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_who_claim_at_once_wins() {
    let (s3, _server) = Site::s3().await;
    for site in [Site::folder(), s3] {
        let claims: Vec<_> = (1..=8)
            .map(|epoch| {
                let replica = (site.again)();
                tokio::spawn(async move { replica.claim(&service(), Epoch(epoch)).await })
            })
            .collect();
        for claim in claims {
            if let Err(error) = claim.await.expect("no panic") {
                assert!(matches!(error.kind(), "fenced" | "unavailable"), "{}: {error}", site.kind);
            }
        }
        site.replica.claim(&service(), Epoch(8)).await.expect("the greatest");
        assert_eq!(site.replica.claim(&service(), Epoch(7)).await.expect_err("older").kind(), "fenced");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_epoch_that_is_damaged_refuses_everybody() {
    let site = Site::folder();
    site.replica.claim(&service(), Epoch(1)).await.expect("claimed");
    crate::fixture::flip_a_byte(&site.files.join("web/epoch"));
    assert_eq!(site.replica.claim(&service(), Epoch(2)).await.expect_err("nobody knows").kind(), "corrupt");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_mounted_is_no_place() {
    let root = tempfile::tempdir().expect("a folder");
    let replica = bucket(Arc::new(Folder::new(root.path().join("absent"))), "file");
    let error = replica.claim(&service(), Epoch(1)).await.expect_err("not there");
    assert_eq!(error.kind(), "unavailable");
    assert!(!root.path().join("absent").exists(), "and it isn't made");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_a_folder_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let (here, site) = (Local::new(), Site::folder());
    send(&site.replica, &here.store, &here.take("a-1", 1000), 1).await.expect("sent");
    let files = walk(&site.files);
    assert!(files.len() > 3, "{files:?}");
    for path in files {
        let mode = std::fs::metadata(&path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
}

/// A bucket needs no key for an encrypted image; whoever is to call it an image does.
#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_image_travels_with_its_key_and_is_opened_by_its_owners_only() {
    let site = Site::folder();
    let (here, there) = (Local::encrypted(7), Local::encrypted(7));
    let (other, without) = (Local::encrypted(8), Local::new());
    let id = here.take("a-1", BIG);
    send(&site.replica, &here.store, &id, 1).await.expect("sent");
    assert_eq!(listed(&(site.again)()).await, ["a-1"], "it can be listed by anybody");
    for stranger in [&other, &without] {
        let refused = site.replica.fetch(&stranger.store, &service(), &id).await.expect_err("no key");
        assert_eq!(refused.kind(), "refused", "{refused}");
        assert!(stranger.store.list(&service()).expect("listed").is_empty(), "nothing of it stays");
    }
    site.replica.fetch(&there.store, &service(), &id).await.expect("fetched");
    there.store.verify(&id).expect("whole");
    assert!(there.contents(&id) == here.contents(&id));
    here.store.rekey().expect("wrapped anew");
    let again = send(&site.replica, &here.store, &id, 1).await.expect("the same image still");
    assert_eq!(again.bytes, 0);
}

/// Objects come whole or not at all whatever is being written beside them: a reader never sees a temporary file.
#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_died_leaves_nothing_that_is_listed() {
    let site = Site::folder();
    let image = site.files.join("web/a-1/state.seg");
    durable::create_dir_all(&image).expect("created");
    std::fs::write(image.join(".tmp-1-1"), "half").expect("written");
    let folder = Folder::new(site.files.clone());
    assert_eq!(folder.list("web").await.expect("listed"), []);
    folder.put("web/a-1/state.seg/00000000", hyper::body::Bytes::from_static(b"x")).await.expect("written");
    folder.delete("web/a-1/state.seg/00000000").await.expect("removed");
    assert!(!site.files.join("web/a-1").exists(), "and what it left goes with the rest");
}

/// The limit is one for all that goes to a replica, and it holds. (No upper bound is asserted: a busy host is slower.)
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_is_kept() {
    let (here, site) = (Local::new(), Site::folder());
    let id = here.take("a-1", BIG);
    let objects = Arc::new(Folder::new(site.files.clone()));
    let place = engine::replica::bucket::Bucket::new(objects, "file", "alpha");
    let limited = Replica::new("file", Box::new(place), Pace::limited(20 << 20));
    let begun = std::time::Instant::now();
    send(&limited, &here.store, &id, 1).await.expect("sent");
    // The last piece may go as soon as those before it have had their time.
    assert!(begun.elapsed() >= Duration::from_millis(790), "{:?}", begun.elapsed());
    assert!(begun.elapsed() < LIMIT);
}

/// The disk is lost, memory is not: the image becomes durable again.
#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_is_only_hot_here_can_be_fetched() {
    let (here, site) = (Local::new(), Site::folder());
    let id = here.take("a-1", 1000);
    send(&site.replica, &here.store, &id, 1).await.expect("sent");
    drop(here.store.open_for_restore(&id).expect("unpacked: it is hot"));
    std::fs::remove_dir_all(here.folder.path().join("images/web/a-1")).expect("lost");
    site.replica.fetch(&here.store, &service(), &id).await.expect("fetched");
    let facts = here.store.list(&service()).expect("listed").remove(0).facts;
    assert!(facts.hot && facts.durable, "{facts:?}");
}
