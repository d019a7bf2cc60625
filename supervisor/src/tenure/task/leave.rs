//! A service on its way to another node, with the state of its last moment.
//!
//! ```text
//! wish ─ who is there? ─ chosen ─ rehearsal: an image of the running service reaches a replica ─ does a peer take it directly?
//!      ─ the lease names the node ─ suspended; that image is hot at the peer, or reaches a replica; the lease says so ─ let go
//!      ─ the other node acquires, restores, serves
//! ```
//!
//! Until it is let go a failure leaves it here, running on; after that this node stands by, and brings it back from that very image if
//! the other does not take it. A dead service, for which nothing helped here, goes without rehearsal and image.

use std::sync::Arc;
use std::time::Duration;

use policies::id::{ImageId, NodeName};
use policies::lease::{Moment, holder};
use policies::service::Event;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

use super::{Answer, Task, now, turn};
use crate::notices::answer;
use crate::service::Message;
use crate::status::{Action, Answer as Answered};
use crate::tenure::Wish;
use crate::tenure::handing::{Handing, Wanted};

/// States of a service that rests on purpose.
const AT_REST: [&str; 2] = ["stopped", "suspended"];
/// How long each part of a move may take until it is given up.
const PART_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether an image has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the store is asked whether the service has.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A service that is to be elsewhere.
#[derive(Debug)]
pub(super) struct Leaving {
    to: NodeName,
    stage: Stage,
    /// It goes directly.
    handing: Option<Arc<Handing>>,
    reply: Option<oneshot::Sender<Answered>>,
}

#[derive(Debug)]
enum Stage {
    /// It runs here while an image of it is brought to a replica.
    Rehearsing,
    /// It is put into its last image here, which is brought to a replica.
    Suspending,
    /// A renewal sent since then is the last.
    LettingGo { since: Moment },
    /// The other node has the word.
    Gone,
}

impl Leaving {
    /// Whom the lease names.
    pub(super) fn next(&self) -> Option<NodeName> {
        match self.stage {
            Stage::Rehearsing => None,
            Stage::Suspending | Stage::LettingGo { .. } | Stage::Gone => Some(self.to.clone()),
        }
    }
}

impl Task {
    /// What the others say is read anew before one is chosen.
    pub(super) fn refresh_for(&self, wish: Wish) {
        let (nodes, control) = (self.ground.nodes.clone(), self.ground.control.clone());
        self.ask(move |_| async move {
            nodes.exchange(&control).await;
            Some(Answer::Refreshed(wish))
        });
    }

    pub(super) async fn wished(&mut self, wish: Wish) {
        match wish {
            Wish::Move { to, reply } => self.begin_to_move(to.as_ref(), reply),
            Wish::Leave => self.leave_dead().await,
        }
    }

    fn begin_to_move(&mut self, to: Option<&NodeName>, reply: oneshot::Sender<Answered>) {
        let refusal = match (self.holds(), &self.leaving) {
            (false, _) => Some("the service is not held by this node".to_owned()),
            (true, Some(leaving)) => Some(format!("the service is on its way to {} already", leaving.to)),
            (true, None) => None,
        };
        let chosen = match refusal {
            Some(refusal) => Err(refusal),
            None => self.ground.nodes.choose(&self.service, &self.failover, to),
        };
        let to = match chosen {
            Ok(to) => to,
            Err(why) => {
                // Whoever asked may have gone.
                let _ = reply.send(answer("denied", why));
                return;
            }
        };
        self.tell("handing-over", format!("the service goes to node {to}"));
        self.leaving = Some(Leaving { to, stage: Stage::Rehearsing, handing: None, reply: Some(reply) });
        self.bring_to_a_replica(Action::Checkpoint, Answer::Rehearsed);
    }

