//! From samples to what is told: medians, spreads, ratios, and which promise was not kept.
//!
//! A ratio is taken within each round, so that a host that is slower for a while is slower for both. Refuses ratios
//! of rounds in which one of the two failed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contenders::Contender;
use crate::ground::{Ground, Memory};
use crate::options::Options;
use crate::results::{Failure, Figure, Results, Sample};
use crate::statistics::Summary;

const COMPARED: [Figure; 5] =
    [Figure::PauseMs, Figure::MttrMs, Figure::RestoreMs, Figure::ToMemoryMs, Figure::ToDiskMs];
const ALL: [Figure; 7] = [
    Figure::ToMemoryMs,
    Figure::ToDiskMs,
    Figure::PauseMs,
    Figure::PauseToDiskMs,
    Figure::RestoreMs,
    Figure::MttrMs,
    Figure::ImageBytes,
];

/// Everything, as it is written to JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) host: Host,
    pub(crate) rounds: usize,
    pub(crate) children: u32,
    pub(crate) compression: String,
    /// What the promised ratios may be, against bare criu and runc.
    pub(crate) limit: f64,
    pub(crate) rows: Vec<Row>,
    pub(crate) ratios: Vec<Ratio>,
    /// Promised ratios above the limit.
    pub(crate) missed: Vec<Missed>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) samples: Vec<Sample>,
}

/// Where it was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Host {
    pub(crate) kernel: String,
    pub(crate) cores: usize,
    pub(crate) criu: String,
    pub(crate) runc: Option<String>,
    pub(crate) at: String,
    /// Of the last minute, at the end: we keep one core busy at most; what is above comes from elsewhere.
    pub(crate) load: String,
}

/// One contender at one size.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) mebibytes: u64,
    pub(crate) memory: Memory,
    pub(crate) contender: Contender,
    pub(crate) figures: BTreeMap<Figure, Summary>,
}

/// One of ours against one peer.
#[derive(Debug, Serialize)]
pub(crate) struct Ratio {
    pub(crate) mebibytes: u64,
    pub(crate) memory: Memory,
    pub(crate) ours: Contender,
    pub(crate) peer: Contender,
    pub(crate) figures: BTreeMap<Figure, Summary>,
}

/// A promise that was not kept.
#[derive(Debug, Serialize)]
pub(crate) struct Missed {
    pub(crate) mebibytes: u64,
    pub(crate) memory: Memory,
    pub(crate) ours: Contender,
    pub(crate) peer: Contender,
    pub(crate) figure: Figure,
    pub(crate) median: f64,
}

impl Report {
    /// Works it out.
    pub(crate) fn new(options: &Options, ground: &Ground, results: &Results) -> Self {
        let rows = rows(results);
        let ratios = ratios(results, &rows);
        Self {
            host: Host::look(ground),
            rounds: options.rounds(),
            children: options.children,
            compression: options.compression.clone(),
            limit: options.limit,
            missed: missed(&ratios, options.limit),
            rows,
            ratios,
            failures: results.failures.clone(),
            samples: results.samples.clone(),
        }
    }
}

/// In the order measured; contenders in their own.
fn rows(results: &Results) -> Vec<Row> {
    let mut loads = Vec::new();
    for sample in &results.samples {
        if !loads.contains(&(sample.mebibytes, sample.memory)) {
            loads.push((sample.mebibytes, sample.memory));
        }
    }
    let row = |mebibytes, memory, contender| {
        let samples = |figure| results.figure(mebibytes, memory, contender, figure);
        let summary = |figure| Some((figure, Summary::of(samples(figure).into_values())?));
        let figures: BTreeMap<_, _> = ALL.into_iter().filter_map(summary).collect();
        (!figures.is_empty()).then_some(Row { mebibytes, memory, contender, figures })
    };
    let of_load =
        |(mebibytes, memory)| Contender::ALL.into_iter().filter_map(move |c| row(mebibytes, memory, c));
    loads.into_iter().flat_map(of_load).collect()
}

