//! Which rung next, as tables; and that it always comes to an end.

use std::time::Duration;

use policies::failure::FailureKind;
use policies::id::ImageId;
use policies::image::ImageVerdict::{Good, Suspect, Unjudged};
use policies::image::{ImageFacts, ImageVerdict};
use policies::ladder::{
    Decision, Elsewhere, GiveUpReason, Ladder, OnExhausted, Rung, Scope, Settings, SkipReason, Step,
};
use policies::time::{Instant, WallTime};
use proptest::prelude::*;

fn id(n: u64) -> ImageId {
    ImageId::try_from(format!("i{n}")).expect("a valid id")
}

fn image(n: u64, verdict: ImageVerdict) -> ImageFacts {
    ImageFacts {
        id: id(n),
        taken_at: WallTime::from_unix_nanos(n),
        verdict,
        hot: false,
        durable: true,
        pinned: false,
        damaged: false,
        locked: false,
        incompatible: None,
        size: 1,
        parent: None,
    }
}

fn at(second: u64) -> Instant {
    Instant::from_nanos(second * 1_000_000_000)
}

fn show(decision: &Decision) -> String {
    let again = if decision.again { "again " } else { "" };
    match &decision.step {
        Step::Restore(image, rung) => format!("{again}{rung} {image}"),
        Step::ColdStart => format!("{again}cold-start"),
        Step::FailOver => format!("{again}fail-over"),
        Step::GiveUp(GiveUpReason::NothingLeft) => format!("{again}nothing left"),
        Step::GiveUp(GiveUpReason::TooManyRecoveries { count, .. }) => {
            format!("{again}gave up after {count}")
        }
    }
}

/// All steps of one fault when every rung fails in this way.
fn fail_all(ladder: &mut Ladder, images: &[ImageFacts], kind: FailureKind) -> Vec<String> {
    ladder.fault(at(100), Scope::Whole);
    let mut steps = Vec::new();
    loop {
        let decision = ladder.next_step(at(100), images);
        steps.push(show(&decision));
        match &decision.step {
            Step::Restore(image, _) => ladder.restore_failed(image, kind, "because"),
            Step::ColdStart => {}
            Step::FailOver | Step::GiveUp(_) => return steps,
        }
        assert!(steps.len() < 1000, "{steps:?}");
    }
}

#[test]
fn good_before_unjudged_before_suspect_and_newer_before_older() {
    let images = [image(1, Good), image(2, Unjudged), image(3, Suspect), image(4, Unjudged), image(0, Good)];
    let settings = Settings { max_attempts: 1, ..Settings::default() };
    let steps = fail_all(&mut Ladder::new(settings), &images, FailureKind::Internal);
    let wanted = [
        "restore-latest i1",
        "restore-older i0",
        "restore-older i4",
        "restore-older i2",
        "restore-older i3",
        "cold-start",
        "gave up after 1",
    ];
    assert_eq!(steps, wanted);
}

#[test]
fn each_walk_tries_an_image_once_until_its_tries_are_spent() {
    let settings = Settings { max_attempts: 4, ..Settings::default() };
    let steps =
        fail_all(&mut Ladder::new(settings), &[image(1, Good), image(2, Good)], FailureKind::Internal);
    let walk =
        |again: &str| [format!("{again}restore-latest i2"), "restore-older i1".into(), "cold-start".into()];
    let mut wanted = walk("").to_vec();
    wanted.extend(walk("again "));
    wanted.extend(["again cold-start".into(), "again cold-start".into(), "gave up after 4".into()]);
    assert_eq!(steps, wanted);
}

fn with_a_standby(settings: Settings) -> Ladder {
    let mut ladder = Ladder::new(settings);
    ladder.set_elsewhere(Elsewhere::Possible);
    ladder
}

#[test]
fn fail_over_has_its_place_among_the_rungs_while_a_standby_is_ready() {
    let images = [image(1, Good)];
    let steps = fail_all(&mut with_a_standby(Settings::default()), &images, FailureKind::Internal);
    assert_eq!(steps, ["restore-latest i1", "cold-start", "fail-over"]);

    let rungs = vec![Rung::RestoreLatest, Rung::FailOver, Rung::ColdStart];
    let first = Settings { rungs, ..Settings::default() };
    let mut ladder = with_a_standby(first);
    assert_eq!(fail_all(&mut ladder, &images, FailureKind::Internal), ["restore-latest i1", "fail-over"]);
    // It could not go there after all: the next rungs of the same walk.
    ladder.set_elsewhere(Elsewhere::Impossible);
    assert_eq!(show(&ladder.next_step(at(101), &images)), "cold-start");
}

