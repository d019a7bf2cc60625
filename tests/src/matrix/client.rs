//! How a service of the matrix is spoken to: numbers by its own protocol, each time by a connection of its own.

use std::io::{BufRead, BufReader, Error, ErrorKind, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::counter::Counter;
use crate::network::Network;

/// A protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Talk {
    /// [`crate::workload`]'s.
    Http,
    Redis,
    /// Its number is that of the requests there were.
    Nginx,
}

/// A frozen service accepts nothing; a busy host answers late.
const ANSWER_MAX: Duration = Duration::from_secs(6);

/// What asks a service.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    pub(super) talk: Talk,
    pub(super) address: SocketAddr,
    pub(super) network: Option<&'static Network>,
}

fn garbled(what: &str) -> Error {
    Error::new(ErrorKind::InvalidData, format!("not the answer: {what:?}"))
}

impl Client {
    pub(super) fn put(self, number: u64) -> Result<()> {
        match self.talk {
            Talk::Http => self.http(&format!("/put/{number}")).map(drop),
            Talk::Redis => self.redis(&format!("SET number {number}")).map(drop),
            Talk::Nginx => {
                while self.requests()? < number {}
                Ok(())
            }
        }
    }

    pub(super) fn get(self) -> Result<u64> {
        match self.talk {
            Talk::Http => number(&self.http("/get")?),
            Talk::Redis => number(&self.redis("GET number")?),
            // Without this one.
            Talk::Nginx => self.requests().map(|number| number - 1),
        }
    }

    /// A connection that is held and says nothing.
    pub(super) fn connect(self) -> Result<TcpStream> {
        let stream = match self.network {
            Some(network) => network.connect(self.address, ANSWER_MAX)?,
            None => TcpStream::connect_timeout(&self.address, ANSWER_MAX)?,
        };
        stream.set_read_timeout(Some(ANSWER_MAX))?;
        Ok(stream)
    }

    fn http(self, path: &str) -> Result<String> {
        let client = match self.network {
            Some(network) => Counter::inside(network, self.address),
            None => Counter::at(self.address.port()),
        };
        match client.get(path)? {
            (200, body) => Ok(body),
            (status, body) => Err(Error::other(format!("{status}: {body}"))),
        }
    }

    /// The third line: connections accepted, connections handled, requests.
    fn requests(self) -> Result<u64> {
        let page = self.http("/")?;
        let numbers = page.lines().nth(2).ok_or_else(|| garbled(&page))?;
        number(numbers.split_whitespace().last().unwrap_or_default())
    }

    fn redis(self, command: &str) -> Result<String> {
        let mut stream = BufReader::new(self.connect()?);
        write!(stream.get_mut(), "{command}\r\n")?;
        let mut line = String::new();
        stream.read_line(&mut line)?;
        match line.trim_end() {
            said @ ("" | "$-1") => Err(garbled(said)),
            error if error.starts_with('-') => Err(Error::other(error.to_owned())),
            length if length.starts_with('$') => {
                line.clear();
                stream.read_line(&mut line)?;
                Ok(line.trim_end().to_owned())
            }
            done => Ok(done.to_owned()),
        }
    }
}

fn number(text: &str) -> Result<u64> {
    text.parse().map_err(|_| garbled(text))
}
