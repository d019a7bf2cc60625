//! Shared memory and a semaphore of System V.

use std::io;

use super::{Holder, agreed};

pub(super) struct Segment {
    memory: *mut u64,
    semaphore: libc::c_int,
}

// SAFETY: whoever has it is the only one who uses the memory.
unsafe impl Send for Segment {}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

impl Segment {
    pub(super) fn make() -> io::Result<Self> {
        let flags = libc::IPC_CREAT | 0o600;
        // SAFETY: plain calls; the segment is attached where the kernel likes, and goes with the last who is attached.
        unsafe {
            let segment = checked(libc::shmget(libc::IPC_PRIVATE, 4096, flags))?;
            let memory = libc::shmat(segment, std::ptr::null(), 0);
            if memory as isize == -1 {
                return Err(io::Error::last_os_error());
            }
            let semaphore = checked(libc::semget(libc::IPC_PRIVATE, 1, flags))?;
            Ok(Self { memory: memory.cast(), semaphore })
        }
    }
}

impl Holder for Segment {
    fn put(&mut self, number: u64) -> io::Result<()> {
        let value = i32::try_from(number).map_err(io::Error::other)?;
        // SAFETY: attached for as long as we live; a set with one semaphore.
        unsafe {
            self.memory.write_volatile(number);
            checked(libc::semctl(self.semaphore, 0, libc::SETVAL, value)).map(drop)
        }
    }

    fn get(&mut self) -> io::Result<u64> {
        // SAFETY: as above.
        let (memory, value) =
            unsafe { (self.memory.read_volatile(), checked(libc::semctl(self.semaphore, 0, libc::GETVAL))?) };
        agreed("segment and semaphore", [memory, u64::try_from(value).map_err(io::Error::other)?])
    }
}
