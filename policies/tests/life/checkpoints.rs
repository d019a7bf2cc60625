//! When checkpoints are taken, what is thought of their images, and what a fault does to one in flight.

use std::time::Duration;

use policies::image::ImageVerdict;
use policies::service::{Event, Exit, FailureKind, Notice, Settings, StateName};

use crate::stage::{Stage, id, image, quiet, with_cadence, with_liveness};

fn verdict(stage: &Stage, name: &str) -> ImageVerdict {
    stage.service.images().iter().find(|i| i.id == id(name)).unwrap().verdict
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn on_the_cadence_and_good_at_once_without_probes() {
    let mut stage = Stage::running(with_cadence(5));
    assert!(stage.wait_ms(4999).is_empty());
    assert_eq!(stage.wait_ms(1), ["checkpoint cadence"]);
    assert!(stage.status().checkpointing.is_some());
    assert!(stage.wait_ms(700).is_empty());
    assert_eq!(stage.well(), ["judge new good"]);
    assert!(
        stage.told(
            |n| matches!(n, Notice::CheckpointTaken { took, .. } if *took == Duration::from_millis(700))
        )
    );
    assert_eq!(stage.deadline_in(), Some(Duration::from_millis(4300)), "from beginning to beginning");
    assert_eq!(stage.status().next_checkpoint, stage.service.deadline());
    stage.crash();
    assert_eq!(stage.well(), ["restore new"]);
}

#[test]
fn with_probes_good_after_the_next_round() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    assert_eq!(stage.send(Event::CheckpointRequested), ["checkpoint request"]);
    assert!(stage.well().is_empty());
    assert_eq!(verdict(&stage, "new"), ImageVerdict::Unjudged);
    let run = stage.run();
    let over_freeze = Event::ProbeFinished { run, probe: 0, passed: true, overlapped_freeze: true };
    assert!(stage.send(over_freeze).is_empty(), "began before the thaw");
    assert!(stage.probe(false).is_empty());
    assert_eq!(stage.probe(true), ["judge new good"]);
    assert_eq!(verdict(&stage, "new"), ImageVerdict::Good);
    assert!(stage.probe(true).is_empty(), "once");
}

#[test]
fn suspect_if_the_service_dies_or_turns_sick_first() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.send(Event::CheckpointRequested);
    stage.well();
    assert_eq!(stage.crash(), ["judge new suspect", "kill"]);
    assert_eq!(stage.well(), ["restore b"], "not the first choice");

    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.send(Event::CheckpointRequested);
    stage.well();
    stage.probe(false);
    assert_eq!(stage.probe(false), ["judge new suspect", "kill"]);
}

#[test]
fn every_liveness_probe_must_pass_once() {
    let mut settings = with_liveness(quiet());
    settings.probes.push(settings.probes[0].clone());
    let mut stage = Stage::running(settings);
    let run = stage.run();
    let passed = |probe| Event::ProbeFinished { run, probe, passed: true, overlapped_freeze: false };
    stage.send(passed(0));
    stage.send(passed(1));
    stage.send(Event::CheckpointRequested);
    stage.well();
    assert!(stage.send(passed(0)).is_empty());
    assert!(stage.send(passed(0)).is_empty());
    assert_eq!(stage.send(passed(1)), ["judge new good"]);
}

#[test]
fn taken_while_not_known_to_be_healthy_it_stays_unjudged() {
    let mut settings = with_liveness(with_cadence(1));
    settings.cadence.require_healthy = false;
    let mut stage = Stage::running(settings);
    assert_eq!(stage.wait(secs(1)), ["checkpoint cadence"]);
    stage.well();
    assert!(stage.probe(true).is_empty());
    assert_eq!(verdict(&stage, "new"), ImageVerdict::Unjudged);
}

