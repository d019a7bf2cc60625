//! Unix sockets: a pair with somebody at its other end, a message that nobody has read yet, listeners by path and by name.

use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{MsgFlags, recv};

use super::{Holder, agreed, ensure};

pub(super) struct Sockets {
    pair: UnixStream,
    unread: (UnixDatagram, UnixDatagram),
    path: PathBuf,
    name: SocketAddr,
}

/// Answers each line with the last one that was a number.
fn answer(stream: UnixStream, mut number: u64) -> io::Result<()> {
    let mut to = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        number = line?.parse().unwrap_or(number);
        writeln!(to, "{number}")?;
    }
    Ok(())
}

fn ask(mut stream: &UnixStream, question: &str) -> io::Result<u64> {
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    writeln!(stream, "{question}")?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    line.trim_end().parse().map_err(io::Error::other)
}

/// Whoever connects is answered by a thread.
fn listen(listener: UnixListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, 0));
        }
    });
}

impl Sockets {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let (pair, other) = UnixStream::pair()?;
        std::thread::spawn(move || answer(other, 0));
        let path = folder.join("socket");
        listen(UnixListener::bind(&path)?);
        let name = SocketAddr::from_abstract_name(format!("features-{}", std::process::id()))?;
        listen(UnixListener::bind_addr(&name)?);
        let mut sockets = Self { pair, unread: UnixDatagram::pair()?, path, name };
        sockets.put(0)?;
        Ok(sockets)
    }
}

impl Holder for Sockets {
    fn put(&mut self, number: u64) -> io::Result<()> {
        let (to, from) = &self.unread;
        // The former message, of which there is one from the second time on.
        from.set_nonblocking(true)?;
        let _ = from.recv(&mut [0; 8]);
        to.send(&number.to_ne_bytes())?;
        ask(&self.pair, &number.to_string()).map(drop)
    }

    fn get(&mut self) -> io::Result<u64> {
        let mut unread = [0; 8];
        let length = recv(self.unread.1.as_raw_fd(), &mut unread, MsgFlags::MSG_PEEK)?;
        ensure(length == unread.len(), "the unread message is cut short")?;
        let number = agreed("sockets", [u64::from_ne_bytes(unread), ask(&self.pair, "")?])?;
        for fresh in [UnixStream::connect(&self.path)?, UnixStream::connect_addr(&self.name)?] {
            ensure(ask(&fresh, &number.to_string())? == number, "a listener answers with something else")?;
        }
        Ok(number)
    }
}
