//! What cannot be started is `failed` with the remedy, harms no other service of the file, and comes up once the file is mended.

use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::json;
use system_tests::bad_days::{Counter, Site, service};
use system_tests::{wait_for, wait_until};

/// `bad` is failed for a reason with these words, `counter` runs beside it; with another runtime `bad` runs.
fn fails_and_can_be_mended(node: &mut Site, runtime: &str, words: &[&str]) {
    let (good, bad) = (Counter::new("counter", node), Counter::new("bad", node));
    node.configure(&format!("{}\n{}", good.toml(), service("bad", runtime, "max_attempts = 2")));
    node.start();
    good.healthy(node);
    let pid = node.service_pid("counter");

    let why = wait_for(Duration::from_secs(30), "bad has failed", || {
        let status = node.service("bad");
        (status["state"] == "failed").then(|| status["failed"].as_str().unwrap_or_default().to_owned())
    });
    for word in words {
        assert!(why.contains(word), "{word} is not in: {why}");
    }
    let table = node.cli(&["status"]);
    assert!(String::from_utf8_lossy(&table.stdout).contains("failed"), "{table:?}");

    node.configure(&format!("{}\n{}", good.toml(), bad.toml()));
    bad.healthy(node);
    assert_eq!(node.service("bad")["failed"], json!(null));
    assert_eq!(node.service_pid("counter"), pid, "the other was not touched");
}

#[test]
fn a_command_that_does_not_exist() {
    let Some(mut node) = Site::or_skip() else { return };
    let runtime = "process = { command = [\"/nonexistent/program\"] }";
    fails_and_can_be_mended(&mut node, runtime, &["/nonexistent/program", "No such file"]);
}

#[test]
fn a_command_that_is_in_no_folder_of_path() {
    let Some(mut node) = Site::or_skip() else { return };
    let runtime = "process = { command = [\"no-such-program\"] }";
    fails_and_can_be_mended(&mut node, runtime, &["find the command no-such-program in PATH"]);
}

#[test]
fn a_bundle_that_is_none() {
    let Some(mut node) = Site::or_skip() else { return };
    let folder = node.folder().join("empty");
    std::fs::create_dir(&folder).expect("a folder");
    let runtime = format!("runc = {{ bundle = \"{}\" }}", folder.display());
    fails_and_can_be_mended(&mut node, &runtime, &["as an OCI bundle", "runc spec"]);
}

#[test]
fn a_bundle_that_is_not_json() {
    let Some(mut node) = Site::or_skip() else { return };
    let runtime = bundle(&node, "{ not json");
    fails_and_can_be_mended(&mut node, &runtime, &["is not JSON", "runc spec"]);
}

#[test]
fn a_bundle_without_its_root() {
    let Some(mut node) = Site::or_skip() else { return };
    let runtime = bundle(&node, "{ \"root\": { \"path\": \"rootfs\" }, \"process\": {} }");
    fails_and_can_be_mended(&mut node, &runtime, &["its root folder", "is not there", "unpack"]);
}

#[test]
fn a_bundle_that_wants_a_terminal() {
    let Some(mut node) = Site::or_skip() else { return };
    let runtime = bundle(&node, "{ \"root\": { \"path\": \".\" }, \"process\": { \"terminal\": true } }");
    fails_and_can_be_mended(&mut node, &runtime, &["wants a terminal", "process.terminal"]);
}

#[test]
fn runc_that_is_not_in_path() {
    let Some(mut node) = Site::or_skip() else { return };
    // The programs of services are named by their paths.
    node.env("PATH", "/nonexistent");
    let runtime = bundle(&node, "{ \"root\": { \"path\": \".\" }, \"process\": {} }");
    fails_and_can_be_mended(&mut node, &runtime, &["find runc in PATH", "install runc"]);
}

/// Real ones are in `units.rs`.
#[test]
fn a_unit_where_there_is_no_systemd() {
    let Some(mut node) = Site::or_skip() else { return };
    if engine::systemd::is_booted() {
        eprintln!("SKIPPED: a systemd runs here");
        return;
    }
    let runtime = "systemd = { unit = \"tally.service\" }";
    fails_and_can_be_mended(
        &mut node,
        runtime,
        &["find the unit tally.service", "this host is not run by a systemd"],
    );
}

/// A watchdog that is none keeps the supervisor from starting, before anything else happens.
#[test]
fn a_watchdog_that_is_none() {
    let Some(node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node);
    let leases = node.folder().join("leases").display().to_string();
    let cluster = format!(
        "[cluster]\nlease = \"bucket\"\nbucket = \"file://{leases}\"\nwatchdog = \"/dev/null\"\n\
         [service.counter.failover]\nstandby = [\"other\"]\n"
    );
    node.configure(&format!("{}\n{cluster}", counter.toml()));
    for refused in [node.cli(&["check"]), node.refused()] {
        let said = [refused.stderr.clone(), refused.stdout.clone()]
            .map(|said| String::from_utf8_lossy(&said).into_owned());
        assert!(
            !refused.status.success() && said.concat().contains("/dev/null is no watchdog"),
            "{refused:?}"
        );
    }
}

/// Somebody repairs the bundle, not the file that names it, and says so by SIGHUP.
#[test]
fn a_bundle_that_is_mended_in_place_is_seen_at_the_next_reload() {
    let Some(mut node) = Site::or_skip() else { return };
    let runtime = bundle(&node, "{ not json");
    node.configure(&service("bad", &runtime, ""));
    node.start();
    wait_until(Duration::from_secs(20), "bad has failed", || node.service("bad")["state"] == "failed");

    bundle(&node, "{ \"root\": { \"path\": \".\" }, \"process\": { \"terminal\": true } }");
    node.signal(Signal::SIGHUP);

    wait_until(Duration::from_secs(20), "the new reason", || {
        node.service("bad")["failed"].as_str().is_some_and(|why| why.contains("wants a terminal"))
    });
}

/// A folder with this `config.json`, as a runtime.
fn bundle(node: &Site, config: &str) -> String {
    let folder = node.folder().join("bundle");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("config.json"), config).expect("written");
    format!("runc = {{ bundle = \"{}\" }}", folder.display())
}
