//! What an image is, in words: the file that makes it exist.
//!
//! JSON under a checksummed first line (see the module `envelope`). Reading it checks every rule that the other modules rely on
//! (names that stay inside their folder, places that exist, sums that agree), so that a manifest in hand can be used without
//! looking twice. It refuses what is too long, inconsistent, or bears another name than its folder.

mod stored;

use std::collections::BTreeSet;
use std::path::Path;

use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::time::WallTime;
use serde::{Deserialize, Serialize};

use super::block::{BLOCK_LENGTH, Codec};
use super::{envelope, segment};
use crate::compat::Host;
use crate::error::{Error, Report, Result};
pub(super) use stored::{Glance, Opened, SEALED_VERSION, Stored};

/// The file whose presence makes an image durable.
pub(super) const MANIFEST_NAME: &str = "manifest";
pub(super) const WHAT: &str = "supervisor-image";
pub(super) const VERSION: u32 = 1;
/// Longest manifest: some ten thousand files.
pub(super) const MANIFEST_LENGTH_MAX: u64 = 16 << 20;

/// A committed image: what it is of, and where each byte lies.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The format's version: 1, or 2 if the image is encrypted.
    pub version: u32,
    /// Whose image it is.
    #[serde(with = "text")]
    pub service: ServiceName,
    /// Its id.
    #[serde(with = "text")]
    pub id: ImageId,
    /// When, where and of what it was taken.
    pub about: About,
    /// How big it is.
    pub sizes: Sizes,
    /// The segments, in the order of reading.
    pub segments: Vec<SegmentEntry>,
    /// The files of all segments, in the order in which they lie there.
    pub files: Vec<FileEntry>,
}

impl Manifest {
    /// Whether it is of the same image, with the same bytes. Two nodes that were in its making commit it each by themselves: compressed and
    /// encrypted in their own way.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        let files = |manifest: &Self| {
            let files = manifest.files.iter().map(|file| {
                let captured =
                    manifest.segments.get(file.segment).is_some_and(|s| s.kind == SegmentKind::Files);
                (captured, file.name.clone(), file.raw_len, file.blake3.clone())
            });
            files.collect::<BTreeSet<_>>()
        };
        (&self.service, &self.id, &self.about) == (&other.service, &other.id, &other.about)
            && files(self) == files(other)
    }
}

/// When, where and of what an image was taken: what the one who dumps knows (the draft of a manifest).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct About {
    /// When the service was frozen for it, nanoseconds since 1970.
    #[serde(with = "wall_time")]
    pub taken_at: WallTime,
    /// The node's name.
    pub node: String,
    /// The epoch of the lease under which it was taken.
    #[serde(with = "epoch")]
    pub epoch: Epoch,
    /// What ran the service.
    pub runtime: RuntimeFacts,
    /// The host, for the question whether the image may run elsewhere.
    pub host: Host,
    /// Digest of the container's image, if it is a container.
    pub container_digest: Option<String>,
    /// The image that this one is a delta to; always `None` so far.
    #[serde(with = "optional_text")]
    pub parent: Option<ImageId>,
    /// What was thought of it at its taking; a later judgement is a mark beside it.
    #[serde(with = "text")]
    pub verdict: ImageVerdict,
    /// How long the service stood still, in microseconds.
    pub pause_us: u64,
    /// Facts that the runtime needs at the restore, opaque to the store.
    pub runtime_state: serde_json::Value,
    /// The declared volumes whose files are in it.
    pub volumes: Vec<String>,
}

/// What ran the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeFacts {
    /// `process`, `runc`, ...
    pub kind: String,
    /// BLAKE3 of what was run (command, environment, user, or the bundle's configuration): an image of something else is no
    /// image of this service.
    pub program: String,
    /// Names of programs and their versions.
    pub versions: std::collections::BTreeMap<String, String>,
}

/// How big an image is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sizes {
    /// All files as CRIU and the capture wrote them.
    pub raw: u64,
    /// All segments.
    pub stored: u64,
}

/// One segment: a file of blocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SegmentEntry {
    /// `state.seg`, `memory-0.seg`, `files-0.seg`, ...
    pub name: String,
    /// What lies in it.
    pub kind: SegmentKind,
    /// How its blocks are compressed.
    pub codec: Codec,
    /// Its length in bytes.
    pub stored_len: u64,
    /// BLAKE3 of its header and all block headers (which hold the checksums of the rest), 64 hexadecimal digits.
    pub blake3: String,
}

/// What lies in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SegmentKind {
    /// CRIU's small files.
    State,
    /// One of CRIU's files of memory pages.
    Memory,
    /// A file of the capture: files and volumes of the service.
    Files,
}

/// One file as it is unpacked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Its name; plain, without folders.
    pub name: String,
    /// Index of its segment.
    pub segment: usize,
    /// Where its first block's header begins in the segment.
    pub offset: u64,
    /// Its length in bytes.
    pub raw_len: u64,
    /// BLAKE3 of it, 64 hexadecimal digits.
    pub blake3: String,
}

