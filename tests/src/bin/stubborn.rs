//! A workload that holds something which CRIU cannot dump, or not without an option.
//!
//! `stubborn --listen ADDRESS:PORT io-uring | unix SOCKET | lock FILE | terminal DEVICE`
//!
//! Each request is answered by how many there have been, so that a cold start is seen. It refuses to start without what it was to
//! hold.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use system_tests::workload::asked;

/// Whatever is held, until the end.
#[expect(dead_code, reason = "held, not used")]
enum Held {
    Ring(OwnedFd),
    Socket(UnixStream),
    File(File),
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ["--listen", listen, what @ ..] = words.as_slice() else {
        eprintln!(
            "usage: stubborn --listen ADDRESS:PORT io-uring | unix SOCKET | lock FILE | terminal DEVICE"
        );
        return ExitCode::from(2);
    };
    let served = hold(what).and_then(|held| {
        let served = serve(listen);
        drop(held);
        served
    });
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stubborn: {what:?}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(what: &[&str]) -> io::Result<Held> {
    match what {
        ["io-uring"] => ring().map(Held::Ring),
        ["unix", path] => UnixStream::connect(path).map(Held::Socket),
        ["lock", path] => locked(path).map(Held::File),
        ["terminal", path] => OpenOptions::new().read(true).write(true).open(path).map(Held::File),
        _ => Err(io::Error::other("not known")),
    }
}

/// `io_uring_setup(2)` by number: no library is needed to have a ring.
fn ring() -> io::Result<OwnedFd> {
    // `struct io_uring_params`, 120 bytes of zero: all defaults.
    let mut parameters = [0_u64; 15];
    // SAFETY: the kernel fills in the structure, which outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8_u32, parameters.as_mut_ptr()) };
    let fd = i32::try_from(fd).map_err(io::Error::other)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made by the kernel for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn locked(path: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    // SAFETY: only the descriptor is used.
    if unsafe { libc::flock(file.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}

fn serve(listen: &str) -> io::Result<()> {
    let mut requests = 0_u64;
    for connection in TcpListener::bind(listen)?.incoming() {
        let connection = connection?;
        // A client that goes away in the middle has asked for nothing.
        if !matches!(asked(&connection), Ok(Some(_))) {
            continue;
        }
        requests += 1;
        let body = format!("{requests}\n");
        let length = body.len();
        let mut to = &connection;
        // It may have gone by now.
        let _ = write!(to, "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    }
    Ok(())
}
