//! What policies know of an image: facts, no content.

use crate::id::ImageId;
use crate::time::WallTime;
use crate::word::words;

/// What the service's health after the checkpoint says of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ImageVerdict {
    /// The service was healthy when it was taken and still after it ran on.
    Good,
    /// Not known (yet).
    Unjudged,
    /// The service died or turned unhealthy before it was judged.
    Suspect,
}

words!(ImageVerdict { Good = "good", Unjudged = "unjudged", Suspect = "suspect" });

/// One image, as the store lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageFacts {
    /// Its id.
    pub id: ImageId,
    /// When the service was frozen for it.
    pub taken_at: WallTime,
    /// What is thought of it.
    pub verdict: ImageVerdict,
    /// Complete in memory: may be restored on this host as long as it is up.
    pub hot: bool,
    /// Committed and synced on disk.
    pub durable: bool,
    /// To be kept whatever retention says.
    pub pinned: bool,
    /// Known not to be whole.
    pub damaged: bool,
    /// Encrypted under a key that is not at hand: not lost, as long as the key may be named again. `incompatible` says it too.
    pub locked: bool,
    /// Why it may not run here, if it may not.
    pub incompatible: Option<String>,
    /// Bytes it takes.
    pub size: u64,
    /// The image it is a delta to.
    pub parent: Option<ImageId>,
}

impl ImageFacts {
    /// May it be restored here, as far as is known? Nothing unfinished, damaged or foreign may.
    #[must_use]
    pub fn usable(&self) -> bool {
        (self.hot || self.durable) && !self.damaged && self.incompatible.is_none()
    }
}

/// A durable image taken at second `n`, for tests.
#[cfg(test)]
pub(crate) fn test_image(n: u64, verdict: ImageVerdict) -> ImageFacts {
    ImageFacts {
        id: ImageId::try_from(format!("i{n}")).unwrap(),
        taken_at: WallTime::from_unix_nanos(n * 1_000_000_000),
        verdict,
        hot: false,
        durable: true,
        pinned: false,
        damaged: false,
        locked: false,
        incompatible: None,
        size: 100,
        parent: None,
    }
}
