//! Our small text files: a first line with what it is, its version, its length and a BLAKE3, then JSON.
//!
//! Nothing of the content means anything before the first line has been found true of it.

use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Report, Result};

const FIRST_LINE_MAX: usize = 160;

/// The bytes of a file that holds `content`.
pub(super) fn seal(what: &str, version: u32, content: &impl Serialize) -> Result<Vec<u8>> {
    let body = serde_json::to_vec(content)
        .map_err(|e| Error::Internal(Report::new(format!("write {what} as JSON")).because(e)))?;
    let mut bytes = first_line(what, version, &body).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The content, if all of it is as it was written. `shown` is only for the message.
pub(super) fn open<T: DeserializeOwned>(what: &str, version: u32, bytes: &[u8], shown: &Path) -> Result<T> {
    let damaged = || Error::Corrupt(Report::new(format!("{what} is damaged: {}", shown.display())));
    let end = bytes.iter().take(FIRST_LINE_MAX).position(|b| *b == b'\n').ok_or_else(damaged)?;
    let (line, body) = bytes.split_at(end + 1);
    let found = version_of(what, line).ok_or_else(damaged)?;
    if line != first_line(what, found, body).as_bytes() {
        return Err(damaged());
    }
    if found != version {
        let text = format!("{what} has version {found}, known here is {version}: {}", shown.display());
        return Err(Error::Invalid(
            Report::new(text).remedy("use the supervisor that wrote it, or a newer one"),
        ));
    }
    serde_json::from_slice(body).map_err(|e| {
        Error::Corrupt(Report::new(format!("{what} cannot be understood: {}", shown.display())).because(e))
    })
}

fn first_line(what: &str, version: u32, body: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{what} {version} ").as_bytes()).update(body);
    format!("{what} {version} length={} blake3={}\n", body.len(), hasher.finalize().to_hex())
}

fn version_of(what: &str, line: &[u8]) -> Option<u32> {
    let rest = std::str::from_utf8(line).ok()?.strip_prefix(what)?.strip_prefix(' ')?;
    rest.split(' ').next()?.parse().ok()
}
