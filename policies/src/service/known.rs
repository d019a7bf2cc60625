//! The images a service knows: what the store listed, what was taken since, and what was thought of them since.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::ImageId;
use crate::image::{ImageFacts, ImageVerdict};

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    all: Vec<ImageFacts>,
    /// Taken, but in no listing yet: a listing may have been begun before.
    fresh: BTreeSet<ImageId>,
    /// Judged by us: a listing may have been begun before the store knew.
    judged: BTreeMap<ImageId, ImageVerdict>,
}

impl Known {
    pub(super) fn all(&self) -> &[ImageFacts] {
        &self.all
    }

    /// The store was read. Fresh images that it does not list are kept while it lists nothing newer.
    pub(super) fn listed(&mut self, images: Vec<ImageFacts>) {
        let newest = images.iter().map(|i| i.taken_at).max();
        let listed: BTreeSet<ImageId> = images.iter().map(|i| i.id.clone()).collect();
        self.fresh.retain(|id| !listed.contains(id));
        self.all.retain(|i| self.fresh.contains(&i.id) && newest.is_none_or(|at| i.taken_at > at));
        self.all.extend(images);
        let known: BTreeSet<&ImageId> = self.all.iter().map(|i| &i.id).collect();
        self.fresh.retain(|id| known.contains(id));
        self.judged.retain(|id, _| known.contains(id));
        for image in &mut self.all {
            if let Some(verdict) = self.judged.get(&image.id) {
                image.verdict = *verdict;
            }
        }
    }

    pub(super) fn taken(&mut self, image: ImageFacts) {
        self.all.retain(|i| i.id != image.id);
        self.fresh.insert(image.id.clone());
        self.all.push(image);
    }

    pub(super) fn judge(&mut self, id: &ImageId, verdict: ImageVerdict) {
        if let Some(image) = self.all.iter_mut().find(|i| i.id == *id) {
            image.verdict = verdict;
            self.judged.insert(id.clone(), verdict);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::image::ImageVerdict::{Good, Unjudged};
    use crate::image::test_image as image;

    use super::Known;

    fn ids(known: &Known) -> Vec<&str> {
        known.all().iter().map(|i| i.id.as_str()).collect()
    }

    #[test]
    fn a_listing_begun_before_a_checkpoint_does_not_hide_its_image() {
        let mut known = Known::default();
        known.listed(vec![image(1, Good)]);
        known.taken(image(2, Unjudged));
        known.judge(&image(2, Good).id, Good);
        known.listed(vec![image(1, Good)]);
        assert_eq!(ids(&known), ["i2", "i1"]);
        known.listed(vec![image(1, Good), image(2, Unjudged)]);
        assert_eq!(known.all()[1].verdict, Good, "judged by us, not yet known to the listing");
        known.listed(vec![image(1, Good)]);
        assert_eq!(ids(&known), ["i1"], "listed once and gone again: deleted");
    }

    #[test]
    fn a_fresh_image_that_a_later_listing_lacks_is_gone() {
        let mut known = Known::default();
        known.taken(image(2, Unjudged));
        known.listed(vec![]);
        assert_eq!(ids(&known), ["i2"]);
        known.listed(vec![image(3, Good)]);
        assert_eq!(ids(&known), ["i3"]);
    }
}
