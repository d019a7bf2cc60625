//! One service's lease: the task that watches, acquires, renews, and lets go.

mod address;
mod ask;
mod leave;
mod note;

use std::sync::Arc;
use std::time::Duration;

use config::Failover;
use engine::address::{Address, Addresses};
use engine::clock;
use engine::images::Prepared;
use engine::lease::Held;
use engine::replica::Epochs;
use engine::replica::peer::Holding;
use policies::failover::turn_after;
use policies::id::{Epoch, NodeName, ServiceName};
use policies::lease::holder::{self, Holder};
use policies::lease::standby::{self, Former, Standby};
use policies::lease::{Moment, Replicated, Sighting};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use super::find::Sources;
use super::{Arrival, Change, Cluster, Tenures};
use crate::carry_out::Node;
use crate::control::Control;
use crate::events::{Events, plain};
use crate::hooks::tell_of_take_over;

/// How long a hand-over may take until it is given up.
const HAND_OVER_MAX: Duration = Duration::from_secs(300);
/// How often it is looked whether an image has arrived.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How many answers may wait; each comes of one question.
const ANSWERS: usize = 16;

/// What the task stands on.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// Leases.
    pub(crate) cluster: Cluster,
    /// What the rest of the daemon sees.
    pub(crate) tenures: Tenures,
    /// For peers: what may be brought here.
    pub(crate) holding: Holding,
    /// For peers: the newest epoch that was seen.
    pub(crate) epochs: Epochs,
    /// Addresses that go with services.
    pub(crate) addresses: Arc<Addresses>,
    /// How a service's task is reached.
    pub(crate) control: Control,
    /// What happened.
    pub(crate) events: Events,
    /// Who begins and ends services.
    pub(crate) daemon: mpsc::Sender<Change>,
    /// Until the supervisor stops.
    pub(crate) stop: CancellationToken,
}

/// What came of something that was commanded.
enum Answer {
    Standby(standby::Event),
    Holder(holder::Event),
    Acquired(Held, Moment),
    Prepared(Box<Result<Option<(Replicated, Prepared)>, String>>),
    /// The service is in this image, which a replica has; or why not.
    LeftIn(Result<String, String>),
}

struct Task {
    ground: Ground,
    service: ServiceName,
    failover: Failover,
    sources: Sources,
    /// Goes with the service.
    address: Option<Address>,
    /// It is being taken.
    taking: Option<AbortHandle>,
    standby: Standby,
    holder: Option<(Holder, Held)>,
    /// The lease is one that an earlier supervisor of this node had acquired.
    resumed: bool,
    /// The service is in an image that is on its way to a standby.
    leaving: bool,
    /// With the next renewal that is answered the lease is let go.
    letting_go: bool,
    renewing: Option<AbortHandle>,
    prepared: Option<(Replicated, Prepared)>,
    preparing: Option<AbortHandle>,
    prepare_at: tokio::time::Instant,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

/// Watches over a service's lease from now on, until it is cancelled.
pub(crate) fn spawn(
    ground: &Ground,
    service: ServiceName,
    failover: Failover,
    node: &Node,
) -> CancellationToken {
    let stop = ground.stop.child_token();
    let ground = Ground { stop: stop.clone(), ..ground.clone() };
    let sources = Sources {
        service: service.clone(),
        store: node.store.clone(),
        host: node.host.clone(),
        replicas: node.replicas.of(&service),
        pushed: node.replicas.clone(),
    };
    let hand_over = ground.tenures.enter(&service);
    let address = address::of(&failover, &service, &ground.events);
    let (sender, answers) = mpsc::channel(ANSWERS);
    let standby = new_standby(&ground.cluster, &failover, place(&failover, &ground.cluster.node));
    let mut task = Task {
        standby,
        ground,
        service,
        failover,
        sources,
        address,
        taking: None,
        holder: None,
        resumed: false,
        leaving: false,
        letting_go: false,
        renewing: None,
        prepared: None,
        preparing: None,
        prepare_at: tokio::time::Instant::now(),
        sender,
        answers,
    };
    tokio::spawn(async move {
        let stop = task.ground.stop.clone();
        // A lease that is held is left as it is: services run on, and the next supervisor goes on with it.
        stop.run_until_cancelled(async {
            task.resume().await;
            loop {
                task.step(&hand_over).await;
            }
        })
        .await;
    });
    stop
}

/// Whoever is not listed as a standby is the first.
fn place(failover: &Failover, node: &NodeName) -> usize {
    failover.standby.iter().position(|standby| standby == node).map_or(0, |at| at + 1)
}

fn new_standby(cluster: &Cluster, failover: &Failover, place: usize) -> Standby {
    let former = if failover.fence.is_some() { Former::FencedByCommand } else { Former::FencesItself };
    let turn = turn_after(place, cluster.settings.renew_interval);
    Standby::new(cluster.settings.clone(), cluster.node.clone(), former, turn)
}

impl Task {
    /// A lease that an earlier supervisor of this node held is gone on with, if it still is ours.
    async fn resume(&mut self) {
        let Some(held) = self.noted() else {
            // What an earlier supervisor may have left of it.
            return self.release_address().await;
        };
        let Ok(sent) = clock::now() else { return };
        match self.keeper().renew(&held, None).await {
            Ok(()) => {
                let epoch = held.epoch();
                self.hold(held, sent);
                self.resumed = true;
                self.tell("lease-held", format!("the lease is still held here, in epoch {epoch}"));
                self.begin(Arrival::AsFound).await;
            }
            Err(error) => {
                self.tell("lease-lost", format!("the lease of an earlier supervisor is not ours: {error}"));
                self.end("its lease was lost while no supervisor ran").await;
            }
        }
    }

