//! Descriptors of the kernel's: a pipe with something in it, an event counter, a timer that goes on, all watched by epoll.

use std::io;
use std::os::fd::OwnedFd;

use nix::unistd::pipe;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::io::{read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::{Holder, agreed, ensure};

pub(super) struct Descriptors {
    pipe: (OwnedFd, OwnedFd),
    counter: OwnedFd,
    timer: OwnedFd,
    epoll: OwnedFd,
}

const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
const LIMIT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

impl Descriptors {
    pub(super) fn open() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty())?;
        let every = Itimerspec { it_interval: TICK, it_value: TICK };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
        let descriptors = Self {
            pipe: pipe()?,
            counter: eventfd(0, EventfdFlags::NONBLOCK)?,
            timer,
            epoll: epoll::create(epoll::CreateFlags::empty())?,
        };
        let watched = [&descriptors.pipe.0, &descriptors.counter, &descriptors.timer];
        for (number, descriptor) in (0..).zip(watched) {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&descriptors.epoll, descriptor, data, epoll::EventFlags::IN)?;
        }
        write(&descriptors.pipe.1, &1_u64.to_ne_bytes())?;
        write(&descriptors.counter, &1_u64.to_ne_bytes())?;
        Ok(descriptors)
    }

    /// The number of the pipe and of the counter, both of which are put back.
    fn look(&self) -> io::Result<u64> {
        let mut numbers = [0; 2];
        for (number, (from, to)) in
            numbers.iter_mut().zip([(&self.pipe.0, &self.pipe.1), (&self.counter, &self.counter)])
        {
            let mut bytes = [0; 8];
            ensure(read(from, &mut bytes)? == bytes.len(), "it was empty")?;
            *number = u64::from_ne_bytes(bytes);
            write(to, &bytes)?;
        }
        agreed("pipe and counter", numbers)
    }
}

impl Holder for Descriptors {
    fn put(&mut self, number: u64) -> io::Result<()> {
        for (from, to) in [(&self.pipe.0, &self.pipe.1), (&self.counter, &self.counter)] {
            read(from, &mut [0; 8])?;
            // A counter of zero would be an empty one.
            write(to, &(number + 1).to_ne_bytes())?;
        }
        Ok(())
    }

    fn get(&mut self) -> io::Result<u64> {
        read(&self.timer, &mut [0; 8])?;
        // It has been read just now: what comes is a tick of this moment.
        let ticked = poll(&mut [PollFd::new(&self.timer, PollFlags::IN)], Some(&LIMIT))?;
        ensure(ticked == 1, "the timer has stopped")?;
        let mut events = Vec::with_capacity(4);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&LIMIT))?;
        ensure(events.len() == 3, "epoll does not watch all of them")?;
        self.look().map(|number| number - 1)
    }
}
