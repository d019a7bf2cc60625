//! A store on a full disk: commits fail with their remedy, nothing that is there is harmed, and they work again once there is room.

use std::time::Duration;

use system_tests::bad_days::{Counter, Site, Tmpfs, said};
use system_tests::{wait_for, wait_until};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn commits_fail_and_go_on_when_there_is_room_again() {
    let Some(mut node) = Site::or_skip() else { return };
    let Some(disk) = Tmpfs::mount(&node.folder().join("store"), "24m") else { return };
    let counter = Counter::new("counter", &node)
        .memory(4 << 20)
        .checkpoint("interval = \"400ms\"\nmax_checkpoints = 2");
    // Hardly compressible memory on a disk for a few images of it.
    let store =
        format!("[store]\npath = \"{}\"\nmin_free = 0\ncompression = \"none\"\n", disk.path().display());
    node.configure(&format!("{store}{}", counter.toml()));
    node.start();
    counter.healthy(&node);
    counter.count_to(3);
    let durable = node.wait_event("counter", "image-durable");
    let durable = durable.image.expect("it names the image");
    // Retention would delete it while the disk fills; it is the last good one that this is about.
    assert!(node.cli(&["pin", &durable]).status.success());

    disk.fill();

    let failed = wait_for(LIMIT, "a failed commit", || node.events_of("counter", "commit-failed").pop());
    assert!(failed.text.contains("is hot only"), "{}", failed.text);
    assert!(failed.text.contains("remedy:") && failed.text.contains("space"), "{}", failed.text);
    counter.healthy(&node);
    let verified = node.cli(&["verify", &durable]);
    assert!(verified.status.success(), "{verified:?}");

    // What is only hot is restored all the same.
    let number = counter.count_to(50);
    let hot = node.wait_newer_image("counter");
    node.kill_service("counter");
    let back = node.wait_event("counter", "recovered");
    assert!(back.image >= Some(hot), "the newest good one: {}", back.text);
    assert!(counter.number() >= number);

    let before = node.events_of("counter", "image-durable").len();
    disk.empty();
    wait_until(LIMIT, "commits go on", || node.events_of("counter", "image-durable").len() > before);
    assert!(node.cli(&["verify", &durable]).status.success());
}

/// It runs on, and with its connections: the image that was to be the last one has them as they were, and is not the first choice.
#[test]
fn a_service_that_cannot_be_put_away_runs_on_and_comes_back_from_another_image() {
    let Some(mut node) = Site::or_skip() else { return };
    let Some(disk) = Tmpfs::mount(&node.folder().join("store"), "24m") else { return };
    let counter =
        Counter::new("counter", &node).memory(4 << 20).checkpoint("interval = \"never\"\ntrial = false");
    let store =
        format!("[store]\npath = \"{}\"\nmin_free = 0\ncompression = \"none\"\n", disk.path().display());
    node.configure(&format!("{store}{}", counter.toml()));
    node.start();
    counter.healthy(&node);
    let number = counter.count_to(3);
    node.checkpoint("counter");
    let good = node.wait_event("counter", "image-durable").image;
    disk.fill();
    counter.count_to(5);

    let refused = node.cli(&["suspend", "counter"]);

    assert!(!refused.status.success() && said(&refused).contains("space"), "{}", said(&refused));
    counter.healthy(&node);
    assert!(counter.number() >= 5, "it runs on");
    node.kill_service("counter");
    let back = node.wait_event("counter", "recovered");
    assert_eq!(back.image, good, "{}", back.text);
    assert_eq!(counter.number(), number);
}

/// Not even the folders of an image have room: the checkpoint fails, says so, and the service runs on.
#[test]
fn a_disk_below_min_free_is_said() {
    let Some(mut node) = Site::or_skip() else { return };
    let Some(disk) = Tmpfs::mount(&node.folder().join("store"), "8m") else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"400ms\"");
    let store = format!("[store]\npath = \"{}\"\nmin_free = \"1GiB\"\n", disk.path().display());
    node.configure(&format!("{store}{}", counter.toml()));
    node.start();
    counter.healthy(&node);

    let failed = wait_for(LIMIT, "it is said", || {
        let mut events = node.events_of("counter", "commit-failed");
        events.extend(node.events_of("counter", "checkpoint-failed"));
        events.pop()
    });

    assert!(failed.text.contains("not enough space in"), "{}", failed.text);
    assert!(failed.text.contains("min_free"), "a remedy: {}", failed.text);
    counter.healthy(&node);
    assert_eq!(node.service("counter")["state"], "running");
}

#[test]
fn a_store_that_cannot_be_written_to_is_said_before_anything_is_started() {
    let Some(node) = Site::or_skip() else { return };
    let Some(disk) = Tmpfs::mount(&node.folder().join("store"), "8m") else { return };
    disk.make_read_only();
    let counter = Counter::new("counter", &node);
    node.configure(&format!("[store]\npath = \"{}\"\n{}", disk.path().display(), counter.toml()));

    let refused = node.refused();

    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let text = system_tests::bad_days::said(&refused);
    assert!(text.contains("Read-only file system") && text.contains("remedy:"), "{text}");
    assert!(text.contains(&disk.path().display().to_string()), "{text}");
    assert!(!counter.answers(), "nothing was started");
}
