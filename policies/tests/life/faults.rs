//! What counts as a fault, and what the restart policy says to it.

use std::time::Duration;

use policies::health::{self, Verdict};
use policies::ladder::{GiveUpReason, Rung};
use policies::service::{
    Cause, Event, Exit, FailureKind, GaveUp, Notice, RestartPolicy, Settings, StateName,
};

use crate::stage::{Stage, quiet, with_cadence, with_liveness, with_policy};

#[test]
fn a_crash_is_answered_at_once_with_kill_and_restore() {
    let mut stage = Stage::stable(quiet());
    assert_eq!(stage.crash(), ["kill"]);
    let detected_at = stage.now;
    assert_eq!(stage.state(), StateName::Recovering);
    stage.now = stage.now + Duration::from_millis(20);
    assert_eq!(stage.well(), ["restore b"], "no delay the first time");
    stage.now = stage.now + Duration::from_millis(30);
    assert!(stage.well().is_empty());
    let status = stage.status();
    assert_eq!((status.state, status.restarts, status.ready), (StateName::Running, 1, true));
    let recovered = status.last_recovery.unwrap();
    assert_eq!(recovered.cause, Cause::Exited(Exit::Signal(9)));
    assert_eq!((recovered.rung, recovered.image.unwrap().as_str()), (Rung::RestoreLatest, "b"));
    assert_eq!((recovered.detected_at, recovered.recovered_at), (detected_at, stage.now));
    assert_eq!(stage.status().last_recovery.unwrap().took(), Duration::from_millis(50));
    assert!(stage.told(|n| *n == Notice::Noticed { cause: Cause::Exited(Exit::Signal(9)) }));
}

#[test]
fn each_kind_of_exit_under_each_policy() {
    use RestartPolicy::{Always, Never, OnFailure, UnlessStopped};
    let cases: &[(RestartPolicy, Exit, &[&str], StateName)] = &[
        (Always, Exit::Code(1), &["restore b"], StateName::Recovering),
        (Always, Exit::OutOfMemory, &["restore b"], StateName::Recovering),
        (Always, Exit::Unknown, &["restore b"], StateName::Recovering),
        // Done, but to run always: there is nothing to bring back.
        (Always, Exit::Code(0), &["start"], StateName::Recovering),
        (UnlessStopped, Exit::Code(0), &["start"], StateName::Recovering),
        (UnlessStopped, Exit::Signal(15), &["restore b"], StateName::Recovering),
        (OnFailure, Exit::Code(0), &[], StateName::Stopped),
        (OnFailure, Exit::Code(2), &["restore b"], StateName::Recovering),
        (Never, Exit::Code(0), &[], StateName::Stopped),
        (Never, Exit::Code(1), &[], StateName::Failed),
    ];
    for (policy, exit, wanted, state) in cases {
        let mut stage = Stage::stable(with_policy(*policy));
        assert_eq!(stage.exit(*exit), ["kill"], "{policy} {exit}: leftovers go first");
        assert_eq!(stage.well(), *wanted, "{policy} {exit}");
        assert_eq!(stage.state(), *state, "{policy} {exit}");
    }
}

#[test]
fn success_codes_are_those_of_the_settings() {
    let settings =
        policies::service::Settings { success_exit_codes: vec![3], ..with_policy(RestartPolicy::OnFailure) };
    let mut stage = Stage::stable(settings.clone());
    stage.exit(Exit::Code(3));
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
    let mut stage = Stage::stable(settings);
    stage.exit(Exit::Code(0));
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn under_never_a_failure_is_final_and_says_why() {
    let mut stage = Stage::stable(with_policy(RestartPolicy::Never));
    stage.crash();
    stage.well();
    let wanted = GaveUp::NotToBeRestarted(Cause::Exited(Exit::Signal(9)));
    assert_eq!(stage.status().failed, Some(wanted.clone()));
    assert_eq!(wanted.to_string(), "crashed: signal 9; restart policy is never");
}

#[test]
fn a_hang_is_a_fault_once_the_threshold_is_reached() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    assert!(stage.probe(false).is_empty());
    assert_eq!(stage.probe(false), ["kill"]);
    assert!(stage.told(|n| *n == Notice::Noticed { cause: Cause::Hung }));
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn failures_over_a_freeze_are_no_hang() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    let run = stage.run();
    for _ in 0..10 {
        let event = Event::ProbeFinished { run, probe: 0, passed: false, overlapped_freeze: true };
        assert!(stage.send(event).is_empty());
    }
    assert_eq!(stage.state(), StateName::Running);
}

