//! Climbing: one rung after the other, judged, delayed, ended.

use std::time::Duration;

use policies::image::ImageVerdict::{Good, Suspect, Unjudged};
use policies::ladder::{Elsewhere, Rung, SkipReason};
use policies::service::{
    Cause, Event, Exit, FailureKind, GaveUp, Notice, RestartPolicy, Settings, StateName,
};

use crate::stage::{Stage, id, image, quiet, with_liveness, with_policy};

#[test]
fn down_the_ladder_with_a_kill_before_each_rung() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    assert_eq!(stage.well(), ["restore b"]);
    assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
    assert_eq!(stage.well(), ["restore a"]);
    assert_eq!(stage.badly(FailureKind::Corrupt), ["kill"]);
    assert_eq!(stage.well(), ["start"]);
    stage.well();
    let recovered = stage.status().last_recovery.unwrap();
    assert_eq!((recovered.rung, recovered.image), (Rung::ColdStart, None));
    let rungs = |n: &&Notice| matches!(n, Notice::RungTaken { .. } | Notice::RungFailed { .. });
    let shown: Vec<String> = stage.notices.iter().filter(rungs).map(|n| format!("{n:?}")).collect();
    assert_eq!(shown.len(), 5, "{shown:?}");
    assert!(shown[1].contains("because (internal)"), "{shown:?}");
}

#[test]
fn a_restored_service_is_back_only_when_its_probes_say_so() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.crash();
    stage.well();
    stage.well();
    assert_eq!(stage.state(), StateName::Recovering);
    assert!(stage.status().last_recovery.is_none());
    assert_eq!(stage.deadline_in(), Some(Duration::from_millis(2500)));
    stage.now = stage.now + Duration::from_millis(300);
    assert!(stage.probe(true).is_empty());
    assert_eq!(stage.state(), StateName::Running);
    assert_eq!(stage.status().last_recovery.unwrap().took(), Duration::from_millis(300));
}

#[test]
fn a_rung_that_comes_up_sick_dead_or_late_is_followed_by_the_next() {
    let sick = |stage: &mut Stage| {
        assert!(stage.probe(false).is_empty());
        stage.probe(false)
    };
    let dead = |stage: &mut Stage| stage.crash();
    let late = |stage: &mut Stage| stage.wait_ms(2500);
    let ways: [fn(&mut Stage) -> Vec<String>; 3] = [sick, dead, late];
    for way in ways {
        let mut stage = Stage::stable(with_liveness(quiet()));
        stage.crash();
        assert_eq!(stage.well(), ["restore b"]);
        stage.well();
        assert_eq!(way(&mut stage), ["kill"]);
        assert_eq!(stage.well(), ["restore a"]);
    }
}

#[test]
fn a_restore_that_is_not_answered_is_killed_and_the_next_rung_taken() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    let lost = stage.in_flight.remove(0).attempt().unwrap();
    assert_eq!(stage.wait(Duration::from_secs(60)), ["kill"]);
    assert!(stage.send(Event::Restored { attempt: lost, image: id("b") }).is_empty());
    assert_eq!(stage.well(), ["restore a"]);
}

#[test]
fn a_crash_loop_waits_longer_each_time_goes_back_in_time_and_ends() {
    let mut stage = Stage::stable(quiet());
    let mut row = Vec::new();
    for _ in 0..6 {
        stage.crash();
        let mut commands = stage.well();
        let delay = if commands.is_empty() { stage.deadline_in() } else { Some(Duration::ZERO) };
        commands.extend(stage.wait(delay.unwrap_or_default()));
        row.push(format!("{:?} {}", delay.unwrap_or_default(), commands.join(" ")));
        if stage.in_flight.is_empty() {
            break;
        }
        stage.well();
        stage.wait_ms(1000);
    }
    let wanted =
        ["0ns restore b", "100ms restore b", "200ms restore a", "400ms restore a", "800ms start", "0ns "];
    assert_eq!(row, wanted);
    assert_eq!(stage.state(), StateName::Failed);
    assert!(stage.told(|n| {
        let spent = SkipReason::TriesSpent { tries: 2 };
        *n == Notice::ImageSkipped { image: id("b"), why: spent }
    }));
}

