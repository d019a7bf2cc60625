//! The lease of one service as one document, where the store has nothing but compare-and-swap. JSON, versioned.
//!
//! `claim` is drawn at random for each acquisition and `beat` counts its renewals, so no two contents are ever alike: a
//! store that tells versions apart by content (S3's ETag) cannot take one for another.

use std::time::Duration;

use policies::id::{Epoch, ImageId, NodeName};
use policies::lease::{AtRest, Expiry, Holding, Legacy, Replicated, Sighting};
use serde::{Deserialize, Serialize};

use super::{Claim, Held, draw};
use crate::error::{Error, Report, Result};

const FORMAT: u32 = 1;
/// Longer than any document of ours.
pub(super) const LENGTH_MAX: u64 = 16 * 1024;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Document {
    format: u32,
    pub(super) epoch: u64,
    /// The present or last holder.
    pub(super) node: String,
    pub(super) claim: String,
    beat: u64,
    ttl_ms: u64,
    /// The holder has let it go.
    pub(super) released: bool,
    /// Where the store has a clock: which boot, and when on it the lease is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expires: Option<Expires>,
    #[serde(flatten)]
    pub(super) left: Left,
}

/// [`Legacy`] in writing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Left {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replicated: Option<Mark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    #[serde(default)]
    stopped: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    suspended: bool,
}

/// An instant of one run of a clock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Expires {
    pub(super) era: String,
    pub(super) at_ns: u64,
}

/// An image that was acknowledged as replicated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    epoch: u64,
    image: String,
}

impl Document {
    /// The document of a new epoch. What was acknowledged before stays so.
    pub(super) fn acquired(claim: &Claim, over: &Sighting) -> Result<Self> {
        Ok(Self {
            format: FORMAT,
            epoch: over.epoch.next().0,
            node: claim.node.as_str().to_owned(),
            claim: draw()?,
            beat: 0,
            ttl_ms: u64::try_from(claim.ttl.as_millis()).unwrap_or(u64::MAX),
            released: false,
            expires: None,
            left: Left::of(&over.legacy.inherited()),
        })
    }

    /// The same, renewed.
    pub(super) fn renewed(&self, legacy: &Legacy) -> Result<Self> {
        Ok(Self { beat: self.beat + 1, left: self.left.followed_by(legacy)?, ..self.clone() })
    }

    /// The same, let go.
    pub(super) fn let_go(&self) -> Self {
        Self { beat: self.beat + 1, released: true, ..self.clone() }
    }

    /// Whether it is this acquisition's, and not let go.
    pub(super) fn is_of(&self, held: &Held) -> bool {
        self.claim == held.claim && self.epoch == held.epoch.0 && !self.released
    }

    /// Whether it is this very writing, whatever was answered to it.
    pub(super) fn is_same_writing(&self, other: &Self) -> bool {
        (&self.claim, self.beat) == (&other.claim, other.beat)
    }

    pub(super) fn ttl(&self) -> Duration {
        Duration::from_millis(self.ttl_ms)
    }

    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self).map_err(|e| Error::Internal(Report::new("write a lease").because(e)))
    }

    pub(super) fn decode(bytes: &[u8], place: &str) -> Result<Self> {
        let corrupt = |report: Report| Error::Corrupt(report.remedy("look what else writes there"));
        let document: Self = serde_json::from_slice(bytes)
            .map_err(|e| corrupt(Report::new(format!("read the lease at {place}")).because(e)))?;
        if document.format != FORMAT {
            let format = document.format;
            return Err(corrupt(Report::new(format!("read the lease at {place}: its format is {format}"))));
        }
        Ok(document)
    }

    /// What others see of it.
    pub(super) fn sighting(&self, bytes: &[u8], expiry: Expiry, expired: bool) -> Result<Sighting> {
        let node = NodeName::try_from(self.node.as_str()).map_err(|e| strange("node", e))?;
        let holding = (!self.released && !expired).then(|| Holding {
            node: node.clone(),
            ttl: self.ttl(),
            beat: self.beat,
            expiry,
        });
        Ok(Sighting {
            epoch: Epoch(self.epoch),
            holding,
            former: Some(node),
            legacy: self.left.legacy()?,
            version: version_of(bytes),
        })
    }
}

impl Left {
    pub(super) fn of(legacy: &Legacy) -> Self {
        Self {
            replicated: legacy.replicated.as_ref().map(Mark::of),
            next: legacy.next.as_ref().map(ToString::to_string),
            stopped: legacy.at_rest == Some(AtRest::Stopped),
            suspended: legacy.at_rest == Some(AtRest::Suspended),
        }
    }

    pub(super) fn legacy(&self) -> Result<Legacy> {
        let next = self.next.as_deref().map(NodeName::try_from).transpose();
        Ok(Legacy {
            replicated: self.replicated.as_ref().map(Mark::replicated).transpose()?,
            next: next.map_err(|e| strange("next node", e))?,
            at_rest: match (self.stopped, self.suspended) {
                (true, _) => Some(AtRest::Stopped),
                (false, true) => Some(AtRest::Suspended),
                (false, false) => None,
            },
        })
    }

    /// What stands there after this was said too.
    pub(super) fn followed_by(&self, legacy: &Legacy) -> Result<Self> {
        Ok(Self::of(&legacy.clone().after(&self.legacy()?)))
    }
}

impl Mark {
    fn of(replicated: &Replicated) -> Self {
        Self { epoch: replicated.epoch.0, image: replicated.image.as_str().to_owned() }
    }

    fn replicated(&self) -> Result<Replicated> {
        let image = ImageId::try_from(self.image.as_str()).map_err(|e| strange("image", e))?;
        Ok(Replicated { epoch: Epoch(self.epoch), image })
    }
}

/// A number for one content; contents are never alike, so numbers are not either but once in 2^64.
pub(super) fn version_of(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let first: [u8; 8] = std::array::from_fn(|at| hash.as_bytes()[at]);
    u64::from_le_bytes(first)
}

fn strange(what: &str, error: impl std::error::Error) -> Error {
    Error::Corrupt(Report::new(format!("read a lease: its {what} is none")).because(error))
}