    /// Has an image made and waits until a replica has it.
    fn bring_to_a_replica(
        &self,
        action: Action,
        tell: impl FnOnce(Result<String, String>) -> Answer + Send + 'static,
    ) {
        let (control, replicas) = (self.ground.control.clone(), self.sources.pushed.clone());
        let service = self.service.to_string();
        self.ask(move |_| async move {
            let made = control.ask(&service, action, PART_MAX).await;
            let image = match made.map_err(|e| e.to_string()) {
                Ok(Answered { outcome, image: Some(image), .. }) if outcome == "done" => image,
                Ok(answer) => return Some(tell(Err(answer.text))),
                Err(why) => return Some(tell(Err(why))),
            };
            let arrived = looked(|| replicas.has(&image).then_some(())).await;
            Some(tell(arrived.map(|()| image).ok_or_else(|| "no replica has taken its image".to_owned())))
        });
    }

    /// A peer may take it directly. That is asked, and made ready, while the service still runs.
    pub(super) fn rehearsed(&mut self, rehearsed: Result<String, String>) {
        let (Some(leaving), Some((holder, _))) = (&self.leaving, &self.holder) else { return };
        let base = rehearsed.and_then(|id| ImageId::try_from(id.as_str()).map_err(|e| e.to_string()));
        let base = match base {
            Ok(base) => base,
            Err(why) => return self.stay(&why),
        };
        let (service, node, epoch) = (self.service.clone(), leaving.to.clone(), holder.epoch());
        let wanted = Wanted { service, epoch, node, base };
        let (store, replicas) = (self.sources.store.clone(), self.sources.replicas.clone());
        self.ask(move |_| async move {
            let agreeing = timeout(PART_MAX, Handing::agree(&store, &replicas, wanted));
            let agreed = agreeing.await.unwrap_or_else(|_| Err("no peer agrees in time".to_owned()));
            Some(Answer::Agreed(agreed.map(Box::new)))
        });
    }

    pub(super) async fn agreed(&mut self, agreed: Result<Box<Handing>, String>) {
        let Some(leaving) = &mut self.leaving else { return };
        if let Err(why) = &agreed {
            tracing::info!(service = %self.service, "the service goes by the disk: {why}");
        }
        leaving.handing = agreed.ok().map(|handing| Arc::new(*handing));
        self.ground.tenures.hand_by(&self.service, leaving.handing.clone());
        leaving.stage = Stage::Suspending;
        // Whoever is named looks more often from now on.
        if let Some((_, held)) = &self.holder {
            self.renew(held.clone()).await;
        }
        self.bring_to_a_replica(Action::Suspend, Answer::LeftIn);
    }

    /// The image is at a replica. That goes into the lease with one more renewal; then it is let go.
    pub(super) async fn left_in(&mut self, image: Result<String, String>) {
        match image {
            Ok(image) => {
                let how = self.handing().map_or_else(String::new, |handing| handing.told());
                self.tell("handed-over", format!("the service is handed over in image {image}{how}"));
                self.let_go_soon().await;
            }
            Err(why) => {
                // It may be suspended already.
                let (control, service) = (self.ground.control.clone(), self.service.to_string());
                tokio::spawn(async move { control.ask(&service, Action::Resume, PART_MAX).await });
                self.stay(&why);
            }
        }
    }

    async fn let_go_soon(&mut self) {
        let Some((_, held)) = &self.holder else { return };
        let held = held.clone();
        if let Some(leaving) = &mut self.leaving {
            leaving.stage = Stage::LettingGo { since: now() };
        }
        self.renew(held).await;
    }

    /// Whether what a renewal said is all that was to be said.
    pub(super) fn may_let_go(&self, sent: Moment) -> bool {
        self.leaving.as_ref().is_some_and(|leaving| {
            matches!(leaving.stage, Stage::LettingGo { since } if sent.monotonic >= since.monotonic)
        })
    }

    pub(super) async fn let_go(&mut self) {
        let Some(leaving) = &mut self.leaving else { return };
        leaving.stage = Stage::Gone;
        let to = leaving.to.clone();
        self.end("it was handed over").await;
        self.keep_what_was_given();
        self.standby = turn::new_standby(&self.ground.cluster, &self.failover);
        self.resumed = false;
        self.wait_for_arrival(to);
        self.holder_event(holder::Event::GivenUp).await;
    }

