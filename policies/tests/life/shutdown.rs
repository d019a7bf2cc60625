//! The supervisor stops; the service runs on.

use std::time::Duration;

use policies::service::{Event, FailureKind, StateName};

use crate::stage::{Stage, quiet, with_cadence, with_liveness};

fn idle(stage: &Stage) -> bool {
    stage.state() == StateName::Idle && stage.service.deadline().is_none()
}

#[test]
fn one_last_checkpoint_and_then_idle() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    let run = stage.run();
    assert_eq!(stage.send(Event::ShutdownRequested), ["checkpoint shutdown"]);
    assert_eq!(stage.state(), StateName::ShuttingDown);
    assert_eq!(stage.deadline_in(), Some(Duration::from_secs(40)));
    assert_eq!(stage.well(), ["judge new good"], "no time for another round");
    assert!(idle(&stage));
    assert_eq!(stage.status().run, Some(run), "it runs on");
}

#[test]
fn no_last_checkpoint_when_not_wanted_not_healthy_held_or_refused() {
    let mut unwanted = quiet();
    unwanted.cadence.on_shutdown = false;
    let mut held = Stage::stable(quiet());
    held.send(Event::PauseRequested);
    let mut refused = Stage::stable(quiet());
    refused.send(Event::CheckpointRequested);
    refused.badly(FailureKind::Refused);
    let unhealthy = Stage::running(with_liveness(quiet()));
    for mut stage in [Stage::stable(unwanted), held, refused, unhealthy, Stage::new(quiet())] {
        assert!(stage.send(Event::ShutdownRequested).is_empty());
        assert!(idle(&stage));
    }
    let mut settings = with_liveness(quiet());
    settings.cadence.require_healthy = false;
    let mut stage = Stage::running(settings);
    assert_eq!(stage.send(Event::ShutdownRequested), ["checkpoint shutdown"]);
    assert!(stage.well().is_empty(), "not known to be healthy: not judged");
}

#[test]
fn a_checkpoint_in_flight_is_the_last_one() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    assert!(stage.send(Event::ShutdownRequested).is_empty());
    assert!(!idle(&stage));
    stage.well();
    assert!(idle(&stage));
}

#[test]
fn what_is_in_flight_is_awaited_and_nothing_follows() {
    let kill = |stage: &mut Stage| drop(stage.crash());
    let restore = |stage: &mut Stage| {
        stage.crash();
        stage.well();
    };
    let stop = |stage: &mut Stage| drop(stage.send(Event::StopRequested));
    let ways: [fn(&mut Stage); 3] = [kill, restore, stop];
    for way in ways {
        for well in [true, false] {
            let mut stage = Stage::stable(quiet());
            way(&mut stage);
            assert!(stage.send(Event::ShutdownRequested).is_empty());
            assert_eq!(stage.state(), StateName::ShuttingDown);
            assert!(stage.service.deadline().is_some());
            let after = if well { stage.well() } else { stage.badly(FailureKind::Internal) };
            assert!(after.is_empty());
            assert!(idle(&stage));
        }
        let mut stage = Stage::stable(quiet());
        way(&mut stage);
        stage.send(Event::ShutdownRequested);
        assert!(stage.wait(Duration::from_secs(60)).is_empty());
        assert!(idle(&stage), "never answered, and not awaited for ever");
    }
}

#[test]
fn a_start_that_succeeds_meanwhile_runs_on() {
    for stop_too in [false, true] {
        let mut stage = Stage::new(quiet());
        stage.send(Event::StartRequested);
        if stop_too {
            stage.send(Event::StopRequested);
        }
        stage.send(Event::ShutdownRequested);
        stage.well();
        assert!(idle(&stage));
        assert!(stage.status().run.is_some());
    }
}

#[test]
fn waiting_for_time_only_is_not_awaited() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    stage.badly(FailureKind::Unavailable);
    stage.well();
    assert!(stage.send(Event::ShutdownRequested).is_empty());
    assert!(idle(&stage), "it was backing off");
}

#[test]
fn a_crash_meanwhile_is_left_to_the_next_supervisor() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::ShutdownRequested);
    assert!(stage.crash().is_empty());
    assert_eq!(stage.well(), ["judge new suspect"]);
    assert!(idle(&stage));
    let mut stage = Stage::new(quiet());
    stage.send(Event::ShutdownRequested);
    assert!(stage.send(Event::StartRequested).is_empty());
    assert!(stage.send(Event::SettingsChanged(Box::default())).is_empty());
    assert!(stage.send(Event::ShutdownRequested).is_empty());
    assert!(idle(&stage));
}

#[test]
fn fenced_meanwhile_kills_all_the_same() {
    let mut stage = Stage::stable(with_cadence(500));
    stage.send(Event::ShutdownRequested);
    assert_eq!(stage.badly(FailureKind::Fenced), ["kill"]);
    assert!(!idle(&stage));
    assert!(stage.well().is_empty());
    assert!(idle(&stage));
    assert_eq!(stage.status().run, None);
}