#[test]
fn a_stable_run_forgets_what_was_counted() {
    let mut stage = Stage::stable(quiet());
    for _ in 0..20 {
        assert_eq!(stage.crash(), ["kill"]);
        assert_eq!(stage.well(), ["restore b"], "the first recovery after a stable run has no delay");
        stage.well();
        stage.wait(Duration::from_secs(10));
    }
    assert_eq!(stage.status().restarts, 20);
    stage.wait_ms(1);
    stage.crash();
    stage.well();
    stage.well();
    stage.wait_ms(9_999);
    stage.crash();
    assert!(stage.well().is_empty(), "one millisecond too early to be stable");
}

#[test]
fn an_exit_later_than_stable_counts_as_stable_though_no_tick_came() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    stage.well();
    stage.now = stage.now + Duration::from_secs(10);
    stage.crash();
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn a_failure_that_may_pass_is_tried_again_after_a_while() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    assert_eq!(stage.badly(FailureKind::Unavailable), ["kill"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.wait_ms(100), ["restore b"]);
    stage.badly(FailureKind::Unavailable);
    assert_eq!(stage.well(), ["restore a"], "its tries are spent");
}

#[test]
fn images_are_taken_by_verdict_and_unfit_ones_skipped_aloud() {
    let mut stage = Stage::stable(quiet());
    let mut damaged = image("e", 5, Good);
    damaged.damaged = true;
    stage.list(vec![image("s", 4, Suspect), image("u", 3, Unjudged), image("g", 1, Good), damaged]);
    stage.crash();
    assert_eq!(stage.well(), ["restore g"]);
    assert!(stage.told(|n| *n == Notice::ImageSkipped { image: id("e"), why: SkipReason::Damaged }));
    stage.badly(FailureKind::Internal);
    assert_eq!(stage.well(), ["restore u"]);
    stage.badly(FailureKind::Internal);
    assert_eq!(stage.well(), ["restore s"]);
}

#[test]
fn an_image_found_damaged_while_its_rung_waits_is_not_restored() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    stage.badly(FailureKind::Unavailable);
    assert!(stage.well().is_empty(), "waits to restore b again");
    let mut damaged = image("b", 2, Good);
    damaged.damaged = true;
    stage.list(vec![image("a", 1, Good), damaged]);
    assert_eq!(stage.wait_ms(100), ["restore a"]);

    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    stage.badly(FailureKind::Unavailable);
    stage.well();
    stage.list(vec![image("a", 1, Good)]);
    assert_eq!(stage.wait_ms(100), ["restore a"]);
    assert!(stage.told(|n| *n == Notice::ImageSkipped { image: id("b"), why: SkipReason::Gone }));
}

#[test]
fn a_kill_that_fails_is_tried_again_and_nothing_is_put_in_its_place() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    for wait_ms in [500, 1000, 1500, 2000] {
        assert!(stage.badly(FailureKind::Unavailable).is_empty());
        assert_eq!(stage.deadline_in(), Some(Duration::from_millis(wait_ms)));
        assert_eq!(stage.wait_ms(wait_ms), ["kill"]);
    }
    assert!(stage.badly(FailureKind::Unavailable).is_empty());
    assert!(matches!(stage.status().failed, Some(GaveUp::CannotKill(_))));
    assert_eq!(stage.send(Event::StartRequested), ["kill"], "somebody wants it: kill first");
    assert_eq!(stage.well(), ["start"]);
}

#[test]
fn a_kill_that_is_not_answered_is_tried_again() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    let lost = stage.in_flight.remove(0).attempt().unwrap();
    assert_eq!(stage.wait(Duration::from_millis(15_500)), ["kill"]);
    assert!(stage.send(Event::Killed { attempt: lost }).is_empty(), "not the one awaited");
    assert_eq!(stage.well(), ["restore b"]);
}

