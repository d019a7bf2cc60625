//! The key table and the reader agree, in both directions.

use std::collections::BTreeSet;

use super::{Fallback, Key, Kind, ROOT, Section};
use crate::{Config, Errors, Severity};

/// A file that is right, around one key of one table; `{}` is where the key goes.
fn around(title: &str) -> &'static str {
    match title {
        "" => "{}\n",
        "node" => "[node]\n{}\n",
        "store" => "[store]\n{}\n",
        "store.replica" => "[[store.replica]]\n{}\n[service.db]\nrunc.bundle = '/b'\n",
        "store.replica.tls" => "[[store.replica]]\nurl = 'peer://h:1'\n[store.replica.tls]\n{}\n",
        "api" => "[api]\n{}\n",
        "cluster" => "[cluster]\n{}\n",
        "cluster.tls" => "[cluster.tls]\n{}\n",
        "service.NAME.failover" => {
            "[cluster]\nlease = 'etcd'\nendpoints = ['http://a:1']\n\
             [service.other]\nrunc.bundle = '/b'\n\
             [service.db]\nrunc.bundle = '/b'\n[service.db.failover]\n{}\n"
        }
        "api.tls" => "[api.tls]\n{}\n",
        "hooks" => "[hooks]\n{}\n",
        "telemetry.otlp" => "[telemetry.otlp]\n{}\n",
        "service.NAME.hooks" => "[service.db]\nrunc.bundle = '/b'\n[service.db.hooks]\n{}\n",
        "api.https" => "[api.https]\n{}\n",
        "service.NAME" => "[service.db]\n{}\n[service.other]\nrunc.bundle = '/b'\n[group.shop]\n",
        "group.NAME" => "[service.db]\nrunc.bundle = '/b'\ngroup = 'shop'\n[group.shop]\n{}\n",
        "group.NAME.checkpoint" => {
            "[service.db]\nrunc.bundle = '/b'\ngroup = 'shop'\n[group.shop.checkpoint]\n{}\n"
        }
        "group.NAME.restart" => {
            "[service.db]\nrunc.bundle = '/b'\ngroup = 'shop'\n[group.shop.restart]\n{}\n"
        }
        "group.NAME.hooks" => "[service.db]\nrunc.bundle = '/b'\ngroup = 'shop'\n[group.shop.hooks]\n{}\n",
        "service.NAME.process" => "[service.db.process]\n{}\n",
        "service.NAME.runc" => "[service.db.runc]\n{}\n",
        "service.NAME.docker" => "[service.db.docker]\n{}\n",
        "service.NAME.podman" => "[service.db.podman]\n{}\n",
        "service.NAME.systemd" => "[service.db.systemd]\n{}\n",
        "service.NAME.checkpoint" => "[service.db]\nrunc.bundle = '/b'\n[service.db.checkpoint]\n{}\n",
        "service.NAME.checkpoint.criu" => {
            "[service.db]\nrunc.bundle = '/b'\n[service.db.checkpoint.criu]\n{}\n"
        }
        "service.NAME.restart" => "[service.db]\nrunc.bundle = '/b'\n[service.db.restart]\n{}\n",
        "service.NAME.probe.PROBE" => "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p]\n{}\n",
        "service.NAME.probe.PROBE.http" => {
            "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p.http]\n{}\n"
        }
        "service.NAME.probe.PROBE.tcp" => "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p.tcp]\n{}\n",
        "service.NAME.probe.PROBE.exec" => {
            "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p.exec]\n{}\n"
        }
        "service.NAME.probe.PROBE.grpc" => {
            "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p.grpc]\n{}\n"
        }
        "service.NAME.probe.PROBE.heartbeat" => {
            "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p.heartbeat]\n{}\n"
        }
        "service.NAME.probe.PROBE.report" => {
            "[service.db]\nrunc.bundle = '/b'\n[service.db.probe.p.report]\n{}\n"
        }
        "sidecar" => "[sidecar]\n{}\n",
        "sidecar.report" => "[sidecar]\nlisten = 'h:1'\n[sidecar.report]\n{}\n",
        "sidecar.probe.PROBE" => "[sidecar]\nlisten = 'h:1'\n[sidecar.probe.p]\n{}\n",
        other => panic!("say how a file with [{other}] looks"),
    }
}

