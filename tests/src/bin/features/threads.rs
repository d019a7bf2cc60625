//! Threads that wait for each other, each with the number in storage of its own.

use std::cell::Cell;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::{Holder, agreed};

const THREADS: usize = 32;

thread_local! {
    static MINE: Cell<u64> = const { Cell::new(0) };
}

pub(super) struct Threads {
    all: Vec<(SyncSender<Option<u64>>, Receiver<u64>)>,
}

impl Threads {
    pub(super) fn start() -> Self {
        let start = |_| {
            let ((ask, asked), (answer, answers)) = (sync_channel::<Option<u64>>(1), sync_channel(1));
            std::thread::spawn(move || {
                for put in asked {
                    MINE.set(put.unwrap_or(MINE.get()));
                    if answer.send(MINE.get()).is_err() {
                        return;
                    }
                }
            });
            (ask, answers)
        };
        Self { all: (0..THREADS).map(start).collect() }
    }

    fn ask(&self, put: Option<u64>) -> io::Result<u64> {
        let mut numbers = Vec::new();
        for (ask, answers) in &self.all {
            ask.send(put).map_err(io::Error::other)?;
            numbers.push(answers.recv().map_err(io::Error::other)?);
        }
        agreed("threads", numbers)
    }
}

impl Holder for Threads {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.ask(Some(number)).map(drop)
    }

    fn get(&mut self) -> io::Result<u64> {
        self.ask(None)
    }
}
