//! Which rung next: the ordered ways of recovery, and when to stop climbing.
//!
//! A fault begins a *walk* over the rungs from the top. Within a walk each image is tried once, again only if the
//! failure says that trying again may help; a cold start is tried once. When a walk has found nothing that works,
//! the next one begins (the caller delays it by the backoff), until `max_attempts` walks are spent.
//!
//! What is counted, and for how long: walks and tries of images count within `window`, but those of the present
//! fault never age, so that slow failures cannot loop for ever either. A stable run clears both.
//!
//! Order of images: good before unjudged before suspect, the newer first. Damaged, incompatible and unfinished
//! images, and those whose tries are spent, are skipped with a reason.
//!
//! An image taken in a run that died before it was stable inherits the tries of the image that the run came from:
//! otherwise a poisoned state would be checkpointed, restored and checkpointed again, each time as a new image.

mod words;

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::FailureKind;
use crate::id::ImageId;
use crate::image::{ImageFacts, ImageVerdict};
use crate::time::Instant;

pub use self::words::{Decision, Elsewhere, GiveUpReason, OnExhausted, Rung, Settings, SkipReason, Step};

/// The memory of one service's recoveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    settings: Settings,
    walks: Vec<Instant>,
    tries: BTreeMap<ImageId, Vec<Instant>>,
    /// Images that a restore found damaged or unfit, whatever a listing says.
    ruled_out: BTreeMap<ImageId, SkipReason>,
    fault: Option<Fault>,
    elsewhere: Elsewhere,
}

/// The present fault and the walk made for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    began: Instant,
    scope: Scope,
    told: BTreeSet<(ImageId, SkipReason)>,
    walk: Walk,
}

/// Which rungs a walk has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All of the settings.
    Whole,
    /// A cold start only, whatever the settings: the service was done, or has never run since it was asked for.
    ColdStartOnly,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Walk {
    /// Place among the rungs.
    at: usize,
    /// The best image when the walk began; nothing: not looked yet.
    latest: Option<Option<ImageId>>,
    tried: BTreeSet<ImageId>,
    last: Option<ImageId>,
    steps: u32,
}

impl Ladder {
    /// A ladder without history.
    #[must_use]
    pub const fn new(settings: Settings) -> Self {
        Self {
            settings,
            walks: Vec::new(),
            tries: BTreeMap::new(),
            ruled_out: BTreeMap::new(),
            fault: None,
            elsewhere: Elsewhere::Impossible,
        }
    }

    /// Go on by other settings; what was counted still counts. What was unfit here may be fit now.
    pub fn reload(&mut self, settings: Settings) {
        self.ruled_out.retain(|_, why| matches!(why, SkipReason::Damaged));
        self.settings = settings;
    }

