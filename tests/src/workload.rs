//! What workloads share: numbers by HTTP. `/put/N` gives a number, `/get` asks for it, `/health` is answered always.
//!
//! Refuses to keep a connection: each answer is the last of its own.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// Something that holds a number, by whatever means it has.
pub trait Holder: Send {
    /// Takes a number in the place of the former one.
    ///
    /// # Errors
    /// Whatever does not work as it should.
    fn put(&mut self, number: u64) -> io::Result<()>;

    /// The number, after having looked whether all is as it must be.
    ///
    /// # Errors
    /// Whatever does not work as it should, or is not what was put.
    fn get(&mut self) -> io::Result<u64>;
}

/// Serves for ever; each connection has a thread, so that one that says nothing is in nobody's way.
///
/// # Errors
/// When it cannot listen there.
pub fn serve(listen: &str, holder: impl Holder + 'static) -> io::Result<()> {
    let holder = Arc::new(Mutex::new(holder));
    for connection in TcpListener::bind(listen)?.incoming() {
        let (connection, holder) = (connection?, Arc::clone(&holder));
        std::thread::spawn(move || {
            // A client that went away is its own business.
            let _ = answer(&connection, |path| {
                said(path, &mut *holder.lock().unwrap_or_else(PoisonError::into_inner))
            });
        });
    }
    Ok(())
}

/// What there is to say about a path.
///
/// # Errors
/// Whatever the holder complains about.
pub fn said(path: &str, holder: &mut impl Holder) -> io::Result<String> {
    match path.trim_start_matches('/').split_once('/') {
        Some(("put", number)) => {
            holder.put(number.parse().map_err(io::Error::other)?)?;
            Ok(number.to_owned())
        }
        _ if path == "/get" => holder.get().map(|number| number.to_string()),
        _ => Ok("healthy".to_owned()),
    }
}

/// An answer by HTTP, as bytes.
#[must_use]
pub fn response(said: &io::Result<String>) -> String {
    let (status, body) = match said {
        Ok(body) => ("200 OK", body.clone()),
        Err(error) => ("500 Internal Server Error", error.to_string()),
    };
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
}

/// The path of a request by HTTP; none if whoever asks went away in the middle.
///
/// # Errors
/// When nothing comes in time.
pub fn asked(connection: impl Read) -> io::Result<Option<String>> {
    let mut reader = BufReader::new(connection);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut line = String::from("head");
    while !line.trim_end().is_empty() {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
    }
    Ok(first.split_whitespace().nth(1).map(str::to_owned))
}

fn answer(mut connection: &TcpStream, say: impl FnOnce(&str) -> io::Result<String>) -> io::Result<()> {
    match asked(connection)? {
        Some(path) => connection.write_all(response(&say(&path)).as_bytes()),
        None => Ok(()),
    }
}
