//! The rounds: each contender once, in turn, every round beginning with another one.
//!
//! Each round starts everything anew, so that none is warmer than the others. Refuses to stop for a round that failed: it is
//! noted, told, and the others go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::contenders::{Contender, Session};
use crate::ground::{Ground, Load, Memory};
use crate::options::Options;
use crate::processes::was_interrupted;
use crate::results::{Figure, Results};
use crate::service::Known;

/// Measures everything.
pub(crate) fn all(options: &Options, ground: &Ground, contenders: &[Contender]) -> Result<Results> {
    let mut results = Results::default();
    for memory in [Memory::Dirtied, Memory::Mapped] {
        for mebibytes in options.sizes() {
            let load = Load { mebibytes, children: options.children, memory };
            for round in 0..options.rounds() {
                for place in 0..contenders.len() {
                    let contender = contenders[(round + place) % contenders.len()];
                    let outcome = one(ground, contender, load);
                    if was_interrupted() {
                        bail!("interrupted");
                    }
                    tell(load, contender, round, &outcome);
                    results.note(load, contender, round, outcome);
                }
            }
        }
    }
    Ok(results)
}

/// One round of one contender.
fn one(ground: &Ground, contender: Contender, load: Load) -> Result<BTreeMap<Figure, f64>> {
    let mut session = contender.start(ground, load).context("start")?;
    let taken = session.checkpoint().context("checkpoint")?;
    let mut figures = BTreeMap::from([
        (Figure::ToMemoryMs, milliseconds(taken.to_memory)),
        (Figure::ToDiskMs, milliseconds(taken.to_disk)),
        (Figure::PauseMs, milliseconds(taken.pause)),
        (Figure::PauseToDiskMs, milliseconds(taken.pause_to_disk)),
        (Figure::ImageBytes, taken.image as f64),
    ]);
    // Memory that was never touched costs a restore nothing anywhere; the paper measures checkpoints of it only.
    if load.memory == Memory::Dirtied {
        figures.insert(
            Figure::MttrMs,
            milliseconds(recover(session.as_mut(), taken.counter).context("recover")?),
        );
        figures.insert(
            Figure::RestoreMs,
            milliseconds(restore(session.as_mut(), taken.counter).context("restore")?),
        );
    }
    session.end().context("end")?;
    Ok(figures)
}

/// From SIGKILL to the first good answer.
fn recover(session: &mut dyn Session, counter: u64) -> Result<Duration> {
    let known = session.service().move_on(counter)?;
    let since = Instant::now();
    session.kill()?;
    session.begin_recovery()?;
    until_back(session, since, known)
}

/// From the start of the command to the first good answer.
fn restore(session: &mut dyn Session, counter: u64) -> Result<Duration> {
    let known = session.service().move_on(counter)?;
    session.stop()?;
    let since = Instant::now();
    session.begin_restore()?;
    until_back(session, since, known)
}

fn until_back(session: &mut dyn Session, since: Instant, known: Known) -> Result<Duration> {
    let service = session.service();
    let took = service.wait_until_back(since, known, || session.check())?;
    session.finish()?;
    service.check_whole()?;
    Ok(took)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn tell(load: Load, contender: Contender, round: usize, outcome: &Result<BTreeMap<Figure, f64>>) {
    let what =
        format!("{:>5} MiB {:?}, round {}, {}", load.mebibytes, load.memory, round + 1, contender.name());
    match outcome {
        Ok(figures) => {
            let of = |figure| figures.get(&figure).copied();
            let shown = [("pause", of(Figure::PauseMs)), ("mttr", of(Figure::MttrMs))];
            let shown =
                shown.map(|(name, value)| value.map_or(String::new(), |ms| format!(" {name} {ms:.1} ms")));
            println!("{what}:{}", shown.concat());
        }
        Err(error) => println!("{what}: failed: {error:#}"),
    }
}
