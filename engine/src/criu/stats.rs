//! What CRIU measured of a dump: the file `stats-dump` in its working folder.
//!
//! Its format (two magic numbers, a length, one message) and the message's numbers are facts of CRIU (`stats.proto`, CRIU 3.x and 4.x). Only what
//! is used is read, and what is not as expected is not guessed at.

use std::path::Path;
use std::time::Duration;

use prost::Message;

const NAME: &str = "stats-dump";
const MAGIC: [u8; 8] = [0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57];
/// The file has some tens of bytes.
const LENGTH_MAX: u64 = 4096;

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
    let bytes = crate::durable::read_limited(&work.join(NAME), LENGTH_MAX).ok()?;
    let dump = parse(&bytes)?;
    Some(Duration::from_micros(u64::from(dump.freezing_time) + u64::from(dump.frozen_time)))
}

fn parse(bytes: &[u8]) -> Option<Dump> {
    let (length, message) = bytes.strip_prefix(&MAGIC)?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    Stats::decode(message.get(..length)?).ok()?.dump
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As CRIU 4.2.1 wrote it.
    const FILE: &[u8] = include_bytes!("stats/stats-dump");

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
