//! Between the policies' words and those of the API: requests in, notices out.

use std::time::Duration;

use policies::admission::Request;
use policies::id::ImageId;
use policies::service::{Event, Notice};
use tokio::sync::oneshot;

use crate::events::plain;
use crate::status::{Action, Answer, EventRecord};

/// A notice as it is recorded, and which waiting requests it answers.
pub(crate) struct Told {
    /// For the journal of events.
    pub(crate) record: EventRecord,
    /// Whom it answers.
    pub(crate) settles: Option<Settles>,
}

/// Which requests a notice answers, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settles {
    /// The checkpoint was taken, or not.
    Checkpoint(Worked),
    /// The service runs: started, or restored.
    Run(Worked),
    /// The service has stopped, or was given up.
    Stop(Worked),
    /// The service is in an image.
    Suspended,
    /// The request was not followed after all.
    Denied,
}

/// Whether it worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worked {
    /// It did.
    Yes,
    /// It did not.
    No,
}

/// How a notice is told.
pub(crate) fn tell(service: &str, notice: &Notice) -> Told {
    let (kind, text, image, settles) = words(notice);
    let mut record = plain(Some(service), kind, text);
    record.image = image.map(ToString::to_string);
    add_facts(&mut record, notice);
    Told { record, settles }
}

/// What programs want to know of it without reading its text.
fn add_facts(record: &mut EventRecord, notice: &Notice) {
    let word = |word: &'static str| Some(word.to_owned());
    let milliseconds = |span: Duration| Some(span.as_secs_f64() * 1e3);
    match notice {
        Notice::Noticed { cause } | Notice::Held { cause } => record.cause = word(cause.kind().name()),
        Notice::RungTaken { rung, .. } | Notice::RungFailed { rung, .. } => record.rung = word(rung.name()),
        Notice::Recovered(back) => {
            (record.cause, record.rung) = (word(back.cause.kind().name()), word(back.rung.name()));
            (record.ran_after_ms, record.took_ms) =
                (milliseconds(back.ran_after()), milliseconds(back.took()));
        }
        Notice::CheckpointTaken { reason, pause, took, .. } => {
            record.reason = word(reason.name());
            (record.pause_ms, record.took_ms) = (milliseconds(*pause), milliseconds(*took));
        }
        Notice::CheckpointFailed { reason, failure } => {
            (record.reason, record.failure) = (word(reason.name()), word(failure.kind.name()));
        }
        Notice::StartFailed(failure) | Notice::KillFailed(failure) => {
            record.failure = word(failure.kind.name());
        }
        Notice::GaveUp { reason } => {
            record.cause = reason.cause().and_then(|cause| word(cause.kind().name()));
        }
        Notice::Started { .. }
        | Notice::ImageSkipped { .. }
        | Notice::ImageJudged { .. }
        | Notice::Degraded { .. }
        | Notice::NoLongerDegraded
        | Notice::VerdictChanged { .. }
        | Notice::Stopped
        | Notice::Suspended { .. }
        | Notice::Paused
        | Notice::Unpaused
        | Notice::Denied(_) => {}
    }
}

type Words<'a> = (&'static str, String, Option<&'a ImageId>, Option<Settles>);

fn words(notice: &Notice) -> Words<'_> {
    use Settles::{Checkpoint, Denied, Run, Stop, Suspended};
    use Worked::{No, Yes};
    let of = |image: &Option<ImageId>| image.as_ref().map_or(String::new(), |i| format!(" from image {i}"));
    match notice {
        Notice::Started { adopted: false, .. } => ("started", "started".to_owned(), None, Some(Run(Yes))),
        Notice::Started { adopted: true, .. } => {
            ("adopted", "found running and taken back".to_owned(), None, Some(Run(Yes)))
        }
        Notice::StartFailed(failure) => {
            ("start-failed", format!("could not be started: {failure}"), None, None)
        }
        Notice::Noticed { cause } => ("noticed", cause.to_string(), None, None),
        Notice::Held { cause } => {
            ("held", format!("{cause}; nothing is done, as policies are held"), None, None)
        }
        Notice::RungTaken { rung, image } => {
            ("rung-taken", format!("{rung}{}", of(image)), image.as_ref(), None)
        }
        Notice::RungFailed { rung, image, why } => {
            ("rung-failed", format!("{rung}{} failed: {why}", of(image)), image.as_ref(), None)
        }
        Notice::Recovered(back) => {
            let took = back.took().as_secs_f64() * 1e3;
            let text =
                format!("back by {}{} after {took:.0} ms ({})", back.rung, of(&back.image), back.cause);
            ("recovered", text, back.image.as_ref(), Some(Run(Yes)))
        }
        Notice::ImageSkipped { image, why } => {
            ("image-skipped", format!("image {image} is not used: {why}"), Some(image), None)
        }
        Notice::ImageJudged { image, verdict } => {
            ("image-judged", format!("image {image} is {verdict}"), Some(image), None)
        }
        Notice::CheckpointTaken { image, reason, pause, took } => {
            let (pause, took) = (pause.as_secs_f64() * 1e3, took.as_secs_f64() * 1e3);
            let text = format!("checkpoint ({reason}) {image}: paused {pause:.1} ms, took {took:.0} ms");
            ("checkpoint-taken", text, Some(image), Some(Checkpoint(Yes)))
        }
        Notice::CheckpointFailed { reason, failure } => {
            let text = format!("checkpoint ({reason}) failed: {failure}");
            ("checkpoint-failed", text, None, Some(Checkpoint(No)))
        }
        Notice::Degraded { reason } => (
            "degraded",
            format!("cannot be checkpointed, only cold starts from now on: {reason}"),
            None,
            None,
        ),
        Notice::NoLongerDegraded => {
            ("no-longer-degraded", "can be checkpointed again".to_owned(), None, None)
        }
        Notice::KillFailed(failure) => ("kill-failed", failure.to_string(), None, None),
        Notice::VerdictChanged { from, to } => ("verdict", format!("{from} -> {to}"), None, None),
        Notice::GaveUp { reason } => ("gave-up", format!("given up: {reason}"), None, Some(Stop(No))),
        Notice::Stopped => ("stopped", "stopped".to_owned(), None, Some(Stop(Yes))),
        Notice::Suspended { image } => {
            ("suspended", format!("suspended in image {image}"), Some(image), Some(Suspended))
        }
        Notice::Paused => ("paused", "policies are held".to_owned(), None, None),
        Notice::Unpaused => ("unpaused", "policies are followed again".to_owned(), None, None),
        Notice::Denied(denial) => ("denied", denial.to_string(), None, Some(Denied)),
    }
}