#[test]
fn under_never_a_hang_is_only_told() {
    let settings = with_liveness(with_policy(RestartPolicy::Never));
    let mut stage = Stage::stable(settings);
    stage.probe(false);
    assert!(stage.probe(false).is_empty());
    assert!(stage.probe(false).is_empty());
    let held = stage.notices.iter().filter(|n| **n == Notice::Held { cause: Cause::Hung }).count();
    assert_eq!((held, stage.state()), (1, StateName::Running));
}

#[test]
fn a_service_that_never_turns_healthy_is_a_fault() {
    let mut stage = Stage::running(with_liveness(quiet()));
    // Two rounds of a second and one timeout.
    assert_eq!(stage.deadline_in(), Some(Duration::from_millis(2500)));
    assert!(stage.wait_ms(2499).is_empty());
    assert_eq!(stage.wait_ms(1), ["kill"]);
    assert!(stage.told(|n| *n == Notice::Noticed { cause: Cause::NeverHealthy }));
}

#[test]
fn readiness_is_no_reason_to_recover() {
    let readiness =
        health::Settings { role: health::Role::Readiness, failure_threshold: 1, ..Default::default() };
    let mut stage = Stage::stable(policies::service::Settings { probes: vec![readiness], ..quiet() });
    assert!(stage.status().ready);
    assert!(stage.probe(false).is_empty());
    assert_eq!((stage.state(), stage.status().ready), (StateName::Running, false));
}

#[test]
fn exits_of_other_runs_are_no_crash() {
    let mut stage = Stage::stable(quiet());
    let old = stage.run();
    stage.crash();
    stage.well();
    stage.well();
    let late = Event::Exited { run: old, exit: Exit::Signal(9) };
    assert!(stage.send(late).is_empty());
    assert_eq!(stage.state(), StateName::Running);
}

#[test]
fn an_exit_that_overtakes_the_answer_to_the_start_is_not_lost() {
    let mut stage = Stage::new(quiet());
    stage.send(Event::StartRequested);
    let run = stage.in_flight[0].attempt().unwrap();
    assert!(stage.send(Event::Exited { run, exit: Exit::Code(1) }).is_empty());
    assert_eq!(stage.well(), ["kill"]);

    let mut stage = Stage::stable(quiet());
    stage.crash();
    assert_eq!(stage.well(), ["restore b"]);
    let run = stage.in_flight[0].attempt().unwrap();
    assert!(stage.send(Event::Exited { run, exit: Exit::Code(1) }).is_empty());
    assert_eq!(stage.well(), ["kill"], "the rung failed");
    assert_eq!(stage.well(), ["restore a"]);
}

#[test]
fn a_start_that_fails_is_tried_cold_until_the_attempts_are_spent() {
    let mut stage = Stage::new(quiet());
    stage.list(vec![crate::stage::image("a", 1, policies::image::ImageVerdict::Good)]);
    stage.send(Event::StartRequested);
    assert_eq!(stage.badly(FailureKind::Unavailable), ["kill"]);
    assert_eq!(stage.well(), ["start"], "no image: nothing ever ran since it was asked for");
    for delay_ms in [100, 200, 400, 800] {
        assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
        assert!(stage.well().is_empty());
        assert_eq!(stage.deadline_in(), Some(Duration::from_millis(delay_ms)));
        assert_eq!(stage.wait_ms(delay_ms), ["start"]);
    }
    stage.badly(FailureKind::Internal);
    assert!(stage.well().is_empty());
    let reason = GiveUpReason::TooManyRecoveries { count: 5, window: Duration::from_secs(600) };
    assert_eq!(stage.status().failed, Some(GaveUp::Ladder(reason)));
    assert_eq!(stage.status().last_failure.unwrap().kind, FailureKind::Internal);
    assert_eq!(stage.service.deadline(), None);
}

