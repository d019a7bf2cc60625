//! One task owns one service.
//!
//! ```text
//! inbox, effects that ended, the deadline  ->  policy  ->  commands -> carry_out (apart; comes back as an event)
//!                                                      ->  notices  -> journal of events, waiting requests
//!                                                      ->  status   -> published
//! ```
//!
//! The task never awaits an effect, and it decides nothing: what happens next is said by `policies::service`.

mod ending;
mod reports;
mod spoken;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use config::OnStop;
use engine::runtime::Instance;
use policies::admission::{Admission, Request};
use policies::id::{Attempt, ImageId, ServiceName};
use policies::image::ImageFacts;
use policies::service::{Command, Event, Notice, Reaction, Service, StateName};
use tokio::sync::{mpsc, oneshot, watch};

use self::ending::End;
use self::reports::Reports;
use self::spoken::Spoken;
use crate::api::{ReportAnswer, ReportBody};
use crate::assemble::Parts;
use crate::carry_out::{Actor, Outcome};
use crate::clock::Clock;
use crate::events::Events;
use crate::notices::{self, Told};
use crate::probes::Probing;
use crate::publish;
use crate::status::{Action, Answer, ServiceStatus};

/// What reaches a service's task.
#[derive(Debug)]
pub(crate) enum Message {
    /// Something happened.
    Event(Event),
    /// An effect ended.
    Effect(Box<Outcome>),
    /// A person or program wants something.
    Request {
        /// What.
        action: Action,
        /// Where the answer goes.
        reply: oneshot::Sender<Answer>,
    },
    /// Somebody outside has looked how it is.
    Report {
        /// What was found.
        report: ReportBody,
        /// Where the answer goes.
        reply: oneshot::Sender<ReportAnswer>,
    },
    /// The store's images of this service are others now; the answer comes when what they are is in the inbox.
    ImagesChanged(oneshot::Sender<()>),
    /// Somebody has to know what it is made of.
    Parts(oneshot::Sender<Arc<Parts>>),
    /// The configuration was loaded anew.
    Reload(Arc<Parts>),
    /// It must be started again for its new configuration; then it goes on.
    Restart(Arc<Parts>),
    /// Which services it still waits for; none: go.
    WaitingFor(Vec<String>),
    /// The supervisor stops.
    Shutdown(OnStop),
    /// The service is no longer configured: end it, clear it away.
    Dismiss,
}

/// What a task begins with, worked out by `reclaim`.
#[derive(Debug)]
pub(crate) enum Beginning {
    /// It was found running.
    Adopted(Instance),
    /// It should be running and is not.
    FoundDead(Option<policies::service::Exit>),
    /// Its lease was acquired by this node.
    TakenOver,
    /// To be started once what it depends on is there.
    Start,
    /// The same, from its newest image.
    FromImage,
    /// It was stopped on purpose.
    Stopped,
    /// It is in this image, on purpose.
    Suspended(ImageId),
}

impl Beginning {
    /// Whether it waits for what it depends on.
    pub(crate) const fn is_a_start(&self) -> bool {
        matches!(self, Self::Start | Self::FromImage)
    }
}

/// A running task.
pub(crate) struct Task {
    name: ServiceName,
    policy: Service,
    clock: Clock,
    actor: Actor,
    parts: Arc<Parts>,
    inbox: mpsc::Receiver<Message>,
    own_inbox: mpsc::Sender<Message>,
    status: watch::Sender<ServiceStatus>,
    events: Events,
    probing: Option<(Attempt, Probing)>,
    /// What the run says of itself.
    said: Spoken,
    reports: Reports,
    waiting: Vec<(Action, oneshot::Sender<Answer>)>,
    waiting_for: Vec<String>,
    /// What begins it once it waits for none.
    start: Event,
    last_pause: Option<Duration>,
    /// How often each probe was answered well, and how often not.
    probed: Vec<(u64, u64)>,
    /// What is to happen once it has stopped.
    after_stop: Option<AfterStop>,
    /// How the service ends with us, if it does.
    end: End,
    begun: BTreeMap<Attempt, policies::time::Instant>,
}

