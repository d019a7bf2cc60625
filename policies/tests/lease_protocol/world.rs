//! What is around the state machines: time, clocks, store, network, images. One step of time is one second; a slow and a
//! fast clock differ by exactly the bound.

use std::collections::BTreeMap;
use std::time::Duration;

use policies::id::{Epoch, ImageId, NodeName};
use policies::lease::holder::{self, Holder};
use policies::lease::standby::{self, Former, Standby};
use policies::lease::{Expiry, Holding, Moment, Replicated, Settings, Sighting};
use stateright::{Model, Property};

pub(crate) const ONE_ACTS: &str = "never do two act at once";
pub(crate) const ONE_HOLDER_PER_EPOCH: &str = "one node at most acts in an epoch";
pub(crate) const NOTHING_OLDER: &str = "nothing older than acknowledged is restored";

const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];

/// Where the protocol is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    CountedFromAnswer,
    DriftBeyondBound,
    SleepUnnoticed,
    FenceWaitsForNode,
    ReaderImpatient,
    EpochReused,
    AcknowledgedUnread,
}

/// What may happen beside time and messages. Apart, since together they multiply what there is to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Events {
    /// The holder's machine is suspended, once.
    Sleep,
    /// One image of each run reaches a replica.
    Images,
}

/// How much of it there is: as little as shows everything, to be explored whole; or more, to be walked through at random.
#[derive(Clone, Debug)]
pub(crate) struct Size {
    /// Milliseconds of its own that each node's clocks count in a second, if they keep to the bound.
    pub(crate) rates: Vec<u64>,
    /// Renewals after which the holder hears of no more; what follows is the same as after the one before.
    pub(crate) renewals_max: u64,
    /// The horizon, after the lease's time: its end, a take-over, and the former holder's awakening.
    pub(crate) seconds: u64,
    /// Whether the first holder, once it is fenced, is a standby as the others are.
    pub(crate) first_stands_by: bool,
}

