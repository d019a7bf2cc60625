//! What etcd's JSON gateway is told and answers: the few parts of its API that leases need. Keys and values are base64,
//! 64-bit numbers are texts, and what is zero or empty is left out. (etcd 3.4 and later, `/v3`.)

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::Claim;
use super::super::document::Left;
use crate::error::{Error, Report, Result};

/// What the key says that is there as long as the lease holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HolderKey {
    pub(super) node: String,
    pub(super) claim: String,
    pub(super) ttl_ms: u64,
}

/// What the key says that stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateKey {
    pub(super) epoch: u64,
    pub(super) node: String,
    pub(super) claim: String,
    #[serde(flatten)]
    pub(super) left: Left,
}

/// Everything or nothing.
#[derive(Debug)]
pub(super) struct Transaction {
    pub(super) compare: Vec<Compare>,
    pub(super) success: Vec<Operation>,
    pub(super) failure: Vec<Operation>,
}

/// A condition of a transaction.
#[derive(Debug)]
pub(super) struct Compare(Value);

/// One step of a transaction.
#[derive(Debug)]
pub(super) struct Operation(Value);

/// What came of a transaction.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) succeeded: bool,
    pub(super) revision: i64,
    answers: Vec<Value>,
}

/// A key that is there.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) value: T,
    pub(super) revision: i64,
}

impl HolderKey {
    pub(super) fn of(claim: &Claim, drawn: &str) -> Self {
        let ttl_ms = u64::try_from(claim.ttl.as_millis()).unwrap_or(u64::MAX);
        Self { node: claim.node.as_str().to_owned(), claim: drawn.to_owned(), ttl_ms }
    }
}

impl Transaction {
    pub(super) fn to_json(&self) -> Value {
        let operations =
            |of: &[Operation]| of.iter().map(|operation| operation.0.clone()).collect::<Vec<_>>();
        json!({
            "compare": self.compare.iter().map(|compare| compare.0.clone()).collect::<Vec<_>>(),
            "success": operations(&self.success),
            "failure": operations(&self.failure),
        })
    }
}

impl Compare {
    pub(super) fn absent(key: &str) -> Self {
        Self(
            json!({ "key": encoded(key.as_bytes()), "target": "CREATE", "result": "EQUAL", "create_revision": "0" }),
        )
    }

    /// A key that is not there has the revision 0.
    pub(super) fn revision(key: &str, revision: i64) -> Self {
        let revision = revision.to_string();
        Self(
            json!({ "key": encoded(key.as_bytes()), "target": "MOD", "result": "EQUAL", "mod_revision": revision }),
        )
    }
}

impl Operation {
    pub(super) fn get(key: &str) -> Self {
        Self(json!({ "request_range": { "key": encoded(key.as_bytes()) } }))
    }

    pub(super) fn delete(key: &str) -> Self {
        Self(json!({ "request_delete_range": { "key": encoded(key.as_bytes()) } }))
    }

    /// All keys that begin so. The text is ASCII.
    pub(super) fn get_all(beginning: &str) -> Self {
        let mut end = beginning.as_bytes().to_vec();
        if let Some(last) = end.last_mut() {
            *last += 1;
        }
        Self(json!({ "request_range": { "key": encoded(beginning.as_bytes()), "range_end": encoded(&end) } }))
    }

    pub(super) fn put(key: &str, value: &impl Serialize) -> Result<Self> {
        Ok(Self(json!({ "request_put": { "key": encoded(key.as_bytes()), "value": as_text(value)? } })))
    }

    /// The key goes when the lease does.
    pub(super) fn put_leased(key: &str, value: &impl Serialize, lease: i64) -> Result<Self> {
        let (value, lease) = (as_text(value)?, lease.to_string());
        Ok(Self(json!({ "request_put": { "key": encoded(key.as_bytes()), "value": value, "lease": lease } })))
    }
}

impl Outcome {
    pub(super) fn from_json(answer: &Value) -> Result<Self> {
        let revision = number(&answer["header"]["revision"]).ok_or_else(|| strange("no revision"))?;
        let answers = answer["responses"].as_array().cloned().unwrap_or_default();
        Ok(Self { succeeded: answer["succeeded"].as_bool().unwrap_or(false), revision, answers })
    }

    /// What the get at this place found.
    pub(super) fn entry<T: DeserializeOwned>(&self, place: usize) -> Result<Option<Entry<T>>> {
        let answer = self.answers.get(place).ok_or_else(|| strange("an answer is missing"))?;
        let Some(found) = answer["response_range"]["kvs"].get(0) else { return Ok(None) };
        let bytes = decoded(&found["value"])?;
        let value = serde_json::from_slice(&bytes).map_err(|e| corrupt(Report::new(WHAT).because(e)))?;
        let revision = number(&found["mod_revision"]).ok_or_else(|| strange("a key without revision"))?;
        Ok(Some(Entry { value, revision }))
    }
}

impl Outcome {
    /// Keys and values that the get at this place found.
    pub(super) fn entries(&self, place: usize) -> Result<Vec<(String, Vec<u8>)>> {
        let answer = self.answers.get(place).ok_or_else(|| strange("an answer is missing"))?;
        let found = answer["response_range"]["kvs"].as_array().map_or(&[][..], Vec::as_slice);
        let entry = |found: &Value| {
            let key = String::from_utf8_lossy(&decoded(&found["key"])?).into_owned();
            Ok((key, decoded(&found["value"])?))
        };
        found.iter().map(entry).collect()
    }
}

fn decoded(text: &Value) -> Result<Vec<u8>> {
    let text = text.as_str().unwrap_or_default();
    STANDARD.decode(text).map_err(|e| corrupt(Report::new(WHAT).because(e)))
}

const WHAT: &str = "read a lease in etcd";

/// A 64-bit number, which JSON carries as a text.
pub(super) fn number(value: &Value) -> Option<i64> {
    value.as_str().map_or_else(|| value.as_i64(), |text| text.parse().ok())
}

pub(super) fn strange(what: &str) -> Error {
    Error::Unavailable(Report::new(format!("understand etcd's answer: {what}")))
}

fn corrupt(report: Report) -> Error {
    Error::Corrupt(report.remedy("look what else writes under this prefix"))
}

fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

fn as_text(value: &impl Serialize) -> Result<String> {
    let bytes = serde_json::to_vec(value);
    bytes.map(|b| encoded(&b)).map_err(|e| Error::Internal(Report::new("write a lease for etcd").because(e)))
}
