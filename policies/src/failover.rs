//! Where a service goes when its node cannot keep it: which standby.
//!
//! Every standby decides by itself, so what is decided here is only who tries first: the lease decides who has it. A
//! standby that is wrong about the others loses time, never more. It refuses to move a service back by itself.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::id::{NodeName, ServiceName};
use crate::word::words;

/// What decides between standbys that are equally fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Preference {
    /// The order in which they are listed.
    #[default]
    Order,
    /// The load: the least loaded first, then the order.
    Load,
}

words!(Preference { Order = "order", Load = "load" });

/// A node that may take a service over, as far as it is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub node: NodeName,
    /// Whether it could restore the service now.
    pub readiness: Readiness,
    /// How loaded it is, in thousandths of what it can carry.
    pub load: u32,
    /// What runs there.
    pub services: BTreeSet<ServiceName>,
}

/// Whether a standby could take a service over now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It could.
    Ready,
    /// It could not, and why, for people.
    NotReady(String),
}

/// The standbys that may take a service over, the best first. `listed` gives the order, and leaves out everybody else;
/// one that runs a service of `apart` comes after all that do not; one that is not ready is left out.
#[must_use]
pub fn rank<'a>(
    listed: &[NodeName],
    apart: &BTreeSet<ServiceName>,
    preference: Preference,
    candidates: &'a [Candidate],
) -> Vec<&'a Candidate> {
    let place = |candidate: &Candidate| listed.iter().position(|node| *node == candidate.node);
    let mut fit: Vec<_> = candidates
        .iter()
        .filter(|candidate| candidate.readiness == Readiness::Ready && place(candidate).is_some())
        .collect();
    fit.sort_by(|one, other| {
        let crowded = |candidate: &Candidate| !candidate.services.is_disjoint(apart);
        let by_load = match preference {
            Preference::Order => Ordering::Equal,
            Preference::Load => one.load.cmp(&other.load),
        };
        crowded(one).cmp(&crowded(other)).then(by_load).then(place(one).cmp(&place(other)))
    });
    fit
}

/// How long after the lease is gone the standby at this place tries for it; `step` is longer than an acquisition takes.
#[must_use]
pub fn turn_after(place: usize, step: Duration) -> Duration {
    step.saturating_mul(u32::try_from(place).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Candidate, Preference, Readiness, rank, turn_after};
    use crate::id::{NodeName, ServiceName};

    fn node(name: &str) -> NodeName {
        NodeName::try_from(name).unwrap()
    }

    fn candidate(name: &str, load: u32, services: &[&str]) -> Candidate {
        let services = services.iter().map(|name| ServiceName::try_from(*name).unwrap()).collect();
        Candidate { node: node(name), readiness: Readiness::Ready, load, services }
    }

    fn names(ranked: Vec<&Candidate>) -> Vec<&str> {
        ranked.into_iter().map(|candidate| candidate.node.as_str()).collect()
    }

    #[test]
    fn the_order_decides_among_those_that_are_ready_and_listed() {
        let listed = ["c", "a", "b"].map(node);
        let mut all = [candidate("a", 1, &[]), candidate("b", 0, &[]), candidate("c", 9, &[])];
        let apart = [].into();
        assert_eq!(names(rank(&listed, &apart, Preference::Order, &all)), ["c", "a", "b"]);
        assert_eq!(names(rank(&listed, &apart, Preference::Load, &all)), ["b", "a", "c"]);
        all[2].readiness = Readiness::NotReady("no image".to_owned());
        assert_eq!(names(rank(&listed, &apart, Preference::Order, &all)), ["a", "b"]);
        assert_eq!(names(rank(&listed[1..2], &apart, Preference::Order, &all)), ["a"]);
    }

    #[test]
    fn what_is_to_be_kept_apart_is_put_together_only_if_there_is_no_other_way() {
        let listed = ["a", "b"].map(node);
        let apart = [ServiceName::try_from("db").unwrap()].into();
        let all = [candidate("a", 0, &["db"]), candidate("b", 9, &["web"])];
        assert_eq!(names(rank(&listed, &apart, Preference::Load, &all)), ["b", "a"]);
        assert_eq!(names(rank(&listed[..1], &apart, Preference::Load, &all)), ["a"]);
    }

    #[test]
    fn places_take_turns() {
        let step = Duration::from_secs(2);
        assert_eq!([0, 1, 3].map(|place| turn_after(place, step).as_secs()), [0, 2, 6]);
    }
}
