//! Into an image and back.

use policies::admission::{Admission, Denial, Request};
use policies::service::{Event, FailureKind, ImageVerdict, Notice, StateName};

use super::stage::{Stage, id, quiet, with_cadence, with_liveness};

const NOTHING: [&str; 0] = [];

/// Suspended in the image `new`.
fn suspended() -> Stage {
    let mut stage = Stage::stable(with_cadence(30));
    assert_eq!(stage.send(Event::SuspendRequested), ["checkpoint suspend"]);
    assert_eq!(stage.well(), ["judge new good", "clear away, it is in new"]);
    assert_eq!(stage.well(), NOTHING);
    assert_eq!(stage.state(), StateName::Suspended);
    stage
}

#[test]
fn it_ends_in_an_image_and_comes_back_from_it() {
    let mut stage = suspended();
    assert!(stage.told(|n| *n == Notice::Suspended { image: id("new") }));
    assert_eq!(stage.service.deadline(), None, "nothing is due while it is suspended");
    assert_eq!(stage.wait_ms(3_600_000), NOTHING);
    assert_eq!(stage.send(Event::ResumeRequested), ["kill"]);
    assert_eq!(stage.well(), ["restore new"]);
    assert_eq!(stage.well(), NOTHING);
    assert_eq!(stage.state(), StateName::Running);
    assert!(stage.service.deadline().is_some(), "the cadence goes on");
}

#[test]
fn its_end_is_no_fault() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::SuspendRequested);
    assert_eq!(stage.crash(), NOTHING, "seen before the checkpoint is answered");
    assert_eq!(stage.well(), ["judge new good", "clear away, it is in new"]);
    let mut late = Stage::stable(quiet());
    late.send(Event::SuspendRequested);
    late.well();
    assert_eq!(late.crash(), NOTHING, "seen after it");
    late.well();
    assert_eq!(late.state(), StateName::Suspended);
}

#[test]
fn a_failed_checkpoint_lets_it_run_on() {
    let mut stage = Stage::stable(with_cadence(30));
    stage.send(Event::SuspendRequested);
    assert_eq!(stage.badly(FailureKind::Unavailable), NOTHING);
    assert_eq!(stage.state(), StateName::Running);
    assert_eq!(stage.wait_ms(40_000), ["checkpoint cadence"]);
}

#[test]
fn a_crash_in_the_middle_is_a_crash_if_the_checkpoint_failed() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::SuspendRequested);
    stage.crash();
    assert_eq!(stage.badly(FailureKind::Unavailable), ["kill"]);
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn a_checkpoint_that_is_never_answered_is_not_waited_for_for_ever() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::SuspendRequested);
    stage.wait_ms(3_600_000);
    assert_eq!(stage.state(), StateName::Running);
}

#[test]
fn a_sick_service_leaves_an_image_that_nobody_has_judged() {
    let mut stage = Stage::running(with_liveness(quiet()));
    stage.send(Event::SuspendRequested);
    assert_eq!(stage.well(), ["clear away, it is in new"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Suspended);
}

#[test]
fn what_is_left_and_does_not_go_is_killed() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::SuspendRequested);
    stage.well();
    assert_eq!(stage.badly(FailureKind::Unavailable), ["kill"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Suspended);
}

#[test]
fn its_state_is_not_lost_by_a_start() {
    let mut stage = suspended();
    let admitted = |stage: &Stage, request| stage.service.admit(&request);
    assert_eq!(admitted(&stage, Request::Start), Admission::Deny(Denial::Suspended));
    assert_eq!(stage.send(Event::StartRequested), NOTHING);
    assert_eq!(admitted(&stage, Request::Suspend), Admission::AlreadySo);
    assert_eq!(stage.send(Event::StopRequested), ["stop"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Stopped);
    assert_eq!(stage.send(Event::StartRequested), ["start"], "given up on purpose");
}

#[test]
fn another_image_may_be_restored_instead() {
    let mut stage = suspended();
    assert_eq!(stage.send(Event::RestoreRequested { image: Some(id("a")) }), ["kill"]);
    assert_eq!(stage.well(), ["restore a"]);
}

#[test]
fn an_image_that_fails_gives_way_to_the_next() {
    let mut stage = suspended();
    stage.send(Event::ResumeRequested);
    stage.well();
    assert_eq!(stage.badly(FailureKind::Corrupt), ["kill"]);
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn it_is_suspended_still_after_our_own_restart() {
    let mut stage = Stage::new(quiet());
    stage.list(vec![super::stage::image("new", 3, ImageVerdict::Good)]);
    assert_eq!(stage.send(Event::FoundSuspended { image: id("new") }), NOTHING);
    assert_eq!(stage.state(), StateName::Suspended);
    assert_eq!(stage.send(Event::ResumeRequested), ["kill"]);
    assert_eq!(stage.well(), ["restore new"]);
}

#[test]
fn the_supervisor_may_stop_in_the_middle() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::SuspendRequested);
    assert_eq!(stage.send(Event::ShutdownRequested), NOTHING);
    assert_eq!(stage.state(), StateName::ShuttingDown);
    assert_eq!(stage.well(), ["judge new good"]);
    assert_eq!(stage.state(), StateName::Idle);
}
