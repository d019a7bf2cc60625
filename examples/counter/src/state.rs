//! All that would be lost with the process: counter, sessions, a block of memory with its checksum.
//!
//! One lock around everything, so that an image taken at any instant holds all of it or nothing of a request.
//! Refuses names that would need quoting, and more sessions than a table should hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use crate::options::Options;

const SESSIONS_MAX: usize = 10_000;
const NAME_MAX: usize = 64;

/// What the service knows.
pub(crate) struct State {
    counter: u64,
    sessions: BTreeMap<String, u64>,
    block: Block,
    journal: Option<File>,
    sick_after: Option<u64>,
    sick_while: Option<PathBuf>,
    /// Kept for ever, for tests of memory limits.
    leaked: Vec<Vec<u8>>,
}

/// Why a request was turned down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadName,
    TooManySessions,
    Journal(String),
}

impl State {
    /// Everything at its beginning; an existing journal goes on.
    pub(crate) fn new(options: &Options) -> Result<State, String> {
        let open = |path: &PathBuf| {
            File::options()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|error| format!("can't open journal {}: {error}", path.display()))
        };
        Ok(State {
            counter: 0,
            sessions: BTreeMap::new(),
            block: Block::new(options.memory),
            journal: options.journal.as_ref().map(open).transpose()?,
            sick_after: options.sick_after,
            sick_while: options.sick_while.clone(),
            leaked: Vec::new(),
        })
    }

    /// One more; in the journal before anybody is told.
    pub(crate) fn increment(&mut self) -> Result<u64, Refusal> {
        let next = self.counter + 1;
        if let Some(journal) = &mut self.journal {
            let line = format!("{next}\n");
            journal.write_all(line.as_bytes()).map_err(|error| Refusal::Journal(error.to_string()))?;
        }
        self.counter = next;
        self.block.record(next);
        Ok(next)
    }

    /// One more for that session, which begins if need be.
    pub(crate) fn visit(&mut self, session: &str) -> Result<u64, Refusal> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if session.is_empty() || session.len() > NAME_MAX || !session.chars().all(plain) {
            return Err(Refusal::BadName);
        }
        if self.sessions.len() >= SESSIONS_MAX && !self.sessions.contains_key(session) {
            return Err(Refusal::TooManySessions);
        }
        let visits = self.sessions.entry(session.to_owned()).or_insert(0);
        *visits += 1;
        Ok(*visits)
    }

    pub(crate) fn counter(&self) -> u64 {
        self.counter
    }

    /// Whether the block of memory is what its checksum says.
    pub(crate) fn is_whole(&self) -> bool {
        self.block.is_whole()
    }

    pub(crate) fn is_sick(&self) -> bool {
        self.sick_after.is_some_and(|limit| self.counter >= limit)
            || self.sick_while.as_ref().is_some_and(|file| file.exists())
    }

    /// All of it as JSON.
    pub(crate) fn describe(&self) -> String {
        let sessions: Vec<String> =
            self.sessions.iter().map(|(name, visits)| format!("\"{name}\":{visits}")).collect();
        format!(
            "{{\"pid\":{},\"counter\":{},\"sessions\":{{{}}},\"memory\":\"{}\"}}\n",
            std::process::id(),
            self.counter,
            sessions.join(","),
            if self.is_whole() { "whole" } else { "damaged" }
        )
    }

    /// Takes memory, writes it (memory only asked for counts against no limit), and never gives it back.
    pub(crate) fn leak(&mut self, bytes: usize) {
        self.leaked.push(vec![0xa5; bytes]);
    }

    /// What was leaked so far.
    pub(crate) fn leaked(&self) -> usize {
        self.leaked.iter().map(Vec::len).sum()
    }
}

/// Words that change with each count, and the sum that says whether all of them are as they were written.
struct Block {
    words: Vec<u64>,
    checksum: u64,
}

impl Block {
    fn new(bytes: usize) -> Block {
        let words: Vec<u64> = (0..bytes.div_ceil(8).max(1) as u64).map(mix).collect();
        let checksum = sum(&words);
        Block { words, checksum }
    }

    fn record(&mut self, count: u64) {
        let index = (mix(count) % self.words.len() as u64) as usize;
        let former = std::mem::replace(&mut self.words[index], mix(count ^ self.checksum));
        let changed = self.words[index];
        self.checksum = self.checksum.wrapping_sub(weigh(index, former)).wrapping_add(weigh(index, changed));
    }

    fn is_whole(&self) -> bool {
        sum(&self.words) == self.checksum
    }
}

fn sum(words: &[u64]) -> u64 {
    words.iter().enumerate().fold(0, |sum, (index, word)| sum.wrapping_add(weigh(index, *word)))
}

/// Depends on the place too, or two exchanged pages would go unnoticed.
fn weigh(index: usize, word: u64) -> u64 {
    mix(word ^ mix(index as u64))
}

/// splitmix64's finalizer: a bijection on words that leaves no pattern.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(memory: usize) -> State {
        State::new(&Options { memory, sick_after: Some(3), ..Options::default() }).expect("nothing to open")
    }

    #[test]
    fn counting_keeps_the_block_whole_and_any_change_is_found() {
        let mut state = state(4096);
        for count in 1..=2000 {
            assert_eq!(state.increment(), Ok(count));
        }
        assert!(state.is_whole());
        for index in [0, 17, 511] {
            state.block.words[index] ^= 1;
            assert!(!state.is_whole(), "word {index}");
            state.block.words[index] ^= 1;
        }
        state.block.words.swap(3, 400);
        assert!(!state.is_whole(), "two words exchanged");
    }

    #[test]
    fn sessions_count_apart_and_names_are_plain() {
        let mut state = state(8);
        assert_eq!(state.visit("ada"), Ok(1));
        assert_eq!(state.visit("bob"), Ok(1));
        assert_eq!(state.visit("ada"), Ok(2));
        let long = "x".repeat(NAME_MAX + 1);
        for name in ["", "a b", "a\"b", "a/b", long.as_str()] {
            assert_eq!(state.visit(name), Err(Refusal::BadName), "{name}");
        }
        assert!(state.describe().contains("\"sessions\":{\"ada\":2,\"bob\":1},\"memory\":\"whole\""));
    }

    #[test]
    fn table_of_sessions_has_an_end() {
        let mut state = state(8);
        for number in 0..SESSIONS_MAX {
            assert_eq!(state.visit(&number.to_string()), Ok(1));
        }
        assert_eq!(state.visit("one-more"), Err(Refusal::TooManySessions));
        assert_eq!(state.visit("0"), Ok(2));
    }

    #[test]
    fn sickness_comes_with_the_count() {
        let mut state = state(8);
        for healthy in [true, true, false] {
            state.increment().expect("no journal to fail");
            assert_eq!(!state.is_sick(), healthy);
        }
    }
}
