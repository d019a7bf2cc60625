//! What the tests of bad days and bad inputs share: services to be supervised, full disks, and a [`Site`] whose supervisor may be given
//! anything.

mod services;
mod site;
mod tmpfs;

pub use services::{Counter, Sequence, Stubborn, service};
pub use site::Site;
pub use tmpfs::Tmpfs;

use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

/// How long anything may take on a busy machine.
pub const LIMIT: Duration = crate::LIMIT;

/// What a command said on standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// One request by HTTP to this host: the status and the body, or nothing if nobody answers in time.
pub fn ask(port: u16, path: &str) -> Option<(u16, String)> {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    let mut connection = std::net::TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    connection.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(connection, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    connection.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, body.trim().to_owned()))
}

/// A program of this package, or of the examples: they lie beside the tests.
pub fn program(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a program has a path");
    // A test is in target/PROFILE/deps, a measurement beside the others.
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join(name));
    let program = places.into_iter().find(|program| program.exists());
    program.unwrap_or_else(|| panic!("{name} is missing: cargo build --workspace"))
}
