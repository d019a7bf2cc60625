//! The two state machines of a lease: what follows from what, and the holder under random events against a model that knows
//! only the rules.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use policies::id::{Epoch, ImageId, NodeName};
use policies::lease::holder::{self, Holder, Reason, Standing};
use policies::lease::standby::{self, Former, Standby};
use policies::lease::{Expiry, Holding, Legacy, Moment, Replicated, Settings, Sighting};
use policies::time::Instant;
use proptest::prelude::*;

/// Awake all the time: both clocks show the same.
fn at(ms: u64) -> Moment {
    slept(ms, 0)
}

fn slept(ms: u64, sleep_ms: u64) -> Moment {
    let instant = |ms: u64| Instant::from_nanos(ms * 1_000_000);
    Moment { monotonic: instant(ms), boottime: instant(ms + sleep_ms) }
}

fn held() -> Holder {
    Holder::new(Settings::default(), Epoch(4), at(0))
}

#[test]
fn a_lease_counts_from_when_its_request_was_sent() {
    let mut holder = held();
    assert_eq!(holder.fence_at(), at(8980));
    assert_eq!(holder.handle(at(2000), holder::Event::DeadlinePassed), Some(holder::Command::Renew));
    let renewed = holder::Event::Renewed { sent: at(2000) };
    assert_eq!(holder.handle(at(5000), renewed), Some(holder::Command::Arm(at(10_980))));
    // An older answer that was overtaken proves less.
    assert_eq!(holder.handle(at(5100), holder::Event::Renewed { sent: at(1000) }), None);
    assert_eq!(holder.fence_at(), at(10_980));
}

#[test]
fn a_watchdog_leaves_room_for_two_renewals() {
    let timeout = |ttl: u64, renew: u64| {
        let times = |ms| Duration::from_millis(ms);
        let settings = Settings { ttl: times(ttl), renew_interval: times(renew), ..Settings::default() };
        assert_eq!(settings.check(), Ok(()), "{ttl} {renew}");
        let timeout = settings.watchdog_timeout();
        assert!(timeout + settings.renew_interval * 2 <= settings.safe_span(), "{ttl} {renew}");
        timeout.as_secs()
    };
    assert_eq!((timeout(10_000, 2000), timeout(5000, 1000), timeout(3000, 500)), (5, 2, 1));
    // As seldom as it can be renewed at all.
    assert_eq!((timeout(10_000, 4490), timeout(2500, 700)), (1, 1));
}

#[test]
fn a_failed_renewal_is_tried_again_soon() {
    let mut holder = held();
    holder.handle(at(2000), holder::Event::DeadlinePassed);
    assert_eq!(holder.deadline(), Some(at(4000).monotonic));
    holder.handle(at(2100), holder::Event::RenewalFailed);
    assert_eq!(holder.deadline(), Some(at(2600).monotonic));
    assert_eq!(holder.handle(at(2600), holder::Event::DeadlinePassed), Some(holder::Command::Renew));
}

#[test]
fn an_answer_after_the_limit_is_too_late_however_good() {
    let mut holder = held();
    holder.handle(at(2000), holder::Event::DeadlinePassed);
    let late = holder.handle(at(8980), holder::Event::Renewed { sent: at(2000) });
    assert_eq!(late, Some(holder::Command::Fence(Reason::NotRenewed)));
    assert!(!holder.may_act(at(8980)));
    assert_eq!(holder.handle(at(9500), holder::Event::Renewed { sent: at(9000) }), None);
    // A fence that is not confirmed is asked for again.
    let again = holder.handle(at(9980), holder::Event::DeadlinePassed);
    assert_eq!(again, Some(holder::Command::Fence(Reason::NotRenewed)));
    holder.handle(at(9990), holder::Event::Stopped);
    assert_eq!((holder.standing(), holder.deadline()), (Standing::Fenced(Reason::NotRenewed), None));
}

