//! Children, spoken to by pipes, and one that has ended and that nobody has waited for.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;

use super::{Holder, agreed, ensure};

pub(super) const CHILD: &str = "child";
pub(super) const DEAD: &str = "dead";
pub(super) const DEAD_CODE: i32 = 7;
const CHILDREN: usize = 24;

pub(super) struct Processes {
    all: Vec<(Child, ChildStdin, BufReader<ChildStdout>)>,
    dead: Child,
}

impl Processes {
    pub(super) fn start() -> io::Result<Self> {
        let own = std::env::current_exe()?;
        let start = |_| {
            let mut command = Command::new(&own);
            let mut child = command.arg(CHILD).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
            let pipes = child.stdin.take().zip(child.stdout.take());
            let (to, from) = pipes.ok_or_else(|| io::Error::other("a child without pipes"))?;
            Ok((child, to, BufReader::new(from)))
        };
        let all = (0..CHILDREN).map(start).collect::<io::Result<_>>()?;
        Ok(Self { all, dead: Command::new(&own).arg(DEAD).spawn()? })
    }

    fn ask(&mut self, question: &str) -> io::Result<u64> {
        let mut numbers = Vec::new();
        for (child, to, from) in &mut self.all {
            writeln!(to, "{question}")?;
            let mut line = String::new();
            from.read_line(&mut line)?;
            let mut words = line.split_whitespace().map(str::parse::<u64>);
            let (pid, number) = (words.next(), words.next());
            ensure(pid == Some(Ok(u64::from(child.id()))), "a child has another pid than it had")?;
            numbers
                .push(number.and_then(Result::ok).ok_or_else(|| io::Error::other("a child says nothing"))?);
        }
        agreed("children", numbers)
    }
}

impl Holder for Processes {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.ask(&number.to_string()).map(drop)
    }

    fn get(&mut self) -> io::Result<u64> {
        let dead = Pid::from_raw(i32::try_from(self.dead.id()).map_err(io::Error::other)?);
        let left = waitid(Id::Pid(dead), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)?;
        ensure(left == WaitStatus::Exited(dead, DEAD_CODE), "the ended child is not as it ended")?;
        self.ask("")
    }
}

/// Remembers the last line that is a number, and answers every line with its pid and that.
pub(super) fn child() -> io::Result<()> {
    let mut number = 0;
    for line in io::stdin().lines() {
        number = line?.parse().unwrap_or(number);
        println!("{} {number}", std::process::id());
    }
    Ok(())
}