#[test]
fn what_is_exhausted_goes_to_a_standby_if_so_configured_and_one_is_ready() {
    let rungs = vec![Rung::ColdStart];
    let settings = |on_exhausted| Settings {
        rungs: rungs.clone(),
        max_attempts: 1,
        on_exhausted,
        ..Settings::default()
    };
    let last = |mut ladder: Ladder| fail_all(&mut ladder, &[], FailureKind::Internal).pop();
    assert_eq!(last(with_a_standby(settings(OnExhausted::FailOver))).as_deref(), Some("fail-over"));
    assert_eq!(last(with_a_standby(settings(OnExhausted::Stop))).as_deref(), Some("gave up after 1"));
    assert_eq!(last(Ladder::new(settings(OnExhausted::FailOver))).as_deref(), Some("gave up after 1"));
}

#[test]
fn a_service_that_fails_too_often_here_goes_to_a_standby_that_is_ready() {
    let settings = Settings { migration_threshold: Some(2), ..Settings::default() };
    let images = [image(1, Good)];
    let faults = |mut ladder: Ladder| -> Vec<String> {
        let step = |second| {
            ladder.fault(at(second), Scope::Whole);
            show(&ladder.next_step(at(second), &images))
        };
        [100, 101, 102].map(step).into()
    };
    let latest = "restore-latest i1";
    assert_eq!(faults(with_a_standby(settings.clone())), [latest, latest, "fail-over"]);
    assert_eq!(faults(Ladder::new(settings)), [latest, latest, "cold-start"]);
}

#[test]
fn what_kind_of_failure_decides_whether_an_image_is_tried_again() {
    let images = [image(1, Good), image(2, Good)];
    let settings = || Settings { max_attempts: 2, ..Settings::default() };
    let steps = fail_all(&mut Ladder::new(settings()), &images, FailureKind::Unavailable);
    let wanted = [
        "restore-latest i2",
        "again restore-latest i2",
        "restore-older i1",
        "again restore-older i1",
        "cold-start",
        "again cold-start",
        "gave up after 2",
    ];
    assert_eq!(steps, wanted);
    for (kind, why) in [
        (FailureKind::Corrupt, SkipReason::Damaged),
        (FailureKind::Refused, SkipReason::Incompatible("because".to_owned())),
        (FailureKind::Invalid, SkipReason::Incompatible("because".to_owned())),
    ] {
        let mut ladder = Ladder::new(settings());
        let steps = fail_all(&mut ladder, &images, kind);
        let wanted =
            ["restore-latest i2", "restore-older i1", "cold-start", "again cold-start", "gave up after 2"];
        assert_eq!(steps, wanted, "{kind}");
        assert_eq!(ladder.unusable(&images[0]), Some(why.clone()));
        ladder.stable();
        assert_eq!(ladder.unusable(&images[0]), Some(why.clone()), "a stable run does not mend an image");
        ladder.reload(settings());
        let left = ladder.unusable(&images[0]);
        assert_eq!(left, Some(why).filter(|why| *why == SkipReason::Damaged), "{kind}");
        ladder.keep_only(&[]);
        assert_eq!(ladder.unusable(&images[0]), None);
    }
}