#[test]
fn a_node_that_slept_fences_first() {
    let mut holder = held();
    let woken = slept(1000, 60_000);
    assert!(!holder.may_act(woken));
    let first = holder.handle(woken, holder::Event::Renewed { sent: at(900) });
    assert_eq!(first, Some(holder::Command::Fence(Reason::Suspended)));
}

#[test]
fn a_lease_that_is_somebody_elses_is_final() {
    let mut holder = held();
    let fenced = holder.handle(at(1), holder::Event::Superseded);
    assert_eq!(fenced, Some(holder::Command::Fence(Reason::Superseded)));
    assert!(!holder.may_act(at(1)));
}

#[test]
fn a_service_that_has_ended_gives_its_lease_back() {
    let mut holder = held();
    assert_eq!(holder.handle(at(10), holder::Event::GivenUp), Some(holder::Command::Release));
    assert!(!holder.may_act(at(10)));
    assert_eq!(holder.handle(at(1010), holder::Event::DeadlinePassed), Some(holder::Command::Release));
    holder.handle(at(1020), holder::Event::Released);
    assert_eq!((holder.standing(), holder.deadline()), (Standing::Released, None));
}

#[derive(Clone, Debug)]
enum Move {
    Wait(u64),
    Sleep(u64),
    Renewed(u64),
    Failed,
    Superseded,
    GivenUp,
    Stopped,
    Released,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        20 => (1u64..3000).prop_map(Move::Wait),
        1 => (1u64..20_000).prop_map(Move::Sleep),
        15 => (0u64..4000).prop_map(Move::Renewed),
        5 => Just(Move::Failed),
        1 => Just(Move::Superseded),
        1 => Just(Move::GivenUp),
        2 => Just(Move::Stopped),
        2 => Just(Move::Released),
    ];
    prop::collection::vec(one, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// The model: the newest `sent` that was answered before the limit then in force; once past it, never again.
    #[test]
    fn a_holder_acts_only_within_what_was_acknowledged(moves in moves()) {
        let mut holder = held();
        let span = Settings::default().holder_span();
        let (mut awake, mut asleep) = (0u64, 0u64);
        let (mut limit, mut over) = (at(0).after(span), false);
        for step in moves {
            match step {
                Move::Wait(ms) => awake += ms,
                Move::Sleep(ms) => asleep += ms,
                _ => {}
            }
            let now = slept(awake, asleep);
            let event = match step {
                Move::Wait(_) | Move::Sleep(_) => holder::Event::DeadlinePassed,
                Move::Renewed(ago) => holder::Event::Renewed { sent: slept(awake.saturating_sub(ago), asleep) },
                Move::Failed => holder::Event::RenewalFailed,
                Move::Superseded => holder::Event::Superseded,
                Move::GivenUp => holder::Event::GivenUp,
                Move::Stopped => holder::Event::Stopped,
                Move::Released => holder::Event::Released,
            };
            over |= now.has_passed(limit);
            over |= matches!(event, holder::Event::Superseded | holder::Event::GivenUp);
            if let (false, holder::Event::Renewed { sent }) = (over, &event) {
                let later = sent.after(span);
                if later.monotonic > limit.monotonic && later.boottime > limit.boottime {
                    limit = later;
                }
            }
            let command = holder.handle(now, event);
            prop_assert_eq!(holder.may_act(now), !over);
            if let Some(holder::Command::Arm(armed)) = &command {
                prop_assert!(!over && *armed == limit);
            }
            if command == Some(holder::Command::Renew) {
                prop_assert!(!over);
            }
            // Whoever waits has a deadline, and it lies ahead once it was handled.
            if let Some(deadline) = holder.deadline() {
                holder.handle(now, holder::Event::DeadlinePassed);
                let next = holder.deadline().unwrap_or(deadline);
                prop_assert!(next > now.monotonic || holder.deadline().is_none(), "{:?} at {:?}", holder, now);
            }
        }
    }
}

fn node(name: &str) -> NodeName {
    NodeName::try_from(name).unwrap()
}

