//! Descriptors of the kernel's: a pipe with something in it, an event counter, a timer that goes on, all watched by epoll.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use nix::unistd::pipe;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::{read, write};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use super::{Holder, agreed, ensure};

pub(super) struct Descriptors {
    pipe: (OwnedFd, OwnedFd),
    counter: OwnedFd,
    epoll: OwnedFd,
    ticks: Receiver<u64>,
}

const TICK: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
const LIMIT: Duration = Duration::from_millis(500);

impl Descriptors {
    pub(super) fn open() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::empty())?;
        let every = Itimerspec { it_interval: TICK, it_value: TICK };
        timerfd_settime(&timer, TimerfdTimerFlags::empty(), &every)?;
        let (tick, ticks) = sync_channel(1);
        let epoll = epoll::create(epoll::CreateFlags::empty())?;
        let descriptors = Self { pipe: pipe()?, counter: eventfd(0, EventfdFlags::NONBLOCK)?, epoll, ticks };
        let watched = [&descriptors.pipe.0, &descriptors.counter, &timer];
        for (number, descriptor) in (0..).zip(watched) {
            let data = epoll::EventData::new_u64(number);
            epoll::add(&descriptors.epoll, descriptor, data, epoll::EventFlags::IN)?;
        }
        write(&descriptors.pipe.1, &1_u64.to_ne_bytes())?;
        write(&descriptors.counter, &1_u64.to_ne_bytes())?;
        std::thread::spawn(move || -> io::Result<()> {
            let mut expired = [0; 8];
            loop {
                read(&timer, &mut expired)?;
                // Nobody may be waiting for it.
                let _ = tick.try_send(u64::from_ne_bytes(expired));
            }
        });
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
        // One that waits already, and one of this moment.
        for _ in 0..2 {
            self.ticks.recv_timeout(LIMIT).map_err(|_| io::Error::other("the timer has stopped"))?;
        }
        let mut events = Vec::with_capacity(4);
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        ensure(events.len() >= 2, "epoll does not watch all of them")?;
        self.look().map(|number| number - 1)
    }
}
