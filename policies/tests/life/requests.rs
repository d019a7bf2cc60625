//! What people ask for.

use std::time::Duration;

use policies::admission::Denial;
use policies::image::ImageVerdict::{Good, Suspect};
use policies::service::{Cause, Event, Exit, FailureKind, Notice, RestartPolicy, StateName};

use crate::stage::{Stage, id, image, quiet, with_cadence, with_liveness, with_policy};

#[test]
fn a_stop_is_no_crash() {
    let mut stage = Stage::stable(quiet());
    assert_eq!(stage.send(Event::StopRequested), ["stop"]);
    assert!(stage.exit(Exit::Signal(15)).is_empty());
    assert_eq!(stage.state(), StateName::Stopping);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
    assert_eq!((stage.status().restarts, stage.service.deadline()), (0, None));
    assert_eq!(stage.send(Event::StartRequested), ["start"]);
}

#[test]
fn a_stop_that_fails_or_is_not_answered_becomes_a_kill() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::StopRequested);
    assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);

    let mut stage = Stage::stable(quiet());
    stage.send(Event::StopRequested);
    stage.in_flight.clear();
    assert!(stage.wait_ms(24_999).is_empty(), "the stop timeout and fifteen seconds of grace");
    assert_eq!(stage.wait_ms(1), ["kill"]);
}

#[test]
fn a_stop_waits_for_the_checkpoint_in_flight() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    assert!(stage.send(Event::StopRequested).is_empty());
    assert_eq!(stage.state(), StateName::Stopping);
    assert_eq!(stage.well(), ["stop"], "the image says nothing bad: it stays unjudged");

    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    stage.send(Event::StopRequested);
    assert_eq!(stage.crash(), ["kill"], "it died while it waited");
    assert_eq!(stage.badly(FailureKind::Unavailable), [""; 0]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
}

#[test]
fn a_stop_at_each_step_of_a_recovery() {
    // Killing: the kill is awaited.
    let mut stage = Stage::stable(quiet());
    stage.crash();
    assert!(stage.send(Event::StopRequested).is_empty());
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
    // Restoring: the restore is awaited, then stopped.
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    assert!(stage.send(Event::StopRequested).is_empty());
    assert_eq!(stage.well(), ["stop"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
    // A restore that fails then is cleaned up after, nothing more.
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    stage.send(Event::StopRequested);
    assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
    // Backing off: nothing is in flight.
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    stage.badly(FailureKind::Unavailable);
    stage.well();
    assert!(stage.send(Event::StopRequested).is_empty());
    assert_eq!((stage.state(), stage.service.deadline()), (StateName::Stopped, None));
    // Judging: it runs, so it is stopped.
    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.crash();
    stage.well();
    stage.well();
    assert_eq!(stage.send(Event::StopRequested), ["stop"]);
}

#[test]
fn a_stop_while_starting_awaits_the_start() {
    let mut stage = Stage::new(quiet());
    stage.send(Event::StartRequested);
    assert!(stage.send(Event::StopRequested).is_empty());
    assert_eq!(stage.well(), ["stop"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);

    let mut stage = Stage::new(quiet());
    stage.send(Event::StartRequested);
    stage.send(Event::StopRequested);
    stage.in_flight.clear();
    assert_eq!(stage.wait(Duration::from_secs(60)), ["kill"], "it was never answered");
}

#[test]
fn stop_and_start_is_a_restart_and_a_second_stop_ends_that() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::StopRequested);
    assert!(stage.send(Event::StartRequested).is_empty());
    assert_eq!(stage.well(), ["start"]);
    let mut stage = Stage::stable(quiet());
    stage.send(Event::StopRequested);
    stage.send(Event::StartRequested);
    stage.send(Event::StopRequested);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
}

#[test]
fn a_failed_service_is_started_after_a_kill_and_forgets_its_past() {
    let mut stage = Stage::stable(with_policy(RestartPolicy::Never));
    stage.crash();
    stage.well();
    assert_eq!(stage.state(), StateName::Failed);
    assert_eq!(stage.send(Event::StartRequested), ["kill"]);
    assert_eq!(stage.well(), ["start"], "as asked: cold");
    stage.well();
    assert_eq!((stage.state(), stage.status().failed), (StateName::Running, None));

    stage.crash();
    stage.well();
    assert_eq!(stage.send(Event::StopRequested), ["stop"], "whatever is left of it");
    stage.well();
    assert_eq!(stage.state(), StateName::Stopped);
}

#[test]
fn a_restore_of_a_named_image_and_the_ladder_if_it_fails() {
    let mut stage = Stage::stable(quiet());
    assert_eq!(stage.send(Event::RestoreRequested { image: Some(id("a")) }), ["kill"]);
    assert_eq!(stage.well(), ["restore a"]);
    stage.well();
    let recovered = stage.status().last_recovery.unwrap();
    assert_eq!((recovered.cause, recovered.image), (Cause::Requested, Some(id("a"))));
    assert_eq!(
        stage.send(Event::RestoreRequested { image: Some(id("a")) }),
        ["kill"],
        "again, without delay"
    );
    assert_eq!(stage.well(), ["restore a"]);
    stage.badly(FailureKind::Internal);
    assert_eq!(stage.well(), ["restore b"], "the ladder");
}

#[test]
fn a_restore_without_a_name_takes_the_best() {
    let mut stage = Stage::stable(quiet());
    stage.list(vec![image("a", 1, Good), image("s", 9, Suspect)]);
    assert_eq!(stage.send(Event::RestoreRequested { image: None }), ["kill"]);
    assert_eq!(stage.well(), ["restore a"]);
    assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
    assert_eq!(stage.well(), ["restore s"]);
}

#[test]
fn a_suspect_image_may_be_asked_for_a_damaged_or_unknown_one_not() {
    let mut damaged = image("d", 3, Good);
    damaged.damaged = true;
    let mut stage = Stage::stable(quiet());
    stage.list(vec![image("s", 9, Suspect), damaged]);
    for name in ["d", "nothing"] {
        assert!(stage.send(Event::RestoreRequested { image: Some(id(name)) }).is_empty());
    }
    assert!(stage.told(|n| *n == Notice::Denied(Denial::UnknownImage(id("nothing")))));
    assert_eq!(stage.send(Event::RestoreRequested { image: Some(id("s")) }), ["kill"]);
    assert_eq!(stage.well(), ["restore s"]);
}

#[test]
fn an_image_deleted_between_request_and_kill_falls_back_to_the_ladder() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::RestoreRequested { image: Some(id("b")) });
    stage.list(vec![image("a", 1, Good)]);
    assert_eq!(stage.well(), ["restore a"]);
}

