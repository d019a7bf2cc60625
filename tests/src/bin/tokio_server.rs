//! A workload on tokio's runtime of several threads: its sockets, timers and channels.
//!
//! `tokio_server ADDRESS:PORT`. It answers a question at the next tick of its clock only: a timer that stopped is noticed.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use system_tests::workload::{Holder, response, said};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

const TICK: Duration = Duration::from_millis(20);

struct Number(Arc<AtomicU64>);

impl Holder for Number {
    fn put(&mut self, number: u64) -> io::Result<()> {
        self.0.store(number, Ordering::SeqCst);
        Ok(())
    }

    fn get(&mut self) -> io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::main(worker_threads = 4)]
async fn main() -> ExitCode {
    let Some(listen) = std::env::args().nth(1) else {
        eprintln!("usage: tokio_server ADDRESS:PORT");
        return ExitCode::from(2);
    };
    match serve(&listen).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tokio_server: {listen}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(listen: &str) -> io::Result<()> {
    let (tick, ticked) = watch::channel(0_u64);
    tokio::spawn(async move {
        let mut clock = tokio::time::interval(TICK);
        loop {
            clock.tick().await;
            tick.send_modify(|ticks| *ticks += 1);
        }
    });
    let number = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (ticked, number) = (ticked.clone(), Number(Arc::clone(&number)));
        // A client that went away is its own business.
        tokio::spawn(async move { answer(stream, ticked, number).await.ok() });
    }
}

async fn answer(stream: TcpStream, mut ticked: watch::Receiver<u64>, mut number: Number) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line) = (String::new(), String::from("head"));
    stream.read_line(&mut first).await?;
    while !line.trim_end().is_empty() {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
    }
    ticked.mark_unchanged();
    ticked.changed().await.map_err(io::Error::other)?;
    let path = first.split_whitespace().nth(1).unwrap_or_default();
    stream.write_all(response(&said(path, &mut number)).as_bytes()).await
}
