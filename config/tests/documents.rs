//! `docs/configuration.md` and the JSON Schema say what the key table says.
//!
//! `cargo xtask fix` (or `UPDATE_DOCS=1`) writes the document.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use config::Config;
use serde_json::Value;

#[test]
fn the_reference_is_the_generated_one() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, config::reference()).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == config::reference(), "docs/configuration.md is out of date: run `cargo xtask fix`");
}

#[test]
fn the_example_of_the_reference_is_right() {
    let reference = config::reference();
    let (_, rest) = reference.split_once("```toml\n").expect("the reference has an example");
    let (example, _) = rest.split_once("```").expect("the example ends");
    let config =
        Config::parse(example, "configuration.md", &|_| None).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.warnings(), []);
    assert_eq!(config.services.len(), 1);
}

fn at<'s>(schema: &'s Value, path: &[&str]) -> &'s Value {
    path.iter().fold(schema, |schema, name| match *name {
        "*" => &schema["additionalProperties"],
        name => &schema["properties"][name],
    })
}

#[test]
fn the_schema_knows_types_defaults_and_limits() {
    let schema: Value = serde_json::from_str(&config::schema()).unwrap();
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    let checkpoint = at(&schema, &["service", "*", "checkpoint"]);
    assert_eq!(at(checkpoint, &["interval"])["default"], "30s");
    assert_eq!(at(checkpoint, &["max_checkpoints"])["minimum"], 2);
    assert_eq!(at(checkpoint, &["volumes"])["items"]["type"], "string");
    assert_eq!(at(checkpoint, &["criu", "file_locks"])["default"], false);
    let words = &at(&schema, &["store", "compression"])["anyOf"][0]["enum"];
    assert_eq!(words, &serde_json::json!(["zstd", "lz4", "none"]));
    let process = at(&schema, &["service", "*", "process"]);
    assert_eq!(process["required"], serde_json::json!(["command"]));
    let docker = at(&schema, &["service", "*", "docker"]);
    assert_eq!(docker["required"], serde_json::json!(["container"]));
    assert_eq!(at(docker, &["socket"])["default"], "/var/run/docker.sock");
    let podman = at(&schema, &["service", "*", "podman"]);
    assert_eq!(podman["required"], serde_json::json!(["container"]));
    assert_eq!(at(podman, &["program"])["default"], "podman");
    assert_eq!(at(podman, &["create_args"])["items"]["type"], "string");
}

/// An object that allows everything would let an editor pass what the reader refuses.
#[test]
fn no_object_of_the_schema_is_open() {
    fn walk(schema: &Value, path: &str, objects: &mut usize) {
        if schema["type"] == "object" {
            *objects += 1;
            let more = &schema["additionalProperties"];
            assert!(*more == Value::Bool(false) || more.is_object(), "{path} is open");
            assert!(
                !schema["description"].as_str().unwrap_or_default().is_empty() || path.ends_with('*'),
                "{path}"
            );
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            walk(property, &format!("{path}/{name}"), objects);
        }
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], &format!("{path}/*"), objects);
        }
    }
    let mut objects = 0;
    walk(&serde_json::from_str(&config::schema()).unwrap(), "", &mut objects);
    assert!(objects > 16, "only {objects} objects");
}
