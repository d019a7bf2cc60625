//! Metrics of a supervisor, as Prometheus would scrape them from its socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use crate::node::Node;
use crate::wait::LIMIT;

/// One scrape.
#[derive(Debug, Clone)]
pub struct Scrape {
    /// As it came.
    pub text: String,
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Asks now.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        Self::accepting(node, "*/*")
    }

    /// Asks for a format.
    #[must_use]
    pub fn accepting(node: &Node, accept: &str) -> Self {
        let mut stream = UnixStream::connect(node.run_dir().join("api.sock")).expect("somebody listens");
        stream.set_read_timeout(Some(LIMIT)).expect("a limit");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")
            .expect("it is asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (head, text) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 200 "), "{answer}");
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (name.to_owned(), value.parse().unwrap_or_else(|e| panic!("{line}: {e}")))
        });
        Self { samples: samples.collect(), text: text.to_owned() }
    }

    /// A sample by its name with labels, as it is written: `name{label="value"}`.
    #[must_use]
    pub fn value(&self, sample: &str) -> Option<f64> {
        self.samples.get(sample).copied()
    }
}
