//! `checkpoint`, `restore`, `stop`, `start`, `suspend`, `resume`, `pause`, `unpause`: one request to one service.

use std::time::Duration;

use super::Target;
use super::client::{Client, encode, refusal};
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::{waiting, words};
use crate::api::ActionBody;
use crate::status::Answer;

/// What the supervisor may take longer than it was told to wait.
pub(super) const GRACE: Duration = Duration::from_secs(15);

/// Asks, waits and tells.
pub(crate) async fn act(
    screen: &Screen,
    client: &Client,
    action: &str,
    target: &Target,
    what: ActionBody,
) -> Result<(), Failure> {
    let path = format!("/v1/services/{}/{action}", encode(&target.service));
    let body = ActionBody { wait_seconds: target.wait.as_secs_f64(), ..what };
    let asked = client.ask(&path, &body, target.wait + GRACE);
    let (status, body) = waiting::seen(client, (action, &target.service), asked).await?;
    let Ok(answer) = serde_json::from_slice::<Answer>(&body) else { return Err(refusal(status, &body)) };
    if screen.is_json() {
        screen.json(&answer)?;
    }
    let text = told(&target.service, &answer);
    match answer.outcome.as_str() {
        "done" | "already-so" if screen.is_json() => Ok(()),
        "done" => screen.line(&screen.paint(Mood::Good, &text)),
        "already-so" => screen.line(&text),
        "accepted" => Err(Failure::Unfinished(text)),
        "denied" => Err(Failure::Denied(text)),
        _ => Err(Failure::Failed(text)),
    }
}

/// An answer as one line.
pub(super) fn told(service: &str, answer: &Answer) -> String {
    let mut text = format!("{service}: {}", answer.text);
    // Often the text names it already.
    if let Some(image) = answer.image.as_ref().filter(|image| !answer.text.contains(image.as_str())) {
        text.push_str(&format!(", image {image}"));
    }
    text + &words::took(&answer.text, answer.took_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_one_line() {
        let answer = |text: &str| Answer {
            outcome: "done".to_owned(),
            text: text.to_owned(),
            image: Some("i1".to_owned()),
            took_ms: Some(8.12),
        };
        assert_eq!(told("a", &answer("checkpoint taken")), "a: checkpoint taken, image i1 (8.1 ms)");
        assert_eq!(told("a", &answer("restored from i1")), "a: restored from i1 (8.1 ms)");
    }
}
