//! The status page in a real browser: a service is killed, and the page shows the fault and the recovery without a reload.
#![allow(missing_docs)]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use serde_json::Value;
use system_tests::{Browser, Host, LIMIT, Node, Runtime, wait_until};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// A node whose page can be opened, and its address with the password in it.
fn served(node: &mut Node) -> String {
    let folder = node.folder().to_owned();
    let pki = folder.join("pki").display().to_string();
    node.write_config();
    node.json(&["cert", "init", &pki]);
    node.json(&["cert", "issue", &pki, "--node", "alpha", "--address", "127.0.0.1"]);
    let token = folder.join("token");
    fs::write(&token, TOKEN).expect("room");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).expect("ours");
    let address = format!("127.0.0.1:{}", node.take_port());
    let quoted = |text: String| Value::from(text).to_string();
    for (key, value) in [
        ("listen", address.clone()),
        ("token_file", token.display().to_string()),
        ("cert", format!("{pki}/alpha.crt")),
        ("key", format!("{pki}/alpha.key")),
    ] {
        node.set_in("api.https", key, &quoted(value));
    }
    format!("https://ada:{TOKEN}@{address}")
}

fn shows(browser: &Browser, selector: &str) -> bool {
    browser.run(&format!("return document.querySelector({}) !== null", Value::from(selector))) == true
}

#[test]
fn a_fault_and_its_recovery_are_seen_without_a_reload() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let Some(browser) = Browser::or_skip(390, 844) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    let site = served(&mut node);
    node.start();
    node.checkpoint("counter");
    let image = node.checkpoint("counter");

    browser.open(&site);
    wait_until(LIMIT, "the page is live", || {
        browser.run("return document.querySelector('.live').textContent") == "live"
    });
    assert!(shows(&browser, "#service-counter .state.good"));
    assert!(!shows(&browser, "[data-kind=noticed]"));
    let _ = browser.run("window.notReloaded = true");

    node.signal_service("counter", Signal::SIGKILL);

    for kind in ["noticed", "rung-taken", "recovered"] {
        wait_until(LIMIT, &format!("the page shows {kind}"), || {
            shows(&browser, &format!(".timeline [data-kind={kind}]"))
        });
    }
    wait_until(LIMIT, "it runs again, for the page too", || {
        browser
            .run("return document.querySelector('#service-counter').textContent")
            .to_string()
            .contains("restore-latest")
    });
    assert_eq!(browser.run("return window.notReloaded"), true);

    browser.open(&format!("{site}/services/counter"));
    assert_eq!(
        browser.run("return document.querySelectorAll('figure svg').length"),
        3,
        "pause, size, recovery point"
    );
    let fits = "return document.documentElement.scrollWidth <= window.innerWidth";
    assert_eq!(browser.run(fits), true, "nothing is wider than a phone");
    let back = "return getComputedStyle(document.documentElement).colorScheme + getComputedStyle(document.querySelector('.good')).color";
    browser.prefer("light");
    let by_day = browser.run(back);
    keep(&browser, "page-light.png");
    browser.prefer("dark");
    assert_ne!(browser.run(back), by_day, "colours for the dark");
    keep(&browser, "page-dark.png");

    browser.click(&format!("form[action='/images/{image}/pin'] button"));
    wait_until(LIMIT, "it is pinned", || {
        let listed = node.json(&["images", "counter"]);
        listed.as_array().expect("a list").iter().any(|one| one["id"] == *image && one["pinned"] == true)
    });
    let mark = node.mark();
    browser.open(&format!("{site}/images/{image}/restore"));
    browser.click("button.danger");
    let restored = node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!((restored.image, restored.text.contains("asked for")), (Some(image), true));
}

/// For people who want to look at it.
fn keep(browser: &Browser, name: &str) {
    if let Some(folder) = std::env::var_os("SUPERVISOR_PICTURES") {
        fs::write(std::path::Path::new(&folder).join(name), browser.picture()).expect("room");
    }
}