    fn wait_for_arrival(&self, to: NodeName) {
        let (nodes, control) = (self.ground.nodes.clone(), self.ground.control.clone());
        let service = self.service.clone();
        self.ask(move |_| async move {
            let begun = Instant::now();
            while begun.elapsed() < PART_MAX {
                nodes.exchange(&control).await;
                let said = nodes.says(&to, &service);
                if said.is_some_and(|said| {
                    said.role == "holder" && (said.serves || AT_REST.contains(&said.state.as_str()))
                }) {
                    return Some(Answer::Arrived(Ok(())));
                }
                sleep(ASK_EVERY).await;
            }
            Some(Answer::Arrived(Err(format!("{to} does not say that it serves there"))))
        });
    }

    pub(super) fn arrived(&mut self, arrived: Result<(), String>) {
        let Some(leaving) = self.leaving.take_if(|leaving| matches!(leaving.stage, Stage::Gone)) else {
            return;
        };
        self.given_is_served();
        let to = leaving.to.clone();
        match arrived {
            Ok(()) => {
                self.tell("moved", format!("the service serves on node {to}"));
                leaving.reply("done", format!("the service serves on node {to}"));
            }
            Err(why) => leaving.reply("accepted", why),
        }
    }

    /// The lease is ours again: the other node did not take it.
    pub(super) fn came_back(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            let text = format!("{} did not take the service; it is brought back here", leaving.to);
            self.tell("hand-over-failed", text.clone());
            leaving.reply("failed", text);
        }
    }

    /// The lease was lost. That was to be only if it was let go.
    pub(super) fn lost_while_leaving(&mut self) {
        if let Some(leaving) = self.leaving.take_if(|leaving| !matches!(leaving.stage, Stage::Gone)) {
            leaving.reply("failed", "the lease was lost meanwhile".to_owned());
        }
    }

    pub(super) fn handing(&self) -> Option<&Arc<Handing>> {
        self.leaving.as_ref()?.handing.as_ref()
    }

    fn stay(&mut self, why: &str) {
        self.ground.tenures.hand_by(&self.service, None);
        let text = format!("the service stays here: {why}");
        self.tell("hand-over-failed", text.clone());
        if let Some(leaving) = self.leaving.take() {
            leaving.reply("failed", text);
        }
    }

    /// A standby is to have what could not be brought back here; if none is ready, the ladder goes on.
    async fn leave_dead(&mut self) {
        if !self.holds() {
            // It was lost meanwhile, and the service with it.
            return;
        }
        let chosen = match &self.leaving {
            Some(leaving) => Err(format!("the service was on its way to {}", leaving.to)),
            None => self.ground.nodes.choose(&self.service, &self.failover, None),
        };
        match chosen {
            Ok(to) => {
                self.tell("handing-over", format!("nothing helps here; the service is left to node {to}"));
                self.unfit.for_a(self.window, now());
                self.leaving = Some(Leaving { to, stage: Stage::Suspending, handing: None, reply: None });
                self.let_go_soon().await;
            }
            Err(why) => {
                if let Ok(entry) = self.ground.control.entry(self.service.as_str()).await {
                    // A task that has ended has nothing to go on with.
                    let _ = entry.inbox.send(Message::Event(Event::FailOverRefused { why })).await;
                }
            }
        }
    }
}

impl Leaving {
    fn reply(self, outcome: &str, text: String) {
        if let Some(reply) = self.reply {
            // Whoever asked may have gone.
            let _ = reply.send(answer(outcome, text));
        }
    }
}

/// Looks until something is so, or the time is up.
async fn looked<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    while begun.elapsed() < PART_MAX {
        if let Some(found) = look() {
            return Some(found);
        }
        sleep(LOOK_EVERY).await;
    }
    None
}
