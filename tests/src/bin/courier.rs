//! Two services that must agree: one sends the other one number after the next, without waiting for answers.
//!
//! `courier back LISTEN HTTP` receives at LISTEN; `courier front SEND HTTP` sends there. HTTP is where each says how it stands (`/state`):
//! the front `SENT CONNECTIONS AHEAD`, the back `RECEIVED GAPS`. Whenever the two connect, the back says what it has received last, and the
//! front goes on after that; if that is more than it knows to have sent, they are not from one instant: AHEAD counts it. What comes out of
//! order counts as a GAP.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use system_tests::workload::{asked, response};

/// Between two numbers, so that it goes on for long without filling memory with what is on its way.
const PAUSE: Duration = Duration::from_micros(100);

/// Three numbers, by what they mean to either side.
type State = Arc<[AtomicU64; 3]>;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let state = State::default();
    let done = match arguments.as_slice() {
        ["back", listen, http] => say(http, &state).and_then(|()| receive(listen, &state)),
        ["front", send, http] => say(http, &state).and_then(|()| {
            loop {
                // The back is not there, or not any more.
                if deliver(send, &state).is_err() {
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
        }),
        _ => {
            eprintln!("usage: courier front|back ADDRESS:PORT ADDRESS:PORT");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("courier: {error}");
            ExitCode::FAILURE
        }
    }
}

fn deliver(to: &str, state: &State) -> io::Result<()> {
    let [sent, connections, ahead] = state.as_ref();
    let mut stream = TcpStream::connect(to)?;
    stream.set_nodelay(true)?;
    connections.fetch_add(1, SeqCst);
    let mut received = [0; 8];
    stream.read_exact(&mut received)?;
    let received = u64::from_be_bytes(received);
    if received > sent.load(SeqCst) {
        ahead.fetch_add(1, SeqCst);
    }
    for number in received + 1.. {
        stream.write_all(&number.to_be_bytes())?;
        sent.fetch_max(number, SeqCst);
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

fn receive(listen: &str, state: &State) -> io::Result<()> {
    let [received, gaps, _] = state.as_ref();
    for stream in TcpListener::bind(listen)?.incoming() {
        let mut stream = stream?;
        let told = stream.write_all(&received.load(SeqCst).to_be_bytes());
        let mut number = [0; 8];
        while told.is_ok() && stream.read_exact(&mut number).is_ok() {
            let number = u64::from_be_bytes(number);
            if number != received.load(SeqCst) + 1 {
                gaps.fetch_add(1, SeqCst);
            }
            received.store(number, SeqCst);
        }
    }
    Ok(())
}

fn say(listen: &str, state: &State) -> io::Result<()> {
    let (listener, state) = (TcpListener::bind(listen)?, Arc::clone(state));
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let text =
                state.iter().map(|number| number.load(SeqCst).to_string()).collect::<Vec<_>>().join(" ");
            if let Ok(Some(_)) = asked(&connection) {
                // A client that went away is its own business.
                let _ = (&connection).write_all(response(&Ok(text)).as_bytes());
            }
        }
    });
    Ok(())
}
