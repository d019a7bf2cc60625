//! Images that leave for podman on a host without us, archives of podman's that become images, and our own archives between two nodes.
#![allow(missing_docs)]

use std::path::Path;

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

/// podman's own archive of another container of the same image, however it is compressed.
#[test]
fn podmans_is_restored_by_us() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let (container, volume, mut node, sequence) = with_sequence(&containers);
    let folder = node.folder().to_owned();
    let theirs = containers.reserve("theirs");
    let their_volume = format!("{}-volume", theirs.name());
    let mount = format!("{their_volume}:/volume");
    let create = ["create", "--name", theirs.name(), "--entrypoint", "/bin/sequence", "--volume", &mount];
    let listen = ["--listen", "0.0.0.0:8080"];
    containers.done(&[&create[..], &[system_tests::IMAGE], &listen, &FOLDERS].concat());
    theirs.start();
    let mut former = 0;
    for compressed in ["zstd", "gzip", "none"] {
        wait_until(LIMIT, "theirs goes on", || theirs.counter().answers());
        goes_on(theirs.counter());
        let archive = folder.join(format!("theirs.{compressed}")).display().to_string();
        // It ends with it: what podman exports of a container that runs on is not of one instant.
        let compress = format!("--compress={compressed}");
        containers.done(&[
            "container",
            "checkpoint",
            "--keep",
            "--export",
            &archive,
            &compress,
            theirs.name(),
        ]);
        let imported = node.json(&["import", &archive, "--service", "sequence"]);
        let image = imported["id"].as_str().expect("it is an image").to_owned();
        assert_eq!(
            (&imported["pinned"], &imported["durable"]),
            (&Value::Bool(true), &Value::Bool(true)),
            "{imported}"
        );

        let asked = node.command(&["restore", "sequence", "--image", &image]);
        assert_eq!(asked.code, Some(0), "{asked:?}");
        node.wait_healthy("sequence");
        let came_back = number(sequence);
        goes_on(sequence);
        assert_whole(sequence);
        assert!(came_back > former, "the numbers of {compressed}: {came_back} after {former}");
        former = came_back;
        if compressed == "zstd" {
            leaves_again(&node, &image);
        }
        // At its own address, which the other one has now.
        containers.done(&["container", "restore", "--keep", "--ignore-static-ip", theirs.name()]);
    }
    // It would create its container again.
    node.stop();
    drop((container, theirs));
    containers.done(&["volume", "rm", &volume, &their_volume]);
}

/// What came from podman leaves for podman.
fn leaves_again(node: &Node, image: &str) {
    let archive = exported(node, image, "podman");
    let listed = std::process::Command::new("tar").args(["--zstd", "-tf", &archive]).output().expect("tar");
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    for name in [
        "config.dump",
        "spec.dump",
        "network.status",
        "devshm-checkpoint.tar",
        "checkpoint/inventory.img",
        "rootfs-diff.tar",
    ] {
        assert!(names.lines().any(|line| line == name), "{name} in {names}");
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let container = containers.reserve("service");
    let mut node = Node::new(containers.host());
    let counter = node.add_container("counter", &containers, container.name(), Some(&[]));
    node.add_counter("process", system_tests::Runtime::Process, &[]);
    node.start();
    let theirs = containers.create("theirs", &["--volume", "/data"], &["--listen", "0.0.0.0:8080"]);
    theirs.start();
    theirs.counter().count_to(3);
    let at = |name: &str| node.folder().join(name).display().to_string();
    let whole = at("whole");
    containers.done(&["container", "checkpoint", "--export", &whole, "--compress=none", theirs.name()]);
    let bytes = std::fs::read(&whole).expect("podman wrote it");
    std::fs::write(at("half"), &bytes[..bytes.len() / 2]).expect("written");
    std::fs::write(at("other"), b"something else, long enough to be looked at").expect("written");
    let import = |file: &str, service: &[&str]| {
        let said = node.command(&[&["import", &at(file)], service].concat());
        (said.code, said.stderr)
    };
    let expect = |(code, said): (Option<i32>, String), wanted: i32, words: &str| {
        assert!(code == Some(wanted) && said.contains(words), "{wanted} {words}: {code:?} {said}");
    };
    let to_counter: &[&str] = &["--service", "counter"];
    expect(import("whole", &[]), 2, "--service");
    expect(import("whole", &["--service", "process"]), 4, "podman service");
    expect(import("whole", &["--service", "nobody"]), 4, "configure it");
    expect(import("whole", to_counter), 4, "no volume at /data");
    expect(import("half", to_counter), 6, "damaged");
    expect(import("other", to_counter), 4, "neither");
    let image = node.checkpoint("process");
    expect(
        {
            let said = node.command(&["export", &image, &at("out"), "--format", "podman"]);
            (said.code, said.stderr)
        },
        4,
        "process service",
    );
    assert!(!Path::new(&at("out")).exists(), "nothing half-written is left");
    assert_eq!(node.json(&["images", "counter"]).as_array().map(Vec::len), Some(0), "no image came of it");
    counter.count_to(1);
}

/// Our own archive, carried to another node that has the same service.
#[test]
fn a_native_archive_is_restored_on_a_second_node() {
    let Some(containers) = Containers::or_skip(Engine::Podman) else { return };
    let container = containers.reserve("service");
    let mut first = Node::new(containers.host());
    let counter = first.add_container("counter", &containers, container.name(), Some(&["--volume", "/data"]));
    first.start();
    counter.count_to(7);
    let image = first.checkpoint("counter");
    counter.count_to(9);
    let archive = exported(&first, &image, "native");
    assert_eq!(first.command(&["stop", "counter"]).code, Some(0));
    first.stop();

    // The very same definition, its port included: an image is of what was configured when it was taken.
    let mut second = Node::new(containers.host());
    second.add_container("counter", &containers, container.name(), Some(&[]));
    let publish = format!("{}:8080", counter.address());
    second.set(
        "counter",
        "podman.create_args",
        &format!("[\"--publish\", \"{publish}\", \"--volume\", \"/data\"]"),
    );
    let health = format!("\"http://{}/health\"", counter.address());
    second.set("counter", "probe.health.http.url", &health);
    second.start();
    assert_eq!(counter.value(), 0, "a start from scratch");
    let other = second.command(&["import", &archive, "--service", "another"]);
    assert!(other.code == Some(4) && other.stderr.contains("service counter"), "{other:?}");
    let imported = second.json(&["import", &archive]);
    assert_eq!(
        (&imported["id"], &imported["verdict"]),
        (&image.clone().into(), &"good".into()),
        "{imported}"
    );
    let asked = second.command(&["restore", "counter", "--image", &image]);
    assert_eq!(asked.code, Some(0), "{asked:?}");
    second.wait_healthy("counter");
    assert_eq!(counter.value(), 7);
    counter.assert_whole();
}
