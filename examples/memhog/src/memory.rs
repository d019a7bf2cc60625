//! One task's memory: pages whose content can be told from the seed, so that damage is found.
//!
//! The first word of a written page is its generation, the others follow from seed, task, page and generation.
//! Such a page compresses badly and no two are alike. Refuses to share: each process has its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::options::Mode;

const PAGE: u64 = 4096;
const WORDS: usize = PAGE as usize / 8;
/// How often the writer wakes; what it owes since last time is written at once.
const WRITER_INTERVAL: Duration = Duration::from_millis(10);

/// A block of pages.
pub(crate) struct Memory {
    /// `WORDS` for each page. Flat, for only a vector of plain zeros is taken from the kernel untouched.
    words: Vec<u64>,
    mode: Mode,
    key: u64,
    next: u64,
}

impl Memory {
    /// Asks for the memory, and writes all of it in mode `dirtied`.
    pub(crate) fn new(bytes: u64, mode: Mode, seed: u64, task: u32) -> Memory {
        let count = usize::try_from(bytes.div_ceil(PAGE)).expect("a page count fits the address space");
        let words = vec![0; count * WORDS];
        let mut memory = Memory { words, mode, key: mix(seed ^ mix(u64::from(task) + 1)), next: 0 };
        if mode == Mode::Dirtied {
            for page in 0..count {
                memory.write(page);
            }
        }
        memory
    }

    /// Whether each page is as it was written last (or, in mode `mapped`, never written).
    pub(crate) fn is_whole(&self) -> bool {
        self.pages().enumerate().all(|(number, page)| match page[0] {
            0 => self.mode == Mode::Mapped && page.iter().all(|word| *word == 0),
            generation => {
                let key = self.page_key(number, generation);
                page.iter().zip(0_u64..).skip(1).all(|(word, index)| *word == mix(key ^ index))
            }
        })
    }

    /// Writes some page anew; over time each has its turn, in no order that a prefetcher would guess.
    pub(crate) fn write_some_page(&mut self) {
        let count = self.pages().len() as u64;
        if count > 0 {
            self.next = self.next.wrapping_add(1);
            let page = mix(self.next ^ self.key) % count;
            self.write(usize::try_from(page).expect("less than a length"));
        }
    }

    fn write(&mut self, number: usize) {
        let place = number * WORDS..(number + 1) * WORDS;
        let generation = self.words[place.start] + 1;
        let key = self.page_key(number, generation);
        let page = &mut self.words[place];
        for (word, index) in page.iter_mut().zip(0_u64..) {
            *word = mix(key ^ index);
        }
        page[0] = generation;
    }

    fn pages(&self) -> std::slice::ChunksExact<'_, u64> {
        self.words.chunks_exact(WORDS)
    }

    fn page_key(&self, number: usize, generation: u64) -> u64 {
        mix(self.key ^ mix((number as u64) << 20 ^ generation))
    }
}

/// Rewrites `rate` bytes a second in a thread of its own, for ever; nothing at rate 0.
pub(crate) fn keep_writing(memory: &Arc<Mutex<Memory>>, rate: u64) {
    if rate == 0 {
        return;
    }
    let memory = Arc::clone(memory);
    std::thread::spawn(move || {
        let mut last = Instant::now();
        let mut owed = 0.0;
        loop {
            std::thread::sleep(WRITER_INTERVAL);
            let now = Instant::now();
            // A checkpoint's or a restore's gap is not caught up with: a service would not either.
            owed += (now - last).min(10 * WRITER_INTERVAL).as_secs_f64() * rate as f64;
            last = now;
            let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
            while owed >= PAGE as f64 {
                memory.write_some_page();
                owed -= PAGE as f64;
            }
        }
    });
}

/// A bijection on words that leaves no pattern (splitmix64's finalizer).
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_memory_is_whole_and_any_flipped_bit_is_found() {
        let mut memory = Memory::new(3 * PAGE - 1, Mode::Dirtied, 1, 0);
        assert_eq!(memory.pages().len(), 3);
        assert!(memory.is_whole());
        for (page, word) in [(0, 0), (0, 1), (1, 300), (2, WORDS - 1)] {
            memory.words[page * WORDS + word] ^= 1 << 17;
            assert!(!memory.is_whole(), "page {page} word {word}");
            memory.words[page * WORDS + word] ^= 1 << 17;
        }
        memory.words[WORDS..2 * WORDS].fill(0);
        assert!(!memory.is_whole(), "a lost page");
    }

    #[test]
    fn mapped_memory_is_untouched_until_it_is_written() {
        let mut memory = Memory::new(4 * PAGE, Mode::Mapped, 1, 0);
        assert!(memory.is_whole());
        assert!(memory.pages().all(|page| page[0] == 0));
        memory.write_some_page();
        assert!(memory.is_whole());
        assert_eq!(memory.pages().filter(|page| page[0] == 1).count(), 1);
    }

    #[test]
    fn rewriting_changes_pages_and_keeps_them_whole() {
        let mut memory = Memory::new(8 * PAGE, Mode::Dirtied, 1, 0);
        for _ in 0..200 {
            memory.write_some_page();
        }
        assert!(memory.is_whole());
        assert!(memory.pages().all(|page| page[0] > 1), "each page had its turn");
    }

    #[test]
    fn tasks_and_seeds_differ() {
        let words = |seed, task| Memory::new(PAGE, Mode::Dirtied, seed, task).words[1];
        assert_ne!(words(1, 0), words(1, 1));
        assert_ne!(words(1, 0), words(2, 0));
        assert_eq!(words(1, 0), words(1, 0));
    }
}
