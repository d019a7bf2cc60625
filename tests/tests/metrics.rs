//! What is counted and measured of a real service that is checkpointed, killed, hung and brought back.
#![allow(missing_docs)]

use nix::sys::signal::Signal;
use system_tests::{Event, Host, LIMIT, Node, Runtime, Scrape, both, wait_until};

both! {
    a_crash_is_counted_and_its_recovery_measured => super::crash;
}

fn crash(runtime: Runtime) {
    let Some(host) = Host::or_skip(runtime) else { return };
    let (mut node, counter) = Node::with_counter(host, runtime, &[]);
    node.start();
    counter.count_to(3);
    let fresh = Scrape::of(&node);
    let of_counter = |name: &str, more: &str| format!("{name}{{service=\"counter\"{more}}}");
    assert_eq!(fresh.value(&of_counter("supervisor_faults_total", ",cause=\"crashed\"")), Some(0.0));
    assert_eq!(fresh.value(&of_counter("supervisor_recovery_point_age_seconds", ",kind=\"durable\"")), None);

    node.checkpoint("counter");
    let image = node.checkpoint("counter");
    let mark = node.mark();
    let former = node.signal_service("counter", Signal::SIGKILL);
    node.wait_for_another("counter", former);
    let recovered = node.wait_for_event(mark, "recovered", |_| true);

    let rung = ",rung=\"restore-latest\"";
    let recoveries = of_counter("supervisor_recoveries_total", ",cause=\"crashed\",rung=\"restore-latest\"");
    wait_until(LIMIT, "it is counted", || Scrape::of(&node).value(&recoveries) == Some(1.0));
    let scrape = Scrape::of(&node);
    let value = |name: &str, more: &str| {
        let sample = of_counter(name, more);
        scrape.value(&sample).unwrap_or_else(|| panic!("no {sample} in\n{}", scrape.text))
    };
    assert_eq!(value("supervisor_faults_total", ",cause=\"crashed\""), 1.0);
    assert_eq!(value("supervisor_faults_total", ",cause=\"hung\""), 0.0);
    assert_eq!(value("supervisor_recovery_seconds_count", rung), 1.0);
    assert_close(value("supervisor_recovery_seconds_sum", rung), recovered.took_ms);
    assert_eq!(value("supervisor_service_state", ",state=\"running\""), 1.0);
    assert_eq!(value("supervisor_service_verdict", ",verdict=\"healthy\""), 1.0);
    assert!(value("supervisor_probe_results_total", ",probe=\"health\",result=\"passed\"") >= 1.0);

    let taken: Vec<Event> = of_kind(&node, "checkpoint-taken");
    let pauses: f64 = taken.iter().filter_map(|event| event.pause_ms).sum();
    assert_eq!(value("supervisor_checkpoint_pause_seconds_count", ""), 2.0);
    assert_close(value("supervisor_checkpoint_pause_seconds_sum", ""), Some(pauses));
    assert!(
        value("supervisor_checkpoint_pause_seconds_sum", "")
            <= value("supervisor_checkpoint_seconds_sum", "")
    );
    assert_eq!(value("supervisor_checkpoints_total", ",reason=\"request\""), 2.0);
    assert_eq!(value("supervisor_commit_seconds_count", ""), 2.0);

    let listed = node.json(&["images", "counter"]);
    let images = listed.as_array().expect("a list");
    let newest = images.iter().find(|one| one["id"] == *image).expect("the newest image");
    assert_eq!(value("supervisor_images", ""), 2.0);
    assert_eq!(Some(value("supervisor_image_size_bytes", "")), newest["size_bytes"].as_f64());
    assert_eq!(Some(value("supervisor_image_stored_bytes", "")), newest["stored_bytes"].as_f64());
    let stored: f64 = images.iter().filter_map(|one| one["stored_bytes"].as_f64()).sum();
    assert_eq!(value("supervisor_store_images_bytes", ""), stored);
    let age = newest["age_seconds"].as_f64().expect("an age");
    for kind in ["hot", "durable"] {
        let scraped = value("supervisor_recovery_point_age_seconds", &format!(",kind=\"{kind}\""));
        assert!(scraped > 0.0 && scraped <= age, "{kind}: {scraped} of {age}");
    }
    let memory = scrape.value("process_resident_memory_bytes").expect("our own memory");
    assert!((1e6..1e9).contains(&memory), "{memory}");
    assert!(scrape.value("supervisor_store_free_bytes").is_some_and(|free| free > 0.0));

    let open = Scrape::accepting(&node, "application/openmetrics-text; version=1.0.0");
    assert!(open.text.ends_with("# EOF\n"), "{}", open.text);
    assert_eq!(open.value(&recoveries), Some(1.0));
}

#[test]
fn a_hang_has_a_cause_of_its_own_and_counters_begin_anew_with_the_supervisor() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let (mut node, _) = Node::with_counter(host, Runtime::Process, &[]);
    node.start();
    node.checkpoint("counter");
    let former = node.signal_service("counter", Signal::SIGSTOP);
    node.wait_for_another("counter", former);
    let hung = "supervisor_faults_total{service=\"counter\",cause=\"hung\"}";
    wait_until(LIMIT, "the hang is counted", || Scrape::of(&node).value(hung) == Some(1.0));

    node.stop();
    node.start();
    let scrape = Scrape::of(&node);
    assert_eq!(scrape.value(hung), Some(0.0));
    assert_eq!(scrape.value("supervisor_images{service=\"counter\"}"), Some(1.0), "what is, is known");
}

fn of_kind(node: &Node, kind: &str) -> Vec<Event> {
    node.events().into_iter().filter(|event| event.kind == kind).collect()
}

/// Seconds and milliseconds of one thing.
fn assert_close(seconds: f64, milliseconds: Option<f64>) {
    let wanted = milliseconds.expect("a duration") / 1e3;
    assert!((seconds - wanted).abs() < 1e-6, "{seconds} s is not {wanted} s");
}
