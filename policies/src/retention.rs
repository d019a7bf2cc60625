//! Which images may go: a plan, not a deletion.
//!
//! Never planned: a pinned image, one in use, the parent of a kept one, the newest durable image of the best verdict
//! there is, the newest image of all, and one still being written. What is not durable yet is neither counted
//! nor a reason to delete: it pushes nobody out.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::ImageId;
use crate::image::{ImageFacts, ImageVerdict};
use crate::time::WallTime;

/// How many images are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// At most so many durable ones; less than 2 is taken as 2.
    pub max_checkpoints: usize,
    /// None older than this.
    pub max_age: Option<Duration>,
    /// At most so many bytes of durable ones.
    pub max_total_size: Option<u64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { max_checkpoints: 10, max_age: None, max_total_size: None }
    }
}

/// The images to delete, in this order: children before their parents.
///
/// `in_use` are images being read, written or sent. `needed_free` are bytes that must become free besides what the
/// settings say; the plan frees what it may, which can be less.
#[must_use]
pub fn plan(
    images: &[ImageFacts],
    in_use: &BTreeSet<ImageId>,
    now: WallTime,
    settings: &Settings,
    needed_free: u64,
) -> Vec<ImageId> {
    let protected = protected(images, in_use);
    let mut order: Vec<&ImageFacts> = images.iter().filter(|i| !protected.contains(&i.id)).collect();
    // What cannot be restored is worth least; then the oldest.
    order.sort_by_key(|i| (!i.damaged, i.durable, i.taken_at, &i.id));
    let mut ledger = Ledger::new(images, needed_free);
    loop {
        let fits = |i: &&&ImageFacts| !ledger.gone.contains(&i.id) && !ledger.is_parent(images, &i.id);
        let Some(next) = order.iter().filter(fits).find(|i| ledger.wants(i, now, settings)) else { break };
        ledger.delete(next);
    }
    ledger.planned
}

/// What the plan has come to so far.
struct Ledger {
    planned: Vec<ImageId>,
    gone: BTreeSet<ImageId>,
    durable: usize,
    size: u64,
    to_free: u64,
}

impl Ledger {
    fn new(images: &[ImageFacts], to_free: u64) -> Self {
        let durable = || images.iter().filter(|i| i.durable);
        let size = durable().fold(0u64, |sum, i| sum.saturating_add(i.size));
        Self { planned: Vec::new(), gone: BTreeSet::new(), durable: durable().count(), size, to_free }
    }

    fn wants(&self, image: &ImageFacts, now: WallTime, settings: &Settings) -> bool {
        let too_old = settings.max_age.is_some_and(|max| now.since(image.taken_at) > max);
        let too_many = self.durable > settings.max_checkpoints.max(2);
        let too_big = settings.max_total_size.is_some_and(|max| self.size > max);
        // Deleting what is not on disk neither makes fewer nor frees anything there; it is only superseded.
        too_old || !image.durable || too_many || too_big || self.to_free > 0
    }

    fn delete(&mut self, image: &ImageFacts) {
        if image.durable {
            self.durable -= 1;
            self.size = self.size.saturating_sub(image.size);
            self.to_free = self.to_free.saturating_sub(image.size);
        }
        self.gone.insert(image.id.clone());
        self.planned.push(image.id.clone());
    }

    fn is_parent(&self, images: &[ImageFacts], id: &ImageId) -> bool {
        images.iter().any(|i| i.parent.as_ref() == Some(id) && !self.gone.contains(&i.id))
    }
}

fn protected(images: &[ImageFacts], in_use: &BTreeSet<ImageId>) -> BTreeSet<ImageId> {
    let newest = |of: &dyn Fn(&ImageFacts) -> bool| {
        images
            .iter()
            .filter(|i| of(i))
            .max_by_key(|i| (i.taken_at, &i.id))
            .map(|i| (i.taken_at, i.id.clone()))
    };
    let sound = |i: &ImageFacts| i.durable && !i.damaged && i.incompatible.is_none();
    let best = ImageVerdict::ALL.iter().find_map(|v| newest(&|i| sound(i) && i.verdict == *v));
    let mut protected: BTreeSet<ImageId> = in_use.clone();
    protected.extend(images.iter().filter(|i| i.pinned).map(|i| i.id.clone()));
    protected.extend(best.map(|(_, id)| id));
    protected.extend(newest(&|_| true).map(|(_, id)| id));
    // What is newer than the newest durable one is still on its way to disk; whoever writes it owns it to its end.
    let durable_since = newest(&|i| i.durable).map(|(at, _)| at);
    let unfinished = |i: &&ImageFacts| !i.durable && durable_since.is_none_or(|since| i.taken_at > since);
    protected.extend(images.iter().filter(unfinished).map(|i| i.id.clone()));
    protected
}
