//! An image of a host that this one does not fit is passed over, with the reason; the next older one is used.

use engine::compat::Host;
use engine::images::{Codec, Keyring, Settings, StageNeeds, Store};
use policies::id::ImageId;
use policies::image::ImageVerdict;
use policies::time::WallTime;
use system_tests::bad_days::{Counter, Site};

fn newest_is_foreign(change: impl FnOnce(&mut Host), words: &[&str]) {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node).checkpoint("interval = \"never\"\non = []");
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let number = counter.count_to(12);
    let own = node.checkpoint("counter");
    counter.count_to(20);
    node.stop();

    let foreign = add_foreign(&node, &own, change);
    node.start();
    node.wait_event("counter", "adopted");
    counter.healthy(&node);
    let listed = String::from_utf8_lossy(&node.cli(&["images", "counter"]).stdout).into_owned();
    assert!(listed.contains(&foreign), "it is shown: {listed}");
    node.kill_service("counter");

    let back = node.wait_event("counter", "recovered");
    assert_eq!(back.image.as_deref(), Some(own.as_str()), "{}", back.text);
    let skipped = node.wait_event("counter", "image-skipped");
    assert_eq!(skipped.image.as_deref(), Some(foreign.as_str()));
    for word in words {
        assert!(skipped.text.contains(word), "{word} is not in: {}", skipped.text);
    }
    counter.healthy(&node);
    assert_eq!(counter.number(), number, "the older image's number");
    let asked = node.cli(&["restore", "counter", "--image", &foreign]);
    assert_eq!(asked.status.code(), Some(4), "{asked:?}");
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

/// A copy of an image, newer and good, but of another host.
fn add_foreign(node: &Site, own: &str, change: impl FnOnce(&mut Host)) -> String {
    let settings = Settings {
        path: node.state_dir().join("images"),
        hot: None,
        hot_max_size: None,
        keep_hot: 1,
        codec: Codec::Zstd,
        keys: Keyring::none(),
        min_free: 0,
        max_total_size: None,
    };
    let (store, _) = Store::open(settings).expect("nobody else uses the store now");
    let own = store.open_for_restore(&ImageId::try_from(own).expect("an id")).expect("it is whole");
    let id = ImageId::try_from("29990101T000000.000000Z-0001").expect("an id");
    let staging = store.stage(own.service(), &id, StageNeeds::default()).expect("there is room");
    for entry in std::fs::read_dir(own.criu_dir()).expect("its files") {
        let entry = entry.expect("a file");
        std::fs::copy(entry.path(), staging.criu_dir().join(entry.file_name())).expect("copied");
    }
    let mut about = own.about().clone();
    about.taken_at = WallTime::from_unix_nanos(about.taken_at.as_unix_nanos() + 1_000_000_000);
    about.verdict = ImageVerdict::Good;
    change(&mut about.host);
    staging.seal(about).expect("sealed");
    store.commit(&id, &std::sync::atomic::AtomicBool::new(false)).expect("durable");
    id.to_string()
}

#[test]
fn an_image_of_another_architecture() {
    newest_is_foreign(|host| host.architecture = "riscv64".to_owned(), &["riscv64"]);
}

#[test]
fn an_image_that_needs_a_newer_processor() {
    let newer = |host: &mut Host| host.cpu_features.push("avx512_of_tomorrow".to_owned());
    newest_is_foreign(newer, &["avx512_of_tomorrow"]);
}
