//! Memory shared with another process by no name, by a descriptor and by a file of `/dev/shm`, and a futex between the two.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::unistd::{ForkResult, fork};

use super::{Holder, agreed, ensure};

/// What both see of one mapping.
#[repr(C)]
struct Page {
    number: AtomicU64,
    /// The other process has seen the number, and says so by one more than it.
    seen: AtomicU64,
    /// How many questions there were, and how many answers; both wait here.
    asked: AtomicU32,
    answered: AtomicU32,
}

pub(super) struct Shared {
    pages: [&'static Page; 3],
}

const BYTES: usize = 4096;

impl Shared {
    /// Maps and forks; to be called while there is one thread.
    pub(super) fn map() -> io::Result<Self> {
        let memory = memfd_create(c"features", MFdFlags::empty())?;
        nix::unistd::ftruncate(&memory, BYTES as libc::off_t)?;
        let path = format!("/dev/shm/features-{}-{:p}", std::process::id(), &BYTES);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        file.set_len(BYTES as u64)?;
        let pages = [page(None)?, page(Some(memory.as_fd()))?, page(Some(file.as_fd()))?];
        // Files of /dev/shm are of the host, for a plain process; it goes with its last user.
        std::fs::remove_file(path)?;
        // SAFETY: one thread only, and the child runs nothing but `answer`.
        match unsafe { fork() }? {
            ForkResult::Child => answer(&pages),
            ForkResult::Parent { .. } => Ok(Self { pages }),
        }
    }
}

fn page(file: Option<BorrowedFd<'_>>) -> io::Result<&'static Page> {
    let (flags, fd) = match file {
        Some(file) => (libc::MAP_SHARED, file.as_raw_fd()),
        None => (libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1),
    };
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, zeroed, aligned to a page, never unmapped; all its fields are atomic.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), BYTES, rights, flags, fd, 0);
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(&*memory.cast::<Page>())
    }
}

/// Sleeps while the word is this, for at most five seconds.
fn wait(word: &AtomicU32, is: u32) {
    let limit = libc::timespec { tv_sec: 5, tv_nsec: 0 };
    // SAFETY: the word lives for ever.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, is, &raw const limit) };
}

fn wake(word: &AtomicU32) {
    word.fetch_add(1, Ordering::SeqCst);
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, i32::MAX) };
}

/// The other process: for ever.
fn answer(pages: &[&Page; 3]) -> ! {
    let mut known = 0;
    loop {
        while pages[0].asked.load(Ordering::SeqCst) == known {
            wait(&pages[0].asked, known);
        }
        known = pages[0].asked.load(Ordering::SeqCst);
        for page in pages {
            page.seen.store(page.number.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
        }
        wake(&pages[0].answered);
    }
}

impl Holder for Shared {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.pages.iter().for_each(|page| page.number.store(number, Ordering::SeqCst));
        Ok(())
    }

    fn get(&mut self) -> io::Result<u64> {
        for page in self.pages {
            page.seen.store(0, Ordering::SeqCst);
        }
        let first = self.pages[0];
        let answered = first.answered.load(Ordering::SeqCst);
        wake(&first.asked);
        wait(&first.answered, answered);
        ensure(first.answered.load(Ordering::SeqCst) != answered, "the other process does not answer")?;
        let seen = self.pages.iter().map(|page| page.seen.load(Ordering::SeqCst).wrapping_sub(1));
        agreed("mappings", seen.chain(self.pages.iter().map(|page| page.number.load(Ordering::SeqCst))))
    }
}