/// What else the table needs to be right.
fn companions(title: &str, key: &str) -> &'static str {
    match (title, key) {
        ("cluster", "lease") => "endpoints = ['http://a:1']\nbucket = 'file:///b'\n",
        ("cluster", "watchdog") => "lease = 'etcd'\nendpoints = ['http://a:1']\n",
        ("cluster.tls", "cert") => "key = '/k'\n",
        ("cluster.tls", "key") => "cert = '/c'\n",
        ("service.NAME.failover", "standby") => "",
        ("service.NAME.failover", "device") => "standby = ['b']\naddress = '10.0.0.1/24'\n",
        ("service.NAME.failover", _) => "standby = ['b']\n",
        ("store.replica", "url") => "",
        ("store.replica", _) => "url = 's3://b'\n",
        ("store.replica.tls" | "api.tls", "ca") => "cert = '/c'\nkey = '/k'\n",
        ("store.replica.tls" | "api.tls", "cert") => "ca = '/a'\nkey = '/k'\n",
        ("store.replica.tls" | "api.tls", "key") => "ca = '/a'\ncert = '/c'\n",
        ("hooks" | "service.NAME.hooks" | "group.NAME.hooks", "webhook") => "",
        ("hooks" | "service.NAME.hooks" | "group.NAME.hooks", _) => "webhook = 'https://a'\n",
        ("telemetry.otlp", "endpoint") => "",
        ("telemetry.otlp", _) => "endpoint = 'http://a'\n",
        ("api.https", "listen") => "token_file = '/t'\ncert = '/c'\nkey = '/k'\n",
        ("api.https", "token_file") => "listen = 'h:1'\ncert = '/c'\nkey = '/k'\n",
        ("api.https", "cert") => "listen = 'h:1'\ntoken_file = '/t'\nkey = '/k'\n",
        ("api.https", "key") => "listen = 'h:1'\ntoken_file = '/t'\ncert = '/c'\n",
        ("api", "listen") => "tls = { ca = '/a', cert = '/c', key = '/k' }\n",
        ("service.NAME", _) => "runc.bundle = '/b'\n",
        ("service.NAME.process", "command") | ("service.NAME.runc", "bundle") => "",
        ("service.NAME.process", _) => "command = ['db']\n",
        ("service.NAME.docker" | "service.NAME.podman", "container") => "",
        ("service.NAME.docker" | "service.NAME.podman", "image") => "container = 'db'\n",
        ("service.NAME.docker" | "service.NAME.podman", _) => "container = 'db'\nimage = 'db'\n",
        ("sidecar.report", "service") => "",
        ("sidecar.report", _) => "service = 'a'\n",
        ("service.NAME.probe.PROBE" | "sidecar.probe.PROBE", _) => "exec.command = ['true']\n",
        ("service.NAME.probe.PROBE.exec", "inside") => "command = ['true']\n",
        ("service.NAME.probe.PROBE.http", "url" | "address" | "socket") => "",
        ("service.NAME.probe.PROBE.grpc", "service") => "address = '127.0.0.1:80'\n",
        ("service.NAME.probe.PROBE.http", "ca" | "verify") => "url = 'https://a'\n",
        ("service.NAME.probe.PROBE.http", _) => "address = '127.0.0.1:80'\n",
        _ => "",
    }
}

fn parse(section: &Section, key: &Key, value: &str) -> Result<Config, Errors> {
    let inside = format!("{}{} = {value}", companions(section.title, key.name), key.name);
    Config::parse(&around(section.title).replace("{}", &inside), "table", &|_| None)
}

/// Every key with a value of its own, with its table.
fn all_keys() -> Vec<(&'static Section, &'static Key)> {
    fn collect(section: &'static Section, found: &mut Vec<(&'static Section, &'static Key)>) {
        // Some tables stand in two places.
        if found.iter().any(|(known, _)| std::ptr::eq(*known, section)) {
            return;
        }
        for key in section.keys {
            match key.kind {
                // What services and groups have in common is one section.
                Kind::Table(inner) | Kind::Tables(_, inner) | Kind::TableList(inner)
                    if found.iter().any(|(known, _)| known.title == inner.title) => {}
                Kind::Table(inner) | Kind::Tables(_, inner) | Kind::TableList(inner) => collect(inner, found),
                _ => found.push((section, key)),
            }
        }
    }
    let mut found = Vec::new();
    collect(&ROOT, &mut found);
    found
}