#[test]
fn a_stopped_service_may_be_brought_up_from_an_image() {
    let mut stage = Stage::new(quiet());
    stage.list(vec![image("a", 1, Good)]);
    assert_eq!(stage.send(Event::RestoreRequested { image: None }), ["kill"]);
    assert_eq!(stage.well(), ["restore a"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Running);
}

#[test]
fn a_restore_asked_for_under_never_is_tried_once() {
    let mut stage = Stage::stable(with_policy(RestartPolicy::Never));
    stage.send(Event::RestoreRequested { image: None });
    assert_eq!(stage.well(), ["restore b"]);
    assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Failed);
}

#[test]
fn a_restore_asked_for_holds_nothing_against_images_of_the_run() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.send(Event::CheckpointRequested);
    stage.well();
    assert_eq!(stage.send(Event::RestoreRequested { image: Some(id("a")) }), ["kill"]);
}

#[test]
fn checkpoints_one_at_a_time_and_only_of_what_runs() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    assert!(stage.send(Event::CheckpointRequested).is_empty());
    assert!(stage.told(|n| *n == Notice::Denied(Denial::CheckpointInFlight)));
    let mut stage = Stage::new(with_cadence(5));
    assert!(stage.send(Event::CheckpointRequested).is_empty());
    assert!(stage.told(|n| *n == Notice::Denied(Denial::NotRunning { state: StateName::Stopped })));
    assert!(stage.wait(Duration::from_secs(60)).is_empty(), "no cadence without a run");
}

#[test]
fn what_is_already_so_changes_nothing() {
    let mut stage = Stage::stable(quiet());
    let before = stage.service.clone();
    for event in [Event::StartRequested, Event::UnpauseRequested] {
        assert!(stage.send(event).is_empty());
        assert_eq!(stage.service, before);
    }
}

#[test]
fn held_may_be_started_or_stopped_by_hand() {
    let held = || {
        let mut stage = Stage::stable(quiet());
        stage.send(Event::PauseRequested);
        stage.crash();
        stage
    };
    let mut stage = held();
    assert_eq!(stage.send(Event::StartRequested), ["kill"]);
    assert_eq!(stage.well(), ["start"]);
    let mut stage = held();
    assert_eq!(stage.send(Event::StopRequested), ["stop"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Stopped);
}
