//! Which images may go: a plan, not a deletion.
//!
//! Never planned: a pinned image, one in use, the parent of a kept one, the newest durable image of the best verdict
//! there is, the same of those under a key that is not at hand, the newest image of all, and one still being written.
//! What is not durable yet is neither counted nor a reason to delete: it pushes nobody out.

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
    let best = |of: &dyn Fn(&ImageFacts) -> bool| {
        let good = |i: &ImageFacts| i.durable && !i.damaged && of(i);
        ImageVerdict::ALL.iter().find_map(|v| newest(&|i| good(i) && i.verdict == *v))
    };
    let restorable = best(&|i| i.incompatible.is_none());
    // A wrong key may be a slip: what it cannot open must still be there when the right one is back.
    let locked = best(&|i| i.locked);
    let mut protected: BTreeSet<ImageId> = in_use.clone();
    protected.extend(images.iter().filter(|i| i.pinned).map(|i| i.id.clone()));
    protected.extend(restorable.into_iter().chain(locked).map(|(_, id)| id));
    protected.extend(newest(&|_| true).map(|(_, id)| id));
    // What is newer than the newest durable one is still on its way to disk; whoever writes it owns it to its end.
    let durable_since = newest(&|i| i.durable).map(|(at, _)| at);
    let unfinished = |i: &&ImageFacts| !i.durable && durable_since.is_none_or(|since| i.taken_at > since);
    protected.extend(images.iter().filter(unfinished).map(|i| i.id.clone()));
    protected
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{Settings, plan};
    use crate::id::ImageId;
    use crate::image::ImageVerdict::{Good, Suspect, Unjudged};
    use crate::image::{ImageFacts, test_image};
    use crate::time::WallTime;

    const NOW: WallTime = WallTime::from_unix_nanos(1_000_000_000_000);

    fn good(from: u64, to: u64) -> Vec<ImageFacts> {
        (from..=to).map(|n| test_image(n, Good)).collect()
    }

    fn planned(images: &[ImageFacts], settings: &Settings, needed: u64) -> Vec<String> {
        plan(images, &BTreeSet::new(), NOW, settings, needed).iter().map(ToString::to_string).collect()
    }

    fn keep(max_checkpoints: usize) -> Settings {
        Settings { max_checkpoints, ..Settings::default() }
    }

    #[test]
    fn the_best_image_under_a_missing_key_outlives_those_that_replace_it() {
        let mut images = good(1, 6);
        for image in &mut images[..3] {
            (image.locked, image.incompatible) = (true, Some("another key".to_owned()));
        }
        images[2].verdict = Suspect;
        assert_eq!(planned(&images, &keep(2), 0), ["i1", "i3", "i4", "i5"], "2 is the newest good one");
    }

    #[test]
    fn by_count_the_oldest_go() {
        assert_eq!(planned(&good(1, 5), &keep(3), 0), ["i1", "i2"]);
        assert!(planned(&good(1, 3), &keep(3), 0).is_empty());
        assert_eq!(planned(&good(1, 3), &keep(0), 0), ["i1"], "at least two are kept");
        assert!(planned(&[], &keep(2), 100).is_empty());
    }

    #[test]
    fn by_age_and_by_size() {
        let age = |secs| Settings { max_age: Some(Duration::from_secs(secs)), ..Settings::default() };
        assert_eq!(planned(&good(1, 5), &age(997), 0), ["i1", "i2"]);
        assert_eq!(
            planned(&good(1, 5), &age(1), 0),
            ["i1", "i2", "i3", "i4"],
            "the newest stays, however old"
        );
        let size = |max| Settings { max_total_size: Some(max), ..Settings::default() };
        assert_eq!(planned(&good(1, 5), &size(300), 0), ["i1", "i2"]);
        assert_eq!(planned(&good(1, 5), &size(299), 0), ["i1", "i2", "i3"]);
    }

    #[test]
    fn room_is_made_as_far_as_allowed() {
        assert_eq!(planned(&good(1, 5), &keep(9), 1), ["i1"]);
        assert_eq!(planned(&good(1, 5), &keep(9), 200), ["i1", "i2"]);
        assert_eq!(planned(&good(1, 5), &keep(9), 201), ["i1", "i2", "i3"]);
        assert_eq!(planned(&good(1, 5), &keep(9), u64::MAX), ["i1", "i2", "i3", "i4"]);
    }

    #[test]
    fn the_newest_good_one_survives_many_suspects() {
        let mut images = good(1, 2);
        images.extend((3..=6).map(|n| test_image(n, Suspect)));
        assert_eq!(planned(&images, &keep(2), u64::MAX), ["i1", "i3", "i4", "i5"]);
        let mut images = vec![test_image(1, Unjudged)];
        images.extend((2..=4).map(|n| test_image(n, Suspect)));
        assert_eq!(planned(&images, &keep(2), 0), ["i2", "i3"], "without a good one, the next best");
    }

    #[test]
    fn a_damaged_one_is_no_last_good_one_and_goes_first() {
        let mut images = good(1, 4);
        images[2].damaged = true;
        images[3].verdict = Suspect;
        assert_eq!(planned(&images, &keep(3), 0), ["i3"]);
        assert_eq!(planned(&images, &keep(2), 0), ["i3", "i1"]);
        images[1].incompatible = Some("kernel".to_owned());
        assert_eq!(planned(&images, &keep(2), u64::MAX), ["i3", "i2"], "i1 is the last that can run here");
    }

    #[test]
    fn what_is_not_durable_pushes_nobody_out() {
        let mut images = good(1, 6);
        for hot in &mut images[3..] {
            hot.hot = true;
            hot.durable = false;
        }
        assert!(planned(&images, &keep(3), 0).is_empty(), "three durable ones and three on their way");
        images[0].durable = false;
        assert_eq!(planned(&images, &keep(3), 0), ["i1"], "never became durable, and newer ones have");
        assert_eq!(planned(&images, &keep(3), u64::MAX), ["i1", "i2"], "the newest durable one stays");
    }

    #[test]
    fn pinned_used_and_parents_stay() {
        let mut images = good(1, 6);
        images[0].pinned = true;
        images[5].parent = Some(images[2].id.clone());
        let in_use = BTreeSet::from([images[1].id.clone()]);
        let got: Vec<String> =
            plan(&images, &in_use, NOW, &keep(2), 0).iter().map(ToString::to_string).collect();
        assert_eq!(got, ["i4", "i5"]);
    }

    #[test]
    fn a_chain_goes_children_first() {
        let mut images = good(1, 5);
        images[1].parent = Some(images[0].id.clone());
        images[2].parent = Some(images[1].id.clone());
        assert_eq!(planned(&images, &keep(2), 0), ["i3", "i2", "i1"]);
        images[0].parent = Some(images[2].id.clone());
        assert_eq!(planned(&images, &keep(2), 0), ["i4"], "a ring of parents is left alone");
    }

    fn any_images() -> impl Strategy<Value = Vec<ImageFacts>> {
        let flags = (0usize..3, any::<[bool; 5]>(), 0u64..500, prop::option::of(0u64..12));
        prop::collection::btree_map(0u64..12, flags, 0..12).prop_map(|all| {
            let one = |(n, (verdict, flags, size, parent)): (u64, (usize, [bool; 5], u64, Option<u64>))| {
                ImageFacts {
                    hot: flags[0],
                    durable: flags[1] || !flags[0],
                    pinned: flags[2] && n % 3 == 0,
                    damaged: flags[3] && flags[4],
                    size,
                    parent: parent.filter(|p| *p < n).map(|p| test_image(p, Good).id),
                    ..test_image(n, crate::image::ImageVerdict::ALL[verdict])
                }
            };
            all.into_iter().map(one).collect()
        })
    }

    proptest! {
        #[test]
        fn nothing_that_is_needed_is_planned(
            images in any_images(),
            used in 0u64..12,
            max in 0usize..6,
            age in prop::option::of(0u64..1000),
            size in prop::option::of(0u64..2000),
            needed in 0u64..3000,
        ) {
            let settings = Settings { max_checkpoints: max, max_age: age.map(Duration::from_secs), max_total_size: size };
            let in_use = BTreeSet::from([test_image(used, Good).id]);
            let gone: BTreeSet<ImageId> = plan(&images, &in_use, NOW, &settings, needed).into_iter().collect();
            let kept: Vec<&ImageFacts> = images.iter().filter(|i| !gone.contains(&i.id)).collect();
            for image in &images {
                let parent = kept.iter().any(|k| k.parent.as_ref() == Some(&image.id));
                let needed = image.pinned || in_use.contains(&image.id) || parent;
                prop_assert!(!(needed && gone.contains(&image.id)), "{image:?}");
            }
            prop_assert!(images.is_empty() || !gone.contains(&images[images.len() - 1].id), "the newest");
            let last_good = images.iter().rev().find(|i| i.durable && !i.damaged && i.verdict == Good);
            prop_assert!(last_good.is_none_or(|i| !gone.contains(&i.id)), "the last good one");
        }
    }
}
