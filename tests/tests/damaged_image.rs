//! Nothing damaged is restored: a byte that is not as it was, on disk or in memory, is found before CRIU sees it.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, Node, Runtime, both};

both! {
    newest_damaged_everywhere => super::newest_damaged_everywhere;
    only_its_hot_copy_damaged => super::only_its_hot_copy_damaged;
    newest_cut_short => super::newest_cut_short;
}

struct Scene {
    node: Node,
    counter: Counter,
    older: String,
    newest: String,
}

impl Scene {
    /// Two images on disk, of the numbers 3 and 6; the newest one is hot too.
    fn set(runtime: Runtime) -> Option<Self> {
        let host = Host::or_skip(runtime)?;
        let (mut node, counter) = Node::with_counter(host, runtime, &[]);
        node.start();
        counter.count_to(3);
        let older = node.checkpoint("counter");
        counter.count_to(6);
        let newest = node.checkpoint("counter");
        counter.count_to(8);
        Some(Self { node, counter, older, newest })
    }

    fn hot_pages(&self) -> PathBuf {
        let folder = self.node.traces().hot_folder().join("counter").join(&self.newest).join("criu");
        largest(&folder, |name| name.starts_with("pages-"))
    }

    fn durable_memory(&self) -> PathBuf {
        let folder = self.node.images_folder("counter").join(&self.newest);
        largest(&folder, |name| name.starts_with("memory-"))
    }

    /// Kills the service and waits until it is back.
    fn die_and_come_back(&self) -> Vec<system_tests::Event> {
        let mark = self.node.mark();
        let former = self.node.signal_service("counter", Signal::SIGKILL);
        self.node.wait_for_another("counter", former);
        self.counter.assert_whole();
        self.node.events_since(mark)
    }

    fn assert_older_used(&self) {
        let events = self.die_and_come_back();
        let failed = events.iter().find(|e| e.kind == "rung-failed").expect("the newest one was tried");
        assert_eq!(failed.image.as_ref(), Some(&self.newest));
        assert!(failed.text.contains("restore-latest from image"), "{}", failed.text);
        let recovered = events.iter().find(|e| e.kind == "recovered").expect("it came back");
        assert_eq!(recovered.image.as_ref(), Some(&self.older));
        assert!(recovered.text.starts_with("back by restore-older"), "{}", recovered.text);
        assert_eq!(self.counter.value(), 3);
        let listed = self.node.json(&["images", "counter"]);
        let listed = listed.as_array().or(listed["images"].as_array()).expect("a list of images").clone();
        let newest = listed.iter().find(|i| i["id"] == *self.newest).expect("it is kept for inspection");
        assert!(newest["damaged"].is_string(), "and seen as damaged: {newest}");
    }
}

fn newest_damaged_everywhere(runtime: Runtime) {
    let Some(scene) = Scene::set(runtime) else { return };
    flip_a_byte(&scene.hot_pages());
    flip_a_byte(&scene.durable_memory());
    scene.assert_older_used();
}

fn newest_cut_short(runtime: Runtime) {
    let Some(scene) = Scene::set(runtime) else { return };
    for file in [scene.hot_pages(), scene.durable_memory()] {
        let length = fs::metadata(&file).expect("it is there").len();
        let opened = fs::OpenOptions::new().write(true).open(&file).expect("we are root");
        opened.set_len(length - 1).expect("a file can be cut");
    }
    scene.assert_older_used();
}

fn only_its_hot_copy_damaged(runtime: Runtime) {
    let Some(scene) = Scene::set(runtime) else { return };
    flip_a_byte(&scene.hot_pages());
    let events = scene.die_and_come_back();
    let recovered = events.iter().find(|e| e.kind == "recovered").expect("it came back");
    assert_eq!(recovered.image.as_ref(), Some(&scene.newest), "from disk");
    assert!(recovered.text.starts_with("back by restore-latest"), "{}", recovered.text);
    assert_eq!(scene.counter.value(), 6);
}

fn largest(folder: &Path, wanted: impl Fn(&str) -> bool) -> PathBuf {
    let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("list {}: {e}", folder.display()));
    let files = entries.map(|entry| entry.expect("an entry can be read").path());
    let named = files.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(&wanted));
    let length = |path: &PathBuf| fs::metadata(path).map_or(0, |found| found.len());
    named.max_by_key(length).unwrap_or_else(|| panic!("no such file in {}", folder.display()))
}

fn flip_a_byte(path: &Path) {
    let mut bytes = fs::read(path).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("we are root");
}
