//! A workload for the matrix: one feature of Linux each, which proves after a restore that it still works.
//!
//! `features --listen ADDRESS:PORT FEATURE [FOLDER...] [BYTES]`, where FEATURE is one of `threads`, `processes`, `locks`, `inotify`,
//! `shared-memory`, `sysv`, `unix`, `descriptors`, `loopback`, `removed`, `files`. It holds one number by means of that feature
//! ([`Holder`]) and refuses to give it when anything of the feature is not as it was.

mod descriptors;
mod files;
mod inotify;
mod locks;
mod loopback;
mod processes;
mod shared_memory;
mod sysv;
mod threads;
mod unix;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use system_tests::workload::{Holder, serve};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("features: {words:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    match *words {
        [processes::CHILD] => processes::child(),
        [processes::DEAD] => std::process::exit(processes::DEAD_CODE),
        ["--listen", listen, feature, ref rest @ ..] => hold(listen, feature, rest),
        _ => Err(io::Error::other("usage: features --listen ADDRESS:PORT FEATURE [FOLDER...] [BYTES]")),
    }
}

fn hold(listen: &str, feature: &str, rest: &[&str]) -> io::Result<()> {
    let folders: Vec<PathBuf> = rest.iter().filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    for folder in &folders {
        std::fs::create_dir_all(folder)?;
    }
    let folder = || folders.first().ok_or_else(|| io::Error::other("a folder is needed"));
    match feature {
        "threads" => serve(listen, threads::Threads::start()),
        "processes" => serve(listen, processes::Processes::start()?),
        "locks" => serve(listen, locks::Locks::take(folder()?)?),
        "inotify" => serve(listen, inotify::Watch::set(folder()?)?),
        "shared-memory" => serve(listen, shared_memory::Shared::map()?),
        "sysv" => serve(listen, sysv::Segment::make()?),
        "unix" => serve(listen, unix::Sockets::open(folder()?)?),
        "descriptors" => serve(listen, descriptors::Descriptors::open()?),
        "loopback" => serve(listen, loopback::Connection::open()?),
        "removed" => {
            let bytes = rest.last().and_then(|word| word.parse().ok()).unwrap_or(files::SMALL);
            serve(listen, files::Removed::make(folder()?, bytes)?)
        }
        "files" => serve(listen, files::Files::make(&folders)?),
        _ => Err(io::Error::other("not known")),
    }
}

/// All of these must be the one number that was put.
fn agreed(what: &str, numbers: impl IntoIterator<Item = u64>) -> io::Result<u64> {
    let numbers: Vec<u64> = numbers.into_iter().collect();
    match numbers.first() {
        Some(first) if numbers.iter().all(|number| number == first) => Ok(*first),
        _ => Err(io::Error::other(format!("{what} do not agree: {numbers:?}"))),
    }
}

/// Complains unless it is so.
fn ensure(is_so: bool, what: &str) -> io::Result<()> {
    if is_so { Ok(()) } else { Err(io::Error::other(what.to_owned())) }
}
