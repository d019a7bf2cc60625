//! `events`: what happened, and with `--follow` what happens.

use std::time::{Duration, SystemTime};

use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::client::{Client, encode};
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::words;
use crate::status::EventRecord;

/// Longest line that can be an event.
const LINE_MAX: usize = 1 << 20;

/// From when on.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Since {
    /// So long ago.
    Ago(Duration),
    /// This time.
    At(SystemTime),
}

/// Which events.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) follow: bool,
    pub(crate) since: Option<Since>,
    pub(crate) service: Option<String>,
}

/// `1h`, or a time.
pub(crate) fn parse_since(text: &str) -> Result<Since, String> {
    let ago = humantime::parse_duration(text).map(Since::Ago);
    ago.or_else(|_| humantime::parse_rfc3339_weak(text).map(Since::At))
        .map_err(|_| "neither a span like 1h nor a time like 2026-01-31T12:00:00Z".to_owned())
}

/// Shows them.
pub(crate) async fn events(screen: &Screen, client: &Client, wanted: Wanted) -> Result<(), Failure> {
    let mut lines = Lines::open(client, &wanted.path(engine::clock::wall())).await?;
    while let Some(line) = lines.next().await? {
        if screen.is_json() {
            screen.line(&line)?;
        } else {
            screen.line(&shown(screen, &read(&line)?))?;
        }
    }
    if wanted.follow {
        return Err(Failure::Failed("the supervisor has ended the stream; it is stopping".to_owned()));
    }
    Ok(())
}

impl Wanted {
    /// The address that asks for them.
    pub(crate) fn path(&self, now: SystemTime) -> String {
        let since = self.since.as_ref().map(|since| match since {
            Since::Ago(span) => {
                now.checked_sub(*span).unwrap_or(SystemTime::UNIX_EPOCH).max(SystemTime::UNIX_EPOCH)
            }
            Since::At(time) => *time,
        });
        let mut path = format!("/v1/events?follow={}", self.follow);
        if let Some(since) = since {
            path.push_str(&format!(
                "&since={}",
                encode(&humantime::format_rfc3339_millis(since).to_string())
            ));
        }
        if let Some(service) = &self.service {
            path.push_str(&format!("&service={}", encode(service)));
        }
        path
    }
}

/// The lines of a stream, as they come.
#[derive(Debug)]
pub(crate) struct Lines {
    body: Incoming,
    gathered: Vec<u8>,
}

impl Lines {
    /// Opens a stream.
    pub(crate) async fn open(client: &Client, path: &str) -> Result<Self, Failure> {
        Ok(Self { body: client.stream(path).await?, gathered: Vec::new() })
    }

    /// The next one; `None` at the end. Safe to drop: nothing that was read is lost.
    pub(crate) async fn next(&mut self) -> Result<Option<String>, Failure> {
        loop {
            if let Some(end) = self.gathered.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.gathered.drain(..=end).collect();
                return Ok(Some(String::from_utf8_lossy(&line[..end]).into_owned()));
            }
            if self.gathered.len() > LINE_MAX {
                return Err(Failure::Failed("the supervisor sends something else than events".to_owned()));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|e| Failure::Failed(format!("the stream of events broke off: {e}")))?;
            if let Ok(bytes) = frame.into_data() {
                self.gathered.extend_from_slice(&bytes);
            }
        }
    }
}

pub(super) fn read(line: &str) -> Result<EventRecord, Failure> {
    serde_json::from_str(line).map_err(|e| Failure::Failed(format!("not an event: {line}: {e}")))
}

/// One event as one line; further lines of its text are indented.
fn shown(screen: &Screen, record: &EventRecord) -> String {
    let service = record.service.as_deref().unwrap_or("-");
    let kind = screen.paint(mood(&record.kind), &format!("{:<18}", record.kind));
    let text = record.text.replace('\n', "\n    ");
    format!("{}  {service:<12}  {kind}  {text}{}", record.at, words::took(&text, record.took_ms))
}

/// What a kind of event means to whoever looks.
pub(super) fn mood(kind: &str) -> Mood {
    match kind {
        "gave-up" => Mood::Bad,
        "recovered" | "started" => Mood::Good,
        "noticed" | "degraded" => Mood::Doubtful,
        failed if failed.ends_with("-failed") => Mood::Doubtful,
        _ => Mood::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_span_or_a_time() {
        assert_eq!(parse_since("90m"), Ok(Since::Ago(Duration::from_secs(5400))));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(86400);
        assert_eq!(parse_since("1970-01-02T00:00:00Z"), Ok(Since::At(time)));
        assert!(parse_since("yesterday").is_err());
    }

    #[test]
    fn the_address_says_what_is_wanted() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(7200);
        let since = Some(Since::Ago(Duration::from_secs(3600)));
        let wanted = Wanted { follow: true, since, service: Some("a&b".to_owned()) };
        let expected = "/v1/events?follow=true&since=1970-01-01T01%3A00%3A00.000Z&service=a%26b";
        assert_eq!(wanted.path(now), expected);
        let all = Wanted { follow: false, since: None, service: None };
        assert_eq!(all.path(now), "/v1/events?follow=false");
        let long_ago = Wanted { since: Some(Since::Ago(Duration::MAX)), ..all };
        assert!(long_ago.path(now).contains("since=1970-01-01T00%3A00%3A00.000Z"));
    }

    #[test]
    fn an_event_is_one_line() {
        let record = EventRecord {
            seq: 1,
            at: "2026-11-22T20:00:00.123Z".to_owned(),
            service: Some("counter".to_owned()),
            kind: "recovered".to_owned(),
            text: "restored from i1".to_owned(),
            took_ms: Some(61.0),
            ..EventRecord::default()
        };
        assert_eq!(
            shown(&Screen::plain(), &record),
            "2026-11-22T20:00:00.123Z  counter       recovered           restored from i1 (61.0 ms)"
        );
    }
}
