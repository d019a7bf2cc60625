//! Images outside of the host: they get there by themselves, whole, and a service comes back from them after its own host has lost all.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::pair::quoted;
use system_tests::pki::{certificates, tls};
use system_tests::{Counter, Host, LIMIT, Node, Runtime, wait_for, wait_until};

/// A folder that stands for a disk of another host; gone with the test.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn url(&self) -> String {
        format!("file://{}", self.0.path().display())
    }

    /// Images that are there with their manifest.
    fn complete(&self) -> Vec<String> {
        let folders = fs::read_dir(self.0.path().join("counter"))
            .into_iter()
            .flatten()
            .map(|entry| entry.expect("an entry").path());
        let complete = folders.filter(|folder| folder.join("manifest").exists());
        let name = |path: PathBuf| path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        let mut names: Vec<String> = complete.map(name).collect();
        names.sort();
        names
    }
}

/// A node with a counter whose images go to a place.
fn sending_to(url: &str) -> Option<(Node, Counter)> {
    let host = Host::or_skip(Runtime::Process)?;
    let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
    node.set_in("store.replica#0", "url", &quoted(url));
    Some((node, counter))
}

fn wait_replicated(node: &Node, image: &str) {
    wait_until(LIMIT, &format!("{image} is replicated"), || {
        node.events()
            .iter()
            .any(|event| event.kind == "image-replicated" && event.image.as_deref() == Some(image))
    });
}

/// What is published of the first replica.
fn replica(node: &Node) -> Value {
    node.status("counter")["replicas"][0].clone()
}

#[test]
fn the_store_is_lost_and_the_service_comes_back_from_the_replica() {
    let disk = Disk::new();
    let Some((mut node, counter)) = sending_to(&disk.url()) else { return };
    node.start();
    counter.count_to(5);
    let image = node.checkpoint("counter");
    wait_replicated(&node, &image);
    wait_until(LIMIT, "its verdict is there too", || {
        let listed = node.json(&["images", "--replica", "0"]);
        listed[0]["id"] == *image && listed[0]["verdict"] == "good"
    });
    let status = replica(&node);
    assert_eq!(
        (status["newest"].as_str(), status["behind"].as_u64()),
        (Some(image.as_str()), Some(0)),
        "{status}"
    );
    let listed = node.json(&["images", "counter"]);
    assert_eq!(listed[0]["replicated"], true, "{listed}");

    // The host with its service, its state and its images.
    node.kill();
    node.signal_service("counter", Signal::SIGKILL);
    fs::remove_dir_all(node.state_dir()).expect("the state is lost");
    fs::remove_dir_all(node.traces().hot_folder()).expect("and what was in memory");

    // Before a supervisor runs: by the configuration.
    let fetched = node.json(&["fetch", &image, "--from", &disk.url()]);
    assert_eq!(fetched["service"], "counter", "{fetched}");
    node.start();
    let restored = node.json(&["restore", "counter", "--image", &image]);
    assert_eq!(restored["outcome"], "done", "{restored}");
    counter.assert_whole();
    assert_eq!(counter.value(), 5);
}

#[test]
fn a_running_supervisor_fetches_too_and_says_what_is_damaged() {
    let disk = Disk::new();
    let Some((mut node, counter)) = sending_to(&disk.url()) else { return };
    node.start();
    counter.count_to(2);
    let (one, two) = (node.checkpoint("counter"), node.checkpoint("counter"));
    wait_replicated(&node, &two);
    assert_eq!(disk.complete().last(), Some(&two));
    flip_a_byte(&biggest(&disk.0.path().join("counter").join(&two)));
    // What is here already is not fetched; so it has to be gone.
    fs::remove_dir_all(node.images_folder("counter").join(&two)).expect("lost");
    let _ = fs::remove_dir_all(node.traces().hot_folder().join("counter").join(&two));
    let said = node.command(&["fetch", &two, "--from", "0"]);
    assert_eq!(said.code, Some(6), "{said:?}");
    assert!(!node.images_folder("counter").join(&two).exists(), "half an image is none");
    assert_eq!(node.command(&["fetch", "nothing", "--from", "0"]).code, Some(4));
    assert_eq!(node.command(&["fetch", &one, "--from", "7"]).code, Some(4), "no such replica");
}

/// An outage is said once and its end once; nothing waits for it meanwhile, and only the newest image is sent afterwards.
#[test]
fn a_replica_that_is_away_delays_nobody_and_gets_the_newest_when_it_is_back() {
    let disk = Disk::new();
    let mounted = disk.0.path().join("mounted");
    let Some((mut node, counter)) = sending_to(&format!("file://{}", mounted.display())) else { return };
    let mark = node.mark();
    node.start();
    counter.count_to(1);
    let images: Vec<String> = (0..3).map(|_| node.checkpoint("counter")).collect();
    node.wait_for_event(mark, "replica-failed", |event| event.text.contains("mount it"));
    wait_until(LIMIT, "it is published", || {
        replica(&node)["last_error"].is_string() && replica(&node)["behind"] == 3
    });
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);

    fs::create_dir(&mounted).expect("mounted");
    node.wait_for_event(mark, "replica-mended", |_| true);
    wait_replicated(&node, &images[2]);
    wait_until(LIMIT, "it is as it should be", || {
        replica(&node)["behind"] == 0 && replica(&node)["last_error"].is_null()
    });
    let events = node.events();
    let of = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((of("replica-failed"), of("replica-mended")), (1, 1));
    let sent: Vec<_> =
        events.iter().filter(|e| e.kind == "image-replicated").filter_map(|e| e.image.clone()).collect();
    assert!(!sent.contains(&images[0]), "what was overtaken is passed over: {sent:?}");
}

