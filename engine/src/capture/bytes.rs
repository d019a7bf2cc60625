//! Names as Linux knows them: bytes, in any encoding or none.
//!
//! In JSON they stay readable: text as it is, other bytes and `%` as `%` and two digits. A path that could leave
//! its tree (`..`, absolute, NUL) does not parse.

use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Linux allows no longer name of an entry.
const NAME_MAX: usize = 255;
/// Deeper trees exist, but not much deeper than a megabyte of path.
const PATH_MAX: usize = 1 << 20;

/// The path of an entry from the root of its tree; the root's own is empty.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Vec<u8>);

impl TreePath {
    /// The root of the tree.
    pub fn root() -> Self {
        Self::default()
    }

    /// A path from the root: no empty, `.` or `..` components, no slash at its ends.
    pub fn parse(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = bytes.into();
        let fits = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= NAME_MAX;
        let sound = bytes.is_empty() || bytes.split(|b| *b == b'/').all(fits);
        (sound && bytes.len() <= PATH_MAX && !bytes.contains(&0)).then_some(Self(bytes))
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether it is the root of the tree.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The folder that holds it; `None` for the root.
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].to_vec()))
    }

    /// The last component; `.` for the root, which is how a folder calls itself.
    pub fn name(&self) -> &[u8] {
        if self.is_root() {
            return b".";
        }
        self.0.iter().rposition(|b| *b == b'/').map_or(&self.0[..], |slash| &self.0[slash + 1..])
    }

    /// The folder that holds it, as bytes; the root stands in itself.
    pub(super) fn folder(&self) -> &[u8] {
        self.0.iter().rposition(|b| *b == b'/').map_or(b"", |slash| &self.0[..slash])
    }

    pub(super) fn join(&self, name: &[u8]) -> Self {
        let mut joined = self.0.clone();
        if !joined.is_empty() {
            joined.push(b'/');
        }
        joined.extend_from_slice(name);
        Self(joined)
    }

    /// Whether it is `above` or lies somewhere in it.
    pub(super) fn is_within(&self, above: &Self) -> bool {
        above.is_root()
            || self.0.strip_prefix(&above.0[..]).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
    }

    /// Its path on this host, for messages.
    pub(super) fn under(&self, root: &Path) -> PathBuf {
        if self.is_root() { root.to_owned() } else { root.join(std::ffi::OsStr::from_bytes(&self.0)) }
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() { f.write_str(".") } else { f.write_str(&escape(&self.0)) }
    }
}

impl Serialize for TreePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for TreePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = text::deserialize(deserializer)?;
        Self::parse(bytes).ok_or_else(|| D::Error::custom("a path that isn't one inside a tree"))
    }
}

/// Bytes that are mostly text.
pub(super) mod text {
    use super::{Deserialize, Deserializer, Serializer, escape, unescape};

    pub(in crate::capture) fn serialize<S: Serializer>(
        bytes: &[u8],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&escape(bytes))
    }

    pub(in crate::capture) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        unescape(&text)
            .ok_or_else(|| serde::de::Error::custom("bytes that are not escaped as they should be"))
    }
}

/// A path of this host.
pub(super) mod host_path {
    use super::{Deserializer, OsStrExt, OsStringExt, Path, PathBuf, Serializer, text};

    pub(in crate::capture) fn serialize<S: Serializer>(
        path: &Path,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        text::serialize(path.as_os_str().as_bytes(), serializer)
    }

    pub(in crate::capture) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<PathBuf, D::Error> {
        Ok(PathBuf::from(std::ffi::OsString::from_vec(text::deserialize(deserializer)?)))
    }
}

/// Bytes that are mostly not text.
pub(crate) mod hex {
    use super::{Deserialize, Deserializer, Serializer, digits, value};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&bytes.iter().flat_map(|b| digits(*b)).collect::<String>())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => value(*high, *low),
            _ => None,
        });
        pairs.collect::<Option<_>>().ok_or_else(|| serde::de::Error::custom("not hexadecimal"))
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character == '%' { text.push_str("%25") } else { text.push(character) }
        }
        for byte in chunk.invalid() {
            text.push('%');
            text.extend(digits(*byte));
        }
    }
    text
}

fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let [high, low, after @ ..] = after else { return None };
        bytes.push(value(*high, *low)?);
        rest = after;
    }
    Some(bytes)
}

fn digits(byte: u8) -> [char; 2] {
    let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
    [digit(byte >> 4), digit(byte & 15)]
}

fn value(high: u8, low: u8) -> Option<u8> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|v| u8::try_from(v).ok());
    Some(value(high)? << 4 | value(low)?)
}

#[cfg(test)]
mod tests {
    use super::{TreePath, escape, unescape};

    #[test]
    fn any_bytes_survive_the_escape() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in
            [&b"plain/name"[..], b"100%", b"\xff\xfe", "größe".as_bytes(), b"a\xc3", b"", b"\n\"", &all]
        {
            assert_eq!(unescape(&escape(bytes)).as_deref(), Some(bytes));
        }
        for wrong in ["%", "%f", "%zz", "a%2"] {
            assert_eq!(unescape(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_path_that_leaves_its_tree_does_not_parse() {
        for wrong in ["..", "a/../b", "/a", "a/", "a//b", ".", "a/./b", "a\0b"] {
            assert_eq!(TreePath::parse(wrong), None, "{wrong:?}");
        }
        assert_eq!(TreePath::parse(vec![b'x'; 256]), None);
        let path = TreePath::parse("a/b/c").expect("a path");
        assert_eq!((path.folder(), path.name()), (&b"a/b"[..], &b"c"[..]));
        assert!(path.is_within(&TreePath::parse("a/b").expect("a path")));
        assert!(!path.is_within(&TreePath::parse("a/bc").expect("a path")));
        assert!(
            !TreePath::parse("a/bc").expect("a path").is_within(&TreePath::parse("a/b").expect("a path"))
        );
        assert_eq!(TreePath::root().name(), b".");
    }
}