enum AfterStop {
    Restart(Arc<Parts>),
    Dismiss,
    /// It is being suspended so that we can stop.
    ShutDown,
}

/// How many messages may wait for a task. Senders wait when it is full; the task itself never sends to its own inbox, only effects do, and they can wait.
const INBOX: usize = 256;

/// Starts a service's task.
pub(crate) fn spawn(
    name: ServiceName,
    parts: Arc<Parts>,
    actor: Actor,
    events: Events,
    beginning: Beginning,
    paused: bool,
) -> (crate::control::Entry, tokio::task::JoinHandle<()>) {
    let (own_inbox, inbox) = mpsc::channel(INBOX);
    let (status, published) = watch::channel(ServiceStatus { name: name.to_string(), ..Default::default() });
    let task = Task {
        policy: Service::new(parts.policy.clone(), seed(&name)),
        clock: Clock::start(),
        actor,
        parts: Arc::clone(&parts),
        inbox,
        own_inbox: own_inbox.clone(),
        status,
        events,
        probing: None,
        said: Spoken::default(),
        reports: Reports::default(),
        waiting: Vec::new(),
        waiting_for: match beginning.is_a_start() {
            true => parts.depends_on.iter().map(ToString::to_string).collect(),
            false => Vec::new(),
        },
        start: match beginning {
            Beginning::FromImage => Event::ImageStartRequested,
            _ => Event::StartRequested,
        },
        last_pause: None,
        probed: vec![(0, 0); parts.probes.len()],
        after_stop: None,
        end: End::Not,
        begun: BTreeMap::new(),
        name,
    };
    let handle = tokio::spawn(task.run(beginning, paused));
    (crate::control::Entry { inbox: own_inbox, status: published }, handle)
}

impl Task {
    async fn run(mut self, beginning: Beginning, paused: bool) {
        self.actor.connect(self.own_inbox.clone());
        self.actor.list_images();
        self.wait_for_images().await;
        if paused {
            self.happen(Event::PauseRequested);
        }
        self.begin(beginning);
        while !self.is_over() {
            self.publish();
            let deadline = self.policy.deadline().map(|at| self.clock.real(at));
            tokio::select! {
                message = self.inbox.recv() => match message {
                    Some(message) => self.receive(message),
                    None => break,
                },
                () = sleep_until(deadline) => self.happen(Event::DeadlineReached),
                // It is published with the rest.
                () = self.said.more() => {}
            }
        }
        self.publish();
        self.end_with_us().await;
        self.actor.settle().await;
    }

    /// The first decision may need the images: they are listed before it.
    async fn wait_for_images(&mut self) {
        while let Some(message) = self.inbox.recv().await {
            let listed = matches!(&message, Message::Effect(outcome) if outcome.is_listing());
            self.receive(message);
            if listed {
                return;
            }
        }
    }

