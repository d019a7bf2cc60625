//! The same protocol with more of everything: three nodes with clocks of their own, minutes instead of seconds, walked through at random, thousands
//! of times. What goes wrong is data, drawn from one seed that a failure prints: messages lost and late, nodes cut off, asleep, slow.
//! First chaos, in which no promise may be broken; then healing, after which one node must run the service.

use policies::lease::Expiry;
use stateright::Model;

use crate::world::{Flaw, NOTHING_OLDER, ONE_ACTS, Size, State, Step, World};

const CHAOS: u64 = 90;
/// A lease's end, an answer that was lost, and a take-over, with clocks that differ by half.
const HEALING: u64 = 40;
const SEEDS: u64 = 1000;

/// What goes wrong in one run, in parts of a thousand.
#[derive(Debug)]
struct Faults {
    /// A message is lost.
    loss: u64,
    /// A message that could arrive now arrives later.
    delay: u64,
    /// In one second, a node's machine is suspended.
    sleep: u64,
    /// In one second, a node is cut off from the store.
    cut: u64,
    /// In one second, a holder takes an image and has it replicated.
    image: u64,
}

/// One run.
struct Run {
    world: World,
    state: State,
    dice: Dice,
    faults: Faults,
    /// Until when each node is cut off.
    cut: [u64; 3],
    /// Until when it sleeps.
    asleep: [u64; 3],
}

/// splitmix64: the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn happens(&mut self, per_thousand: u64) -> bool {
        self.below(1000) < per_thousand
    }
}

impl Run {
    fn new(seed: u64, expiry: Expiry, flaw: Flaw) -> Self {
        let mut dice = Dice(seed);
        let rates = (0..3).map(|_| 750 + dice.below(501)).collect();
        let size = Size { rates, renewals_max: u64::MAX, seconds: CHAOS + HEALING, first_stands_by: true };
        let faults = Faults {
            loss: dice.below(300),
            delay: dice.below(600),
            sleep: dice.below(60),
            cut: dice.below(100),
            image: dice.below(500),
        };
        let world = World::of(size, expiry, flaw);
        let state = world.init_states().remove(0);
        Self { world, state, dice, faults, cut: [0; 3], asleep: [0; 3] }
    }

    fn step(&mut self, step: Step) -> bool {
        match self.world.next_state(&self.state, step) {
            Some(next) => {
                self.state = next;
                true
            }
            None => false,
        }
    }

    fn chaos(&mut self) {
        while self.state.second < CHAOS && self.state.broken.is_none() {
            self.step(Step::Second);
            for node in 0..3 {
                self.trouble(node);
            }
            for _ in 0..self.dice.below(12) {
                let node = self.dice.below(3) as usize;
                self.go_on(node);
            }
        }
    }

    /// What befalls a node in this second.
    fn trouble(&mut self, node: usize) {
        let second = self.state.second;
        if self.dice.happens(self.faults.cut) {
            self.cut[node] = second + self.dice.below(15);
        }
        if self.state.nodes[node].asleep {
            if self.asleep[node] <= second {
                self.step(Step::Awake(node));
            }
        } else if self.dice.happens(self.faults.sleep) {
            self.asleep[node] = second + self.dice.below(15);
            self.step(Step::Sleep(node));
        }
        if self.dice.happens(self.faults.image) {
            let to_the_other = self.dice.happens(700);
            self.step(if to_the_other { Step::Replicate(node) } else { Step::ReplicateElsewhere(node) });
        }
    }

    /// One step of a node, as far as it can take one.
    fn go_on(&mut self, node: usize) {
        let is_reached = self.cut[node] <= self.state.second;
        let Some(own) = self.state.nodes.get(node) else { return };
        let (asked, answered, asleep) = (own.request.is_some(), own.answer.is_some(), own.asleep);
        if asked && is_reached && !self.dice.happens(self.faults.delay) {
            self.step(Step::Serve(node));
            if self.dice.happens(self.faults.loss) {
                self.state.nodes[node].answer = None;
            }
        } else if asked && self.dice.happens(self.faults.loss) {
            self.state.nodes[node].request = None;
        }
        if asleep {
            return;
        }
        if answered && !self.dice.happens(self.faults.delay) {
            self.step(Step::Deliver(node));
        }
        self.step(Step::Wake(node));
    }

    /// Everything arrives, everybody is awake, and images are where they are to be.
    fn heal(&mut self) {
        let newest = self.state.nodes.iter().filter_map(|node| node.kept.clone()).max();
        for node in &mut self.state.nodes {
            node.kept.clone_from(&newest);
        }
        while self.state.second < CHAOS + HEALING && self.state.broken.is_none() {
            self.step(Step::Second);
            for node in 0..3 {
                if self.state.nodes[node].asleep {
                    self.step(Step::Awake(node));
                }
                // Question and answer take no time worth mentioning, however many there are.
                for _ in 0..4 {
                    self.step(Step::Wake(node));
                    self.step(Step::Serve(node));
                    self.step(Step::Deliver(node));
                }
            }
        }
    }

    fn running(&self) -> usize {
        self.state.nodes.iter().filter(|node| node.running.is_some()).count()
    }
}

fn live(expiry: Expiry) {
    let (mut fenced, mut taken_over) = (0, 0);
    for seed in 0..SEEDS {
        let mut run = Run::new(seed, expiry, Flaw::None);
        run.chaos();
        assert_eq!(run.state.broken, None, "seed {seed}, {expiry:?}: {:?}, {:#?}", run.faults, run.state);
        run.heal();
        assert_eq!(
            run.state.broken, None,
            "seed {seed}, {expiry:?}, healing: {:?}, {:#?}",
            run.faults, run.state
        );
        assert_eq!(run.running(), 1, "seed {seed}, {expiry:?}, healed: {:?}, {:#?}", run.faults, run.state);
        fenced += u64::from(run.state.fenced);
        taken_over += u64::from(run.state.taken_over);
    }
    println!("of {SEEDS} runs {fenced} were fenced, {taken_over} taken over");
    assert!(fenced > SEEDS / 3 && taken_over > SEEDS / 3, "chaos that does nothing shows nothing");
}

#[test]
fn thousands_of_bad_days_with_a_store_that_lets_leases_expire() {
    live(Expiry::ByStore);
}

#[test]
fn thousands_of_bad_days_with_a_store_that_only_compares_and_swaps() {
    live(Expiry::ByReader);
}

/// What the chaos finds when the protocol is broken in one place.
#[test]
fn a_broken_protocol_does_not_get_through_them() {
    for (flaw, promise) in [
        (Flaw::FenceWaitsForNode, ONE_ACTS),
        (Flaw::SleepUnnoticed, ONE_ACTS),
        (Flaw::AcknowledgedUnread, NOTHING_OLDER),
    ] {
        let broken = (0..SEEDS).find_map(|seed| {
            let mut run = Run::new(seed, Expiry::ByStore, flaw);
            run.chaos();
            run.state.broken
        });
        assert_eq!(broken, Some(promise), "{flaw:?}");
    }
}
