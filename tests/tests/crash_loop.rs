//! What no rung of the ladder cures is given up within its bounds, and an image of a sick service is not the
//! first choice.
#![allow(missing_docs)]

use std::fs;

use system_tests::{Event, Host, LIMIT, Node, Runtime, both, wait_until};

both! {
    sick_from_every_image => super::sick_from_every_image;
    sick_image_is_not_the_first_choice => super::sick_image_is_not_the_first_choice;
}

const WALKS: usize = 2;

fn sick_from_every_image(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter, sickness) = node_that_can_be_sick(host, runtime);
    node.start();
    let mut images = Vec::new();
    for number in [2, 4] {
        counter.count_to(number);
        images.push(node.checkpoint("counter"));
    }
    let mark = node.mark();

    fs::write(&sickness, "").expect("it is made sick");

    node.wait_for_event(mark, "gave-up", |_| true);
    assert_eq!(node.state("counter"), "failed");
    wait_until(LIMIT, "nothing of it runs", || node.traces().members().is_empty());
    let taken: Vec<(String, Option<String>)> = rungs(&node.events_since(mark));
    let first: Vec<(&str, Option<&str>)> =
        taken.iter().map(|(r, i)| (r.as_str(), i.as_deref())).take(3).collect();
    let wanted =
        [("restore-latest", Some(&*images[1])), ("restore-older", Some(&*images[0])), ("cold-start", None)];
    assert_eq!(first, wanted);
    assert!(taken.len() <= WALKS * wanted.len(), "{} rungs in {WALKS} walks: {taken:?}", taken.len());
    for image in &images {
        let tries = taken.iter().filter(|(_, of)| of.as_ref() == Some(image)).count();
        assert!(tries <= 2, "attempts_per_image is 2, and {image} was tried {tries} times");
    }
    starts_again_when_asked(&node, &sickness, counter);
}

/// Given up is not for ever: somebody mends it and says so.
fn starts_again_when_asked(node: &Node, sickness: &std::path::Path, counter: system_tests::Counter) {
    fs::remove_file(sickness).expect("it is cured");
    assert_eq!(node.json(&["start", "counter"])["outcome"], "done");
    assert!(counter.answers());
    assert_eq!(node.state("counter"), "running");
}

fn sick_image_is_not_the_first_choice(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter, sickness) = node_that_can_be_sick(host, runtime);
    // Long enough to take an image of the sick service before its probe makes up its mind.
    node.set("counter", "probe.health.failure_threshold", "20");
    node.start();
    counter.count_to(3);
    let healthy = node.checkpoint("counter");
    counter.count_to(5);
    fs::write(&sickness, "").expect("it is made sick");
    let sick = node.checkpoint_unjudged("counter");
    let (former, mark) = (node.pid("counter").expect("it runs"), node.mark());

    node.wait_for_event(mark, "noticed", |_| true);
    fs::remove_file(&sickness).expect("it is cured");

    node.wait_for_another("counter", former);
    let recovered = node.wait_for_event(mark, "recovered", |_| true);
    assert_eq!(recovered.image, Some(healthy), "and not {sick}, which is newer");
    assert_eq!(counter.value(), 3);
}

fn node_that_can_be_sick(
    host: &'static Host,
    runtime: Runtime,
) -> (Node, system_tests::Counter, std::path::PathBuf) {
    let mut node = Node::new(host);
    // A container sees its own root only, so the mark of sickness lies there.
    let (seen_outside, seen_inside) = match runtime {
        Runtime::Process => (node.folder().join("sick"), node.folder().join("sick").display().to_string()),
        Runtime::Runc => (node.folder().join("bundle-counter/rootfs/tmp/sick"), "/tmp/sick".to_owned()),
    };
    let counter = node.add_counter("counter", runtime, &["--sick-while", &seen_inside]);
    node.set("counter", "checkpoint.rootfs", "false");
    node.set("counter", "probe.health.interval", "\"200ms\"");
    node.set("counter", "probe.health.timeout", "\"200ms\"");
    node.set("counter", "probe.health.start_period", "\"300ms\"");
    node.set("counter", "restart.max_attempts", &WALKS.to_string());
    node.set("counter", "restart.attempts_per_image", "2");
    (node, counter, seen_outside)
}

fn rungs(events: &[Event]) -> Vec<(String, Option<String>)> {
    let taken = events.iter().filter(|event| event.kind == "rung-taken");
    taken
        .map(|event| (event.text.split(' ').next().unwrap_or_default().to_owned(), event.image.clone()))
        .collect()
}