#[test]
fn a_start_that_is_invalid_is_not_tried_again() {
    let mut stage = Stage::new(quiet());
    stage.send(Event::StartRequested);
    assert_eq!(stage.badly(FailureKind::Invalid), ["kill"]);
    assert!(stage.well().is_empty());
    assert!(matches!(stage.status().failed, Some(GaveUp::Invalid(_))));
    // Later in the walk just as well.
    assert_eq!(stage.send(Event::StartRequested), ["kill"]);
    assert_eq!(stage.well(), ["start"]);
    assert_eq!(stage.badly(FailureKind::Invalid), ["kill"]);
    assert!(stage.well().is_empty());
    assert!(matches!(stage.status().failed, Some(GaveUp::Invalid(_))));
}

#[test]
fn a_start_that_is_not_answered_has_failed() {
    let mut stage = Stage::new(quiet());
    stage.send(Event::StartRequested);
    let lost = stage.in_flight.remove(0).attempt().unwrap();
    assert!(stage.wait(Duration::from_secs(59)).is_empty());
    assert_eq!(stage.wait(Duration::from_secs(1)), ["kill"]);
    assert!(stage.send(Event::Started { attempt: lost }).is_empty(), "too late");
    assert_eq!(stage.state(), StateName::Recovering);
}

#[test]
fn a_start_that_fails_under_never_is_final() {
    let mut stage = Stage::new(with_policy(RestartPolicy::Never));
    stage.send(Event::StartRequested);
    assert_eq!(stage.badly(FailureKind::Unavailable), ["kill"]);
    stage.well();
    assert!(matches!(stage.status().failed, Some(GaveUp::NotToBeRestarted(Cause::StartFailed(_)))));
}

#[test]
fn found_dead_after_our_restart_is_recovered_from_images() {
    for (exit, rung) in
        [(None, "restore a"), (Some(Exit::Signal(9)), "restore a"), (Some(Exit::Code(0)), "start")]
    {
        let mut stage = Stage::new(quiet());
        stage.list(vec![crate::stage::image("a", 1, policies::image::ImageVerdict::Good)]);
        assert_eq!(stage.send(Event::FoundDead { exit }), ["kill"]);
        assert_eq!(stage.well(), [rung], "{exit:?}");
    }
    let mut stage = Stage::new(with_policy(RestartPolicy::OnFailure));
    assert_eq!(stage.send(Event::FoundDead { exit: Some(Exit::Code(0)) }), ["kill"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Stopped, "it was done");
}

#[test]
fn adopted_runs_on_and_its_probes_have_the_word() {
    let mut stage = Stage::new(with_liveness(with_cadence(5)));
    stage.list(vec![crate::stage::image("a", 1, policies::image::ImageVerdict::Good)]);
    assert!(stage.send(Event::Adopted).is_empty());
    assert_eq!((stage.state(), stage.status().ready), (StateName::Running, false));
    let run = stage.run();
    assert!(stage.told(|n| *n == Notice::Started { run, adopted: true }));
    stage.probe(true);
    assert!(stage.status().ready);
    assert_eq!(stage.wait(Duration::from_secs(5)), ["checkpoint cadence"]);
    // Only at the beginning.
    assert!(stage.send(Event::Adopted).is_empty());
    assert!(stage.send(Event::FoundDead { exit: None }).is_empty());
    assert_eq!(stage.run(), run);
}

#[test]
fn policies_held_hold_faults_until_resumed() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::PauseRequested);
    assert!(stage.crash().is_empty());
    assert_eq!((stage.state(), stage.status().paused), (StateName::Held, true));
    assert_eq!(stage.service.deadline(), None);
    assert_eq!(stage.send(Event::UnpauseRequested), ["kill"]);
    assert_eq!(stage.well(), ["restore b"]);

    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.send(Event::PauseRequested);
    assert!(stage.probe(false).is_empty() && stage.probe(false).is_empty());
    assert_eq!(stage.state(), StateName::Running);
    assert_eq!(stage.send(Event::UnpauseRequested), ["kill"]);
}