#[test]
fn not_before_healthy_and_then_at_once() {
    let mut settings = with_liveness(with_cadence(1));
    settings.probes[0].start_period = secs(60);
    let mut stage = Stage::running(settings);
    assert!(stage.wait(secs(30)).is_empty());
    assert_eq!(stage.probe(true), ["checkpoint cadence"]);
}

#[test]
fn a_death_kills_at_once_but_no_rung_before_the_dump_is_answered() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    let dump = stage.in_flight.remove(0).attempt().unwrap();
    assert_eq!(stage.crash(), ["kill"]);
    assert!(stage.well().is_empty(), "killed, but the dump is not answered");
    assert!(stage.deadline_in().unwrap() <= secs(40));
    let failure = crate::stage::failure(FailureKind::Unavailable);
    assert_eq!(stage.send(Event::CheckpointFailed { attempt: dump, failure }), ["restore b"]);
}

#[test]
fn the_dump_may_be_answered_first_and_its_image_is_suspect() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    assert_eq!(stage.crash(), ["kill"]);
    assert_eq!(stage.well(), ["judge new suspect"]);
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn a_dump_that_is_never_answered_does_not_hold_up_recovery_for_ever() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    let lost = stage.in_flight.remove(0).attempt().unwrap();
    stage.crash();
    assert!(stage.well().is_empty());
    assert_eq!(stage.wait(secs(40)), ["restore b"], "its timeout and ten seconds of grace");
    assert!(stage.checkpoint_done(lost, image("late", 9, ImageVerdict::Unjudged)).is_empty());
    assert!(stage.service.images().iter().all(|i| i.id != id("late")), "a listing will tell of it");
}

#[test]
fn failed_ones_are_spread_and_a_refused_one_degrades() {
    let mut stage = Stage::running(with_cadence(10));
    assert_eq!(stage.wait(secs(10)), ["checkpoint cadence"]);
    stage.badly(FailureKind::Unavailable);
    assert!(stage.wait_ms(9_999).is_empty());
    assert_eq!(stage.wait_ms(1), ["checkpoint cadence"]);
    stage.badly(FailureKind::Internal);
    assert!(stage.wait_ms(19_999).is_empty());
    assert_eq!(stage.wait_ms(1), ["checkpoint cadence"]);
    stage.badly(FailureKind::Refused);
    assert_eq!(stage.status().degraded.as_deref(), Some("because"));
    assert!(stage.told(|n| matches!(n, Notice::Degraded { .. })));
    assert!(stage.wait(secs(1000)).is_empty());
    assert_eq!(stage.state(), StateName::Running);
    // Still recovered from the images there are.
    stage.crash();
    assert_eq!(stage.well(), ["restore b"]);
    stage.well();
    assert!(stage.wait(secs(1000)).is_empty(), "still refused");
}

#[test]
fn a_success_by_hand_or_other_settings_end_a_refusal() {
    let refused = || {
        let mut stage = Stage::running(with_cadence(10));
        stage.wait(secs(10));
        stage.badly(FailureKind::Refused);
        stage
    };
    let mut stage = refused();
    assert_eq!(stage.send(Event::CheckpointRequested), ["checkpoint request"]);
    stage.well();
    assert_eq!(stage.status().degraded, None);
    assert!(stage.told(|n| *n == Notice::NoLongerDegraded));
    assert_eq!(stage.wait(secs(10)), ["checkpoint cadence"]);

    let mut stage = refused();
    stage.send(Event::SettingsChanged(Box::new(with_cadence(10))));
    assert_eq!(stage.status().degraded, None);
    assert_eq!(stage.wait(secs(10)), ["checkpoint cadence"]);
}

#[test]
fn a_dump_whose_target_died_says_nothing_about_the_next() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    stage.crash();
    let dump = stage.in_flight.remove(0).attempt().unwrap();
    let failure = crate::stage::failure(FailureKind::Refused);
    stage.send(Event::CheckpointFailed { attempt: dump, failure });
    assert_eq!(stage.status().degraded, None);
}

