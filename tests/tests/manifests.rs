//! The examples for compose and Kubernetes say nothing that those do not know, and their configurations are right.
#![allow(missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use docker_compose_types::Compose;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use serde::Deserialize;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use system_tests::{Host, Runtime};

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

fn read(path: &str) -> String {
    let path = examples().join(path);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Through the type and back: what it does not know is lost on the way.
fn lost<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Option<Value>, serde_json::Error> {
    let known: T = serde_json::from_value(value.clone())?;
    let back = serde_json::to_value(known)?;
    Ok((back != *value).then_some(back))
}

fn lost_by_kubernetes(value: &Value) -> Result<Option<Value>, serde_json::Error> {
    match value["kind"].as_str() {
        Some("ConfigMap") => lost::<ConfigMap>(value),
        Some("Service") => lost::<Service>(value),
        Some("StatefulSet") => lost::<StatefulSet>(value),
        other => panic!("say which type {other:?} has"),
    }
}

fn objects() -> Vec<Value> {
    let text = read("kubernetes/counter.yaml");
    let documents = serde_norway::Deserializer::from_str(&text);
    documents.map(|document| Value::deserialize(document).expect("YAML")).collect()
}

#[test]
fn kubernetes_knows_every_field() {
    let objects = objects();
    assert_eq!(objects.len(), 3);
    for object in &objects {
        let lost = lost_by_kubernetes(object).unwrap_or_else(|e| panic!("{e}: {object:#}"));
        assert_eq!(lost, None, "{object:#}");
    }
}

#[test]
fn a_field_that_kubernetes_does_not_know_is_found() {
    let set = objects().remove(2);
    let mut misspelled = set.clone();
    misspelled["spec"]["template"]["spec"]["containers"][0]["livnessProbe"] = Value::Null;
    misspelled["spec"]["template"]["spec"]["terminationGracePeriod"] = 5.into();
    assert!(lost_by_kubernetes(&misspelled).expect("unknown, but of a right type").is_some());
    let mut mistyped = set;
    mistyped["spec"]["replicas"] = "one".into();
    lost_by_kubernetes(&mistyped).expect_err("a text is no number");
}

#[test]
fn compose_knows_every_field() {
    let text = read("compose/compose.yaml");
    let compose: Compose = serde_norway::from_str(&text).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(compose.services.0.len(), 2);
    let wrong = text.replace("stop_grace_period", "stop_grace_perod");
    serde_norway::from_str::<Compose>(&wrong).expect_err("there is no such field");
}

#[test]
fn their_configurations_have_no_mistakes() {
    let Some(host) = Host::or_skip(Runtime::Process) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let data = objects().remove(0)["data"].clone();
    let of_kubernetes =
        ["ha.toml", "sidecar.toml"].map(|name| data[name].as_str().expect("a text").to_owned());
    let of_compose = ["ha.toml", "sidecar.toml"].map(|name| read(&format!("compose/{name}")));
    for (number, text) in of_kubernetes.iter().chain(&of_compose).enumerate() {
        let file = folder.path().join(format!("{number}.toml"));
        fs::write(&file, text).expect("room");
        let mut check = Command::new(&host.supervisor);
        let said =
            check.arg("check").arg("--config").arg(&file).stdin(Stdio::null()).output().expect("it runs");
        let shown = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(said.status.success(), "{shown}\n{text}");
        assert!(!shown.contains("warning"), "{shown}\n{text}");
    }
}