    async fn step(&mut self, hand_over: &tokio::sync::Notify) {
        let now = now();
        let standby = if self.resumed { None } else { self.standby.deadline() };
        let due = [standby, self.holder.as_ref().and_then(|(holder, _)| holder.deadline())];
        let wait = due.into_iter().flatten().min().map(|at| at.since(now.monotonic));
        tokio::select! {
            Some(answer) = self.answers.recv() => self.answered(answer).await,
            () = sleep(wait) => self.due().await,
            () = tokio::time::sleep_until(self.prepare_at), if self.wants_prepared() => self.prepare(),
            () = hand_over.notified() => self.hand_over(),
        }
    }

    /// The service is ours, and begun.
    fn holds(&self) -> bool {
        self.holder.is_some() && (self.resumed || self.standby.taken_over().is_some())
    }

    async fn due(&mut self) {
        let now = now();
        if self
            .holder
            .as_ref()
            .is_some_and(|(holder, _)| holder.deadline().is_some_and(|at| at <= now.monotonic))
        {
            self.holder_event(holder::Event::DeadlinePassed).await;
        }
        if !self.resumed && self.standby.deadline().is_some_and(|at| at <= now.monotonic) {
            self.standby_event(standby::Event::DeadlinePassed).await;
        }
    }

    async fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Standby(event) => self.standby_event(event).await,
            Answer::Holder(event) => {
                let renewed = matches!(event, holder::Event::Renewed { .. });
                self.holder_event(event).await;
                if renewed && self.letting_go {
                    self.let_go().await;
                }
            }
            Answer::LeftIn(image) => self.left_in(image),
            Answer::Acquired(held, sent) => {
                let epoch = held.epoch();
                self.hold(held, sent);
                self.tell("lease-acquired", format!("the lease was acquired, in epoch {epoch}"));
                self.standby_event(standby::Event::Acquired { epoch }).await;
            }
            Answer::Prepared(prepared) => self.was_prepared(*prepared),
        }
    }

    async fn standby_event(&mut self, event: standby::Event) {
        if let standby::Event::Seen { sighting, .. } = &event {
            self.saw(sighting);
        }
        if matches!(event, standby::Event::Unreachable) {
            self.ground.tenures.set_status(&self.service, |status| {
                status.not_ready = Some("the store of leases cannot be asked".to_owned());
            });
        }
        match self.standby.handle(now(), event) {
            None => {}
            Some(standby::Command::Read) => self.read(),
            Some(standby::Command::Acquire(over)) => self.acquire(over),
            Some(standby::Command::FenceFormer(node)) => self.fence_former(node),
            Some(standby::Command::FindImage) => self.find(),
            Some(standby::Command::TakeOver(epoch, image)) => self.take_over(epoch, image).await,
            Some(standby::Command::Release) => {
                self.tell("take-over-failed", "no image is new enough here: the lease is let go".to_owned());
                self.holder_event(holder::Event::GivenUp).await;
            }
        }
    }

    async fn holder_event(&mut self, event: holder::Event) {
        let Some((holder, held)) = &mut self.holder else { return };
        let command = holder.handle(now(), event);
        let (standing, held) = (holder.standing(), held.clone());
        match command {
            None => {}
            Some(holder::Command::Renew) => self.renew(held),
            Some(holder::Command::Arm(limit)) => self.ground.tenures.arm(&self.service, limit).await,
            Some(holder::Command::Fence(reason)) => self.fence(reason).await,
            Some(holder::Command::Release) => self.release(held),
        }
        match standing {
            holder::Standing::Fenced(_) | holder::Standing::Released => self.lost().await,
            holder::Standing::Held | holder::Standing::Fencing(_) | holder::Standing::Releasing => {}
        }
    }

    /// Watches again.
    async fn lost(&mut self) {
        if self.holder.take().is_none() {
            return;
        }
        (self.resumed, self.leaving, self.letting_go) = (false, false, false);
        self.ground.tenures.let_go(&self.service);
        self.ground.tenures.unguard(&self.service).await;
        self.forget();
        self.set_role("standby");
        // A boxed step: what follows may itself lose the lease again.
        Box::pin(self.standby_event(standby::Event::Lost)).await;
    }

    fn hold(&mut self, held: Held, sent: Moment) {
        let holder = Holder::new(self.ground.cluster.settings.clone(), held.epoch(), sent);
        self.ground.tenures.held(&self.service, held.epoch(), holder.fence_at());
        self.note(&held);
        let (node, epoch) = (self.ground.cluster.node.to_string(), held.epoch().0);
        self.ground.tenures.set_status(&self.service, |status| {
            (status.role, status.holder, status.epoch) = ("acquiring".to_owned(), Some(node), epoch);
            status.not_ready = None;
        });
        self.holder = Some((holder, held));
    }

    /// The service is stopped at once; then the lease is lost.
    async fn fence(&mut self, reason: holder::Reason) {
        self.ground.tenures.fire(&self.service).await;
        self.tell("fenced", format!("the service is stopped here, its lease is lost: {reason}"));
        self.end("its lease was lost").await;
        self.ground.tenures.fenced(&self.service).await;
        // Sent to ourselves: the holder has to see it as what comes after the command.
        let _ = self.sender.try_send(Answer::Holder(holder::Event::Stopped));
    }

    async fn take_over(&mut self, epoch: Epoch, image: Option<Replicated>) {
        let text = match &image {
            Some(image) => format!("taken over in epoch {epoch}, from image {}", image.image),
            None => format!("taken over in epoch {epoch}; there is no image yet"),
        };
        self.tell("taken-over", text);
        if let Err(error) = self.ground.epochs.present(&self.service, epoch) {
            self.tell("take-over-failed", format!("the epoch could not be noted: {error}"));
        }
        self.begin(if image.is_some() { Arrival::FromImage } else { Arrival::Cold }).await;
    }

    async fn begin(&mut self, arrival: Arrival) {
        self.ground.holding.hold(self.service.clone());
        self.set_role("holder");
        self.take_address();
        let begin = Change::Begin { service: self.service.clone(), arrival };
        // The daemon ends after its tasks.
        let _ = self.ground.daemon.send(begin).await;
        if let Some(hook) = self.failover.on_take_over.clone().filter(|_| arrival != Arrival::AsFound) {
            tell_of_take_over(hook, self.service.clone(), self.ground.events.clone());
        }
    }

    async fn end(&mut self, why: &str) {
        self.release_address().await;
        let (done, ended) = oneshot::channel();
        let end = Change::End { service: self.service.clone(), why: why.to_owned(), done };
        if self.ground.daemon.send(end).await.is_ok() {
            let _ = ended.await;
        }
        self.ground.holding.release(&self.service);
    }

    fn wants_prepared(&self) -> bool {
        self.holder.is_none() && self.preparing.is_none()
    }

    fn was_prepared(&mut self, prepared: Result<Option<(Replicated, Prepared)>, String>) {
        self.preparing = None;
        self.prepare_at = tokio::time::Instant::now() + self.ground.cluster.settings.renew_interval;
        let why = match prepared {
            Ok(Some(newest)) => {
                self.prepared = Some(newest);
                None
            }
            Ok(None) => Some("there is no image of it yet".to_owned()),
            Err(why) => Some(why),
        };
        let image = self.prepared.as_ref().map(|(image, _)| image.image.to_string());
        self.ground.tenures.set_status(&self.service, |status| {
            (status.prepared, status.not_ready) = (image, why);
        });
    }

    fn saw(&self, sighting: &Sighting) {
        if let Some(image) = &sighting.replicated {
            self.ground.tenures.replicated(&self.service, image.clone());
        }
        let holder = sighting.holding.as_ref().map(|holding| holding.node.to_string());
        let epoch = sighting.epoch.0;
        self.ground.tenures.set_status(&self.service, |status| {
            (status.holder, status.epoch) = (holder, epoch);
        });
        if self.holder.is_none() {
            self.set_role("standby");
        }
    }

    fn set_role(&self, role: &str) {
        self.ground.tenures.set_status(&self.service, |status| role.clone_into(&mut status.role));
    }

    fn tell(&self, kind: &str, text: String) {
        self.ground.events.record(plain(Some(self.service.as_str()), kind, text));
    }
}

async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}

/// Kernels without these clocks are none that we run on; at the start of time nothing is held.
fn now() -> Moment {
    clock::now().unwrap_or_default()
}
