//! The measurements' workload: tasks with memory that is mapped only or written, at a given rate; a ticker
//! that notices each pause; and a small HTTP interface to ask about both.
//!
//! Everything is as CRIU wants it: no terminal, no io_uring, nothing shared with processes outside the tree.
//! Children are programs of their own, spoken to over pipes; they end when the first task does.
//! Refuses to answer before all memory of all tasks is written.

mod children;
mod http;
mod memory;
mod options;
mod ticker;

use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};

use memory::Memory;
use options::{Options, Role};
use ticker::Ticker;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("memhog: {error:#}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let done = match options.role {
        Role::First => first(&options),
        Role::Child(task) => children::serve(&options, task),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("memhog: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn first(options: &Options) -> Result<()> {
    leave_terminal(options)?;
    let children = children::start(options)?;
    let memory = Arc::new(Mutex::new(Memory::new(options.memory, options.mode, options.seed, 0)));
    let children = children.wait_until_ready()?;
    memory::keep_writing(&memory, options.dirty_rate);
    let ticker = options.ticker.then(Ticker::start);
    http::serve(options.listen, http::Service::new(memory, children, ticker))
}

/// With a log file we need nobody's terminal: CRIU refuses to dump one that lies outside the tree.
fn leave_terminal(options: &Options) -> Result<()> {
    let Some(path) = &options.log else {
        return Ok(());
    };
    let log = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("can't open log {}", path.display()))?;
    let null = std::fs::File::open("/dev/null").context("can't open /dev/null")?;
    nix::unistd::dup2_stdin(&null).context("can't replace standard input")?;
    nix::unistd::dup2_stdout(&log).context("can't replace standard output")?;
    nix::unistd::dup2_stderr(&log).context("can't replace standard error")?;
    // Fails for a process that leads a group already; then whoever started us has seen to it.
    let _ = nix::unistd::setsid();
    Ok(())
}