fn image(epoch: u64, id: &str) -> Replicated {
    Replicated { epoch: Epoch(epoch), image: ImageId::try_from(id).unwrap() }
}

fn standby(former: Former, turn_after: Duration) -> Standby {
    Standby::new(Settings::default(), node("beta"), former, turn_after)
}

fn seen(version: u64, holding: Option<Expiry>) -> Sighting {
    let ttl = Duration::from_secs(10);
    Sighting {
        epoch: Epoch(4),
        holding: holding.map(|expiry| Holding { node: node("alpha"), ttl, beat: version, expiry }),
        former: Some(node("alpha")),
        legacy: Legacy { replicated: Some(image(4, "m")), ..Legacy::default() },
        version,
    }
}

fn told(standby: &mut Standby, now: Moment, sighting: Sighting) -> Option<standby::Command> {
    standby.handle(now, standby::Event::Seen { sighting, answered: now })
}

#[test]
fn who_is_named_for_a_lease_takes_it_at_once_and_all_others_let_it_go_first() {
    let named = |name: &str| {
        let legacy = Legacy { next: Some(node(name)), ..Legacy::default() };
        Sighting { legacy, ..seen(1, None) }
    };
    let mut last = standby(Former::FencesItself, Duration::from_secs(6));
    assert_eq!(told(&mut last, at(1000), named("beta")), Some(standby::Command::Acquire(named("beta"))));

    let mut first = standby(Former::FencesItself, Duration::ZERO);
    assert_eq!(told(&mut first, at(1000), named("gamma")), None);
    assert_eq!(told(&mut first, at(20_999), named("gamma")), None);
    let late = told(&mut first, at(21_000), named("gamma"));
    assert_eq!(late, Some(standby::Command::Acquire(named("gamma"))), "it is not left to nobody for ever");
}

#[test]
fn who_is_named_looks_often() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    let legacy = Legacy { next: Some(node("beta")), ..Legacy::default() };
    let held = Sighting { legacy, ..seen(1, Some(Expiry::ByStore)) };
    assert_eq!(told(&mut standby, at(1000), held), None);
    assert_eq!(standby.deadline(), Some(at(1050).monotonic));
    assert_eq!(told(&mut standby, at(1050), seen(2, Some(Expiry::ByStore))), None);
    assert_eq!(standby.deadline(), Some(at(1550).monotonic));
}

#[test]
fn a_standby_waits_until_the_store_says_that_the_lease_is_gone() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    assert_eq!(standby.handle(at(1), standby::Event::DeadlinePassed), Some(standby::Command::Read));
    for minute in 1..5 {
        assert_eq!(told(&mut standby, at(minute * 60_000), seen(7, Some(Expiry::ByStore))), None);
    }
    let free = seen(7, None);
    let acquire = told(&mut standby, at(300_000), free.clone());
    assert_eq!(acquire, Some(standby::Command::Acquire(free)));
}

#[test]
fn a_standby_of_a_bucket_watches_one_beat_for_the_whole_lease_and_its_drift() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    let beat = |version| seen(version, Some(Expiry::ByReader));
    assert_eq!(told(&mut standby, at(0), beat(1)), None);
    assert_eq!(told(&mut standby, at(9000), beat(2)), None);
    assert_eq!(told(&mut standby, at(19_019), beat(2)), None);
    // Ten seconds asleep are not ten seconds watched.
    assert_eq!(told(&mut standby, slept(19_010, 10_000), beat(2)), None);
    assert_eq!(told(&mut standby, at(19_020), beat(2)), Some(standby::Command::Acquire(beat(2))));
}

#[test]
fn standbys_take_turns() {
    let mut second = standby(Former::FencesItself, Duration::from_secs(2));
    assert_eq!(told(&mut second, at(0), seen(7, Some(Expiry::ByStore))), None);
    assert_eq!(told(&mut second, at(5000), seen(7, None)), None);
    assert_eq!(told(&mut second, at(6999), seen(7, None)), None);
    assert_eq!(second.deadline(), Some(at(7000).monotonic));
    assert!(matches!(told(&mut second, at(7000), seen(7, None)), Some(standby::Command::Acquire(_))));
}