/// SIGKILL of the supervisor at each step of sending: half an image is none, and the next supervisor sends the rest.
#[test]
fn a_supervisor_killed_while_it_sends_is_gone_on_with() {
    for point in ["replica.part", "replica.manifest.before"] {
        let disk = Disk::new();
        let Some((mut node, counter)) = sending_to(&disk.url()) else { return };
        node.start_to_die_later_at(point);
        node.wait_healthy("counter");
        counter.count_to(1);
        // The answer may be cut off with the supervisor.
        let _ = node.command(&["checkpoint", "counter"]);
        node.wait_dead_at_fail_point();
        assert_eq!(disk.complete(), [""; 0], "{point}");
        node.start();
        let sent = wait_for(LIMIT, "it is sent", || {
            node.events().into_iter().find(|e| e.kind == "image-replicated")
        });
        assert!(!sent.text.contains(" 0.0 MiB were there") || point == "replica.part", "{}", sent.text);
        assert_eq!(disk.complete().len(), 1, "{point}");
    }
}

/// Retention on the other side is the replica's own, and a supervisor killed in the middle of a removal leaves no half image.
#[test]
fn retention_there_is_kept_also_over_a_kill() {
    let disk = Disk::new();
    let Some((mut node, counter)) = sending_to(&disk.url()) else { return };
    node.set_in("store.replica#0", "max_checkpoints", "2");
    node.start_to_die_later_at("replica.removed");
    node.wait_healthy("counter");
    counter.count_to(1);
    for _ in 0..2 {
        let image = node.checkpoint("counter");
        wait_replicated(&node, &image);
    }
    let _ = node.command(&["checkpoint", "counter"]);
    node.wait_dead_at_fail_point();
    node.start();
    let newest = node.checkpoint("counter");
    wait_replicated(&node, &newest);
    wait_until(LIMIT, "two are left, and nothing of the others", || {
        let folders = fs::read_dir(disk.0.path().join("counter")).expect("there").flatten();
        let folders = folders.filter(|entry| entry.path().is_dir()).count();
        (disk.complete().len(), folders) == (2, 2)
    });
    assert!(disk.complete().contains(&newest));
}

/// Two nodes with certificates: images arrive while both run, after a kill of the receiver too, and nobody else is let in.
#[test]
fn a_peer_receives_over_mutual_tls_and_gives_back() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let pki = tempfile::tempdir().expect("a folder");
    let mut beta = Node::new(host);
    certificates(&beta, pki.path(), &["alpha", "beta"]);
    let port = beta.take_port();
    beta.set_in("api", "listen", &quoted(&format!("127.0.0.1:{port}")));
    beta.set_in("api", "tls", &tls(pki.path(), "beta"));
    beta.start_only();
    let Some((mut alpha, counter)) = sending_to(&format!("peer://127.0.0.1:{port}")) else { return };
    alpha.set_in("api", "tls", &tls(pki.path(), "alpha"));
    alpha.start();
    counter.count_to(4);
    let one = alpha.checkpoint("counter");
    wait_replicated(&alpha, &one);
    let is_one = |event: &system_tests::Event| event.image.as_ref() == Some(&one);
    wait_until(LIMIT, "the receiver says so too", || {
        beta.events().iter().any(|event| event.kind == "image-received" && is_one(event))
    });
    assert!(beta.images_folder("counter").join(&one).join("manifest").exists());

    // The receiver dies at the last step before the image exists there, and again comes back.
    beta.kill();
    beta.start_to_die_at("incoming.complete");
    let two = alpha.checkpoint("counter");
    beta.wait_dead_at_fail_point();
    assert!(!beta.images_folder("counter").join(&two).exists());
    beta.start_only();
    wait_replicated(&alpha, &two);
    let sent = alpha.events().into_iter().rfind(|event| event.kind == "image-replicated").expect("it was");
    assert!(sent.text.contains("(0.0 MiB sent"), "what had come is not sent again: {}", sent.text);

    // Everything is lost at home but the certificates.
    alpha.kill();
    alpha.signal_service("counter", Signal::SIGKILL);
    fs::remove_dir_all(alpha.state_dir()).expect("the state is lost");
    fs::remove_dir_all(alpha.traces().hot_folder()).expect("and what was in memory");
    alpha.json(&["fetch", &two, "--from", "0"]);
    alpha.start();
    assert_eq!(alpha.json(&["restore", "counter", "--image", &two])["outcome"], "done");
    counter.assert_whole();
    assert_eq!(counter.value(), 4);

    // Certificates of another authority.
    let strangers = tempfile::tempdir().expect("a folder");
    certificates(&beta, strangers.path(), &["alpha"]);
    alpha.kill();
    alpha.set_in("api", "tls", &tls(strangers.path(), "alpha"));
    let mark = alpha.mark();
    alpha.start();
    alpha.wait_for_event(mark, "replica-failed", |event| event.text.contains("cert init"));
}

fn biggest(folder: &Path) -> PathBuf {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        if path.is_dir() { files.push(biggest(&path)) } else { files.push(path) }
    }
    files
        .into_iter()
        .max_by_key(|path| fs::metadata(path).map_or(0, |found| found.len()))
        .expect("there is one")
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
}
