//! One service's lease: the task that watches, acquires, renews, and lets go.

mod address;
mod aftermath;
mod ask;
mod leave;
mod note;
mod resume;
mod said;
mod turn;

use std::sync::Arc;
use std::time::Duration;

use config::Failover;
use engine::address::{Address, Addresses};
use engine::clock;
use engine::images::Prepared;
use engine::lease::Held;
use engine::replica::Epochs;
use engine::replica::peer::Holding;
use engine::runtime::Runtime;
use policies::id::{Epoch, ServiceName};
use policies::lease::holder::{self, Holder};
use policies::lease::standby::{self, Standby};
use policies::lease::{AtRest, Moment, Replicated};
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use self::leave::Leaving;
use self::turn::Unfit;
use super::find::Sources;
use super::{Arrival, Change, Cluster, Handing, Nodes, Tenures, Wish};
use crate::carry_out::Node;
use crate::control::Control;
use crate::events::{Events, plain};
use crate::hooks::tell_of_take_over;

/// How many answers may wait; each comes of one question.
const ANSWERS: usize = 16;

/// What the task stands on.
#[derive(Debug, Clone)]
pub(crate) struct Ground {
    /// Leases.
    pub(crate) cluster: Cluster,
    /// What the other nodes say.
    pub(crate) nodes: Nodes,
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

/// What is configured of one service.
pub(crate) struct Wanted {
    /// Who else may run it, and what goes with it.
    pub(crate) failover: Failover,
    /// How long a node that could not bring it back counts as unfit.
    pub(crate) window: Duration,
    /// What would run it here; or why nothing could.
    pub(crate) runtime: Result<Arc<dyn Runtime>, String>,
}

/// What came of something that was commanded.
enum Answer {
    Standby(standby::Event),
    Holder(holder::Event),
    Acquired(Held, Moment),
    Prepared {
        newest: Box<Result<Option<(Replicated, Prepared)>, String>>,
        /// Why nothing could be restored here, images aside.
        unable: Option<String>,
    },
    /// What nodes say is known anew: now it can be chosen.
    Refreshed(Wish),
    /// A replica has this image of the running service: the real one may begin; or why not.
    Rehearsed(Result<String, String>),
    /// A peer takes it directly; or why none does.
    Agreed(Result<Box<Handing>, String>),
    /// The service is in this image, which a replica has; or why not.
    LeftIn(Result<String, String>),
    /// It serves where it was to go, or that was waited for in vain.
    Arrived(Result<(), String>),
}

struct Task {
    ground: Ground,
    service: ServiceName,
    failover: Failover,
    /// How long a node that could not bring it back counts as unfit.
    window: Duration,
    sources: Sources,
    /// Commits take turns.
    commits: Arc<Semaphore>,
    /// Told when the other node serves what was given to it.
    served: Option<Arc<Notify>>,
    /// Goes with the service.
    address: Option<Address>,
    /// It is being taken.
    taking: Option<JoinHandle<()>>,
    standby: Standby,
    holder: Option<(Holder, Held)>,
    /// The lease is one that an earlier supervisor of this node had acquired.
    resumed: bool,
    /// It is on its way to another node.
    leaving: Option<Leaving>,
    /// Whether it rests on purpose where it is held.
    at_rest: Option<AtRest>,
    /// Nothing helped here: others are preferred for a while.
    unfit: Unfit,
    renewing: Option<AbortHandle>,
    prepared: Option<(Replicated, Prepared)>,
    preparing: Option<AbortHandle>,
    prepare_at: tokio::time::Instant,
    sender: mpsc::Sender<Answer>,
    answers: mpsc::Receiver<Answer>,
}

/// Watches over a service's lease from now on, until it is cancelled.
pub(crate) fn spawn(ground: &Ground, service: ServiceName, wanted: Wanted, node: &Node) -> CancellationToken {
    let Wanted { failover, window, runtime } = wanted;
    let stop = ground.stop.child_token();
    let ground = Ground { stop: stop.clone(), ..ground.clone() };
    let sources = Sources {
        service: service.clone(),
        store: node.store.clone(),
        host: node.host.clone(),
        runtime,
        replicas: node.replicas.of(&service),
        pushed: node.replicas.clone(),
    };
    let address = address::of(&failover, &service, &ground.events);
    let fenced = address.as_ref().map(|address| ground.addresses.fenced(address));
    let mut wishes = ground.tenures.enter(&service, fenced);
    let (sender, answers) = mpsc::channel(ANSWERS);
    let mut task = Task {
        standby: turn::new_standby(&ground.cluster, &failover),
        ground,
        service,
        failover,
        window,
        sources,
        commits: Arc::clone(&node.commits),
        served: None,
        address,
        taking: None,
        holder: None,
        resumed: false,
        leaving: None,
        at_rest: None,
        unfit: Unfit::default(),
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
                task.step(&mut wishes).await;
            }
        })
        .await;
    });
    stop
}