    /// A standby has become ready, or none is any more.
    pub const fn set_elsewhere(&mut self, elsewhere: Elsewhere) {
        self.elsewhere = elsewhere;
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// A fault: the next step is the first of a new walk.
    pub fn fault(&mut self, now: Instant, scope: Scope) {
        self.fault = Some(Fault { began: now, scope, told: BTreeSet::new(), walk: Walk::default() });
        self.forget_old(now);
        self.walks.push(now);
    }

    /// The next step, which is then taken as tried. Must follow a [`fault`](Self::fault); without one it gives up.
    pub fn next_step(&mut self, now: Instant, images: &[ImageFacts]) -> Decision {
        self.forget_old(now);
        let skipped = self.newly_skipped(images);
        let mut again = false;
        loop {
            if self.walks.len() > as_count(self.settings.max_attempts) {
                let reason = GiveUpReason::TooManyRecoveries {
                    count: self.settings.max_attempts.max(1),
                    window: self.settings.window,
                };
                return Decision { step: self.exhausted(reason), again: false, skipped };
            }
            if self.is_better_off_elsewhere() {
                return Decision { step: Step::FailOver, again: false, skipped };
            }
            if let Some((step, same)) = self.climb(now, images) {
                return Decision { step, again: again || same, skipped };
            }
            let Some(fault) = self.fault.as_mut().filter(|f| f.walk.steps > 0) else {
                let step = self.exhausted(GiveUpReason::NothingLeft);
                return Decision { step, again: false, skipped };
            };
            fault.walk = Walk::default();
            self.walks.push(now);
            again = true;
        }
    }

    /// A restore that somebody asked for counts as a try of its image too.
    pub fn tried(&mut self, now: Instant, image: &ImageId) {
        self.tries.entry(image.clone()).or_default().push(now);
        if let Some(fault) = &mut self.fault {
            fault.walk.tried.insert(image.clone());
        }
    }

    /// A restore failed: whether its image may be tried again, now, later or never.
    pub fn restore_failed(&mut self, image: &ImageId, kind: FailureKind, message: &str) {
        match kind {
            FailureKind::Corrupt => {
                self.ruled_out.insert(image.clone(), SkipReason::Damaged);
            }
            FailureKind::Refused | FailureKind::Invalid => {
                self.ruled_out.insert(image.clone(), SkipReason::Incompatible(message.to_owned()));
            }
            FailureKind::Unavailable => {
                if let Some(fault) = &mut self.fault {
                    fault.walk.tried.remove(image);
                }
            }
            FailureKind::Fenced | FailureKind::Internal => {}
        }
    }

    /// A run from `parent` died before it was stable: the images taken in it are no better than what it came from.
    pub fn inherit(&mut self, parent: &ImageId, images: &[ImageId]) {
        let inherited = self.tries.get(parent).cloned().unwrap_or_default();
        for image in images {
            self.tries.entry(image.clone()).or_default().extend(&inherited);
        }
    }

    /// The service has run long enough: nothing is held against anybody any more.
    pub fn stable(&mut self) {
        self.walks.clear();
        self.tries.clear();
        self.fault = None;
    }

    /// Only these images exist: what was found out about others is of no use.
    pub fn keep_only(&mut self, images: &[ImageFacts]) {
        let known: BTreeSet<&ImageId> = images.iter().map(|i| &i.id).collect();
        self.ruled_out.retain(|id, _| known.contains(id));
    }

    /// The best image that may be restored, tries aside.
    #[must_use]
    pub fn best<'a>(&self, images: &'a [ImageFacts]) -> Option<&'a ImageFacts> {
        self.in_order(images).into_iter().next()
    }

    /// Why an image may not be restored, tries aside.
    #[must_use]
    pub fn unusable(&self, image: &ImageFacts) -> Option<SkipReason> {
        self.ruled_out.get(&image.id).cloned().or_else(|| Self::unfit(image))
    }

    /// Why an image may not be restored, by its facts alone.
    #[must_use]
    pub fn unfit(image: &ImageFacts) -> Option<SkipReason> {
        match &image.incompatible {
            _ if image.damaged => Some(SkipReason::Damaged),
            Some(why) => Some(SkipReason::Incompatible(why.clone())),
            None if !image.usable() => Some(SkipReason::Unfinished),
            None => None,
        }
    }

    fn exhausted(&self, reason: GiveUpReason) -> Step {
        match (self.settings.on_exhausted, self.elsewhere) {
            (OnExhausted::FailOver, Elsewhere::Possible) => Step::FailOver,
            (OnExhausted::FailOver, Elsewhere::Impossible) | (OnExhausted::Stop, _) => Step::GiveUp(reason),
        }
    }

    fn is_better_off_elsewhere(&self) -> bool {
        let failed_often = self.settings.migration_threshold.is_some_and(|n| self.walks.len() > as_count(n));
        failed_often && self.elsewhere == Elsewhere::Possible
    }

    fn tries_of(&self, image: &ImageId) -> u32 {
        self.tries.get(image).map_or(0, |tries| u32::try_from(tries.len()).unwrap_or(u32::MAX))
    }

    fn spent(&self, image: &ImageId) -> bool {
        self.tries_of(image) >= self.settings.attempts_per_image.max(1)
    }

    /// Those that may be restored, tries aside, the best first.
    fn in_order<'a>(&self, images: &'a [ImageFacts]) -> Vec<&'a ImageFacts> {
        let mut fit: Vec<&ImageFacts> = images.iter().filter(|i| self.unusable(i).is_none()).collect();
        fit.sort_by(|a, b| {
            let newer_first = b.taken_at.cmp(&a.taken_at).then_with(|| b.id.cmp(&a.id));
            rank(a.verdict).cmp(&rank(b.verdict)).then(newer_first)
        });
        fit
    }

    /// The next step of the present walk, and whether it tries what was tried just before.
    fn climb(&mut self, now: Instant, images: &[ImageFacts]) -> Option<(Step, bool)> {
        let order: Vec<ImageId> = self.in_order(images).into_iter().map(|i| i.id.clone()).collect();
        let spent: BTreeSet<&ImageId> = order.iter().filter(|id| self.spent(id)).collect();
        let fault = self.fault.as_mut()?;
        let cold = [Rung::ColdStart];
        let rungs = match fault.scope {
            Scope::Whole => self.settings.rungs.as_slice(),
            Scope::ColdStartOnly => &cold,
        };
        let walk = &mut fault.walk;
        let latest = walk.latest.get_or_insert_with(|| order.first().cloned()).clone();
        while let Some(rung) = rungs.get(walk.at).copied() {
            let open = |id: &&ImageId| !spent.contains(id) && !walk.tried.contains(*id);
            let image = match rung {
                Rung::RestoreLatest => order.iter().filter(|id| Some(*id) == latest.as_ref()).find(open),
                Rung::RestoreOlder => order.iter().filter(|id| Some(*id) != latest.as_ref()).find(open),
                Rung::ColdStart => {
                    walk.at += 1;
                    walk.steps += 1;
                    return Some((Step::ColdStart, false));
                }
                Rung::FailOver if self.elsewhere == Elsewhere::Possible => {
                    walk.at += 1;
                    walk.steps += 1;
                    return Some((Step::FailOver, false));
                }
                Rung::FailOver => None,
            };
            if let Some(image) = image.cloned() {
                let same = walk.last.as_ref() == Some(&image);
                walk.steps += 1;
                walk.last = Some(image.clone());
                walk.tried.insert(image.clone());
                self.tries.entry(image.clone()).or_default().push(now);
                return Some((Step::Restore(image, rung), same));
            }
            walk.at += 1;
        }
        None
    }

    fn newly_skipped(&mut self, images: &[ImageFacts]) -> Vec<(ImageId, SkipReason)> {
        let why = |image: &ImageFacts| {
            let spent =
                || self.spent(&image.id).then(|| SkipReason::TriesSpent { tries: self.tries_of(&image.id) });
            Some((image.id.clone(), self.unusable(image).or_else(spent)?))
        };
        let found: Vec<_> = images.iter().filter_map(why).collect();
        match &mut self.fault {
            Some(fault) if fault.scope == Scope::Whole => {
                found.into_iter().filter(|skip| fault.told.insert(skip.clone())).collect()
            }
            _ => Vec::new(),
        }
    }

    /// What lies before the window counts no more, unless it belongs to the present fault.
    fn forget_old(&mut self, now: Instant) {
        let window = now - self.settings.window;
        let horizon = self.fault.as_ref().map_or(window, |fault| fault.began.min(window));
        self.walks.retain(|at| *at >= horizon);
        self.tries.retain(|_, tries| {
            tries.retain(|at| *at >= horizon);
            !tries.is_empty()
        });
    }
}

/// None is as good as one.
fn as_count(limit: u32) -> usize {
    usize::try_from(limit.max(1)).unwrap_or(usize::MAX)
}

const fn rank(verdict: ImageVerdict) -> u8 {
    match verdict {
        ImageVerdict::Good => 0,
        ImageVerdict::Unjudged => 1,
        ImageVerdict::Suspect => 2,
    }
}
