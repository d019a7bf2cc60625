//! JSON Schema of the file, for editors.
//!
//! Draft 7, since that is what TOML plugins of editors understand. It is made of the key table, so it knows
//! what the reader knows; rules across fields are beyond it. Texts may hold `${VAR}`, so it refuses to be
//! stricter about the form of texts than the reader would be after expansion.

use serde_json::{Map, Value, json};

use crate::keys::{Fallback, Key, Kind, ROOT, Section};

/// The schema as JSON text, ending in a newline.
pub fn schema() -> String {
    let mut schema = section(&ROOT);
    let head = schema.as_object_mut().expect("a section's schema is an object");
    head.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    head.insert("title".to_owned(), json!("supervisor configuration"));
    let mut text = serde_json::to_string_pretty(&schema).expect("a JSON value can be written");
    text.push('\n');
    text
}

fn section(section: &Section) -> Value {
    let supported = || section.keys.iter().filter(|key| key.is_supported());
    let properties: Map<_, _> = supported().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> =
        supported().filter(|key| matches!(key.fallback, Fallback::Required)).map(|key| key.name).collect();
    let mut schema = json!({
        "type": "object",
        "description": section.doc,
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = kind(key.kind);
    schema["description"] = json!(key.doc);
    match key.fallback {
        Fallback::Value(literal) => schema["default"] = literal_as_json(literal),
        Fallback::Absent(_) | Fallback::Required => {}
    }
    if !key.example.is_empty() {
        schema["examples"] = json!([literal_as_json(key.example)]);
    }
    schema
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Text
        | Kind::Path
        | Kind::Duration
        | Kind::DurationOrZero
        | Kind::DurationOrNever
        | Kind::Address
        | Kind::Url
        | Kind::User
        | Kind::Output
        | Kind::ServiceName => json!({ "type": "string" }),
        Kind::Size => json!({ "type": ["string", "integer"], "minimum": 0 }),
        Kind::Signal => json!({ "type": ["string", "integer"], "minimum": 1, "maximum": 64 }),
        Kind::StatusRange => json!({ "type": ["string", "integer"], "minimum": 100, "maximum": 599 }),
        Kind::Whole { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Kind::Event => one_of(&crate::kinds::names().collect::<Vec<_>>()),
        Kind::Flag => json!({ "type": "boolean" }),
        Kind::Choice(words) => one_of(&words()),
        Kind::List(item) => json!({ "type": "array", "items": self::kind(*item) }),
        Kind::TextByName => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Kind::Table(inner) => section(inner),
        Kind::TableList(inner) => json!({ "type": "array", "items": section(inner) }),
        Kind::Tables(_, inner) => json!({ "type": "object", "additionalProperties": section(inner) }),
        Kind::Unsupported(_) | Kind::Owned(_) => {
            unreachable!("only keys that do something are in the schema")
        }
    }
}

/// A variable may stand for a word, too.
fn one_of(words: &[&str]) -> Value {
    json!({ "type": "string", "anyOf": [{ "enum": words }, { "pattern": "\\$\\{" }] })
}

fn literal_as_json(literal: &str) -> Value {
    let table: toml::Table =
        toml::from_str(&format!("value = {literal}")).expect("a test reads every literal");
    serde_json::to_value(&table["value"]).expect("the key table's literals have their like in JSON")
}
