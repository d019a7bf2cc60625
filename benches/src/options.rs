//! The command line. Refuses sizes and contenders that cannot be measured here before anything is started.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Parser;

use crate::contenders::Contender;
use crate::ground::Ground;

/// Sizes that the paper measured, and 1 GiB.
const SIZES: [u64; 6] = [1, 10, 56, 118, 256, 1024];
const QUICK_SIZES: [u64; 2] = [1, 56];
const ROUNDS: usize = 5;
const QUICK_ROUNDS: usize = 3;

/// Measures checkpoint, pause, restore and recovery of criu, runc, docker and podman, and of the supervisor. Needs root.
#[derive(Debug, Parser)]
#[command(name = "bench", version)]
pub(crate) struct Options {
    /// Memory of the workload's tasks, each, in MiB [default: 1,10,56,118,256,1024]
    #[arg(long, value_delimiter = ',', value_name = "MIB", value_parser = clap::value_parser!(u64).range(1..=65536))]
    sizes: Vec<u64>,
    /// How often each is measured [default: 5]
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1000))]
    rounds: Option<u16>,
    /// 1 and 56 MiB, 3 rounds: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// Only these contenders [default: all that can run here]
    #[arg(long, value_delimiter = ',', value_enum)]
    only: Vec<Contender>,
    /// Further processes of the workload, each with as much memory
    #[arg(long, default_value_t = 0)]
    pub(crate) children: u32,
    /// How the supervisor compresses durable images: zstd, lz4 or none
    #[arg(long, default_value = "zstd", value_parser = ["zstd", "lz4", "none"])]
    pub(crate) compression: String,
    /// A folder on a disk, for the images that are timed to the disk
    #[arg(long, default_value = "/var/tmp", value_name = "DIR")]
    pub(crate) disk: PathBuf,
    /// Where `supervisor` and `memhog` are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub(crate) binaries: Option<PathBuf>,
    /// Write all samples there
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// What our pause and recovery may cost, compared with the bare command
    #[arg(long, default_value_t = 1.1)]
    pub(crate) limit: f64,
    /// Fail if they cost more
    #[arg(long)]
    pub(crate) enforce: bool,
}

impl Options {
    /// In MiB, without repetitions, in the order given.
    pub(crate) fn sizes(&self) -> Vec<u64> {
        let given: &[u64] = match (self.sizes.as_slice(), self.quick) {
            ([], true) => &QUICK_SIZES,
            ([], false) => &SIZES,
            (sizes, _) => sizes,
        };
        let mut sizes = Vec::new();
        for size in given {
            if !sizes.contains(size) {
                sizes.push(*size);
            }
        }
        sizes
    }

    /// How often.
    pub(crate) fn rounds(&self) -> usize {
        let usual = if self.quick { QUICK_ROUNDS } else { ROUNDS };
        self.rounds.map_or(usual, usize::from)
    }

    /// Those asked for, or all that can run here; peers before those that are compared with them.
    pub(crate) fn contenders(&self, ground: &Ground) -> Result<Vec<Contender>> {
        let mut chosen = Vec::new();
        for contender in Contender::ALL {
            let asked_for = self.only.contains(&contender);
            match contender.lacks(ground) {
                None if asked_for || self.only.is_empty() => chosen.push(contender),
                None => {}
                Some(lack) if asked_for => bail!("{} cannot be measured: {lack}", contender.name()),
                Some(lack) => println!("without {}: {lack}", contender.name()),
            }
        }
        Ok(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("bench").chain(line.split_whitespace()))
    }

    #[test]
    fn sizes_and_rounds_follow_the_options() {
        let usual = parse("").expect("nothing is needed");
        assert_eq!((usual.sizes(), usual.rounds()), (SIZES.to_vec(), 5));
        let quick = parse("--quick").expect("valid");
        assert_eq!((quick.sizes(), quick.rounds()), (vec![1, 56], 3));
        let own = parse("--quick --sizes 4,2,4 --rounds 9").expect("valid");
        assert_eq!((own.sizes(), own.rounds()), (vec![4, 2], 9));
    }

    #[test]
    fn mistakes_are_refused() {
        for line in ["--sizes 0", "--sizes 1;2", "--rounds 0", "--only rkt", "--compression gzip"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