fn ratios(results: &Results, rows: &[Row]) -> Vec<Ratio> {
    let against = |row: &Row, peer: Contender| {
        let (mebibytes, memory, ours) = (row.mebibytes, row.memory, row.contender);
        let figures = COMPARED.into_iter().filter_map(|figure| {
            let theirs = results.figure(mebibytes, memory, peer, figure);
            let mine = results.figure(mebibytes, memory, ours, figure);
            let paired = mine.iter().filter_map(|(round, value)| Some(value / theirs.get(round)?));
            Some((figure, Summary::of(paired)?))
        });
        let figures: BTreeMap<_, _> = figures.collect();
        (!figures.is_empty()).then_some(Ratio { mebibytes, memory, ours, peer, figures })
    };
    let all = rows.iter().flat_map(|row| row.contender.peers().iter().map(move |peer| (row, *peer)));
    all.filter_map(|(row, peer)| against(row, peer)).collect()
}

fn missed(ratios: &[Ratio], limit: f64) -> Vec<Missed> {
    let of = |ratio: &Ratio| {
        let (mebibytes, memory, ours, peer) = (ratio.mebibytes, ratio.memory, ratio.ours, ratio.peer);
        let promised = peer.promised(mebibytes, limit).into_iter();
        let above = promised.filter_map(move |(figure, limit)| {
            let median = ratio.figures.get(&figure)?.median;
            (median > limit).then_some(median)?;
            Some(Missed { mebibytes, memory, ours, peer, figure, median })
        });
        above.collect::<Vec<_>>()
    };
    ratios.iter().flat_map(of).collect()
}

impl Host {
    fn look(ground: &Ground) -> Self {
        let first_line = |path: &str| {
            let text = std::fs::read_to_string(path).unwrap_or_default();
            text.lines().next().unwrap_or("unknown").to_owned()
        };
        let version = |program: &std::path::Path| {
            let said = std::process::Command::new(program).arg("--version").output();
            let said =
                said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            said.lines().next().unwrap_or("unknown").to_owned()
        };
        let load = first_line("/proc/loadavg");
        Self {
            kernel: first_line("/proc/sys/kernel/osrelease"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            criu: version(&ground.criu).trim_start_matches("Version: ").to_owned(),
            runc: ground
                .runc
                .as_deref()
                .map(|runc| version(runc).trim_start_matches("runc version ").to_owned()),
            at: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ground::Load;

    /// Rounds with invented pauses, in the order of the contenders given.
    pub(crate) fn invented(rounds: &[[(Contender, f64); 3]]) -> Results {
        let load = Load { mebibytes: 10, children: 0, memory: Memory::Dirtied };
        let mut results = Results::default();
        for (round, contenders) in rounds.iter().enumerate() {
            for (contender, pause) in contenders {
                let outcome = if pause.is_nan() {
                    Err(anyhow::anyhow!("it did not work"))
                } else {
                    Ok(BTreeMap::from([(Figure::PauseMs, *pause)]))
                };
                results.note(load, *contender, round, outcome);
            }
        }
        results
    }

    fn pauses(ours: f64, stock: f64, cached: f64) -> [(Contender, f64); 3] {
        [(Contender::Criu, stock), (Contender::CriuCached, cached), (Contender::SupervisorProcess, ours)]
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The host was ten times slower in the second round: the ratio does not care.
        let results =
            invented(&[pauses(10.0, 20.0, 8.0), pauses(100.0, 200.0, 80.0), pauses(10.0, 20.0, f64::NAN)]);
        let rows = rows(&results);
        assert_eq!(rows.len(), 3);
        let ratios = ratios(&results, &rows);
        let found: Vec<_> = ratios.iter().map(|r| (r.peer, r.figures[&Figure::PauseMs])).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].0, found[0].1.min, found[0].1.max), (Contender::Criu, 0.5, 0.5));
        assert_eq!((found[1].0, found[1].1.median), (Contender::CriuCached, 1.25));
        assert_eq!(results.failures.len(), 1);
    }

    #[test]
    fn promises_that_were_not_kept_are_named() {
        let results = invented(&[pauses(10.0, 20.0, 8.0)]);
        let ratios = ratios(&results, &rows(&results));
        let broken = missed(&ratios, 1.1);
        assert_eq!(broken.len(), 1);
        assert_eq!((broken[0].peer, broken[0].figure), (Contender::CriuCached, Figure::PauseMs));
        assert!(missed(&ratios, 1.25).is_empty(), "the limit itself is allowed");
    }
}