#[test]
fn unfit_images_are_skipped_aloud_once() {
    let mut images = vec![image(1, Good), image(2, Good), image(3, Good), image(4, Good)];
    images[3].damaged = true;
    images[2].incompatible = Some("cpu".to_owned());
    images[1].durable = false;
    let mut ladder = Ladder::new(Settings::default());
    ladder.fault(at(0), Scope::Whole);
    let first = ladder.next_step(at(0), &images);
    let wanted = vec![
        (id(2), SkipReason::Unfinished),
        (id(3), SkipReason::Incompatible("cpu".to_owned())),
        (id(4), SkipReason::Damaged),
    ];
    assert_eq!((show(&first).as_str(), first.skipped), ("restore-latest i1", wanted));
    assert!(ladder.next_step(at(0), &images).skipped.is_empty());
    images[1].hot = true;
    assert!(ladder.best(&images).is_some_and(|best| best.id == id(2)), "hot is enough to be restored");

    ladder.fault(at(0), Scope::Whole);
    ladder.next_step(at(0), &images[..1]);
    ladder.fault(at(0), Scope::Whole);
    let third = ladder.next_step(at(0), &images[..1]);
    assert_eq!(third.skipped, [(id(1), SkipReason::TriesSpent { tries: 2 })]);
    assert_eq!(show(&third), "cold-start");
}

#[test]
fn only_the_rungs_of_the_settings_in_their_order() {
    use Rung::{ColdStart, FailOver, RestoreLatest, RestoreOlder};
    let images = [image(1, Good), image(2, Good)];
    let cases: &[(&[Rung], &[&str])] = &[
        (&[RestoreLatest], &["restore-latest i2", "gave up after 1"]),
        (&[RestoreOlder], &["restore-older i1", "gave up after 1"]),
        (&[ColdStart, RestoreLatest], &["cold-start", "restore-latest i2", "gave up after 1"]),
        (&[FailOver, ColdStart], &["cold-start", "gave up after 1"]),
        (&[FailOver], &["nothing left"]),
        (&[], &["nothing left"]),
    ];
    for (rungs, wanted) in cases {
        let settings = Settings { rungs: rungs.to_vec(), max_attempts: 1, ..Settings::default() };
        assert_eq!(
            fail_all(&mut Ladder::new(settings), &images, FailureKind::Internal),
            *wanted,
            "{rungs:?}"
        );
    }
    let settings = Settings { rungs: vec![RestoreLatest], max_attempts: 9, ..Settings::default() };
    let steps = fail_all(&mut Ladder::new(settings), &images, FailureKind::Internal);
    assert_eq!(
        steps,
        ["restore-latest i2", "again restore-latest i2", "nothing left"],
        "its tries are spent"
    );
}

#[test]
fn a_cold_start_only_walk_leaves_images_alone() {
    let mut ladder = Ladder::new(Settings { rungs: vec![Rung::RestoreLatest], ..Settings::default() });
    ladder.fault(at(0), Scope::ColdStartOnly);
    let decision = ladder.next_step(at(0), &[image(1, Good)]);
    assert_eq!(show(&decision), "cold-start");
    assert_eq!(show(&ladder.next_step(at(0), &[image(1, Good)])), "again cold-start");
}

#[test]
fn faults_count_within_the_window_until_a_stable_run() {
    let settings = || Settings { max_attempts: 2, window: Duration::from_secs(60), ..Settings::default() };
    let fault = |ladder: &mut Ladder, second| {
        ladder.fault(at(second), Scope::Whole);
        show(&ladder.next_step(at(second), &[]))
    };
    let mut ladder = Ladder::new(settings());
    let steps: Vec<String> = [0, 30, 59].into_iter().map(|second| fault(&mut ladder, second)).collect();
    assert_eq!(steps, ["cold-start", "cold-start", "gave up after 2"]);
    let mut ladder = Ladder::new(settings());
    let steps: Vec<String> = [0, 30, 61, 89].into_iter().map(|second| fault(&mut ladder, second)).collect();
    assert_eq!(steps, ["cold-start", "cold-start", "cold-start", "gave up after 2"]);
    let mut ladder = Ladder::new(settings());
    fault(&mut ladder, 0);
    fault(&mut ladder, 1);
    ladder.stable();
    assert_eq!(fault(&mut ladder, 2), "cold-start");
}

#[test]
fn one_fault_does_not_outlive_its_window_by_failing_slowly() {
    let settings = Settings { max_attempts: 3, window: Duration::from_secs(60), ..Settings::default() };
    let mut ladder = Ladder::new(settings);
    ladder.fault(at(0), Scope::Whole);
    let slow = |n: u64| show(&ladder.next_step(at(n * 50), &[image(1, Good)]));
    let steps: Vec<String> = (0..6).map(slow).collect();
    let wanted = [
        "restore-latest i1",
        "cold-start",
        "again restore-latest i1",
        "cold-start",
        "again cold-start",
        "gave up after 3",
    ];
    assert_eq!(steps, wanted);
}