#[test]
fn what_is_brought_back_and_does_its_work_to_the_end_is_done() {
    let settings = with_liveness(with_policy(RestartPolicy::OnFailure));
    let mut stage = Stage::stable(settings);
    stage.crash();
    stage.well();
    stage.well();
    assert_eq!(stage.exit(Exit::Code(0)), ["kill"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Stopped);

    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.crash();
    stage.well();
    stage.well();
    stage.exit(Exit::Code(0));
    assert_eq!(stage.well(), ["restore a"], "under always it is a rung that failed");
}

#[test]
fn a_service_that_ends_at_once_and_is_to_run_always_does_not_spin() {
    let mut stage = Stage::new(quiet());
    stage.send(Event::StartRequested);
    stage.well();
    let mut starts = 0;
    while stage.state() != StateName::Failed {
        stage.exit(Exit::Code(0));
        let mut commands = stage.well();
        if commands.is_empty() && stage.state() == StateName::Recovering {
            commands = stage.wait(stage.deadline_in().unwrap());
        }
        if !stage.in_flight.is_empty() {
            assert_eq!(commands, ["start"]);
            starts += 1;
            stage.well();
        }
    }
    assert_eq!(starts, 5);
}

#[test]
fn fenced_ends_everything_but_kill() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    stage.well();
    assert_eq!(stage.badly(FailureKind::Fenced), ["kill"]);
    assert!(matches!(stage.status().failed, Some(GaveUp::Fenced(_))), "known before the kill is done");
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Failed);
    for event in [
        Event::StartRequested,
        Event::RestoreRequested { image: None },
        Event::CheckpointRequested,
        Event::StopRequested,
        Event::UnpauseRequested,
    ] {
        assert!(stage.send(event).is_empty());
    }
}

#[test]
fn a_fenced_kill_is_tried_again_but_leads_nowhere_else() {
    let mut stage = Stage::stable(quiet());
    stage.crash();
    assert!(stage.badly(FailureKind::Fenced).is_empty());
    assert_eq!(stage.wait_ms(500), ["kill"]);
    assert!(stage.well().is_empty());
    assert!(matches!(stage.status().failed, Some(GaveUp::Fenced(_))));
}

#[test]
fn settings_loaded_anew_while_judging_are_obeyed() {
    let mut stage = Stage::stable(with_liveness(quiet()));
    stage.crash();
    stage.well();
    stage.well();
    assert_eq!(stage.state(), StateName::Recovering);
    assert!(stage.send(Event::SettingsChanged(Box::new(quiet()))).is_empty());
    assert_eq!(stage.state(), StateName::Running, "no probes any more: nothing left to judge");
}

#[test]
fn a_recovery_names_its_cause() {
    let causes = [
        (Cause::Exited(Exit::OutOfMemory), "crashed: killed for want of memory"),
        (Cause::Exited(Exit::Code(3)), "crashed: exit code 3"),
        (Cause::Hung, "hung: liveness probes fail"),
        (Cause::FoundDead(None), "died while the supervisor was away"),
    ];
    for (cause, text) in causes {
        assert_eq!(cause.to_string(), text);
    }
}

#[test]
fn without_images_a_cold_start_without_any_rung_the_end() {
    let mut stage = Stage::stable(quiet());
    stage.list(vec![]);
    stage.crash();
    assert_eq!(stage.well(), ["start"]);
    let mut settings = Settings { ..quiet() };
    settings.ladder.rungs = vec![Rung::RestoreLatest, Rung::FailOver];
    let mut stage = Stage::stable(settings);
    stage.list(vec![]);
    stage.crash();
    assert!(stage.well().is_empty());
    assert!(matches!(stage.status().failed, Some(GaveUp::Ladder(_))));
}

#[test]
fn what_nothing_helps_here_is_left_to_a_standby_and_gone_on_with_if_that_is_away() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::ElsewhereChanged(Elsewhere::Possible));
    stage.crash();
    for rung in ["restore b", "restore a", "start"] {
        assert_eq!(stage.well(), [rung]);
        assert_eq!(stage.badly(FailureKind::Internal), ["kill"]);
    }
    assert_eq!(stage.well(), ["fail-over"]);
    assert_eq!(stage.state(), StateName::Failed);
    assert!(matches!(stage.status().failed, Some(GaveUp::LeftToStandby(Cause::Exited(_)))));
    assert!(stage.in_flight.is_empty() && stage.wait(Duration::from_secs(3600)).is_empty());

    assert_eq!(stage.send(Event::FailOverRefused { why: "it has gone".to_owned() }), ["kill"]);
    let failed = |n: &&Notice| matches!(n, Notice::RungFailed { rung: Rung::FailOver, .. });
    assert_eq!(stage.notices.iter().filter(failed).count(), 1);
    stage.well();
    assert_eq!(stage.wait(Duration::from_secs(60)), ["restore b"]);
    assert!(stage.well().is_empty());
    assert_eq!(stage.state(), StateName::Running);
}

#[test]
fn a_refusal_that_comes_too_late_changes_nothing() {
    let mut stage = Stage::stable(quiet());
    assert!(stage.send(Event::FailOverRefused { why: "it has gone".to_owned() }).is_empty());
    assert_eq!(stage.state(), StateName::Running);
}
