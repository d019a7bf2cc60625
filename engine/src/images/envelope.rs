//! The first line of our small text files: what this is, its version, and a BLAKE3 over all of it.
//!
//! `supervisor-image 1 blake3=<64 hexadecimal digits>`, a newline, the content. A byte that was flipped, cut off or added
//! anywhere in the file is noticed before the content means anything. Another version is refused, not guessed at.

use std::path::Path;

use crate::durable::read_limited;
use crate::error::{Error, Report, Result};

const FIRST_LINE_MAX: usize = 128;

/// Wraps `content`.
pub(crate) fn seal(what: &str, version: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = first_line(what, version, content).into_bytes();
    bytes.extend_from_slice(content);
    bytes
}

/// The version and the content, if all of it is as it was written and no newer than `newest`. `shown` is only for the message.
pub(crate) fn open<'a>(what: &str, newest: u32, bytes: &'a [u8], shown: &Path) -> Result<(u32, &'a [u8])> {
    let end = bytes.iter().take(FIRST_LINE_MAX).position(|b| *b == b'\n');
    let Some(end) = end else { return Err(damaged(what, shown)) };
    let (line, content) = bytes.split_at(end + 1);
    let found = version_of(what, line).filter(|found| line == first_line(what, *found, content).as_bytes());
    match found {
        Some(found) if (1..=newest).contains(&found) => Ok((found, content)),
        Some(found) => Err(Error::Invalid(
            Report::new(format!("{what} has version {found}, known here is {newest}: {}", shown.display()))
                .remedy("use the supervisor that wrote it, or a newer one"),
        )),
        None => Err(damaged(what, shown)),
    }
}

/// Reads such a file, at most `length_max` bytes of it.
pub(crate) fn read(what: &str, version: u32, path: &Path, length_max: u64) -> Result<Vec<u8>> {
    let mut bytes = read_limited(path, length_max)?;
    let content = open(what, version, &bytes, path)?.1.len();
    bytes.drain(..bytes.len() - content);
    Ok(bytes)
}

/// The checksum covers the name and the version too: a flipped version is damage, not a newer format.
fn first_line(what: &str, version: u32, content: &[u8]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(format!("{what} {version}\n").as_bytes()).update(content);
    format!("{what} {version} blake3={}\n", hasher.finalize().to_hex())
}

fn version_of(what: &str, line: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(line).ok()?;
    let rest = line.strip_prefix(what)?.strip_prefix(' ')?;
    rest.split_once(' ')?.0.parse().ok()
}

fn damaged(what: &str, shown: &Path) -> Error {
    Error::Corrupt(Report::new(format!("{what} is damaged: {}", shown.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flip_cut_and_addition_is_damage() {
        let good = seal("supervisor-test", 1, b"content\n");
        let path = Path::new("file");
        assert_eq!(open("supervisor-test", 1, &good, path).expect("whole"), (1, &b"content\n"[..]));
        assert_eq!(open("supervisor-test", 2, &good, path).expect("older"), (1, &b"content\n"[..]));
        let damaged = |bytes: &[u8]| open("supervisor-test", 1, bytes, path).expect_err("damaged").kind();
        for at in 0..good.len() {
            assert_eq!(damaged(&good[..at]), "corrupt", "cut at {at}");
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert_eq!(damaged(&bad), "corrupt", "bit {bit} of byte {at}");
            }
        }
        assert_eq!(damaged(&[&good[..], b"x"].concat()), "corrupt");
    }

    #[test]
    fn another_version_or_kind_is_told_apart_from_damage() {
        let newer = seal("supervisor-test", 2, b"content");
        assert_eq!(open("supervisor-test", 1, &newer, Path::new("f")).expect_err("newer").kind(), "invalid");
        assert_eq!(open("supervisor-other", 2, &newer, Path::new("f")).expect_err("other").kind(), "corrupt");
    }
}