#[test]
fn nothing_is_taken_over_before_the_fence_command_has_succeeded() {
    let mut standby = standby(Former::FencedByCommand, Duration::ZERO);
    told(&mut standby, at(0), seen(7, None));
    let fence = standby.handle(at(10), standby::Event::Acquired { epoch: Epoch(5) });
    assert_eq!(fence, Some(standby::Command::FenceFormer(node("alpha"))));
    assert_eq!(standby.handle(at(20), standby::Event::Found(Some(image(4, "z")))), None);
    assert_eq!(standby.handle(at(30), standby::Event::FormerNotFenced), None);
    let again = standby.handle(at(530), standby::Event::DeadlinePassed);
    assert_eq!(again, Some(standby::Command::FenceFormer(node("alpha"))));
    assert_eq!(standby.handle(at(600), standby::Event::FormerFenced), Some(standby::Command::FindImage));
    let newest = image(4, "m");
    let taken = standby.handle(at(610), standby::Event::Found(Some(newest.clone())));
    assert_eq!(taken, Some(standby::Command::TakeOver(Epoch(5), Some(newest))));
    assert_eq!(standby.taken_over(), Some(Epoch(5)));
}

#[test]
fn nothing_older_than_acknowledged_is_restored_and_the_lease_goes_back() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    told(&mut standby, at(0), seen(7, None));
    let find = standby.handle(at(10), standby::Event::Acquired { epoch: Epoch(5) });
    assert_eq!(find, Some(standby::Command::FindImage));
    for (ms, found) in [(20, Some(image(4, "a"))), (30, None), (40, Some(image(3, "z")))] {
        assert_eq!(standby.handle(at(ms), standby::Event::Found(found)), None);
    }
    assert_eq!(standby.handle(at(540), standby::Event::DeadlinePassed), Some(standby::Command::FindImage));
    assert_eq!(standby.handle(at(30_010), standby::Event::DeadlinePassed), Some(standby::Command::Release));
    assert_eq!(standby.taken_over(), None);
}

#[test]
fn what_is_given_back_is_left_to_others_for_a_while() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    told(&mut standby, at(0), seen(7, None));
    standby.handle(at(10), standby::Event::Acquired { epoch: Epoch(5) });
    assert_eq!(standby.handle(at(30_010), standby::Event::DeadlinePassed), Some(standby::Command::Release));
    // Let go at once, and free: for others.
    assert_eq!(standby.handle(at(30_020), standby::Event::Lost), None);
    assert_eq!(told(&mut standby, at(30_030), seen(9, None)), None);
    assert_eq!(standby.deadline(), Some(at(40_010).monotonic));
    assert_eq!(standby.handle(at(40_010), standby::Event::DeadlinePassed), Some(standby::Command::Read));
    assert!(matches!(told(&mut standby, at(40_020), seen(9, None)), Some(standby::Command::Acquire(_))));
}

#[test]
fn an_epoch_that_is_not_higher_is_not_believed() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    told(&mut standby, at(0), seen(7, None));
    assert_eq!(standby.handle(at(10), standby::Event::Acquired { epoch: Epoch(4) }), None);
    assert_eq!(standby.handle(at(20), standby::Event::Refused), Some(standby::Command::Read));
}

#[test]
fn a_lease_that_is_lost_again_is_watched_again() {
    let mut standby = standby(Former::FencesItself, Duration::ZERO);
    told(&mut standby, at(0), seen(7, None));
    standby.handle(at(10), standby::Event::Acquired { epoch: Epoch(5) });
    assert_eq!(standby.handle(at(20), standby::Event::Lost), Some(standby::Command::Read));
    assert_eq!(standby.handle(at(21), standby::Event::Found(Some(image(4, "z")))), None);
}
