//! A workload that says how it is by sd_notify, when it is told to.
//!
//! `speaker --listen ADDRESS:PORT [--connected] [--silent]`: over one connection instead of a socket for each message; without signs of
//! life until it is told to give them. It refuses to say `READY=1` by itself.
//!
//! `/say/TEXT` says that (`;` stands for the end of a line), `/flood/N` says so many things one after the other, `/beat/on` and `/beat/off`
//! begin and end the signs of life. `/put/N` and `/get` are a number in its memory.

use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use std::io::Write;

use system_tests::workload::{asked, response};

/// It gives a sign of life at least so often.
const BEAT_MAX: Duration = Duration::from_millis(100);

struct Speaker {
    socket: PathBuf,
    connection: Option<UnixDatagram>,
    beats: AtomicBool,
    number: AtomicU64,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speaker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| words.iter().any(|w| w == word);
    let at = words.iter().position(|word| word == "--listen").map(|at| at + 1);
    let listen = at.and_then(|at| words.get(at)).ok_or_else(|| io::Error::other("--listen is needed"))?;
    let socket = variable("NOTIFY_SOCKET").map(PathBuf::from)?;
    let connection = has("--connected").then(|| {
        let connection = UnixDatagram::unbound()?;
        connection.connect(&socket).map(|()| connection)
    });
    let speaker = Arc::new(Speaker {
        socket,
        connection: connection.transpose()?,
        beats: AtomicBool::new(!has("--silent")),
        number: AtomicU64::new(0),
    });
    let listener = TcpListener::bind(listen)?;
    std::thread::spawn({
        let speaker = Arc::clone(&speaker);
        move || speaker.beat_on()
    });
    for connection in listener.incoming() {
        // One at a time: the next is not answered before what this one wants is said.
        let connection = connection?;
        if let Ok(Some(path)) = asked(&connection) {
            // Whoever asked may have gone.
            let _ = (&connection).write_all(response(&speaker.obey(&path)).as_bytes());
        }
    }
    Ok(())
}

impl Speaker {
    fn beat_on(&self) {
        let limit = variable("WATCHDOG_USEC").ok().and_then(|limit| limit.parse().ok());
        let beat = limit.map_or(BEAT_MAX, |limit| Duration::from_micros(limit) / 4).min(BEAT_MAX);
        loop {
            if self.beats.load(Ordering::SeqCst) {
                // Nobody may be there to hear it.
                let _ = self.say("WATCHDOG=1");
            }
            std::thread::sleep(beat);
        }
    }

    fn obey(&self, path: &str) -> io::Result<String> {
        let (verb, what) = path.trim_start_matches('/').split_once('/').unwrap_or((path, ""));
        let number = || what.parse::<u64>().map_err(io::Error::other);
        match verb {
            "say" => self.say(&what.replace(';', "\n"))?,
            "flood" => (0..number()?).try_for_each(|n| self.say(&format!("STATUS=flood {n}")))?,
            "beat" => self.beats.store(what == "on", Ordering::SeqCst),
            "put" => self.number.store(number()?, Ordering::SeqCst),
            _ => return Ok(self.number.load(Ordering::SeqCst).to_string()),
        }
        Ok(what.to_owned())
    }

    fn say(&self, words: &str) -> io::Result<()> {
        let sent = match &self.connection {
            Some(connection) => connection.send(words.as_bytes()),
            None => UnixDatagram::unbound()?.send_to(words.as_bytes(), &self.socket),
        };
        sent.map(drop)
    }
}

fn variable(name: &str) -> io::Result<String> {
    std::env::var(name).map_err(|e| io::Error::other(format!("{name}: {e}")))
}
