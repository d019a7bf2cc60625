//! Encrypted images: a secret that a service holds in memory and in a file of its volume is nowhere in the store, a wrong key costs a cold
//! start and no image, and keys are rotated.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use system_tests::{Counter, Host, Node, Runtime};

const IN_MEMORY: &str = "a secret in the memory of the service: 6f1d0c2e";
const IN_A_FILE: &str = "a secret in a file of its volume: 93ab77d1";

struct Scene {
    node: Node,
    counter: Counter,
}

impl Scene {
    fn set() -> Option<Self> {
        let host = Host::or_skip(Runtime::Process)?;
        let (mut node, counter) = Node::with_counter(host, Runtime::Process, &[]);
        let volume = node.folder().join("volume");
        fs::create_dir(&volume).expect("a volume");
        fs::write(volume.join("note"), IN_A_FILE).expect("written");
        node.set("counter", "checkpoint.volumes", &format!("[\"{}\"]", volume.display()));
        node.set("counter", "process.env.SECRET", &format!("\"{IN_MEMORY}\""));
        // Compressed, it could not be found at all.
        node.set_in("store", "compression", "\"none\"");
        Some(Self { node, counter })
    }

    fn key(&self, name: &str, byte: u8) -> PathBuf {
        let path = self.node.folder().join(name);
        fs::write(&path, [byte; 32]).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("ours");
        path
    }

    fn encrypt(&mut self, key: &Path, former: &[&Path]) {
        self.node.set_in("store", "encryption_key_file", &format!("\"{}\"", key.display()));
        let former: Vec<String> = former.iter().map(|path| format!("\"{}\"", path.display())).collect();
        self.node.set_in("store", "encryption_old_key_files", &format!("[{}]", former.join(", ")));
    }

    /// Which of the secrets lie anywhere in the store.
    fn found(&self) -> Vec<&'static str> {
        let store = self.node.state_dir().join("images");
        [IN_MEMORY, IN_A_FILE].into_iter().filter(|secret| is_below(&store, secret.as_bytes())).collect()
    }

    /// Stops the supervisor, and the service dies while it is away; what was in memory goes, as with a reboot.
    fn go_down(&mut self) {
        self.node.stop();
        self.node.signal_service("counter", Signal::SIGKILL);
        let hot = self.node.traces().hot_folder().join("counter");
        // After a cold start there is none.
        if hot.exists() {
            fs::remove_dir_all(hot).expect("hot images");
        }
    }

    fn image(&self) -> serde_json::Value {
        self.node.json(&["images", "counter"])[0].clone()
    }
}

/// Whether a file below a folder holds these bytes.
fn is_below(folder: &Path, bytes: &[u8]) -> bool {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut entries: Vec<PathBuf> = entries.collect();
    entries.sort();
    entries.iter().any(|path| match path.is_dir() {
        true => is_below(path, bytes),
        false => fs::read(path).expect("read").windows(bytes.len()).any(|window| window == bytes),
    })
}

#[test]
fn without_encryption_the_secrets_lie_in_the_store() {
    let Some(mut scene) = Scene::set() else { return };
    scene.node.start();
    scene.node.checkpoint("counter");
    assert_eq!(scene.found(), [IN_MEMORY, IN_A_FILE], "or the other test could not fail");
}

#[test]
fn secrets_stay_secret_through_crashes_wrong_keys_and_rotation() {
    let Some(mut scene) = Scene::set() else { return };
    let (first, second) = (scene.key("first", 1), scene.key("second", 2));
    scene.encrypt(&first, &[]);
    scene.node.start();
    scene.counter.count_to(3);
    let image = scene.node.checkpoint("counter");
    assert_eq!(scene.found(), [""; 0]);

    // From memory, then from disk.
    for hot in [true, false] {
        if !hot {
            let folder = scene.node.traces().hot_folder().join("counter").join(&image);
            fs::remove_dir_all(folder).expect("a hot image");
        }
        let mark = scene.node.mark();
        scene.counter.count_to(5);
        let former = scene.node.signal_service("counter", Signal::SIGKILL);
        scene.node.wait_for_another("counter", former);
        let back = scene.node.wait_for_event(mark, "recovered", |_| true);
        assert_eq!(back.image.as_deref(), Some(&*image), "hot: {hot}");
        assert_eq!((scene.counter.value(), scene.found()), (3, vec![]), "hot: {hot}");
        scene.counter.assert_whole();
    }
    assert_eq!(scene.node.json(&["verify", &image])[0]["id"], *image);

    // A wrong key: cold, said, and nothing lost.
    scene.go_down();
    scene.encrypt(&second, &[]);
    let mark = scene.node.mark();
    scene.node.start();
    assert_eq!(scene.counter.value(), 0, "started cold");
    let said = scene.node.wait_for_event(mark, "images-locked", |_| true);
    assert!(
        said.text.contains("which is not configured") && said.text.contains("encryption_"),
        "{}",
        said.text
    );
    let listed = scene.image();
    assert!(listed["damaged"].is_null() && listed["incompatible"].is_string(), "{listed}");
    let verified = scene.node.command(&["verify", &image]);
    assert!(verified.code == Some(4) && verified.stderr.contains("which is not configured"), "{verified:?}");

    // The wrong one becomes the new one, beside the former.
    scene.go_down();
    scene.encrypt(&second, &[&first]);
    scene.node.start();
    assert_eq!(scene.counter.value(), 3, "restored by the former key");
    let rekeyed = scene.node.json(&["rekey"]);
    assert_eq!(rekeyed["done"], serde_json::json!([image]), "{rekeyed}");

    // The former is not needed any more.
    scene.go_down();
    scene.encrypt(&second, &[]);
    fs::remove_file(&first).expect("it was there");
    scene.node.start();
    assert_eq!(scene.counter.value(), 3, "restored by the new key alone");
    assert_eq!(scene.image()["key"], rekeyed["key"]);
    assert_eq!(scene.found(), [""; 0]);
}

#[test]
fn a_key_that_cannot_be_read_is_said_before_anything_is_started() {
    let Some(mut scene) = Scene::set() else { return };
    let key = scene.key("key", 1);
    scene.encrypt(&key, &[]);
    scene.node.write_config();
    let checked = scene.node.command(&["check"]);
    assert!(checked.code == Some(0) && checked.stdout.contains("encrypted"), "{checked:?}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("ours");
    for command in [&["check"][..], &["run"]] {
        let said = scene.node.command(command);
        assert!(said.code != Some(0) && said.stderr.contains("chmod 600"), "{command:?}: {said:?}");
    }
    let said = scene.node.command(&["doctor"]);
    assert!(said.code == Some(6) && said.stdout.contains("chmod 600"), "{said:?}");
    assert!(!scene.node.images_folder("counter").exists());
}