/// One configuration of the model.
pub(crate) struct World {
    expiry: Expiry,
    events: Events,
    flaw: Flaw,
    size: Size,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) second: u64,
    store: Store,
    pub(crate) nodes: Vec<Node>,
    /// Who acted in which epoch.
    acted: BTreeMap<Epoch, usize>,
    acknowledged: Option<Replicated>,
    /// What was fenced, taken over: that it happens at all.
    pub(crate) fenced: bool,
    pub(crate) taken_over: bool,
    pub(crate) broken: Option<&'static str>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Store {
    sighting: Sighting,
    /// Only where the store lets leases expire.
    expires: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Node {
    monotonic_ms: u64,
    boottime_ms: u64,
    pub(crate) asleep: bool,
    standby: Option<Standby>,
    holder: Option<Holder>,
    /// What the fence was told last.
    armed: Option<Moment>,
    pub(crate) running: Option<Epoch>,
    /// Newest image taken here, and the newest that is here, whoever took it.
    taken: Option<Replicated>,
    pub(crate) kept: Option<Replicated>,
    /// The newest of ours that some replica has.
    copied: Option<Replicated>,
    pub(crate) request: Option<Request>,
    pub(crate) answer: Option<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Request {
    sent: Moment,
    what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum What {
    Read,
    Acquire(Sighting),
    Renew(Epoch, Option<Replicated>),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Seen(Sighting),
    Acquired(Epoch, Moment),
    Refused,
    Renewed(Moment, Option<Replicated>),
    Superseded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Second,
    /// A node's loop runs: its deadline has passed.
    Wake(usize),
    /// The store handles a request.
    Serve(usize),
    Deliver(usize),
    Sleep(usize),
    Awake(usize),
    /// An image is taken and copied to the other node, or to a replica that only its own node reaches.
    Replicate(usize),
    ReplicateElsewhere(usize),
}

impl Size {
    /// Two nodes: the holder's clock is slow, the standby's fast.
    fn smallest() -> Self {
        Self { rates: vec![750, 1250], renewals_max: 1, seconds: 4, first_stands_by: false }
    }
}

impl World {
    /// Explored whole.
    pub(crate) fn new(expiry: Expiry, events: Events, flaw: Flaw) -> Self {
        Self { expiry, events, flaw, size: Size::smallest() }
    }

    /// As large as this.
    pub(crate) const fn of(size: Size, expiry: Expiry, flaw: Flaw) -> Self {
        Self { expiry, events: Events::Images, flaw, size }
    }

    /// As short as it can be; an answer can be late by seconds only where there are some.
    fn ttl(&self) -> u64 {
        if self.flaw == Flaw::CountedFromAnswer { 6 } else { 4 }
    }

    fn last_second(&self) -> u64 {
        self.ttl() + self.size.seconds
    }

    fn settings(&self) -> Settings {
        let seconds = Duration::from_secs;
        Settings {
            ttl: seconds(self.ttl()),
            renew_interval: seconds(1),
            drift_ppm: 250_000,
            stop_margin: seconds(1),
        }
    }

    fn rate(&self, node: usize) -> u64 {
        match (node, self.flaw) {
            (0, Flaw::DriftBeyondBound) => 500,
            (_, Flaw::DriftBeyondBound) => 1500,
            (_, _) => self.size.rates[node],
        }
    }

    fn now(&self, node: &Node) -> Moment {
        let at = |ms: u64| policies::time::Instant::from_nanos(ms * 1_000_000);
        let boottime = if self.flaw == Flaw::SleepUnnoticed { node.monotonic_ms } else { node.boottime_ms };
        Moment { monotonic: at(node.monotonic_ms), boottime: at(boottime) }
    }

    fn second(&self, state: &mut State) {
        state.second += 1;
        for index in 0..state.nodes.len() {
            let rate = self.rate(index);
            let node = &mut state.nodes[index];
            node.boottime_ms += rate;
            if !node.asleep {
                node.monotonic_ms += rate;
                self.fence(state, index);
            }
        }
        let expired = self.expiry == Expiry::ByStore && state.second >= state.store.expires;
        if expired {
            state.store.sighting.holding = None;
        }
    }

    /// The fence needs nobody; it has done its work within the margin at the latest, which is when it does it here.
    fn fence(&self, state: &mut State, index: usize) {
        let node = &mut state.nodes[index];
        let Some(armed) = node.armed.filter(|_| self.flaw != Flaw::FenceWaitsForNode) else { return };
        if self.now(node).has_passed(armed.after(self.settings().stop_margin)) {
            self.stop(state, index);
        }
    }

    fn stop(&self, state: &mut State, index: usize) {
        let node = &mut state.nodes[index];
        state.fenced |= node.running.take().is_some();
        node.armed = None;
    }

    fn wake(&self, state: &mut State, index: usize) {
        let now = self.now(&state.nodes[index]);
        let node = &mut state.nodes[index];
        if node.holder.as_ref().is_some_and(|h| h.deadline().is_some_and(|at| at <= now.monotonic)) {
            self.tell_holder(state, index, holder::Event::DeadlinePassed);
        }
        let node = &state.nodes[index];
        if node.standby.as_ref().is_some_and(|s| s.deadline().is_some_and(|at| at <= now.monotonic)) {
            self.tell_standby(state, index, standby::Event::DeadlinePassed);
        }
    }

    fn tell_holder(&self, state: &mut State, index: usize, event: holder::Event) {
        let node = &mut state.nodes[index];
        let now = self.now(node);
        let Some(held) = &mut node.holder else { return };
        match held.handle(now, event) {
            Some(holder::Command::Renew) => {
                let what = What::Renew(held.epoch(), node.copied.clone());
                node.request = Some(Request { sent: now, what });
            }
            Some(holder::Command::Arm(limit)) => node.armed = Some(limit),
            Some(holder::Command::Fence(_)) => {
                self.stop(state, index);
                self.tell_holder(state, index, holder::Event::Stopped);
                let node = &mut state.nodes[index];
                (node.holder, node.request, node.answer) = (None, None, None);
                if self.size.first_stands_by && node.standby.is_none() {
                    node.standby = Some(self.standby(index));
                }
                self.tell_standby(state, index, standby::Event::Lost);
            }
            Some(holder::Command::Release) | None => {}
        }
    }

    fn tell_standby(&self, state: &mut State, index: usize, event: standby::Event) {
        let node = &mut state.nodes[index];
        let now = self.now(node);
        let command = node.standby.as_mut().and_then(|standby| standby.handle(now, event));
        match command {
            Some(standby::Command::Read) => node.request = Some(Request { sent: now, what: What::Read }),
            Some(standby::Command::Acquire(over)) => {
                node.request = Some(Request { sent: now, what: What::Acquire(over) });
            }
            Some(standby::Command::FindImage) => {
                let found = standby::Event::Found(node.kept.clone());
                self.tell_standby(state, index, found);
            }
            Some(standby::Command::TakeOver(epoch, image)) => self.take_over(state, index, epoch, image),
            Some(standby::Command::FenceFormer(_) | standby::Command::Release) | None => {}
        }
    }

    fn standby(&self, index: usize) -> Standby {
        Standby::new(self.settings(), name(index), Former::FencesItself, Duration::ZERO)
    }

    fn take_over(&self, state: &mut State, index: usize, epoch: Epoch, image: Option<Replicated>) {
        let now = self.now(&state.nodes[index]);
        if !state.nodes[index].holder.as_ref().is_some_and(|holder| holder.may_act(now)) {
            return;
        }
        if image < state.acknowledged {
            state.broken = Some(NOTHING_OLDER);
        }
        if *state.acted.entry(epoch).or_insert(index) != index {
            state.broken = Some(ONE_HOLDER_PER_EPOCH);
        }
        state.taken_over |= index != 0;
        state.nodes[index].running = Some(epoch);
        judge(state);
    }

    fn serve(&self, state: &mut State, index: usize) {
        let Some(request) = state.nodes[index].request.take() else { return };
        let store = &mut state.store;
        let answer = match request.what {
            What::Read => Answer::Seen(store.sighting.clone()),
            What::Acquire(over) => self.acquire(store, state.second, index, &over, request.sent),
            What::Renew(epoch, replicated) => {
                let ours = store.sighting.epoch == epoch
                    && store.sighting.holding.as_ref().is_some_and(|holding| holding.node == name(index));
                let more =
                    store.sighting.holding.as_ref().is_some_and(|held| held.beat < self.size.renewals_max);
                if ours && !more {
                    return;
                }
                if ours {
                    store.expires = state.second + self.ttl();
                    store.sighting.legacy.replicated =
                        replicated.clone().max(store.sighting.legacy.replicated.take());
                    if let Some(holding) = &mut store.sighting.holding {
                        holding.beat += 1;
                    }
                    store.sighting.version += 1;
                    Answer::Renewed(request.sent, replicated)
                } else {
                    Answer::Superseded
                }
            }
        };
        state.nodes[index].answer = Some(answer);
    }

    fn acquire(&self, store: &mut Store, second: u64, index: usize, over: &Sighting, sent: Moment) -> Answer {
        let unchanged = store.sighting.version == over.version
            && (self.expiry == Expiry::ByReader || store.sighting.is_free());
        if !unchanged {
            return Answer::Refused;
        }
        let epoch = over.epoch.next();
        let ttl = self.settings().ttl;
        store.sighting = Sighting {
            epoch,
            holding: Some(Holding { node: name(index), ttl, beat: 0, expiry: self.expiry }),
            former: Some(name(index)),
            legacy: store.sighting.legacy.inherited(),
            version: store.sighting.version + 1,
        };
        store.expires = second + self.ttl();
        Answer::Acquired(epoch, sent)
    }

    fn deliver(&self, state: &mut State, index: usize) {
        let Some(answer) = state.nodes[index].answer.take() else { return };
        let now = self.now(&state.nodes[index]);
        let counted = |sent| if self.flaw == Flaw::CountedFromAnswer { now } else { sent };
        match answer {
            Answer::Seen(mut sighting) => {
                if self.flaw == Flaw::AcknowledgedUnread {
                    sighting.legacy.replicated = None;
                }
                if self.flaw == Flaw::EpochReused {
                    sighting.epoch = Epoch(0);
                }
                if self.flaw == Flaw::ReaderImpatient {
                    sighting.holding = None;
                }
                self.tell_standby(state, index, standby::Event::Seen { sighting, answered: now });
            }
            Answer::Acquired(epoch, sent) => {
                let holder = Holder::new(self.settings(), epoch, counted(sent));
                state.nodes[index].armed = Some(holder.fence_at());
                state.nodes[index].holder = Some(holder);
                self.tell_standby(state, index, standby::Event::Acquired { epoch });
            }
            Answer::Refused => self.tell_standby(state, index, standby::Event::Refused),
            Answer::Renewed(sent, replicated) => {
                state.acknowledged = replicated.max(state.acknowledged.take());
                self.tell_holder(state, index, holder::Event::Renewed { sent: counted(sent) });
            }
            Answer::Superseded => self.tell_holder(state, index, holder::Event::Superseded),
        }
    }

    fn replicate(&self, state: &mut State, index: usize, to_the_other: bool) {
        let node = &mut state.nodes[index];
        let Some(epoch) = node.running else { return };
        let id = format!("{:04}{}", state.second, if to_the_other { "1" } else { "2" });
        let image = Replicated { epoch, image: ImageId::try_from(id.as_str()).unwrap() };
        node.taken = Some(image.clone());
        node.copied = Some(image.clone()).max(node.copied.take());
        node.kept = Some(image.clone()).max(node.kept.take());
        if to_the_other {
            let next = (index + 1) % state.nodes.len();
            let other = &mut state.nodes[next];
            other.kept = Some(image).max(other.kept.take());
        }
    }
}

impl Model for World {
    type State = State;
    type Action = Step;

    /// Node 0 has just acquired and runs; node 1 watches.
    fn init_states(&self) -> Vec<State> {
        let mut store = Store { sighting: Sighting::default(), expires: 0 };
        self.acquire(&mut store, 0, 0, &Sighting::default(), Moment::default());
        let node = |index: usize| Node {
            monotonic_ms: 0,
            boottime_ms: 0,
            asleep: false,
            standby: Some(self.standby(index)).filter(|_| index != 0),
            holder: None,
            armed: None,
            running: None,
            taken: None,
            kept: None,
            copied: None,
            request: None,
            answer: None,
        };
        let mut nodes: Vec<_> = (0..self.size.rates.len()).map(node).collect();
        let holder = Holder::new(self.settings(), Epoch(1), Moment::default());
        nodes[0].armed = Some(holder.fence_at());
        nodes[0].holder = Some(holder);
        nodes[0].running = Some(Epoch(1));
        vec![State {
            second: 0,
            store,
            nodes,
            acted: BTreeMap::from([(Epoch(1), 0)]),
            acknowledged: None,
            fenced: false,
            taken_over: false,
            broken: None,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        if state.broken.is_some() {
            return;
        }
        if state.second < self.last_second() {
            actions.push(Step::Second);
        }
        for (index, node) in state.nodes.iter().enumerate() {
            if node.request.is_some() {
                // One that is never served, or whose answer is never delivered, was lost.
                actions.push(Step::Serve(index));
            }
            if node.asleep {
                actions.push(Step::Awake(index));
                continue;
            }
            actions.push(Step::Wake(index));
            if node.answer.is_some() {
                actions.push(Step::Deliver(index));
            }
            if node.running.is_some() && index == 0 {
                if self.events == Events::Sleep && node.boottime_ms == node.monotonic_ms {
                    actions.push(Step::Sleep(index));
                }
                if self.events == Events::Images && node.taken.is_none() {
                    actions.extend([Step::Replicate(index), Step::ReplicateElsewhere(index)]);
                }
            }
        }
    }

    fn next_state(&self, before: &State, step: Step) -> Option<State> {
        let mut state = before.clone();
        match step {
            Step::Second => self.second(&mut state),
            Step::Wake(index) => self.wake(&mut state, index),
            Step::Serve(index) => self.serve(&mut state, index),
            Step::Deliver(index) => self.deliver(&mut state, index),
            Step::Sleep(index) => state.nodes[index].asleep = true,
            Step::Awake(index) => {
                state.nodes[index].asleep = false;
                // A timer of the clock that went on fires before anybody runs.
                self.fence(&mut state, index);
                judge(&mut state);
            }
            Step::Replicate(index) => self.replicate(&mut state, index, true),
            Step::ReplicateElsewhere(index) => self.replicate(&mut state, index, false),
        }
        (state != *before).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ACTS, |_, state: &State| state.broken != Some(ONE_ACTS)),
            Property::always(ONE_HOLDER_PER_EPOCH, |_, state: &State| {
                state.broken != Some(ONE_HOLDER_PER_EPOCH)
            }),
            Property::always(NOTHING_OLDER, |_, state: &State| state.broken != Some(NOTHING_OLDER)),
            Property::sometimes("a fence stops a service", |_, state: &State| state.fenced),
            Property::sometimes("a service is taken over", |_, state: &State| state.taken_over),
            Property::sometimes("an image is acknowledged", |_, state: &State| state.acknowledged.is_some()),
        ]
    }
}

/// A service that sleeps does not act, but it may wake.
fn judge(state: &mut State) {
    let acts = |node: &&Node| node.running.is_some() && !node.asleep;
    if state.nodes.iter().filter(acts).count() > 1 {
        state.broken = Some(ONE_ACTS);
    }
}

fn name(index: usize) -> NodeName {
    NodeName::try_from(NAMES[index]).unwrap()
}
