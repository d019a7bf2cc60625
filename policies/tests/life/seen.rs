//! What can be seen from outside: the status, and the words for people.

use std::time::Duration;

use policies::admission::{Admission, Denial, Request};
use policies::health::{self, Verdict};
use policies::ladder::GiveUpReason;
use policies::service::{
    Event, FailureKind, GaveUp, ImageFacts, ImageVerdict, RestartPolicy, Settings, StateName,
};

use super::stage::{Stage, id, image, quiet, with_cadence, with_liveness};

#[test]
fn a_run_is_seen_with_its_beginning_and_its_probes() {
    let mut stage = Stage::running(with_liveness(quiet()));
    let begun = stage.now;
    stage.wait_ms(700);
    let status = stage.status();
    assert_eq!((status.running_since, status.verdict), (Some(begun), Some(Verdict::Starting)));
    stage.crash();
    stage.well();
    stage.well();
    let judged = stage.status();
    assert_eq!((judged.state, judged.running_since), (StateName::Recovering, None));
    assert_eq!(
        (judged.verdict, judged.probes.len()),
        (Some(Verdict::Starting), 1),
        "its probes have the word"
    );
}

#[test]
fn a_suspended_service_names_its_image() {
    let mut stage = Stage::stable(quiet());
    assert_eq!(stage.status().suspended_in, None);
    stage.send(Event::SuspendRequested);
    stage.well();
    stage.well();
    assert_eq!(stage.status().suspended_in, Some(id("new")));
}

#[test]
fn one_checkpoint_at_a_time() {
    let mut stage = Stage::stable(with_cadence(30));
    stage.send(Event::CheckpointRequested);
    let in_flight = Admission::Deny(Denial::CheckpointInFlight);
    assert_eq!(stage.service.admit(&Request::Suspend), in_flight);
    assert_eq!(stage.service.admit(&Request::Checkpoint), in_flight);
    stage.well();
    assert_eq!(stage.service.admit(&Request::Suspend), Admission::Accept);
}

#[test]
fn why_it_was_given_up_is_said() {
    let text = |reason| GaveUp::Ladder(reason).to_string();
    assert_eq!(text(GiveUpReason::NothingLeft), "no rung of the ladder has anything left to try");
    let often = GiveUpReason::TooManyRecoveries { count: 5, window: Duration::from_secs(600) };
    assert_eq!(text(often), "5 recoveries within 600s did not lead to a stable run");
    let unknown = "sometimes".parse::<RestartPolicy>().expect_err("no such word");
    assert_eq!(unknown.to_string(), "expected one of: always, on-failure, unless-stopped, never");
}

#[test]
fn what_is_loaded_anew_without_a_change_of_probes_leaves_them_alone() {
    let settings = with_liveness(quiet());
    let mut stage = Stage::stable(settings.clone());
    let stop_timeout = Duration::from_secs(3);
    stage.send(Event::SettingsChanged(Box::new(Settings { stop_timeout, ..settings.clone() })));
    assert_eq!(stage.status().verdict, Some(Verdict::Healthy), "what they have said still counts");
    let another = health::Settings { failure_threshold: 7, ..settings.probes[0].clone() };
    stage.send(Event::SettingsChanged(Box::new(Settings { probes: vec![another], ..settings })));
    assert_eq!(stage.status().verdict, Some(Verdict::Starting), "others have said nothing yet");
}

#[test]
fn a_trial_is_made_again_only_where_one_was_refused() {
    let settings = Settings { trial_dump: true, ..quiet() };
    let mut stage = Stage::running(settings.clone());
    assert_eq!(stage.wait_ms(2_000), ["checkpoint trial"]);
    stage.well();
    let again = stage.send(Event::SettingsChanged(Box::new(settings.clone())));
    assert_eq!((again, stage.wait_ms(5_000)), (Vec::new(), Vec::new()), "it is known");
    stage.send(Event::CheckpointRequested);
    stage.badly(FailureKind::Refused);
    let again = stage.send(Event::SettingsChanged(Box::new(settings)));
    assert_eq!(again, ["checkpoint trial"], "the change may have mended it");
}

#[test]
fn an_image_of_an_earlier_run_is_suspect_when_it_comes_late() {
    let mut stage = Stage::stable(quiet());
    stage.send(Event::CheckpointRequested);
    assert_eq!(stage.crash(), ["kill"]);
    assert_eq!(stage.well(), ["judge new suspect"], "the oldest in flight is the checkpoint");
}

#[test]
fn an_image_is_unjudged_whatever_the_answer_says() {
    let mut stage = Stage::running(with_liveness(quiet()));
    stage.send(Event::CheckpointRequested);
    let attempt = stage.status().checkpointing.expect("in flight");
    stage.checkpoint_done(attempt, image("new", 9_000_000_000_000_000_000, ImageVerdict::Good));
    let verdict = stage.service.images().iter().find(|i| i.id == id("new")).map(|i| i.verdict);
    assert_eq!(verdict, Some(ImageVerdict::Unjudged));
}

#[test]
fn fenced_from_outside_it_is_killed_and_stays_down() {
    let failure = || policies::service::Failure::new(FailureKind::Fenced, "another node holds the lease");
    let mut stage = Stage::stable(with_cadence(30));
    assert_eq!(stage.send(Event::Fenced { failure: failure() }), ["kill"]);
    assert_eq!(stage.send(Event::Fenced { failure: failure() }), Vec::<String>::new(), "once is enough");
    stage.well();
    assert_eq!(stage.state(), StateName::Failed);
    assert!(matches!(stage.status().failed, Some(GaveUp::Fenced(_))));
    assert_eq!(stage.send(Event::StartRequested), Vec::<String>::new());
}

#[test]
fn taken_over_it_comes_from_its_newest_image_after_a_kill() {
    let mut stage = Stage::new(quiet());
    stage.list(vec![image("a", 1, ImageVerdict::Good), image("b", 2, ImageVerdict::Good)]);
    assert_eq!(stage.send(Event::TakenOver), ["kill"]);
    assert_eq!(stage.well(), ["restore b"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Running);
}

#[test]
fn started_from_an_image_it_begins_with_the_newest_that_can_be_trusted() {
    let mut stage = Stage::new(quiet());
    let images = [("a", 1, ImageVerdict::Good), ("b", 2, ImageVerdict::Good)];
    stage.list(images.map(|(name, at, verdict)| image(name, at, verdict)).to_vec());
    assert_eq!(stage.send(Event::ImageStartRequested), ["kill"]);
    assert_eq!(stage.well(), ["restore b"]);
    assert_eq!(stage.badly(FailureKind::Corrupt), ["kill"], "the ladder goes on from there");
    assert_eq!(stage.well(), ["restore a"]);
    stage.well();
    assert_eq!(stage.state(), StateName::Running);
    let back = stage.status().last_recovery.expect("it is back");
    assert_eq!((back.cause.kind().name(), back.cause.kind().is_fault()), ("from-image", false));
    assert!(stage.send(Event::ImageStartRequested).is_empty(), "only at the beginning");
}

#[test]
fn without_an_image_that_can_be_trusted_it_is_started() {
    let mut stage = Stage::new(quiet());
    let damaged = ImageFacts { damaged: true, ..image("a", 1, ImageVerdict::Good) };
    stage.list(vec![damaged]);
    assert_eq!(stage.send(Event::ImageStartRequested), ["start"]);
}