    fn begin(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::Adopted(instance) => {
                self.happen(Event::Adopted);
                if let Some(run) = self.policy.status().run {
                    self.actor.watch(run, instance);
                }
                self.follow_run();
            }
            Beginning::FoundDead(exit) => self.happen(Event::FoundDead { exit }),
            Beginning::TakenOver => self.happen(Event::TakenOver),
            Beginning::Start | Beginning::FromImage if self.waiting_for.is_empty() => {
                self.happen(self.start.clone());
            }
            Beginning::Start | Beginning::FromImage => {}
            Beginning::Stopped => {}
            Beginning::Suspended(image) => self.happen(Event::FoundSuspended { image }),
        }
    }

    fn is_over(&self) -> bool {
        let state = self.policy.status().state;
        match &self.after_stop {
            Some(AfterStop::Dismiss) => {
                matches!(state, StateName::Stopped | StateName::Idle | StateName::Failed)
            }
            _ => state == StateName::Idle,
        }
    }

    fn receive(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.happen(event),
            Message::Effect(outcome) => self.effect_ended(*outcome),
            Message::Request { action, reply } => self.request(action, reply),
            Message::Report { report, reply } => {
                // Whoever reports may have gone.
                let _ = reply.send(self.report(&report));
            }
            Message::ImagesChanged(listed) => self.actor.list_images_for(listed),
            Message::Parts(reply) => {
                // Whoever asked may have gone.
                let _ = reply.send(Arc::clone(&self.parts));
            }
            Message::Reload(parts) => self.reload(&parts),
            Message::Restart(parts) => self.restart(parts),
            Message::WaitingFor(names) => {
                let go = names.is_empty() && !self.waiting_for.is_empty();
                self.waiting_for = names;
                if go {
                    self.happen(self.start.clone());
                }
            }
            Message::Shutdown(on_stop) => self.shut_down(on_stop),
            Message::Dismiss => {
                self.after_stop = Some(AfterStop::Dismiss);
                self.happen(Event::StopRequested);
            }
        }
    }

    fn effect_ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Began { attempt, event, instance } => {
                // Its exit is watched from the first moment, whatever the policy makes of the answer.
                if let Some(instance) = instance {
                    self.actor.watch(attempt, instance);
                }
                self.happen(event);
            }
            Outcome::Happened(event) => self.happen(event),
            Outcome::Listed(images) => self.happen(Event::ImagesListed { images }),
        }
    }

    fn happen(&mut self, event: Event) {
        self.note(&event);
        let Reaction { commands, notices } = self.policy.handle(self.clock.now(), event);
        for notice in notices {
            self.tell(&notice);
        }
        for command in commands {
            self.act(command);
        }
        self.follow_run();
        self.after_stopping();
    }

    /// What is published beside what the policy knows.
    fn note(&mut self, event: &Event) {
        if let Event::CheckpointDone { pause, .. } = event {
            self.last_pause = Some(*pause);
        }
        if let Event::ProbeFinished { probe, passed, .. } | Event::ProbeReported { probe, passed, .. } = event
            && let Some((good, bad)) = self.probed.get_mut(*probe)
        {
            *(if *passed { good } else { bad }) += 1;
        }
    }

    fn act(&mut self, command: Command) {
        if let Some(attempt) = command.attempt() {
            self.begun.insert(attempt, self.clock.now());
        }
        let paused = self.policy.status().paused;
        self.actor.carry_out(command, paused);
    }

    /// Probes belong to a run: with each new run they begin anew.
    fn follow_run(&mut self) {
        let run = self.policy.status().run;
        if self.probing.as_ref().map(|(of, _)| *of) == run {
            return;
        }
        self.reports = Reports::default();
        self.probing = run.map(|run| {
            let (instance, freezes) = (self.actor.running(), self.actor.freezes());
            let probing =
                Probing::start(run, &self.parts.probes, instance.as_ref(), freezes, &self.own_inbox);
            self.said = instance.as_ref().map(Spoken::of).unwrap_or_default();
            (run, probing)
        });
        if run.is_none() {
            self.said = Spoken::default();
        }
    }

    fn tell(&mut self, notice: &Notice) {
        let Told { mut record, settles } = notices::tell(self.name.as_str(), notice);
        if let Notice::CheckpointTaken { image, .. } = notice {
            record.ran_after_ms = self.actor.thawed_after(image).map(|after| after.as_secs_f64() * 1e3);
        }
        self.events.record(record.clone());
        if matches!(notice, Notice::Recovered(_)) {
            self.actor.keep_files();
        }
        if let Some(settles) = settles {
            notices::settle(&mut self.waiting, settles, &record);
        }
    }

    fn request(&mut self, action: Action, reply: oneshot::Sender<Answer>) {
        let event = match notices::to_event(&action) {
            Ok(event) => event,
            Err(why) => {
                let _ = reply.send(notices::answer("denied", why));
                return;
            }
        };
        match self.policy.admit(&notices::to_request(&action, &event)) {
            Admission::Deny(denial) => {
                let _ = reply.send(notices::answer("denied", denial.to_string()));
            }
            Admission::AlreadySo => {
                let _ = reply.send(notices::answer("already-so", "it is so already"));
            }
            Admission::Accept => {
                self.waiting_for.clear();
                match action {
                    Action::Pause | Action::Unpause => {
                        self.happen(event);
                        self.actor.note_paused(action == Action::Pause);
                        let _ = reply.send(notices::answer("done", "done"));
                    }
                    Action::Checkpoint
                    | Action::Restore { .. }
                    | Action::Stop
                    | Action::Start
                    | Action::Suspend
                    | Action::Resume => {
                        self.waiting.push((action, reply));
                        self.happen(event);
                    }
                }
            }
        }
    }

    /// What runs the service stays; everything else is as in the new configuration.
    fn reload(&mut self, parts: &Parts) {
        self.take_over(Arc::new(parts.run_by(&self.parts)));
    }

    fn take_over(&mut self, parts: Arc<Parts>) {
        let probes_changed = parts.probes != self.parts.probes;
        self.parts = Arc::clone(&parts);
        self.actor.reload(Arc::clone(&parts));
        // Images of what it was before are none of what it is now.
        self.actor.list_images();
        if probes_changed {
            // Results of the former probes must not be taken for the new ones'.
            self.probing = None;
            self.probed = vec![(0, 0); self.parts.probes.len()];
        }
        self.happen(Event::SettingsChanged(Box::new(parts.policy.clone())));
    }

    fn restart(&mut self, parts: Arc<Parts>) {
        let suspended = self.policy.status().state == StateName::Suspended;
        if !suspended && self.policy.admit(&Request::Stop) == Admission::Accept {
            self.after_stop = Some(AfterStop::Restart(parts));
            self.happen(Event::StopRequested);
        } else {
            // It does not run; the next start is by the new configuration.
            self.take_over(parts);
        }
    }

    fn after_stopping(&mut self) {
        if matches!(self.after_stop, Some(AfterStop::ShutDown)) {
            return self.shut_down_suspended();
        }
        if self.policy.status().state != StateName::Stopped {
            return;
        }
        if let Some(AfterStop::Restart(parts)) =
            self.after_stop.take_if(|a| matches!(a, AfterStop::Restart(_)))
        {
            self.take_over(parts);
            self.happen(Event::StartRequested);
        }
    }

    fn publish(&self) {
        let mut status = publish::status(
            self.name.as_str(),
            self.parts.kind(),
            &self.policy.status(),
            self.policy.images(),
            self.clock.now(),
            &self.parts,
        );
        status.pid = self.actor.pid();
        status.members = self.actor.members();
        status.says = self.said.text();
        for (probe, (passed, failed)) in status.probes.iter_mut().zip(&self.probed) {
            (probe.passed, probe.failed) = (*passed, *failed);
        }
        status.waiting_for = self.waiting_for.clone();
        status.checkpoint.last_pause_ms = self.last_pause.map(|p| p.as_secs_f64() * 1e3);
        self.status.send_if_modified(|old| {
            let changed = *old != status;
            *old = status;
            changed
        });
    }
}

/// The images that a listing found, ready for the policy.
pub(crate) type Listing = Vec<ImageFacts>;

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Jitter differs from service to service and from start to start.
fn seed(name: &ServiceName) -> u64 {
    let now = engine::clock::wall().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut seed = now.as_nanos() as u64 ^ u64::from(std::process::id());
    for byte in name.as_str().bytes() {
        seed = seed.rotate_left(7) ^ u64::from(byte);
    }
    seed
}
