//! Requests against states, as one table.

use policies::admission::{Admission, Denial, Request, Wanted, judge};
use policies::id::{Attempt, ImageId};
use policies::ladder::SkipReason;
use policies::service::{Failure, FailureKind, GaveUp, Service, Settings, StateName, Status};

fn status(state: StateName) -> Status {
    Status { state, ..Service::new(Settings::default(), 1).status() }
}

fn requests() -> Vec<Request> {
    vec![
        Request::Checkpoint,
        Request::Restore { image: None },
        Request::Stop,
        Request::Start,
        Request::Suspend,
        Request::Resume,
        Request::Pause,
        Request::Unpause,
        Request::Remove,
    ]
}

fn show(admission: &Admission) -> &'static str {
    match admission {
        Admission::Accept => "yes",
        Admission::AlreadySo => "so",
        Admission::Deny(_) => "no",
    }
}

#[test]
fn every_request_in_every_state() {
    // checkpoint, restore, stop, start, suspend, resume, pause, unpause, remove
    let table: &[(StateName, [&str; 9])] = &[
        (StateName::Stopped, ["no", "yes", "so", "yes", "no", "no", "yes", "so", "yes"]),
        (StateName::Starting, ["no", "no", "yes", "so", "no", "no", "yes", "so", "no"]),
        (StateName::Running, ["yes", "yes", "yes", "so", "yes", "so", "yes", "so", "no"]),
        (StateName::Recovering, ["no", "no", "yes", "so", "no", "no", "yes", "so", "no"]),
        (StateName::Held, ["no", "yes", "yes", "yes", "no", "no", "yes", "so", "no"]),
        (StateName::Stopping, ["no", "no", "yes", "yes", "no", "no", "yes", "so", "no"]),
        (StateName::Suspending, ["no", "no", "no", "no", "no", "no", "yes", "so", "no"]),
        (StateName::Suspended, ["no", "yes", "yes", "no", "so", "yes", "yes", "so", "no"]),
        (StateName::Failed, ["no", "yes", "yes", "yes", "no", "no", "yes", "so", "yes"]),
        (StateName::ShuttingDown, ["no"; 9]),
        (StateName::Idle, ["no"; 9]),
    ];
    assert_eq!(table.len(), StateName::ALL.len());
    for (state, row) in table {
        for (request, wanted) in requests().iter().zip(row) {
            let got = judge(request, &status(*state), |_| Wanted::Usable);
            assert_eq!(show(&got), *wanted, "{request:?} while {state}: {got:?}");
        }
    }
}

#[test]
fn paused_turns_pause_and_unpause_around() {
    let paused = Status { paused: true, ..status(StateName::Running) };
    assert_eq!(judge(&Request::Pause, &paused, |_| Wanted::Usable), Admission::AlreadySo);
    assert_eq!(judge(&Request::Unpause, &paused, |_| Wanted::Usable), Admission::Accept);
}

#[test]
fn denials_say_why() {
    let image = ImageId::try_from("i1").expect("a valid id");
    let named = || Request::Restore { image: Some(image.clone()) };
    let any = || Request::Restore { image: None };
    let running = || status(StateName::Running);
    let why = SkipReason::Incompatible("another kernel".to_owned());
    let checkpointing = Status { checkpointing: Some(Attempt(1)), ..running() };
    let cases = [
        (Request::Checkpoint, checkpointing, Wanted::Usable, "a checkpoint is being taken just now"),
        (
            Request::Checkpoint,
            status(StateName::Failed),
            Wanted::Usable,
            "the service must be running, it is failed",
        ),
        (named(), running(), Wanted::Unknown, "there is no image i1"),
        (named(), running(), Wanted::Unusable(SkipReason::Damaged), "image i1 cannot be restored: damaged"),
        (
            named(),
            running(),
            Wanted::Unusable(why),
            "image i1 cannot be restored: may not run here: another kernel",
        ),
        (any(), running(), Wanted::Nothing, "there is no image that may be restored"),
        (
            any(),
            status(StateName::Recovering),
            Wanted::Usable,
            "the service is recovering; try again when that is over",
        ),
        (Request::Remove, running(), Wanted::Usable, "the service must be stopped first"),
        (Request::Stop, status(StateName::Idle), Wanted::Usable, "the supervisor is stopping"),
    ];
    for (request, status, wanted, text) in cases {
        match judge(&request, &status, |_| wanted) {
            Admission::Deny(denial) => assert_eq!(denial.to_string(), text),
            other => panic!("{request:?}: {other:?} instead of: {text}"),
        }
    }
}

#[test]
fn who_is_fenced_may_only_stay_stopped_and_be_forgotten() {
    let failure = Failure::new(FailureKind::Fenced, "epoch 4");
    let fenced = Status { failed: Some(GaveUp::Fenced(failure)), ..status(StateName::Failed) };
    for request in requests() {
        let wanted = match request {
            Request::Stop => Admission::AlreadySo,
            Request::Remove => Admission::Accept,
            _ => Admission::Deny(Denial::Fenced),
        };
        assert_eq!(judge(&request, &fenced, |_| Wanted::Usable), wanted, "{request:?}");
    }
}