#[test]
fn a_trial_soon_after_the_first_good_health() {
    let mut stage = Stage::running(with_liveness(Settings { trial_dump: true, ..quiet() }));
    stage.wait_ms(500);
    stage.probe(true);
    assert!(stage.wait_ms(999).is_empty());
    assert_eq!(stage.wait_ms(1), ["checkpoint trial"]);
    stage.badly(FailureKind::Refused);
    assert_eq!(stage.status().degraded.as_deref(), Some("because"));
    assert!(stage.wait(secs(100)).is_empty(), "only one");
    let anew = Event::SettingsChanged(Box::new(with_liveness(Settings { trial_dump: true, ..quiet() })));
    assert_eq!(stage.send(anew), ["checkpoint trial"], "they may have been the cause");
    stage.well();
    stage.crash();
    stage.well();
    stage.well();
    stage.probe(true);
    assert!(stage.wait(secs(100)).is_empty(), "what was restored needs no trial");
}

#[test]
fn no_trial_once_a_checkpoint_has_been_answered_and_none_for_the_adopted_with_images() {
    let mut stage = Stage::running(Settings { trial_dump: true, ..quiet() });
    stage.send(Event::CheckpointRequested);
    stage.well();
    assert!(stage.wait(secs(100)).is_empty());

    let mut stage = Stage::new(Settings { trial_dump: true, ..quiet() });
    stage.list(vec![image("a", 1, ImageVerdict::Good)]);
    stage.send(Event::Adopted);
    assert!(stage.wait(secs(100)).is_empty());
    let mut stage = Stage::new(Settings { trial_dump: true, ..quiet() });
    stage.send(Event::Adopted);
    assert_eq!(stage.wait(secs(1)), ["checkpoint trial"]);
}

#[test]
fn a_poisoned_state_is_not_restored_for_ever_as_a_new_image() {
    let mut stage = Stage::stable(quiet());
    let mut restored = Vec::new();
    for n in 0..5 {
        stage.exit(Exit::Code(1));
        let mut commands = stage.well();
        commands.extend(stage.wait(stage.deadline_in().filter(|_| commands.is_empty()).unwrap_or_default()));
        restored.push(commands.join(" "));
        stage.well();
        stage.send(Event::CheckpointRequested);
        let dump = stage.in_flight.remove(0).attempt().unwrap();
        stage.checkpoint_done(dump, image(&format!("p{n}"), 100 + n, ImageVerdict::Unjudged));
    }
    assert_eq!(restored, ["restore b", "restore p0", "restore b", "restore a", "restore p3"]);
}

#[test]
fn fenced_at_a_checkpoint_kills() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.send(Event::CheckpointRequested);
    assert_eq!(stage.badly(FailureKind::Fenced), ["kill"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Failed);
}

#[test]
fn held_policies_take_no_checkpoints_but_those_asked_for() {
    let mut stage = Stage::running(with_cadence(5));
    stage.send(Event::PauseRequested);
    assert!(stage.wait(secs(60)).is_empty());
    assert_eq!(stage.send(Event::CheckpointRequested), ["checkpoint request"]);
    stage.well();
    assert!(stage.wait(secs(60)).is_empty());
    assert_eq!(stage.send(Event::UnpauseRequested), ["checkpoint cadence"], "overdue");
}

#[test]
fn other_probes_begin_anew_and_unchanged_settings_change_nothing() {
    let mut stage = Stage::running(with_liveness(with_cadence(30)));
    stage.probe(true);
    stage.send(Event::CheckpointRequested);
    stage.well();
    let (before, due) = (stage.status(), stage.service.deadline());
    assert!(stage.send(Event::SettingsChanged(Box::new(with_liveness(with_cadence(30))))).is_empty());
    assert_eq!((stage.status(), stage.service.deadline()), (before, due));
    let commands = stage.send(Event::SettingsChanged(Box::new(with_cadence(30))));
    assert_eq!(commands, ["judge new good"], "no probes any more: running is enough");
}