impl Manifest {
    /// The bytes of the file.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        self.check().map_err(|e| Error::Internal(e.report().clone()))?;
        let json = serde_json::to_vec_pretty(self);
        let json = json.map_err(|e| Error::Internal(Report::new("cannot write a manifest").because(e)))?;
        self.short_enough(envelope::seal(WHAT, VERSION, &json))
    }

    fn short_enough(&self, bytes: Vec<u8>) -> Result<Vec<u8>> {
        if bytes.len() as u64 > MANIFEST_LENGTH_MAX {
            let text = format!("image has too many files for one manifest: {}", self.files.len());
            return Err(Error::Refused(Report::new(text)));
        }
        Ok(bytes)
    }

    /// Reads a manifest's JSON and checks all its rules; `shown` is only for messages.
    fn parse(json: &[u8], version: u32, shown: &Path) -> Result<Self> {
        let read: Result<Self, _> = serde_json::from_slice(json);
        let read = read.map_err(|e| {
            Error::Corrupt(Report::new(format!("not a manifest: {}", shown.display())).because(e))
        })?;
        read.check()?;
        if read.version == version {
            return Ok(read);
        }
        let text = format!("manifest of {} names another version than its first line", read.id);
        Err(Error::Corrupt(Report::new(text)))
    }

    /// Bytes that the files of these kinds take unpacked.
    pub(super) fn raw_of(&self, wanted: impl Fn(SegmentKind) -> bool) -> u64 {
        let files = self.files.iter().filter(|f| wanted(self.segments[f.segment].kind));
        files.map(|f| f.raw_len).sum()
    }

    fn check(&self) -> Result<()> {
        let wrong = |what: &str| Err(Error::Corrupt(Report::new(format!("manifest of {} {what}", self.id))));
        let names: BTreeSet<&str> = self.segments.iter().map(|s| s.name.as_str()).collect();
        if names.len() != self.segments.len() || !self.segments.iter().all(SegmentEntry::is_sound) {
            return wrong("has a segment that cannot be");
        }
        if !self.files.iter().all(|file| file.is_sound(&self.segments)) {
            return wrong("has a file that cannot be");
        }
        let placed: BTreeSet<(bool, &str)> = self
            .files
            .iter()
            .map(|f| (self.segments[f.segment].kind == SegmentKind::Files, f.name.as_str()))
            .collect();
        if placed.len() != self.files.len() {
            return wrong("names a file twice");
        }
        let raw = self.files.iter().map(|f| f.raw_len).try_fold(0, u64::checked_add);
        let stored = self.segments.iter().map(|s| s.stored_len).try_fold(0, u64::checked_add);
        if (raw, stored) != (Some(self.sizes.raw), Some(self.sizes.stored)) {
            return wrong("has sums that do not agree");
        }
        if self.about.parent.is_some() { wrong("needs a parent, which no version knows yet") } else { Ok(()) }
    }
}

impl SegmentEntry {
    fn is_sound(&self) -> bool {
        let stem = self.name.strip_suffix(".seg");
        let number = |prefix: &str| {
            let digits = stem.and_then(|s| s.strip_prefix(prefix));
            digits.is_some_and(|d| !d.is_empty() && d.len() < 10 && d.bytes().all(|b| b.is_ascii_digit()))
        };
        let named = match self.kind {
            SegmentKind::State => stem == Some("state"),
            SegmentKind::Memory => number("memory-"),
            SegmentKind::Files => number("files-"),
        };
        named && self.stored_len >= segment::HEADER_LENGTH as u64 && is_hash(&self.blake3)
    }
}

impl FileEntry {
    /// How many blocks it has.
    pub(super) fn blocks(&self) -> u64 {
        self.raw_len.div_ceil(BLOCK_LENGTH as u64)
    }

    /// Bytes of the file that this block holds: all but the last are full.
    pub(super) fn block_len(&self, block: u64) -> u64 {
        let full = BLOCK_LENGTH as u64;
        self.raw_len.saturating_sub(block * full).min(full)
    }

    fn is_sound(&self, segments: &[SegmentEntry]) -> bool {
        let Some(segment) = segments.get(self.segment) else { return false };
        // Every block has a header at least: no small segment can claim a huge number of blocks.
        let header = super::block::HEADER_LENGTH as u64;
        let fits = self.blocks().checked_mul(header).and_then(|n| n.checked_add(self.offset));
        is_plain_name(&self.name)
            && is_hash(&self.blake3)
            && fits.is_some_and(|end| end <= segment.stored_len)
    }
}

/// A name that stays in its folder and isn't one of ours.
pub(super) fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Ids and words of `policies`, which knows no serde.
pub(in crate::images) mod text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(in crate::images) fn serialize<T: Display, S: Serializer>(
        value: &T,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        out.collect_str(value)
    }

    pub(in crate::images) fn deserialize<'de, T, D: Deserializer<'de>>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
    {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

mod optional_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &Option<T>, out: S) -> Result<S::Ok, S::Error> {
        value.as_ref().map(T::to_string).serialize(out)
    }

    pub(super) fn deserialize<'de, T, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error>
    where
        T: FromStr<Err: Display>,
    {
        let text: Option<String> = Option::deserialize(from)?;
        text.map(|t| t.parse().map_err(de::Error::custom)).transpose()
    }
}

mod epoch {
    use policies::id::Epoch;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &Epoch, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(value.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Epoch, D::Error> {
        u64::deserialize(from).map(Epoch)
    }
}

mod wall_time {
    use policies::time::WallTime;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(value: &WallTime, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(value.as_unix_nanos())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<WallTime, D::Error> {
        u64::deserialize(from).map(WallTime::from_unix_nanos)
    }
}

#[cfg(test)]
mod tests;
