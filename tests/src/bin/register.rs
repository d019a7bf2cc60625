//! A workload that takes numbers one after the other, and that writes down where it runs while it does.
//!
//! `register LISTEN LOG`: `/put/N` is taken if N is the next number, and answered once it is in the log; `/get` says the last one. The
//! log is one for all hosts, as a shared disk is: each line has the network namespace in which the register stands at that moment, and a number, or
//! `-` for that it lives. Two that run at once are seen by their lines.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use system_tests::workload::{Holder, serve};

/// Between two signs of life.
const TICK: Duration = Duration::from_millis(5);

#[derive(Clone)]
struct Log(PathBuf);

impl Log {
    /// Opened anew for each line: one that is open would have to be as it was at a restore.
    fn write(&self, what: &str) -> io::Result<()> {
        let here = std::fs::read_link("/proc/self/ns/net")?;
        let mut file = OpenOptions::new().append(true).create(true).open(&self.0)?;
        file.write_all(format!("{} {what}\n", here.display()).as_bytes())
    }
}

struct Register {
    last: u64,
    log: Log,
}

impl Holder for Register {
    fn put(&mut self, number: u64) -> io::Result<()> {
        if number != self.last + 1 {
            return Err(io::Error::other(format!("{} was the last one", self.last)));
        }
        self.log.write(&number.to_string())?;
        self.last = number;
        Ok(())
    }

    fn get(&mut self) -> io::Result<u64> {
        Ok(self.last)
    }
}

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().collect();
    let [_, listen, log] = arguments.as_slice() else {
        eprintln!("usage: register ADDRESS:PORT LOG");
        return ExitCode::from(2);
    };
    let log = Log(log.into());
    let signs = log.clone();
    std::thread::spawn(move || {
        loop {
            // A disk that is full for a moment is seen by whoever puts.
            let _ = signs.write("-");
            std::thread::sleep(TICK);
        }
    });
    match serve(listen, Register { last: 0, log }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("register: {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}
