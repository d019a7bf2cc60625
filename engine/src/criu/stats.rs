//! What CRIU measured of a dump: the file `stats-dump` in its working folder.
//!
//! The message's numbers are facts of CRIU (`stats.proto`, CRIU 3.x and 4.x). Only what is used is read.

use std::path::Path;
use std::time::Duration;

use super::file;

const NAME: &str = "stats-dump";
const MAGICS: [u32; 2] = [0x5510_5940, 0x5709_3306];

/// `stats_entry`.
#[derive(Clone, PartialEq, prost::Message)]
struct Stats {
    #[prost(message, optional, tag = "1")]
    dump: Option<Dump>,
}

/// `dump_stats_entry`; times in microseconds.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Dump {
    #[prost(uint32, required, tag = "1")]
    freezing_time: u32,
    #[prost(uint32, required, tag = "2")]
    frozen_time: u32,
}

/// From the first task's stop to the last one's going on; `None` if CRIU left no such file there.
pub(super) fn pause(work: &Path) -> Option<Duration> {
    let dump = file::read::<Stats>(&work.join(NAME), &MAGICS)?.dump?;
    Some(Duration::from_micros(u64::from(dump.freezing_time) + u64::from(dump.frozen_time)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CRIU 4.2.1 wrote it.
    const FILE: &[u8] = include_bytes!("stats/stats-dump");

    fn parse(bytes: &[u8]) -> Option<Dump> {
        file::parse::<Stats>(bytes, &MAGICS)?.dump
    }

    #[test]
    fn what_criu_wrote_is_read() {
        let dump = parse(FILE).expect("it is one");
        assert!(dump.freezing_time < 100_000 && (1_000..1_000_000).contains(&dump.frozen_time), "{dump:?}");
    }

    #[test]
    fn anything_else_is_not() {
        for cut in 0..FILE.len() {
            assert_eq!(parse(&FILE[..cut]), None, "cut at {cut}");
        }
        let mut other = FILE.to_vec();
        other[5] ^= 1;
        assert_eq!(parse(&other), None);
    }
}
