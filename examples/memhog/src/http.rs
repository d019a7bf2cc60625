//! The HTTP interface: one request a connection, so that no checkpoint finds one half-way for long.
//!
//! `/health`, `/counter`, `/pause` (`?reset=1` begins a new period afterwards), `/checksum`, `/pid`.
//! Refuses bodies and anything longer than a short request line.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::children::Children;
use crate::memory::Memory;
use crate::ticker::Ticker;

const LONGEST_REQUEST: u64 = 8 * 1024;
/// A client that says nothing holds a thread no longer than this.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked about.
pub(crate) struct Service {
    memory: Arc<Mutex<Memory>>,
    children: Mutex<Children>,
    ticker: Option<Ticker>,
    counter: AtomicU64,
}

type Answer = (u16, String);

impl Service {
    pub(crate) fn new(memory: Arc<Mutex<Memory>>, children: Children, ticker: Option<Ticker>) -> Service {
        Service { memory, children: Mutex::new(children), ticker, counter: AtomicU64::new(0) }
    }

    fn answer(&self, target: &str) -> Answer {
        match target {
            "/health" => (200, "ok\n".to_owned()),
            "/counter" => (200, format!("{}\n", self.counter.fetch_add(1, Ordering::SeqCst) + 1)),
            "/pid" => (200, format!("{}\n", std::process::id())),
            "/pause" => self.pause(false),
            "/pause?reset=1" => self.pause(true),
            "/checksum" => self.checksum(),
            _ => (404, "unknown path\n".to_owned()),
        }
    }

    fn pause(&self, reset: bool) -> Answer {
        let Some(ticker) = &self.ticker else {
            return (404, "started without --ticker\n".to_owned());
        };
        let reading = ticker.read();
        if reset {
            ticker.reset();
        }
        let gap = reading.longest_gap.as_micros();
        (200, format!("{{\"longest_gap_us\":{gap},\"ticks\":{}}}\n", reading.ticks))
    }

    fn checksum(&self) -> Answer {
        // One after the other: both at once could wait for each other's locks.
        let ours = self.memory.lock().unwrap_or_else(PoisonError::into_inner).is_whole();
        let theirs = self.children.lock().unwrap_or_else(PoisonError::into_inner).are_whole();
        match (ours, theirs) {
            (true, Ok(true)) => (200, "whole\n".to_owned()),
            (false, _) => (500, "memory of the first task is damaged\n".to_owned()),
            (true, Ok(false)) => (500, "memory of a child is damaged\n".to_owned()),
            (true, Err(error)) => (500, format!("{error:#}\n")),
        }
    }
}

/// Answers for ever.
pub(crate) fn serve(address: SocketAddr, service: Service) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("can't listen on {address}"))?;
    println!("memhog: pid {} listens on {}", std::process::id(), listener.local_addr()?);
    let service = Arc::new(service);
    loop {
        // A client that is gone before it was accepted is none of ours.
        if let Ok((connection, _)) = listener.accept() {
            let service = Arc::clone(&service);
            std::thread::spawn(move || {
                let _ = converse(&connection, &service);
            });
        }
    }
}

fn converse(connection: &TcpStream, service: &Service) -> std::io::Result<()> {
    connection.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(connection.take(LONGEST_REQUEST));
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::new();
    // The rest of the head is read, or closing would reset the connection under the answer.
    while reader.read_line(&mut line)? > 0 && line.trim_end() != "" {
        line.clear();
    }
    let (status, body) = match first.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["GET", target, "HTTP/1.0" | "HTTP/1.1"] => service.answer(target),
        _ => (400, "only GET is understood\n".to_owned()),
    };
    let mut connection = connection;
    write!(
        connection,
        "HTTP/1.1 {status} \r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    connection.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Mode;

    fn service(ticker: Option<Ticker>) -> Service {
        let memory = Arc::new(Mutex::new(Memory::new(4096, Mode::Dirtied, 1, 0)));
        Service::new(memory, Children::default(), ticker)
    }

    #[test]
    fn paths_answer_as_documented() {
        let service = service(Some(Ticker::start()));
        assert_eq!(service.answer("/health").0, 200);
        assert_eq!(service.answer("/counter"), (200, "1\n".to_owned()));
        assert_eq!(service.answer("/counter"), (200, "2\n".to_owned()));
        assert_eq!(service.answer("/checksum").0, 200);
        assert_eq!(service.answer("/nothing").0, 404);
        let (status, body) = service.answer("/pause?reset=1");
        assert_eq!(status, 200);
        assert!(body.starts_with("{\"longest_gap_us\":") && body.contains(",\"ticks\":"), "{body}");
    }

    #[test]
    fn pause_without_a_ticker_is_said_to_be_unknown() {
        assert_eq!(service(None).answer("/pause").0, 404);
    }

    #[test]
    fn a_request_is_answered_over_a_socket_and_the_connection_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connected");
        let (server, _) = listener.accept().expect("accepted");
        client.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        converse(&server, &service(None)).expect("answered");
        drop(server);
        let mut text = String::new();
        client.read_to_string(&mut text).expect("an answer");
        assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("\r\n\r\nok\n"), "{text}");
    }
}
