//! What CRIU cannot dump is found by the trial soon after the start, said with reason and remedy, and answered by cold starts.

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use system_tests::bad_days::{Site, Stubborn, said};
use system_tests::{wait_for, wait_until};

/// Degraded within seconds for a reason with these words; a crash is answered by a cold start; checkpoints are not tried for ever.
fn is_found_by_the_trial(node: &mut Site, stubborn: &Stubborn, words: &[&str]) {
    node.configure(&stubborn.toml(""));
    node.start();
    stubborn.healthy(node);
    let why = wait_for(Duration::from_secs(20), "degraded", || {
        node.service("stubborn")["degraded"].as_str().map(str::to_owned)
    });
    for word in words {
        assert!(why.contains(word), "{word} is not in: {why}");
    }
    assert!(why.contains("remedy:"), "{why}");
    let trial = node.wait_event("stubborn", "checkpoint-failed");
    assert!(trial.text.contains("trial"), "{}", trial.text);
    stubborn.healthy(node);
    assert_eq!(node.service("stubborn")["state"], "running", "it is unharmed");
    let asked = node.cli(&["checkpoint", "stubborn"]);
    assert_eq!(asked.status.code(), Some(1), "{asked:?}");
    assert!(said(&asked).contains(words[0]), "{}", said(&asked));

    let former = node.service_pid("stubborn");
    node.kill_service("stubborn");
    let recovered = node.wait_event("stubborn", "recovered");
    assert!(recovered.text.contains("cold-start"), "{}", recovered.text);
    stubborn.healthy(node);
    assert_ne!(node.service_pid("stubborn"), former);
    assert_eq!(node.events_of("stubborn", "image-durable").len(), 0);
}

#[test]
fn io_uring() {
    let Some(mut node) = Site::or_skip() else { return };
    let stubborn = Stubborn::new(&node, &["io-uring"]);
    is_found_by_the_trial(&mut node, &stubborn, &["io_uring", "switch io_uring off"]);
}

#[test]
fn a_unix_connection_to_a_process_outside() {
    let Some(mut node) = Site::or_skip() else { return };
    let path = node.folder().join("outside.sock");
    let listener = UnixListener::bind(&path).expect("a socket of the outside");
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            // Held open until the other end has gone.
            std::thread::spawn(|| connection.map(|mut c| c.read_to_end(&mut Vec::new())));
        }
    });
    let stubborn = Stubborn::new(&node, &["unix", path.to_str().expect("plain")]);
    is_found_by_the_trial(&mut node, &stubborn, &["unix socket of a process outside", "ext_unix_sk"]);
}

#[test]
fn a_terminal_of_the_outside() {
    let Some(mut node) = Site::or_skip() else { return };
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let name = nix::unistd::ttyname(&terminal.slave).expect("its name");
    let stubborn = Stubborn::new(&node, &["terminal", name.to_str().expect("plain")]);
    is_found_by_the_trial(&mut node, &stubborn, &["terminal of the outside", "without a terminal"]);
}

#[test]
fn a_file_lock_is_said_and_works_with_the_option_that_the_remedy_names() {
    let Some(mut node) = Site::or_skip() else { return };
    let file = node.folder().join("locked");
    let stubborn = Stubborn::new(&node, &["lock", file.to_str().expect("plain")]);
    is_found_by_the_trial(&mut node, &stubborn, &["file locks", "file_locks = true"]);
    let pid = node.service_pid("stubborn");

    node.configure(&stubborn.toml("criu = { file_locks = true }"));

    node.wait_event("stubborn", "image-durable");
    assert_eq!(node.service("stubborn")["degraded"], serde_json::Value::Null);
    assert_eq!(node.service_pid("stubborn"), pid, "the option needs no restart");
    let before = stubborn.asked();
    node.kill_service("stubborn");
    wait_until(Duration::from_secs(20), "a restore", || {
        node.service("stubborn")["last_recovery"]["rung"] == "restore-latest"
    });
    assert!(stubborn.asked() > 1 && before > 0, "it counts on");
    let held = std::fs::File::open(&file).expect("it is there");
    assert!(held.try_lock().is_err(), "and holds its lock again");
}
