//! Whether an image suits this host, and what the service is now.

use engine::compat::{Host, Strictness};
use engine::images::{About, ImageRecord};
use policies::image::ImageFacts;
use policies::lease::Replicated;

/// Says whether an image suits this host and is one of what the service is now.
pub(super) struct Judge {
    pub(super) host: Host,
    pub(super) program: String,
    /// A later epoch never begins from anything older than what was acknowledged as replicated.
    pub(super) floor: Option<Replicated>,
}

impl Judge {
    /// What the policy is to know of images.
    pub(super) fn facts(&self, records: Vec<ImageRecord>) -> Vec<ImageFacts> {
        let judged = |record: ImageRecord| {
            let mut facts = record.facts;
            if facts.locked {
                return facts;
            }
            let id = facts.id.clone();
            facts.incompatible = record.about.and_then(|about| {
                let image = Replicated { epoch: about.epoch, image: id };
                let older = self.floor.as_ref().is_some_and(|floor| image < *floor);
                let newer = "a newer one was acknowledged as replicated";
                incompatible(&about, &self.host, &self.program).or_else(|| older.then(|| newer.to_owned()))
            });
            facts
        };
        records.into_iter().map(judged).collect()
    }
}

/// Why an image could not be restored on this host, as this program.
pub(crate) fn incompatible(about: &About, here: &Host, program: &str) -> Option<String> {
    if let Err(reasons) = engine::compat::check(&about.host, here, Strictness::Enforced) {
        return Some(reasons.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "));
    }
    let other = "it was taken of another command, environment or bundle than is configured now";
    (about.runtime.program != program).then(|| other.to_owned())
}
