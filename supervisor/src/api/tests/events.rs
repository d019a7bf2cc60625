//! The journal over the API: nothing twice, nothing left out.

use hyper::body::Body;

use super::*;
use crate::events::plain;
use crate::status::EventRecord;

/// Reads a stream's records until it has so many.
struct Reader {
    body: Incoming,
    gathered: Vec<u8>,
}

impl Reader {
    async fn open(fixture: &Fixture, query: &str) -> Self {
        let response = fixture.send("GET", &format!("/v1/events{query}"), "").await;
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), gathered: Vec::new() }
    }

    async fn next(&mut self) -> Option<EventRecord> {
        loop {
            if let Some(end) = self.gathered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.gathered.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).expect("an event"));
            }
            let frame = tokio::time::timeout(LIMIT, self.body.frame()).await.expect("in time")?;
            self.gathered.extend_from_slice(&frame.expect("whole").into_data().expect("data"));
        }
    }

    async fn take(&mut self, count: usize) -> Vec<u64> {
        let mut found = Vec::new();
        while found.len() < count {
            found.push(self.next().await.expect("more to come").seq);
        }
        found
    }

    async fn rest(mut self) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(record) = self.next().await {
            found.push(record.seq);
        }
        found
    }
}

/// Records so many events.
fn record(fixture: &Fixture, service: Option<&str>, count: usize) {
    for number in 0..count {
        fixture.control.events().record(plain(service, "started", format!("event {number}")));
    }
}

#[tokio::test]
async fn kept_events_are_told_by_number_time_and_service() {
    let fixture = Fixture::new().await;
    assert!(Reader::open(&fixture, "").await.rest().await.is_empty());
    record(&fixture, Some("web"), 5);
    record(&fixture, None, 1);
    record(&fixture, Some("web"), 1);
    let told = async |query: &str| Reader::open(&fixture, query).await.rest().await;
    assert_eq!(told("").await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(told("?since_seq=4&follow=false").await, [5, 6, 7]);
    assert_eq!(told("?service=web&since_seq=4").await, [5, 7]);
    assert_eq!(told("?since=2020-01-01T00:00:00Z&since_seq=6").await, [7]);
    assert_eq!(told("?since=2999-01-01T00:00:00Z").await, [0_u64; 0]);
    assert_eq!(told("?kept=false").await, [0_u64; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_follows_misses_nothing_and_sees_nothing_twice() {
    const WRITERS: usize = 4;
    const EACH: usize = 150;
    let fixture = Fixture::new().await;
    record(&fixture, Some("web"), 20);
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let events = fixture.control.events().clone();
            std::thread::spawn(move || {
                for number in 0..EACH {
                    events.record(plain(Some("web"), "started", format!("event {number}")));
                    std::thread::yield_now();
                }
            })
        })
        .collect();
    // They begin to follow in the midst of it.
    let mut readers = Vec::new();
    for _ in 0..4 {
        readers.push(Reader::open(&fixture, "?follow=true").await);
    }
    for reader in &mut readers {
        let found = reader.take(20 + WRITERS * EACH).await;
        assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
    }
    for writer in writers {
        writer.join().expect("no panic");
    }
    fixture.control.events().record(plain(None, "node-started", "once more"));
    for reader in &mut readers {
        assert_eq!(reader.take(1).await, [21 + (WRITERS * EACH) as u64]);
    }
}

#[tokio::test]
async fn a_reader_that_fell_behind_catches_up() {
    let fixture = Fixture::new().await;
    record(&fixture, Some("web"), 1);
    let mut reader = Reader::open(&fixture, "?follow=true&kept=false").await;
    // More than the live end holds, and nobody has a chance to read meanwhile.
    for number in 0..2000 {
        fixture.control.events().record(plain(Some("web"), "started", format!("event {number}")));
    }
    let found = reader.take(2000).await;
    assert_eq!(found, (2..=2001).collect::<Vec<_>>());
}

/// One server-sent event, without comments that only say that we are there.
async fn sent(body: &mut Incoming, gathered: &mut String) -> (u64, EventRecord) {
    loop {
        if let Some(end) = gathered.find("\n\n") {
            let block: String = gathered.drain(..end + 2).collect();
            let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            let Some(data) = field("data: ") else { continue };
            let id = field("id: ").expect("a number").parse().expect("a number");
            return (id, serde_json::from_str(data).expect("an event"));
        }
        let frame = tokio::time::timeout(LIMIT, body.frame()).await.expect("in time").expect("more to come");
        let data = frame.expect("whole").into_data().expect("data");
        gathered.push_str(std::str::from_utf8(&data).expect("text"));
    }
}

#[tokio::test]
async fn server_sent_events_go_on_where_the_reader_was() {
    let fixture = Fixture::new().await;
    record(&fixture, Some("web"), 5);
    let headers = [("accept", "text/event-stream"), ("last-event-id", "3")];
    // `kept=false` is for those who have seen nothing yet.
    let response = fixture.send_with("GET", "/v1/events?kept=false", &headers, "").await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let (mut body, mut gathered) = (response.into_body(), String::new());
    for expected in [4, 5] {
        let (id, record) = sent(&mut body, &mut gathered).await;
        assert_eq!((id, record.seq), (expected, expected));
    }
    record(&fixture, Some("web"), 1);
    assert_eq!(sent(&mut body, &mut gathered).await.0, 6);

    let fresh = fixture.send_with("GET", "/v1/events?kept=false", &headers[..1], "").await;
    let (mut body, mut gathered) = (fresh.into_body(), String::new());
    record(&fixture, Some("web"), 1);
    assert_eq!(sent(&mut body, &mut gathered).await.0, 7, "only what happens from now on");

    let strange = fixture.send_with("GET", "/v1/events", &[headers[0], ("last-event-id", "x")], "").await;
    assert_eq!(strange.status(), 400);
}

#[tokio::test]
async fn following_ends_with_the_supervisor() {
    let mut fixture = Fixture::new().await;
    record(&fixture, Some("web"), 1);
    let mut reader = Reader::open(&fixture, "?follow=true").await;
    assert_eq!(reader.take(1).await, [1]);
    assert!(!reader.body.is_end_stream());
    let begun = std::time::Instant::now();
    fixture.end().await;
    assert!(reader.rest().await.is_empty());
    assert!(begun.elapsed() < crate::api::ENDING_MAX, "nobody had to be cut off");
}
