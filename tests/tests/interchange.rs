//! Images that leave for podman on a host without us, archives of podman's that become images, and our own archives between two nodes.
#![allow(missing_docs)]

use serde_json::Value;
use system_tests::{Container, Containers, Counter, Elsewhere, Engine, LIMIT, Node, wait_until};

/// Where the sequence writes: a folder of the image (its attributes are not in podman's archives), a new one, a volume, shared memory.
const FOLDERS: [&str; 4] = ["/etc", "/data/deep", "/volume", "/dev/shm"];

fn listen_and_write() -> String {
    let words = ["--listen", "0.0.0.0:8080"].into_iter().chain(FOLDERS);
    format!("[{}]", words.map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "))
}

/// A node with a sequence in a container that it creates.
fn with_sequence<'a>(containers: &'a Containers) -> (Container<'a>, String, Node, Counter) {
    let container = containers.reserve("sequence");
    let volume = format!("{}-volume", container.name());
    let mut node = Node::new(containers.host());
    let mount = format!("{volume}:/volume");
    let options = ["--entrypoint", "/bin/sequence", "--volume", &mount];
    let sequence = node.add_container("sequence", containers, container.name(), Some(&options));
    node.set("sequence", "podman.command", &listen_and_write());
    node.start();
    (container, volume, node, sequence)
}

fn number(sequence: Counter) -> u64 {
    let text = sequence.ask("/");
    let number = text.split_whitespace().find_map(|pair| pair.strip_prefix("number="));
    number.and_then(|number| number.parse().ok()).expect("it says its number")
}

fn goes_on(sequence: Counter) {
    let now = number(sequence);
    wait_until(LIMIT, "the sequence goes on", || number(sequence) > now + 20);
}

/// Memory, shared memory, volume and writable layer are of one instant, and it never began anew.
fn assert_whole(sequence: Counter) {
    let (status, body) = sequence.get("/check").expect("it answers");
    assert_eq!(status, 200, "{body}");
    assert!(sequence.ask("/").contains("started=0 torn=0"), "{}", sequence.ask("/"));
}

fn exported(node: &Node, image: &str, format: &str) -> String {
    let file = node.folder().join(format!("{image}.{format}")).display().to_string();
    let done = node.json(&["export", image, &file, "--format", format]);
    assert_eq!(done["id"], image, "{done}");
    file
}

#[test]
fn ours_is_restored_by_podman_elsewhere() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let (container, volume, mut node, sequence) = with_sequence(&containers);
    goes_on(sequence);
    let image = node.checkpoint("sequence");
    goes_on(sequence);
    let (archive, oci) = (exported(&node, &image, "podman"), exported(&node, &image, "oci"));
    node.stop();
    container.kill();

    let elsewhere = Elsewhere::beside(&containers);
    let other = elsewhere.containers();
    let restored = |arguments: &[&str]| {
        other.done(&[&["container", "restore"], arguments].concat());
        let name = container.name();
        goes_on(sequence);
        assert_whole(sequence);
        let facts = other.inspect(name);
        assert_eq!(facts["State"]["Restored"], Value::Bool(true), "{}", facts["State"]);
        let exec = other.cli(&["exec", name, "/bin/counter", "--nonsense"]);
        assert!(String::from_utf8_lossy(&exec.stderr).contains("--nonsense"), "{exec:?}");
        other.remove(name);
        other.done(&["volume", "rm", &volume]);
    };
    restored(&["--import", &archive]);

    let loaded = other.done(&["load", "--input", &oci]);
    let name = loaded.rsplit(' ').next().expect("it says what it loaded").to_owned();
    let annotations = &other.inspect(&name)["Annotations"];
    assert_eq!(annotations["io.podman.annotations.checkpoint.name"], container.name(), "{annotations}");
    assert_eq!(annotations["io.kubernetes.cri-o.annotations.checkpoint.name"], container.name());
    restored(&[&name]);
    drop(container);
    containers.done(&["volume", "rm", &volume]);
}
