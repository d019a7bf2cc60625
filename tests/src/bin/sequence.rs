//! A workload whose memory and files must be from one instant.
//!
//! Hundreds of times a second it counts one further in memory, and in each of its folders overwrites a number in place,
//! appends a line and replaces a file by rename. Before each of these writes it looks whether what is there is what its
//! memory says it wrote last: files that came back from another instant than the memory are noticed by the next step.
//! It refuses to repair anything: what was torn once is told for ever.
//!
//! `sequence --listen ADDRESS:PORT [--sick-while FILE] FOLDER...`
//!
//! `/` answers `number=N started=N torn=N`, `/check` compares everything, `/health` fails while FILE exists.

#![allow(clippy::disallowed_methods, reason = "a workload writes its own files")]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use system_tests::workload::asked;

/// Between two steps.
const STEP: Duration = Duration::from_millis(2);
/// Digits of a number in a file.
const DIGITS: usize = 20;
/// Bytes of one line of the log.
const LINE: u64 = DIGITS as u64 + 1;

struct Sequence {
    /// The step that was begun last.
    number: u64,
    /// Where it began.
    started: u64,
    folders: Vec<Folder>,
    /// How often the files were not what memory says, and the first case.
    torn: u64,
    first: Option<String>,
}

/// The files of one folder; each knows what it wrote last.
struct Folder {
    path: PathBuf,
    overwritten: File,
    appended: File,
    /// The last number that was overwritten, appended, renamed.
    done: [u64; 3],
    /// Lines of the log.
    lines: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sequence: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let (mut listen, mut sick_while, mut folders) = (None, None, Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--listen" => listen = words.next(),
            "--sick-while" => sick_while = words.next().map(PathBuf::from),
            _ => folders.push(PathBuf::from(word)),
        }
    }
    let listen = listen.ok_or_else(|| io::Error::other("--listen is needed"))?;
    let sequence = Arc::new(Mutex::new(Sequence::open(folders)?));
    let listener = TcpListener::bind(listen)?;
    std::thread::spawn({
        let sequence = Arc::clone(&sequence);
        move || {
            loop {
                // The whole step under the lock: `/check` sees finished ones only, a freeze sees any.
                lock(&sequence).step();
                std::thread::sleep(STEP);
            }
        }
    });
    for connection in listener.incoming() {
        // A client that went away is its own business.
        let _ = connection.and_then(|c| answer(&c, &sequence, sick_while.as_deref()));
    }
    Ok(())
}

impl Sequence {
    /// Goes on from what the files say, as a database that is opened again would.
    fn open(paths: Vec<PathBuf>) -> io::Result<Self> {
        let found = paths.iter().filter_map(|p| read_number(&p.join("overwritten"))).max().unwrap_or(0);
        let folders = paths.into_iter().map(|p| Folder::open(p, found)).collect::<io::Result<_>>()?;
        Ok(Self { number: found, started: found, folders, torn: 0, first: None })
    }

    fn step(&mut self) {
        self.number += 1;
        for folder in &mut self.folders {
            if let Err(why) = folder.step(self.number) {
                self.torn += 1;
                self.first.get_or_insert(why);
            }
        }
    }

    fn check(&self) -> Result<(), String> {
        if let Some(first) = &self.first {
            return Err(format!("torn {} times, first: {first}", self.torn));
        }
        self.folders.iter().try_for_each(|folder| folder.check(self.number))
    }
}

impl Folder {
    fn open(path: PathBuf, number: u64) -> io::Result<Self> {
        fs::create_dir_all(&path)?;
        let overwritten = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path.join("overwritten"))?;
        overwritten.write_all_at(digits(number).as_bytes(), 0)?;
        fs::write(path.join("renamed"), digits(number))?;
        let appended = OpenOptions::new().append(true).create(true).open(path.join("appended"))?;
        // A step that a crash cut short leaves the log a line behind or ahead; it begins anew.
        appended.set_len(0)?;
        Ok(Self { path, overwritten, appended, done: [number; 3], lines: 0 })
    }

    fn step(&mut self, number: u64) -> Result<(), String> {
        let text = digits(number);
        let found = self.check(number - 1);
        self.overwritten.write_all_at(text.as_bytes(), 0).map_err(|e| format!("overwrite: {e}"))?;
        self.done[0] = number;
        self.appended.write_all(format!("{text}\n").as_bytes()).map_err(|e| format!("append: {e}"))?;
        self.lines += 1;
        self.done[1] = number;
        let (next, renamed) = (self.path.join("next"), self.path.join("renamed"));
        fs::write(&next, &text)
            .and_then(|()| fs::rename(&next, &renamed))
            .map_err(|e| format!("rename: {e}"))?;
        self.done[2] = number;
        found
    }

    /// Whether every file is what it must be after the step with this number.
    fn check(&self, number: u64) -> Result<(), String> {
        let shown = self.path.display();
        let overwritten = number_in(&self.overwritten, 0);
        let by_name = read_number(&self.path.join("overwritten"));
        let renamed = read_number(&self.path.join("renamed"));
        let length = fs::metadata(self.path.join("appended")).map_or(0, |m| m.len());
        let log = File::open(self.path.join("appended")).ok();
        let last = log.as_ref().and_then(|f| number_in(f, length.checked_sub(LINE)?));
        let last = if self.lines == 0 { Some(number) } else { last };
        let expected = (Some(number), Some(number), Some(number), Some(number), self.lines * LINE);
        let there = (overwritten, by_name, renamed, last, length);
        if there == expected && self.done == [number; 3] {
            return Ok(());
        }
        Err(format!("in {shown} memory says {expected:?} and {:?}, the files {there:?}", self.done))
    }
}

fn digits(number: u64) -> String {
    format!("{number:0DIGITS$}")
}

fn read_number(path: &Path) -> Option<u64> {
    number_in(&File::open(path).ok()?, 0)
}

fn number_in(file: &File, offset: u64) -> Option<u64> {
    let mut bytes = [0; DIGITS];
    file.read_exact_at(&mut bytes, offset).ok()?;
    std::str::from_utf8(&bytes).ok()?.parse().ok()
}

fn lock(sequence: &Mutex<Sequence>) -> MutexGuard<'_, Sequence> {
    sequence.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(connection: &TcpStream, sequence: &Mutex<Sequence>, sick_while: Option<&Path>) -> io::Result<()> {
    connection.set_read_timeout(Some(Duration::from_secs(5)))?;
    let (status, body) = match asked(connection)?.as_deref() {
        Some("/") => {
            let s = lock(sequence);
            ("200 OK", format!("number={} started={} torn={}\n", s.number, s.started, s.torn))
        }
        Some("/check") => match lock(sequence).check() {
            Ok(()) => ("200 OK", "whole\n".to_owned()),
            Err(why) => ("500 Internal Server Error", format!("{why}\n")),
        },
        Some("/health") if sick_while.is_some_and(Path::exists) => {
            ("503 Service Unavailable", "sick\n".to_owned())
        }
        Some("/health") => ("200 OK", "healthy\n".to_owned()),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let mut connection = connection;
    write!(connection, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
}
