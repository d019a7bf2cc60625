//! Telling one hook, one event after the other, as long as there are any.

use std::time::Duration;

use engine::Error;
use engine::hook::HookCommand;
use policies::backoff::{Backoff, Settings};
use policies::id::ServiceName;
use tokio::sync::mpsc;

use super::HOOK_FAILED;
use super::message::Sender;
use crate::assemble::Way;
use crate::events::{Events, plain};
use crate::status::EventRecord;

/// The pauses between attempts to post.
const PAUSES: Settings =
    Settings { initial: Duration::from_secs(1), max: Duration::from_secs(30), factor: 2.0, jitter: 0.2 };
/// How long the command of a take-over may take.
const TAKE_OVER_MAX: Duration = Duration::from_secs(60);

pub(super) struct Teller {
    pub(super) way: Way,
    pub(super) sender: Sender,
    pub(super) events: Events,
}

impl Teller {
    pub(super) async fn tell_on(self, mut waiting: mpsc::Receiver<EventRecord>) {
        while let Some(event) = waiting.recv().await {
            if let Err(error) = self.tell(&event).await {
                let text = format!(
                    "{} was not told of `{}` (number {}): {error}",
                    self.way.name(),
                    event.kind,
                    event.seq
                );
                self.events.record(plain(event.service.as_deref(), HOOK_FAILED, text));
            }
        }
    }

    async fn tell(&self, event: &EventRecord) -> engine::Result<()> {
        let mut json = self.sender.json(event);
        match &self.way {
            // It is not known what a command had done before it failed, so it is run once.
            Way::Command(command) => {
                json.push(b'\n');
                command.tell(&self.sender.env(event), json).await
            }
            Way::Webhook { webhook, attempts } => {
                let json = hyper::body::Bytes::from(json);
                let mut backoff = Backoff::new(PAUSES, event.seq);
                for _ in 1..*attempts {
                    match webhook.tell(json.clone()).await {
                        Err(Error::Unavailable(_)) => tokio::time::sleep(backoff.next_delay()).await,
                        settled => return settled,
                    }
                }
                webhook.tell(json).await
            }
        }
    }
}

/// Runs the command of a service that was taken over, apart.
pub(crate) fn tell_of_take_over(argv: Vec<String>, service: ServiceName, events: Events) {
    tokio::spawn(async move {
        let command = HookCommand::new(argv, TAKE_OVER_MAX).ends_with_us();
        let told = command.tell(&[("SUPERVISOR_SERVICE", service.to_string())], Vec::new()).await;
        if let Err(error) = told {
            let text = format!("on_take_over failed: {error}");
            events.record(plain(Some(service.as_str()), HOOK_FAILED, text));
        }
    });
}