#[test]
fn tries_age_with_the_window() {
    let settings = Settings { max_attempts: 9, window: Duration::from_secs(60), ..Settings::default() };
    let mut ladder = Ladder::new(settings);
    let images = [image(1, Good)];
    let steps: Vec<String> = [0, 10, 20, 65]
        .into_iter()
        .map(|second| {
            ladder.fault(at(second), Scope::Whole);
            show(&ladder.next_step(at(second), &images))
        })
        .collect();
    assert_eq!(steps, ["restore-latest i1", "restore-latest i1", "cold-start", "restore-latest i1"]);
}

#[test]
fn images_of_an_unstable_run_inherit_the_tries_of_their_origin() {
    let mut ladder = Ladder::new(Settings { max_attempts: 99, ..Settings::default() });
    let mut images = vec![image(1, Good), image(2, Good)];
    // Each run lives just long enough to take an image of its poisoned state.
    let mut restored = Vec::new();
    for fault in 0..6u64 {
        ladder.fault(at(fault), Scope::Whole);
        match ladder.next_step(at(fault), &images).step {
            Step::Restore(from, _) => {
                let taken = image(10 + fault, Good);
                ladder.inherit(&from, std::slice::from_ref(&taken.id));
                images.push(taken);
                restored.push(from.to_string());
            }
            Step::ColdStart => restored.push("cold".to_owned()),
            Step::FailOver | Step::GiveUp(_) => restored.push("gave up".to_owned()),
        }
    }
    assert_eq!(restored, ["i2", "i10", "i2", "i1", "i13", "i1"], "older images get their turn");
}

#[test]
fn without_a_fault_there_is_no_step() {
    let mut ladder = Ladder::new(Settings::default());
    assert_eq!(show(&ladder.next_step(at(0), &[image(1, Good)])), "nothing left");
}

#[test]
fn an_image_that_was_asked_for_counts_as_tried() {
    let mut ladder = Ladder::new(Settings::default());
    ladder.fault(at(0), Scope::Whole);
    ladder.tried(at(0), &id(2));
    assert_eq!(show(&ladder.next_step(at(0), &[image(1, Good), image(2, Good)])), "restore-older i1");
}

proptest! {
    #[test]
    fn with_every_effect_failing_it_gives_up_within_the_bound(
        images in prop::collection::vec((0usize..3, any::<bool>()), 0..8),
        kinds in prop::collection::vec(0usize..4, 1..20),
        attempts_per_image in 0u32..4,
        max_attempts in 0u32..6,
        seconds in 0u64..400,
    ) {
        let kinds_known = [FailureKind::Unavailable, FailureKind::Corrupt, FailureKind::Refused, FailureKind::Internal];
        let facts: Vec<ImageFacts> = images
            .iter()
            .enumerate()
            .map(|(n, (verdict, damaged))| ImageFacts { damaged: *damaged, ..image(n as u64, ImageVerdict::ALL[*verdict]) })
            .collect();
        let settings = Settings { attempts_per_image, max_attempts, ..Settings::default() };
        let mut ladder = Ladder::new(settings);
        ladder.fault(at(1000), Scope::Whole);
        let bound = max_attempts.max(1) as usize * (facts.len() * attempts_per_image.max(1) as usize + 1);
        let mut tries = std::collections::BTreeMap::<ImageId, u32>::new();
        for step in 0.. {
            let decision = ladder.next_step(at(1000 + step as u64 * seconds), &facts);
            match decision.step {
                Step::FailOver | Step::GiveUp(_) => break,
                Step::ColdStart => {}
                Step::Restore(id, _) => {
                    prop_assert!(!facts.iter().any(|i| i.id == id && i.damaged));
                    let count = tries.entry(id.clone()).or_default();
                    *count += 1;
                    prop_assert!(*count <= attempts_per_image.max(1), "{id} tried {count} times");
                    ladder.restore_failed(&id, kinds_known[kinds[step % kinds.len()]], "because");
                }
            }
            prop_assert!(step < bound, "more than {bound} steps");
        }
    }
}
