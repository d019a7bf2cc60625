//! `top`: the status page in a terminal, live.
//!
//! ```text
//! news (status, events, images, over the API) ──┐
//! keys ─────────────────────────────────────────┼──> Model ──> view: what stands where on the screen
//! answers to requests ──────────────────────────┘      └─────> wishes: requests, asked for twice
//! ```
//!
//! It asks as every command does, so it holds nothing up. It refuses to take a screen that is no terminal, and gives the terminal
//! back as it was, however it ends.

mod keys;
mod model;
mod news;
mod terminal;
mod view;

use std::io::{self, IsTerminal};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::keys::Keys;
use self::model::{Input, Model, Outcome, Wish};
use self::news::News;
use self::terminal::Seized;
use super::act::{GRACE, told};
use super::client::{Client, encode, refusal};
use super::failure::Failure;
use super::screen::Screen;
use crate::api::ActionBody;
use crate::status::{Answer, NodeStatus};

/// Inputs that may wait for the screen.
const WAITING: usize = 256;

/// Shows it until somebody has seen enough.
pub(crate) async fn top(screen: &Screen, client: &Client) -> Result<(), Failure> {
    if screen.is_json() || !screen.is_terminal() || !io::stdin().is_terminal() {
        let instead = "`supervisor status --watch` shows the same without one, and as JSON too";
        return Err(Failure::Invalid(format!("top needs a terminal; {instead}")));
    }
    // Whoever cannot be reached is told so on the screen as it is.
    let node: NodeStatus = client.get("/v1/status").await?;
    let (inputs, mut waiting) = mpsc::channel(WAITING);
    let (mut news, of) = News::gather(client, &inputs);
    let mut model = Model::new(node);
    let mut ended = Ended::listen().map_err(unusable)?;
    let mut terminal = Seized::seize().map_err(unusable)?;
    let mut keys = Keys::read();
    loop {
        terminal.draw(|frame| view::draw(frame, &model, screen.is_coloured())).map_err(unusable)?;
        let input = tokio::select! {
            key = keys.next() => match key.map_err(unusable)? {
                Some(key) => Input::Key(key),
                None => return Ok(()),
            },
            // Its sender is ours too, so it does not end.
            Some(input) = waiting.recv() => input,
            () = news.broken() => return Err(Failure::Failed("what asks the supervisor has ended".to_owned())),
            () = ended.asked() => return Ok(()),
        };
        match model.take(input) {
            None => {}
            Some(Wish::Quit) => return Ok(()),
            Some(Wish::Redraw) => terminal.clear().map_err(unusable)?,
            Some(Wish::Checkpoint(service)) => checkpoint(client.clone(), inputs.clone(), service),
        }
        of.send_if_modified(|service| {
            let looked_at = model.looked_at();
            let changed = service.as_deref() != looked_at;
            *service = looked_at.map(str::to_owned);
            changed
        });
    }
}

/// Signals that end it; the terminal is given back first.
struct Ended {
    signals: [tokio::signal::unix::Signal; 3],
}

impl Ended {
    fn listen() -> io::Result<Self> {
        let of = |kind: SignalKind| signal(kind);
        let signals = [of(SignalKind::terminate())?, of(SignalKind::interrupt())?, of(SignalKind::hangup())?];
        Ok(Self { signals })
    }

    async fn asked(&mut self) {
        let [terminate, interrupt, hangup] = &mut self.signals;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Asks for it apart from the screen; the answer comes as an input.
fn checkpoint(client: Client, inputs: mpsc::Sender<Input>, service: String) {
    tokio::spawn(async move {
        let path = format!("/v1/services/{}/checkpoint", encode(&service));
        let body = ActionBody::default();
        let limit = std::time::Duration::from_secs_f64(body.wait_seconds) + GRACE;
        let outcome = match client.ask(&path, &body, limit).await {
            Ok((status, body)) => match serde_json::from_slice::<Answer>(&body) {
                Ok(answer) if matches!(answer.outcome.as_str(), "done" | "already-so" | "accepted") => {
                    Outcome::Done(told(&service, &answer))
                }
                Ok(answer) => Outcome::Failed(told(&service, &answer)),
                Err(_) => Outcome::Failed(refusal(status, &body).to_string()),
            },
            Err(failure) => Outcome::Failed(failure.to_string()),
        };
        // The screen may be gone.
        let _ = inputs.send(Input::Answered(outcome)).await;
    });
}

fn unusable(error: io::Error) -> Failure {
    Failure::Failed(format!("the terminal cannot be used: {error}"))
}
