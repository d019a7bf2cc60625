//! What was measured: every sample, none thrown away.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::contenders::Contender;
use crate::ground::{Load, Memory};

/// What a figure is of; milliseconds, but for the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// A checkpoint's command, to an image in memory.
    ToMemoryMs,
    /// A checkpoint's command, to an image that is synced on the disk.
    ToDiskMs,
    /// The longest gap that the service saw during the former.
    PauseMs,
    /// During the latter.
    PauseToDiskMs,
    /// From the start of the restore's command to the first good answer.
    RestoreMs,
    /// From SIGKILL to the first good answer.
    MttrMs,
    /// The image's files.
    ImageBytes,
}

/// One round of one contender.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) mebibytes: u64,
    pub(crate) memory: Memory,
    pub(crate) contender: Contender,
    pub(crate) round: usize,
    pub(crate) figures: BTreeMap<Figure, f64>,
}

/// A round that came to nothing.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    pub(crate) mebibytes: u64,
    pub(crate) memory: Memory,
    pub(crate) contender: Contender,
    pub(crate) round: usize,
    pub(crate) error: String,
}

/// All rounds.
#[derive(Debug, Default)]
pub(crate) struct Results {
    pub(crate) samples: Vec<Sample>,
    pub(crate) failures: Vec<Failure>,
}

impl Results {
    /// Notes what came of a round.
    pub(crate) fn note(
        &mut self,
        load: Load,
        contender: Contender,
        round: usize,
        outcome: anyhow::Result<BTreeMap<Figure, f64>>,
    ) {
        let (mebibytes, memory) = (load.mebibytes, load.memory);
        match outcome {
            Ok(figures) => self.samples.push(Sample { mebibytes, memory, contender, round, figures }),
            Err(error) => {
                let error = format!("{error:#}");
                self.failures.push(Failure { mebibytes, memory, contender, round, error });
            }
        }
    }

    /// One figure in all rounds that have it, by round.
    pub(crate) fn figure(
        &self,
        mebibytes: u64,
        memory: Memory,
        contender: Contender,
        figure: Figure,
    ) -> BTreeMap<usize, f64> {
        let matching = self
            .samples
            .iter()
            .filter(|s| s.mebibytes == mebibytes && s.memory == memory && s.contender == contender);
        matching.filter_map(|s| Some((s.round, *s.figures.get(&figure)?))).collect()
    }
}
