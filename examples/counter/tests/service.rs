//! The service as a process: what its endpoints do to it.
#![allow(missing_docs)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// No answer within this is a failure, except where none is expected.
const LIMIT: Duration = Duration::from_secs(20);

struct Counter {
    process: Child,
    address: String,
}

impl Counter {
    fn start(options: &[&str]) -> Counter {
        let mut process = Command::new(env!("CARGO_BIN_EXE_counter"))
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("our own program starts");
        let mut line = String::new();
        let out = process.stdout.take().expect("asked for a pipe");
        BufReader::new(out).read_line(&mut line).expect("it says where it listens");
        let Some((_, address)) = line.trim().rsplit_once(' ') else {
            panic!("it said `{line}` and ended: {:?}", process.wait());
        };
        let address = address.to_owned();
        Counter { process, address }
    }

    fn connect(&self) -> Client {
        let stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit can be set");
        Client { reader: BufReader::new(stream) }
    }

    fn get(&self, path: &str) -> (u16, String) {
        self.connect().request("GET", path).expect("an answer")
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    fn request(&mut self, method: &str, path: &str) -> std::io::Result<(u16, String)> {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: counter\r\n\r\n");
        self.reader.get_mut().write_all(head.as_bytes())?;
        let mut length = 0;
        let mut status = 0;
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            if line.starts_with("HTTP/1.1 ") {
                status = line[9..12].parse().expect("a status");
            } else if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().expect("a length");
            } else if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok((status, String::from_utf8(body).expect("text").trim_end().to_owned()))
    }
}

#[test]
fn counts_over_one_connection_and_over_many() {
    let counter = Counter::start(&[]);
    let mut client = counter.connect();
    for expected in 1..=50 {
        assert_eq!(client.request("POST", "/increment").expect("an answer"), (200, expected.to_string()));
    }
    assert_eq!(counter.get("/increment"), (200, "51".to_owned()));
    assert_eq!(counter.get("/session/ada"), (200, "1".to_owned()));
    assert_eq!(client.request("GET", "/session/ada").expect("an answer"), (200, "2".to_owned()));
    assert_eq!(counter.get("/checksum"), (200, "whole".to_owned()));
    assert_eq!(counter.get("/pid"), (200, counter.process.id().to_string()));
    let (status, state) = counter.get("/state");
    assert_eq!(status, 200);
    assert!(state.contains("\"counter\":51,\"sessions\":{\"ada\":2},\"memory\":\"whole\""), "{state}");
    assert_eq!(counter.get("/nothing").0, 404);
    assert_eq!(client.request("DELETE", "/counter").expect("an answer").0, 405);
}

#[test]
fn concurrent_clients_get_each_number_once() {
    let counter = Counter::start(&[]);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let mut client = counter.connect();
            std::thread::spawn(move || {
                let mut ask = || client.request("GET", "/increment").expect("an answer").1;
                (0..100).map(|_| ask().parse::<u64>().expect("a number")).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut numbers: Vec<u64> =
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=800).collect::<Vec<_>>());
}

#[test]
fn journal_holds_each_number_and_goes_on_after_a_new_start() {
    let folder = std::env::temp_dir().join(format!("counter-journal-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let journal = folder.join("journal");
    for _ in 0..2 {
        let counter = Counter::start(&["--journal", journal.to_str().expect("text")]);
        counter.get("/increment");
        counter.get("/increment");
    }
    let text = std::fs::read_to_string(&journal).expect("the journal");
    std::fs::remove_dir_all(&folder).expect("our own folder");
    assert_eq!(text, "1\n2\n1\n2\n");
}

#[test]
fn sickness_by_count_and_by_file() {
    let file = std::env::temp_dir().join(format!("counter-sick-{}", std::process::id()));
    let counter = Counter::start(&["--sick-after", "2", "--sick-while", file.to_str().expect("text")]);
    assert_eq!(counter.get("/health").0, 200);
    std::fs::write(&file, "").expect("a file");
    let while_it_exists = counter.get("/health").0;
    std::fs::remove_file(&file).expect("our own file");
    assert_eq!(while_it_exists, 503);
    assert_eq!(counter.get("/health").0, 200);
    counter.get("/increment");
    counter.get("/increment");
    assert_eq!(counter.get("/health").0, 503);
}

#[test]
fn exit_and_abort_end_the_process_as_asked() {
    let mut counter = Counter::start(&[]);
    assert_eq!(counter.get("/exit?code=256").0, 400);
    assert!(counter.connect().request("GET", "/exit?code=3").is_err());
    assert_eq!(counter.process.wait().expect("its status").code(), Some(3));

    let mut counter = Counter::start(&[]);
    assert!(counter.connect().request("GET", "/abort").is_err());
    assert_eq!(counter.process.wait().expect("its status").signal(), Some(6));
}

#[test]
fn hang_accepts_and_never_answers() {
    let counter = Counter::start(&[]);
    let mut other = counter.connect();
    assert_eq!(other.request("GET", "/health").expect("an answer").0, 200);
    let silent = Duration::from_millis(300);
    for path in ["/hang", "/health", "/counter", "/health", "/health", "/health"] {
        let mut client = counter.connect();
        client.reader.get_ref().set_read_timeout(Some(silent)).expect("a limit can be set");
        let error = client.request("GET", path).expect_err("no answer");
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{path}");
    }
    other.reader.get_ref().set_read_timeout(Some(silent)).expect("a limit can be set");
    assert!(other.request("GET", "/health").is_err(), "connections from before hang as well");
}

#[test]
fn leak_grows_the_process() {
    let counter = Counter::start(&[]);
    let resident_kb = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", counter.process.id())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its size");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = resident_kb();
    assert_eq!(counter.get("/leak?mib=16"), (200, (16 << 20).to_string()));
    assert!(resident_kb() >= before + 15 * 1024);
}