/// Answers the requests that waited for this.
pub(crate) fn settle(
    waiting: &mut Vec<(Action, oneshot::Sender<Answer>)>,
    settles: Settles,
    record: &EventRecord,
) {
    for (action, reply) in std::mem::take(waiting) {
        match outcome(&action, settles) {
            None => waiting.push((action, reply)),
            Some(outcome) => {
                let mut answer = answer(outcome, record.text.clone());
                answer.image.clone_from(&record.image);
                answer.took_ms = record.pause_ms.or(record.took_ms);
                // Whoever asked may have gone.
                let _ = reply.send(answer);
            }
        }
    }
}

fn outcome(action: &Action, settles: Settles) -> Option<&'static str> {
    let worked = match (action, settles) {
        (_, Settles::Denied) => return Some("denied"),
        (Action::Checkpoint, Settles::Checkpoint(worked)) => worked,
        // Whatever ends the run ends the wait for a checkpoint of it.
        (Action::Checkpoint, Settles::Stop(_)) => Worked::No,
        (Action::Restore { .. } | Action::Start | Action::Resume, Settles::Run(worked)) => worked,
        (Action::Restore { .. } | Action::Start | Action::Resume, Settles::Stop(_)) => Worked::No,
        (Action::Suspend, Settles::Suspended) => Worked::Yes,
        (Action::Suspend, Settles::Checkpoint(Worked::No) | Settles::Stop(_)) => Worked::No,
        (Action::Checkpoint, Settles::Suspended) => Worked::No,
        (Action::Stop, Settles::Stop(worked)) => worked,
        (Action::Stop, Settles::Run(_)) => return None,
        (_, Settles::Checkpoint(_) | Settles::Run(_) | Settles::Suspended) => return None,
        (Action::Pause | Action::Unpause, Settles::Stop(_)) => return None,
    };
    Some(match worked {
        Worked::Yes => "done",
        Worked::No => "failed",
    })
}

/// What an action is to the policy; the error is for whoever asked.
pub(crate) fn to_event(action: &Action) -> Result<Event, String> {
    Ok(match action {
        Action::Checkpoint => Event::CheckpointRequested,
        Action::Restore { image: None } => Event::RestoreRequested { image: None },
        Action::Restore { image: Some(image) } => {
            let image = ImageId::try_from(image.as_str()).map_err(|e| format!("no image {image}: {e}"))?;
            Event::RestoreRequested { image: Some(image) }
        }
        Action::Stop => Event::StopRequested,
        Action::Start => Event::StartRequested,
        Action::Suspend => Event::SuspendRequested,
        Action::Resume => Event::ResumeRequested,
        Action::Pause => Event::PauseRequested,
        Action::Unpause => Event::UnpauseRequested,
    })
}

/// The same, for the question whether it would be followed.
pub(crate) fn to_request(action: &Action, event: &Event) -> Request {
    match (action, event) {
        (Action::Restore { .. }, Event::RestoreRequested { image }) => {
            Request::Restore { image: image.clone() }
        }
        (Action::Restore { .. }, _) => Request::Restore { image: None },
        (Action::Checkpoint, _) => Request::Checkpoint,
        (Action::Stop, _) => Request::Stop,
        (Action::Start, _) => Request::Start,
        (Action::Suspend, _) => Request::Suspend,
        (Action::Resume, _) => Request::Resume,
        (Action::Pause, _) => Request::Pause,
        (Action::Unpause, _) => Request::Unpause,
    }
}

/// An answer without more to it.
pub(crate) fn answer(outcome: &str, text: impl Into<String>) -> Answer {
    Answer { outcome: outcome.to_owned(), text: text.into(), image: None, took_ms: None }
}