#[test]
fn held_and_done_is_only_tidied_up_when_resumed() {
    let mut stage = Stage::stable(with_policy(RestartPolicy::OnFailure));
    stage.send(Event::PauseRequested);
    stage.exit(Exit::Code(0));
    assert_eq!(stage.send(Event::UnpauseRequested), ["kill"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Stopped);
}

#[test]
fn a_pause_stops_the_wait_for_good_health_too() {
    let mut stage = Stage::running(with_liveness(quiet()));
    stage.send(Event::PauseRequested);
    assert!(stage.wait(Duration::from_secs(100)).is_empty());
    assert!(stage.send(Event::UnpauseRequested).is_empty());
    assert_eq!(stage.deadline_in(), Some(Duration::from_millis(2500)), "begins anew");
}

/// One probe of our own, and one that somebody outside reports to.
fn with_reports() -> Settings {
    let mut settings = with_liveness(quiet());
    let reported = health::Settings { reported: true, failure_threshold: 1, ..settings.probes[0].clone() };
    settings.probes.push(reported);
    settings
}

fn report(stage: &mut Stage, passed: bool, seconds: u64) -> Vec<String> {
    let (run, holds) = (stage.run(), Duration::from_secs(seconds));
    stage.send(Event::ProbeReported { run, probe: 1, passed, overlapped_freeze: false, holds })
}

#[test]
fn what_is_reported_from_outside_is_a_hang_too() {
    let mut stage = Stage::stable(with_reports());
    assert!(report(&mut stage, true, 5).is_empty());
    assert_eq!(report(&mut stage, false, 5), ["kill"]);
    assert!(stage.told(|notice| matches!(notice, Notice::Noticed { cause: Cause::Hung })));
    stage.well();
    stage.well();
    stage.probe(true);
    assert_eq!(stage.state(), StateName::Running, "the next run is not held to what was said of the last");
    assert_eq!(stage.status().verdict, Some(Verdict::Healthy));
}

#[test]
fn a_report_that_is_over_says_nothing() {
    let mut settings = with_reports();
    settings.probes.remove(0);
    settings
        .probes
        .insert(0, health::Settings { role: health::Role::Readiness, ..health::Settings::default() });
    let mut stage = Stage::running(settings);
    assert_eq!(stage.status().verdict, Some(Verdict::Healthy), "nobody is waited for");
    stage.send(Event::PauseRequested);
    assert!(report(&mut stage, false, 5).is_empty());
    assert_eq!(stage.status().verdict, Some(Verdict::Unhealthy));
    assert!(stage.wait(Duration::from_secs(4)).is_empty());
    assert_eq!(stage.status().verdict, Some(Verdict::Unhealthy));
    assert!(stage.wait(Duration::from_secs(1)).is_empty());
    assert_eq!(stage.status().verdict, Some(Verdict::Healthy));
    assert!(stage.send(Event::UnpauseRequested).is_empty(), "it is sick no more");
}

#[test]
fn an_image_does_not_wait_for_whoever_fell_silent() {
    let mut stage = Stage::stable(with_reports());
    report(&mut stage, true, 5);
    stage.send(Event::CheckpointRequested);
    stage.well();
    assert!(stage.probe(true).is_empty(), "the other one may still speak");
    assert_eq!(stage.wait(Duration::from_secs(5)), ["judge new good"]);
}