impl Task {
    async fn step(&mut self, wishes: &mut mpsc::Receiver<Wish>) {
        let now = now();
        let standby = if self.resumed { None } else { self.standby.deadline() };
        let due = [standby, self.holder.as_ref().and_then(|(holder, _)| holder.deadline())];
        let wait = due.into_iter().flatten().min().map(|at| at.since(now.monotonic));
        tokio::select! {
            Some(answer) = self.answers.recv() => self.answered(answer).await,
            () = sleep(wait) => self.due().await,
            () = tokio::time::sleep_until(self.prepare_at), if self.wants_prepared() => self.prepare(),
            Some(wish) = wishes.recv() => self.refresh_for(wish),
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
                let renewed = match event {
                    holder::Event::Renewed { sent } => Some(sent),
                    _ => None,
                };
                self.holder_event(event).await;
                if renewed.is_some_and(|sent| self.may_let_go(sent)) {
                    self.let_go().await;
                }
            }
            Answer::Refreshed(wish) => self.wished(wish).await,
            Answer::Rehearsed(rehearsed) => self.rehearsed(rehearsed),
            Answer::Agreed(agreed) => self.agreed(agreed).await,
            Answer::LeftIn(image) => self.left_in(image).await,
            Answer::Arrived(arrived) => self.arrived(arrived),
            Answer::Acquired(held, sent) => {
                let epoch = held.epoch();
                self.came_back();
                self.hold(held, sent);
                self.take_address();
                self.tell("lease-acquired", format!("the lease was acquired, in epoch {epoch}"));
                self.standby_event(standby::Event::Acquired { epoch }).await;
            }
            Answer::Prepared { newest, unable } => self.was_prepared(*newest, unable),
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
        let turn = self.turn();
        self.standby.turn(turn);
        match self.standby.handle(now(), event) {
            None => {}
            Some(standby::Command::Read) => self.read(),
            Some(standby::Command::Acquire(over)) => self.acquire(over),
            Some(standby::Command::FenceFormer(node)) => self.fence_former(node),
            Some(standby::Command::FindImage) => self.find(),
            Some(standby::Command::TakeOver(epoch, image)) => self.take_over(epoch, image).await,
            Some(standby::Command::Release) => {
                self.tell("take-over-failed", "no image is new enough here: the lease is let go".to_owned());
                self.unfit.for_a(self.window, now());
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
            Some(holder::Command::Renew) => self.renew(held).await,
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
        self.resumed = false;
        self.release_address().await;
        self.lost_while_leaving();
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
        // Boxed: it is a handler of the holder's commands that tells the holder.
        Box::pin(self.holder_event(holder::Event::Stopped)).await;
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
        self.begin(match (self.at_rest, image) {
            (Some(AtRest::Stopped), _) => Arrival::Stopped,
            (Some(AtRest::Suspended), Some(image)) => Arrival::Suspended(image.image),
            (None, Some(_)) => Arrival::FromImage,
            (None | Some(AtRest::Suspended), None) => Arrival::Cold,
        })
        .await;
    }

    async fn begin(&mut self, arrival: Arrival) {
        self.ground.holding.hold(self.service.clone());
        self.set_role("holder");
        self.take_address();
        let anew = matches!(arrival, Arrival::FromImage | Arrival::Cold);
        let begin = Change::Begin { service: self.service.clone(), arrival };
        // The daemon ends after its tasks.
        let _ = self.ground.daemon.send(begin).await;
        if let Some(hook) = self.failover.on_take_over.clone().filter(|_| anew) {
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
