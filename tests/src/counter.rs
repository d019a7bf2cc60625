//! The service under test, as its clients see it: numbers over HTTP, a port that answers or does not.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::network::Network;
use crate::wait::{LIMIT, wait_for};

/// A client of one counter.
#[derive(Debug, Clone, Copy)]
pub struct Counter {
    address: SocketAddr,
    network: Option<&'static Network>,
}

/// A frozen service accepts nothing; a busy host answers late.
const ANSWER_MAX: Duration = Duration::from_secs(2);

impl Counter {
    /// Whoever answers by HTTP on a port of 127.0.0.1.
    #[must_use]
    pub fn at(port: u16) -> Self {
        Self { address: SocketAddr::from(([127, 0, 0, 1], port)), network: None }
    }

    /// One that is reached from inside a network namespace only.
    #[must_use]
    pub fn inside(network: &'static Network, address: SocketAddr) -> Self {
        Self { address, network: Some(network) }
    }

    /// Where it listens; on 127.0.0.1, unless it is in a network of its own.
    #[must_use]
    pub fn port(self) -> u16 {
        self.address.port()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.address
    }

    /// Asks once, over a connection of its own.
    ///
    /// # Errors
    /// Whatever keeps it from answering within two seconds.
    pub fn get(self, path: &str) -> Result<(u16, String)> {
        let stream = match self.network {
            Some(network) => network.connect(self.address, ANSWER_MAX)?,
            None => TcpStream::connect_timeout(&self.address, ANSWER_MAX)?,
        };
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        stream.set_write_timeout(Some(ANSWER_MAX))?;
        write!(&stream, "GET {path} HTTP/1.1\r\nHost: counter\r\nConnection: close\r\n\r\n")?;
        answer(BufReader::new(stream))
    }

    /// Asks until it answers well.
    pub fn ask(self, path: &str) -> String {
        wait_for(LIMIT, &format!("the counter answers {path}"), || match self.get(path) {
            Ok((200, body)) => Some(body),
            Ok(_) | Err(_) => None,
        })
    }

    /// Tells it to do something that it does not survive or answer.
    pub fn tell(self, path: &str) {
        // Whether an answer comes is what the caller finds out.
        let _ = self.get(path);
    }

    /// The number.
    pub fn value(self) -> u64 {
        number(&self.ask("/counter"))
    }

    /// Counts up to a number; an increment whose answer was lost is seen by the next one.
    pub fn count_to(self, target: u64) {
        while self.value() < target {
            self.ask("/increment");
        }
    }

    /// Whether it is there at this moment.
    #[must_use]
    pub fn answers(self) -> bool {
        self.get("/health").is_ok_and(|(status, _)| status == 200)
    }

    /// # Panics
    /// Unless its checksummed memory is as it was written.
    pub fn assert_whole(self) {
        assert_eq!(self.ask("/checksum"), "whole", "memory came back as it was");
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|e| panic!("the counter says {text:?}, not a number: {e}"))
}

fn answer(mut stream: BufReader<TcpStream>) -> Result<(u16, String)> {
    let garbled = |what: &str| Error::new(ErrorKind::InvalidData, format!("no answer of HTTP: {what:?}"));
    let mut line = String::new();
    stream.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|s| s.parse().ok()).ok_or_else(|| garbled(&line))?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        match line.trim_end().split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().map_err(|_| garbled(&line))?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    let body = String::from_utf8(body).map_err(|_| garbled("a body that is no text"))?;
    Ok((status, body.trim_end().to_owned()))
}
