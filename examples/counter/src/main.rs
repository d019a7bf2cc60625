//! A small stateful service to watch under the supervisor: a counter, sessions, a checksummed block of memory,
//! all in memory only; several threads, an open listener, connections that stay open.
//!
//! It can also be told to misbehave (`/hang`, `/exit`, `/abort`, `/leak`, sickness), for tests need a service that
//! does so on request. Refuses to save anything by itself: that its state survives is the supervisor's work.

mod http;
mod options;
mod state;
mod workers;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use options::Options;
use state::State;
use workers::Workers;

/// Further connections are turned away: each has a thread.
const CONNECTIONS_MAX: usize = 512;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("counter: {message}\n\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    match serve(&options) {
        Ok(never) => match never {},
        Err(message) => {
            eprintln!("counter: {message}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options) -> Result<std::convert::Infallible, String> {
    let state = State::new(options)?;
    // std sets SO_REUSEADDR, so a cold start need not wait for old connections to be forgotten.
    let listener =
        TcpListener::bind(options.listen).map_err(|e| format!("can't listen on {}: {e}", options.listen))?;
    let address = listener.local_addr().map_err(|e| format!("can't tell our address: {e}"))?;
    let workers = Workers::start(options.workers, state);
    // To a closed pipe this fails, which is no reason not to serve.
    let _ = writeln!(std::io::stdout(), "counter: pid {} listens on {address}", std::process::id());

    let open = Arc::new(AtomicUsize::new(0));
    loop {
        // A client that left before it was accepted, or a lack of descriptors: the next one may fare better.
        let Ok((connection, _)) = listener.accept() else { continue };
        if open.load(Ordering::SeqCst) >= CONNECTIONS_MAX {
            http::turn_away(&connection);
            continue;
        }
        converse_in_thread(connection, &workers, &open);
    }
}

fn converse_in_thread(connection: TcpStream, workers: &Workers, open: &Arc<AtomicUsize>) {
    let (workers, open) = (workers.clone(), Arc::clone(open));
    open.fetch_add(1, Ordering::SeqCst);
    let counted = Arc::clone(&open);
    let spawned = std::thread::Builder::new().name("connection".to_owned()).spawn(move || {
        // Whatever ends a conversation early ended it for the client too.
        let _ = http::converse(&connection, |request| workers.answer(request));
        open.fetch_sub(1, Ordering::SeqCst);
    });
    if spawned.is_err() {
        counted.fetch_sub(1, Ordering::SeqCst);
    }
}