/// A value that cannot be meant by this kind.
fn wrong(kind: Kind) -> &'static str {
    match kind {
        Kind::Flag => "'true'",
        Kind::TextByName => "['A=B']",
        Kind::List(_) => "'text'",
        _ => "true",
    }
}

#[test]
fn every_key_is_read_as_the_table_shows_it() {
    for (section, key) in all_keys().into_iter().filter(|(_, key)| key.is_supported()) {
        let default = match key.fallback {
            Fallback::Value(literal) => Some(literal),
            Fallback::Required | Fallback::Absent(_) => None,
        };
        let shown = [default, Some(key.example).filter(|example| !example.is_empty())];
        assert!(shown.iter().any(Option::is_some), "[{}] {}: nothing to show", section.title, key.name);
        for value in shown.into_iter().flatten() {
            parse(section, key, value).unwrap_or_else(|errors| panic!("{errors}"));
        }
    }
}

#[test]
fn every_key_refuses_another_type() {
    for (section, key) in all_keys().into_iter().filter(|(_, key)| key.is_supported()) {
        let errors = parse(section, key, wrong(key.kind)).expect_err(key.name);
        let errors: Vec<_> = errors.mistakes.iter().filter(|it| it.severity == Severity::Error).collect();
        let [error] = errors.as_slice() else { panic!("[{}] {}: {errors:?}", section.title, key.name) };
        assert!(error.message.starts_with("expected "), "{error}");
    }
}

#[test]
fn every_word_of_a_choice_is_read() {
    for (section, key) in all_keys() {
        let (words, is_list) = match key.kind {
            Kind::Choice(words) => (words(), false),
            Kind::List(Kind::Choice(words)) => (words(), true),
            _ => continue,
        };
        for word in words {
            let value = if is_list { format!("['{word}']") } else { format!("'{word}'") };
            match parse(section, key, &value) {
                Ok(_) => {}
                // Known words that this version cannot serve are answered by rules of their own.
                Err(errors) => assert_eq!(word, "fail-over", "{errors}"),
            }
        }
    }
}

#[test]
fn every_known_but_unserved_key_is_answered_as_such() {
    for (section, key) in all_keys().into_iter().filter(|(_, key)| !key.is_supported()) {
        let errors = parse(section, key, "{}").expect_err(key.name);
        let about =
            errors.mistakes.iter().filter(|mistake| mistake.message.contains(&format!("`{}`", key.name)));
        let answers: Vec<_> = about.map(|mistake| mistake.message.as_str()).collect();
        let served = answers.iter().any(|answer| {
            answer.ends_with("is not supported by this version") || answer.ends_with("cannot be set here")
        });
        assert!(served, "[{}] {}: {errors}", section.title, key.name);
    }
}

#[test]
fn names_are_written_once_and_everything_is_explained() {
    let mut names = BTreeSet::new();
    for (section, key) in all_keys() {
        assert!(names.insert((section.title, key.name)), "[{}] {} stands twice", section.title, key.name);
        assert!(
            !key.is_supported() || key.doc.ends_with('.') || key.doc.ends_with(')'),
            "{}: {}",
            key.name,
            key.doc
        );
        assert!(section.doc.ends_with('.'), "[{}]: {}", section.title, section.doc);
        let hint = match key.kind {
            Kind::Unsupported(words) | Kind::Owned(words) => words,
            _ => continue,
        };
        assert!(!hint.is_empty(), "[{}] {}: say what to do instead", section.title, key.name);
    }
}

#[test]
fn ranges_hold_at_their_ends() {
    for (section, key) in all_keys() {
        let Kind::Whole { min, max } = key.kind else { continue };
        for (value, right) in [(min, true), (max, true), (min - 1, false), (max + 1, false)] {
            let result = parse(section, key, &value.to_string());
            assert_eq!(result.is_ok(), right, "[{}] {} = {value}", section.title, key.name);
        }
    }
}
