//! Established TCP connections: a checkpoint leaves them alive, and after a crash new ones work, whichever way they are kept.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use system_tests::bad_days::{Counter, Site};

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Self {
        let connection = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        connection.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        Self(BufReader::new(connection))
    }

    fn ask(&mut self, method: &str, path: &str) -> std::io::Result<String> {
        write!(self.0.get_mut(), "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n")?;
        let (mut line, mut length) = (String::new(), 0);
        loop {
            line.clear();
            if self.0.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a number");
            }
            if line.trim_end().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }
}

fn connections(tcp: &str) {
    let Some(mut node) = Site::or_skip() else { return };
    let counter = Counter::new("counter", &node)
        .checkpoint(&format!("interval = \"never\"\ntrial = false\ntcp = \"{tcp}\""));
    node.configure(&counter.toml());
    node.start();
    counter.healthy(&node);
    let mut clients: Vec<Client> = (0..3).map(|_| Client::connect(counter.port())).collect();
    for client in &mut clients {
        client.ask("POST", "/increment").expect("answered");
    }

    for _ in 0..3 {
        node.checkpoint("counter");
        for client in &mut clients {
            client.ask("POST", "/increment").expect("the connection has outlived the checkpoint");
        }
    }
    // The number of the last checkpoint; the crash loses the three after it.
    let number = counter.number() - 3;
    node.kill_service("counter");
    let back = node.wait_event("counter", "recovered");

    assert!(back.text.contains("restore-latest"), "{}", back.text);
    assert_eq!(counter.number(), number);
    let mut fresh = Client::connect(counter.port());
    for _ in 0..2 {
        fresh.ask("POST", "/increment").expect("new connections work");
    }
    assert_eq!(counter.number(), number + 2);
    assert!(node.cli(&["checkpoint", "counter"]).status.success(), "and are checkpointed");
    fresh.ask("POST", "/increment").expect("and live on");
}

#[test]
fn kept_with_the_image() {
    connections("established");
}

#[test]
fn closed_in_the_image() {
    connections("close");
}

#[test]
fn kept_but_those_in_flight() {
    connections("skip_in_flight");
}
