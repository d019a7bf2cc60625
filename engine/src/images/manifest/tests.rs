use serde_json::{Value, json};

use super::*;
use crate::images::keys::Keyring;

/// A manifest that keeps all rules, as JSON.
fn good() -> Value {
    let hash = "0".repeat(64);
    json!({
        "version": 1, "service": "web", "id": "a-1",
        "about": {
            "taken_at": 1_700_000_000_123_456_789_u64, "node": "n", "epoch": 1,
            "runtime": {"kind": "runc", "program": "0123", "versions": {"runc": "1.1.5"}},
            "host": {"boot_id": "b", "kernel": "6.1", "architecture": "x86_64", "cpu_features": ["avx"], "criu": "4.1"},
            "container_digest": null, "parent": null, "verdict": "good", "pause_us": 7,
            "runtime_state": {"any": ["thing"]}, "volumes": [],
        },
        "sizes": {"raw": 3_000_000, "stored": 1300},
        "segments": [
            {"name": "state.seg", "kind": "state", "codec": "zstd", "stored_len": 1000, "blake3": hash},
            {"name": "memory-0.seg", "kind": "memory", "codec": "none", "stored_len": 200, "blake3": hash},
            {"name": "files-0.seg", "kind": "files", "codec": "lz4", "stored_len": 100, "blake3": hash},
        ],
        "files": [
            {"name": "core-1.img", "segment": 0, "offset": 16, "raw_len": 2_000_000, "blake3": hash},
            {"name": "pages-1.img", "segment": 1, "offset": 16, "raw_len": 1_000_000, "blake3": hash},
            {"name": "core-1.img", "segment": 2, "offset": 16, "raw_len": 0, "blake3": hash},
        ],
    })
}

fn decode(json: &Value) -> Result<Manifest> {
    read(&envelope::seal(WHAT, VERSION, json.to_string().as_bytes()))
}

fn read(bytes: &[u8]) -> Result<Manifest> {
    let stored = Stored::decode(bytes, Path::new("manifest"))?;
    stored.open(None, &Keyring::none()).map(|opened| opened.manifest)
}

#[test]
fn a_manifest_is_read_as_it_was_written() {
    let manifest = decode(&good()).expect("it keeps all rules");
    assert_eq!(manifest.about.taken_at, WallTime::from_unix_nanos(1_700_000_000_123_456_789));
    let again = read(&manifest.encode().expect("written"));
    assert_eq!(again.expect("read"), manifest);
    assert_eq!((manifest.raw_of(|k| k == SegmentKind::Memory), manifest.files[0].blocks()), (1_000_000, 2));
    assert_eq!(
        (manifest.files[0].block_len(0), manifest.files[0].block_len(1)),
        (1 << 20, 2_000_000 - (1 << 20))
    );
}

/// A checksum keeps accidents out; these keep out a manifest that was made to do harm, or by a mistake of ours.
#[test]
fn every_broken_rule_is_refused() {
    let long = "x".repeat(256);
    let table: &[(&str, Value)] = &[
        ("/version", json!(2)),
        ("/service", json!("../web")),
        ("/id", json!("a/b")),
        ("/about/verdict", json!("splendid")),
        ("/about/parent", json!("a-0")),
        ("/about/epoch", json!(-1)),
        ("/sizes/raw", json!(2_999_999)),
        ("/sizes/stored", json!(1301)),
        ("/segments/0/name", json!("../state.seg")),
        ("/segments/0/name", json!("manifest")),
        ("/segments/0/name", json!("memory-0.seg")),
        ("/segments/1/name", json!("memory-.seg")),
        ("/segments/1/name", json!("memory-1/../0.seg")),
        ("/segments/1/name", json!("files-0.seg")),
        ("/segments/1/stored_len", json!(15)),
        ("/segments/1/codec", json!("rot13")),
        ("/segments/1/blake3", json!("0")),
        ("/segments/1/blake3", json!("A".repeat(64))),
        ("/files/0/name", json!("")),
        ("/files/0/name", json!(".")),
        ("/files/0/name", json!("..")),
        ("/files/0/name", json!("../../etc/passwd")),
        ("/files/0/name", json!("/etc/passwd")),
        ("/files/0/name", json!("nul\u{0}byte")),
        ("/files/0/name", json!(long)),
        ("/files/0/name", json!("pages-1.img")),
        ("/files/0/segment", json!(3)),
        ("/files/0/offset", json!(u64::MAX)),
        ("/files/0/raw_len", json!(u64::MAX)),
        ("/files/0/blake3", json!("g".repeat(64))),
        ("/files/1/raw_len", json!(1_000_000_000_000_u64)),
    ];
    for (place, value) in table {
        let mut json = good();
        *json.pointer_mut(place).expect("it is there") = value.clone();
        let error = decode(&json).expect_err(place);
        assert_eq!(error.kind(), "corrupt", "{place} = {value}: {error}");
    }
}

#[test]
fn unknown_and_missing_fields_are_refused() {
    let mut more = good();
    more["surprise"] = json!(1);
    assert_eq!(decode(&more).expect_err("unknown").kind(), "corrupt");
    let fields: Vec<String> = good().as_object().expect("an object").keys().cloned().collect();
    for field in fields {
        let mut less = good();
        less.as_object_mut().expect("an object").remove(&field);
        assert_eq!(decode(&less).expect_err("missing").kind(), "corrupt", "{field}");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    let deep = format!("{{\"version\":1,\"about\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bytes = envelope::seal(WHAT, VERSION, deep.as_bytes());
    assert_eq!(read(&bytes).expect_err("too deep").kind(), "corrupt");
}
