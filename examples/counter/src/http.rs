//! HTTP/1.1 by hand, as much as this service needs: keep-alive, pipelining, bodies of known length.
//!
//! Refuses chunked bodies, long heads and long bodies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;

const HEAD_MAX: u64 = 16 * 1024;
const BODY_MAX: u64 = 64 * 1024;

/// What is asked. Bodies are read and ignored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    query: String,
    keep_alive: bool,
}

impl Request {
    /// `name=NUMBER` of the query.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let value = |pair: &str| pair.split_once('=').filter(|(key, _)| *key == name)?.1.parse().ok();
        self.query.split('&').find_map(value)
    }
}

/// What is answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Answer {
        Answer { status, body: body.into() }
    }

    fn send(&self, mut to: impl Write, keep_alive: bool) -> io::Result<()> {
        let connection = if keep_alive { "keep-alive" } else { "close" };
        let Answer { status, body } = self;
        let reason = reason(*status);
        let length = body.len();
        // One write, one segment: a head and a body apart would wait for each other's acknowledgement.
        let text = format!(
            "HTTP/1.1 {status} {reason}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\
             Connection: {connection}\r\n\r\n{body}"
        );
        to.write_all(text.as_bytes())?;
        to.flush()
    }
}

enum Next {
    Request(Request),
    End,
    Bad(&'static str),
}

/// Answers one request after the other until either side has enough.
pub(crate) fn converse(connection: &TcpStream, mut answer: impl FnMut(Request) -> Answer) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection);
    loop {
        match read(&mut reader)? {
            Next::End => return Ok(()),
            Next::Bad(why) => return Answer::new(400, format!("{why}\n")).send(connection, false),
            Next::Request(request) => {
                let keep_alive = request.keep_alive;
                answer(request).send(connection, keep_alive)?;
                if !keep_alive {
                    return Ok(());
                }
            }
        }
    }
}

/// For a connection that there is no thread for.
pub(crate) fn turn_away(connection: &TcpStream) {
    // It is closed next, whether it has heard us or not.
    let _ = Answer::new(503, "too many connections\n").send(connection, false);
}

fn read(reader: &mut impl BufRead) -> io::Result<Next> {
    let mut head = reader.by_ref().take(HEAD_MAX);
    let mut first = String::new();
    if head.read_line(&mut first)? == 0 {
        return Ok(Next::End);
    }
    let Some(mut request) = request_line(&first) else {
        return Ok(Next::Bad("not a request line"));
    };
    let mut body: u64 = 0;
    loop {
        let mut line = String::new();
        if head.read_line(&mut line)? == 0 {
            return Ok(Next::Bad("head too long or cut short"));
        }
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        let Some((name, value)) = line.split_once(':') else {
            return Ok(Next::Bad("not a header"));
        };
        match (name.to_ascii_lowercase().as_str(), value.trim().to_ascii_lowercase().as_str()) {
            ("connection", "close") => request.keep_alive = false,
            ("connection", "keep-alive") => request.keep_alive = true,
            ("transfer-encoding", _) => return Ok(Next::Bad("bodies need a Content-Length")),
            ("content-length", length) => match length.parse() {
                Ok(length) if length <= BODY_MAX => body = length,
                _ => return Ok(Next::Bad("bad or too long body")),
            },
            _ => {}
        }
    }
    let read = io::copy(&mut reader.take(body), &mut io::sink())?;
    Ok(if read == body { Next::Request(request) } else { Next::End })
}

fn request_line(line: &str) -> Option<Request> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [method, target, version] = words.as_slice() else {
        return None;
    };
    let keep_alive = match *version {
        "HTTP/1.1" => true,
        "HTTP/1.0" => false,
        _ => return None,
    };
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    Some(Request { method: (*method).to_owned(), path: path.to_owned(), query: query.to_owned(), keep_alive })
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        503 => "Service Unavailable",
        507 => "Insufficient Storage",
        _ => "Internal Server Error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The requests that a stream of bytes holds, and how it ends.
    fn read_all(text: &str) -> (Vec<String>, &'static str) {
        let mut reader = BufReader::new(text.as_bytes());
        let mut paths = Vec::new();
        loop {
            match read(&mut reader).expect("reading from memory") {
                Next::Request(request) => paths.push(request.path),
                Next::End => return (paths, "end"),
                Next::Bad(why) => return (paths, why),
            }
        }
    }

    #[test]
    fn pipelined_requests_with_bodies_are_told_apart() {
        let text = "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nGET /GET /b?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(read_all(text), (vec!["/a".to_owned(), "/b".to_owned()], "end"));
    }

    #[test]
    fn bad_requests_are_refused() {
        let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(20_000));
        for text in [
            "GET /\r\n\r\n",
            "GET / HTTP/2\r\n\r\n",
            "GET / HTTP/1.1\r\nno header\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: cut",
            long.as_str(),
        ] {
            let (paths, end) = read_all(text);
            assert!(paths.is_empty() && end != "end", "{text}");
        }
    }

    #[test]
    fn connection_header_and_version_decide_about_keeping_alive() {
        let keeps = |text: &str| match read(&mut BufReader::new(text.as_bytes())).expect("from memory") {
            Next::Request(request) => request.keep_alive,
            Next::End | Next::Bad(_) => panic!("a good request: {text}"),
        };
        assert!(keeps("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"));
    }

    #[test]
    fn numbers_of_the_query_are_found() {
        let request = request_line("GET /exit?x=1&code=3 HTTP/1.1\r\n").expect("valid");
        assert_eq!(
            (request.number("code"), request.number("co"), request.number("x")),
            (Some(3), None, Some(1))
        );
    }
}
