//! What a reload changes, part by part.
#![allow(clippy::unwrap_used)]

use config::{Config, Diff, Part, diff};
use policies::id::ServiceName;

const OLD: &str = "[node]\nname = 'n'\n[store]\nmin_free = '1MB'\n[api]\n\
                   [service.a]\nrunc.bundle = '/a'\nstop_timeout = '5s'\n\
                   [service.a.checkpoint]\ninterval = '7s'\nmax_checkpoints = 3\n\
                   [service.a.restart]\nmax_attempts = 4\n\
                   [service.a.probe.p]\ntcp.address = 'h:1'\n\
                   [service.b]\nrunc.bundle = '/b'\n";

fn parse(text: &str) -> Config {
    Config::parse(text, "test.toml", &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
}

fn changed(from: &str, to: &str) -> Diff {
    assert!(OLD.contains(from), "{from}");
    diff(&parse(OLD), &parse(&OLD.replacen(from, to, 1)))
}

fn name(name: &str) -> ServiceName {
    ServiceName::try_from(name).unwrap()
}

#[test]
fn the_same_file_changes_nothing() {
    assert!(diff(&parse(OLD), &parse(OLD)).is_empty());
    assert!(changed("[api]\n", "# a comment\n[api]\n").is_empty());
    assert!(changed("'7s'", "'7000ms'").is_empty());
}

#[test]
fn each_part_is_told_apart_and_others_are_not_touched() {
    let cases = [
        ("'/a'", "'/elsewhere'", Part::Runtime),
        ("'5s'", "'6s'", Part::Stopping),
        ("stop_timeout", "stop_signal = 'INT'\nstop_timeout", Part::Stopping),
        ("stop_timeout", "success_exit_codes = [1]\nstop_timeout", Part::Stopping),
        ("stop_timeout", "depends_on = ['b']\nstop_timeout", Part::Dependencies),
        ("'7s'", "'8s'", Part::Checkpoint),
        ("interval = '7s'", "interval = '7s'\ntrial = false", Part::Checkpoint),
        ("interval = '7s'", "interval = '7s'\nvolumes = ['/v']", Part::Checkpoint),
        ("max_checkpoints = 3", "max_checkpoints = 4", Part::Retention),
        ("max_attempts = 4", "max_attempts = 6", Part::Restart),
        ("max_attempts = 4", "max_attempts = 4\npolicy = 'on-failure'", Part::Restart),
        ("max_attempts = 4", "max_attempts = 4\nbackoff_max = '2m'", Part::Restart),
        ("'h:1'", "'h:2'", Part::Probes),
        ("tcp.address", "failure_threshold = 9\ntcp.address", Part::Probes),
    ];
    for (from, to, part) in cases {
        let diff = changed(from, to);
        let change = &diff.changed[&name("a")];
        assert_eq!(Vec::from_iter(change.parts.clone()), [part], "{to}");
        assert_eq!(change.needs_restart(), part == Part::Runtime, "{to}");
        let rest = Diff { changed: [].into(), ..diff.clone() };
        assert!(diff.changed.len() == 1 && rest.is_empty(), "{to}: {diff:?}");
    }
}

/// Whoever is told of events is another one at once; no service is touched.
#[test]
fn hooks_change_apart_from_services() {
    for (from, to) in [
        ("[api]\n", "[api]\n[hooks]\non_event = ['tell']\n"),
        ("[service.b]\n", "[service.a.hooks]\nwebhook = 'http://h'\n[service.b]\n"),
    ] {
        let diff = changed(from, to);
        assert_eq!(diff, Diff { hooks_changed: true, ..Diff::default() }, "{to}");
    }
}

#[test]
fn telemetry_changes_apart_from_services() {
    let diff = changed("[api]\n", "[telemetry]\notlp.endpoint = 'http://h:4318'\n[api]\n");
    assert_eq!(diff, Diff { telemetry_changed: true, ..Diff::default() });
}

/// A running container cannot become another one.
#[test]
fn every_word_about_a_container_needs_a_new_start() {
    const DOCKER: &str = "[service.a.docker]\ncontainer = 'c1'\nimage = 'i'\ncreate_args = ['-i']\n\
                          command = ['x']\nsocket = '/s'\n";
    const PODMAN: &str = "[service.a.podman]\ncontainer = 'c1'\nimage = 'i'\ncreate_args = ['-i']\n\
                          command = ['x']\nprogram = '/s'\noptions = ['--syslog']\n";
    let cases = [
        ("'c1'", "'c2'"),
        ("'i'", "'j'"),
        ("'-i'", "'-P'"),
        ("'x'", "'y'"),
        ("'/s'", "'/t'"),
        ("'--syslog'", "'--noout'"),
        ("image = 'i'\ncreate_args = ['-i']\ncommand = ['x']\n", ""),
    ];
    for (from, to) in cases {
        for old in [DOCKER, PODMAN].into_iter().filter(|old| old.contains(from)) {
            let diff = diff(&parse(old), &parse(&old.replacen(from, to, 1)));
            let change = &diff.changed[&name("a")];
            assert_eq!(Vec::from_iter(change.parts.clone()), [Part::Runtime], "{to}");
            assert!(change.needs_restart(), "{to}");
        }
    }
    let other = DOCKER.replace(".docker]", ".podman]").replace("socket", "program");
    assert!(diff(&parse(DOCKER), &parse(&other)).changed[&name("a")].needs_restart());
}

/// A process that runs cannot be told of another watchdog: it has read its environment.
#[test]
fn what_a_process_is_told_of_its_watchdog_needs_a_new_start() {
    const PROCESS: &str =
        "[service.a]\nprocess.command = ['a']\n[service.a.probe.p]\nnotify = {}\ninterval = '5s'\n";
    let parts = |from: &str, to: &str| {
        let diff = diff(&parse(PROCESS), &parse(&PROCESS.replacen(from, to, 1)));
        Vec::from_iter(diff.changed[&name("a")].parts.clone())
    };
    assert_eq!(parts("'5s'", "'6s'"), [Part::Runtime, Part::Probes]);
    assert_eq!(parts("notify = {}", "tcp.address = 'h:1'"), [Part::Runtime, Part::Probes]);
    assert_eq!(parts("'5s'", "'5s'\nfailure_threshold = 9"), [Part::Probes]);
}

#[test]
fn services_come_and_go() {
    let diff = changed("[service.b]", "[service.c]");
    assert_eq!((diff.added, diff.removed), ([name("c")].into(), [name("b")].into()));
    assert!(diff.changed.is_empty());
}

#[test]
fn what_only_a_new_start_can_change_is_named() {
    let cases = [
        ("name = 'n'", "name = 'm'", vec!["node.name"]),
        ("name = 'n'", "state_dir = '/s'\nname = 'n'", vec!["node.state_dir", "store.path"]),
        ("name = 'n'", "run_dir = '/r'\nname = 'n'", vec!["node.run_dir", "api.socket"]),
        ("[api]", "hot = 'disk'\n[api]", vec!["store.hot"]),
        ("[api]", "encryption_key_file = '/k'\n[api]", vec!["store.encryption"]),
        ("[api]", "encryption_old_passphrase_files = ['/k']\n[api]", vec!["store.encryption_old"]),
        ("[api]", "[api]\nsocket = '/run/s'", vec!["api.socket"]),
        (
            "[api]",
            "[api]\nhttps = { listen = 'h:1', token_file = '/t', cert = '/c', key = '/k' }",
            vec!["api.https"],
        ),
    ];
    for (from, to, keys) in cases {
        let diff = changed(from, to);
        assert_eq!(diff.node_changes_needing_restart, keys, "{to}");
        assert!(!diff.store_changed && diff.changed.is_empty(), "{to}");
    }
    for to in
        ["'2MB'", "'1MB'\ncompression = 'lz4'", "'1MB'\nmax_total_size = '1GB'", "'1MB'\nhot_max_size = 5"]
    {
        let diff = changed("'1MB'", to);
        assert!(diff.store_changed && diff.node_changes_needing_restart.is_empty(), "{to}");
    }
}
