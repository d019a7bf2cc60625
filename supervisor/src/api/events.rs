//! The journal of events as lines of JSON: first what is kept, then, if asked for, what comes.
//!
//! No gap and no duplicate: the live end is taken hold of before the kept records are read, and the numbers say what was seen
//! already. A record that never got to the disk (one that failed) leaves a gap that the numbers show.

use std::time::SystemTime;

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use engine::Error;
use engine::error::Report;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::answer::Failure;
use crate::events::Events;
use crate::status::EventRecord;

/// Records that may wait for a slow reader; the journal's own limit comes after it.
const WAITING: usize = 64;
/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    since_seq: Option<u64>,
    since: Option<String>,
    service: Option<String>,
    #[serde(default)]
    follow: bool,
    /// `false`: only what happens from now on.
    kept: Option<bool>,
}

/// `GET /v1/events`
pub(super) async fn events(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(which) = which.map_err(|e| Failure::bad(e.body_text()))?;
    let filter = Filter::new(&which)?;
    let events = api.control.events().clone();
    let live = events.follow();
    let mut last = which.since_seq.unwrap_or(0);
    let mut kept = kept_after(&events, last).await?;
    if which.kept == Some(false) {
        last = kept.drain(..).next_back().map_or(last, |record| record.seq);
    }
    let (out, lines) = mpsc::channel(WAITING);
    let feed = Feed { events, filter, last, out, stop: api.stop.clone() };
    tokio::spawn(async move {
        // The reader has gone, or we stop: either way there is nobody to tell.
        let _ = feed.run(kept, which.follow.then_some(live)).await;
    });
    let lines =
        stream::unfold(lines, async |mut lines| lines.recv().await.map(|line| (Ok::<_, Error>(line), lines)));
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

/// What a reader wants to see.
#[derive(Debug)]
struct Filter {
    since: Option<SystemTime>,
    service: Option<String>,
}

impl Filter {
    fn new(which: &Which) -> Result<Self, Failure> {
        let since = which.since.as_deref().map(|text| {
            let not_a_time =
                || Failure::bad(format!("since is not a time like 2026-01-31T12:00:00Z: {text}"));
            humantime::parse_rfc3339_weak(text).map_err(|_| not_a_time())
        });
        Ok(Self { since: since.transpose()?, service: which.service.clone() })
    }

    fn admits(&self, record: &EventRecord) -> bool {
        let late_enough = self.since.is_none_or(|since| {
            // A time that can't be read hides nothing.
            humantime::parse_rfc3339_weak(&record.at).map_or(true, |at| at >= since)
        });
        let about_it = self.service.is_none() || self.service == record.service;
        late_enough && about_it
    }
}

/// The reader has gone, or we stop.
struct Over;

/// One reader.
struct Feed {
    events: Events,
    filter: Filter,
    /// The number of the last record that was looked at.
    last: u64,
    out: mpsc::Sender<Vec<u8>>,
    stop: CancellationToken,
}

type Live = tokio::sync::broadcast::Receiver<EventRecord>;

impl Feed {
    async fn run(mut self, kept: Vec<EventRecord>, live: Option<Live>) -> Result<(), Over> {
        self.send_all(kept).await?;
        let Some(mut live) = live else { return Ok(()) };
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Over),
                () = self.out.closed() => return Err(Over),
                record = live.recv() => match record {
                    Ok(record) => self.send_all(vec![record]).await?,
                    Err(RecvError::Lagged(_)) => {
                        let missed = kept_after(&self.events, self.last).await.unwrap_or_default();
                        self.send_all(missed).await?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
            }
        }
    }

    async fn send_all(&mut self, records: Vec<EventRecord>) -> Result<(), Over> {
        for record in records {
            if record.seq <= self.last {
                continue;
            }
            self.last = record.seq;
            if self.filter.admits(&record) {
                let mut line = serde_json::to_vec(&record).map_err(|_| Over)?;
                line.push(b'\n');
                self.out.send(line).await.map_err(|_| Over)?;
            }
        }
        Ok(())
    }
}

/// The kept records after a number, in order.
async fn kept_after(events: &Events, last: u64) -> engine::Result<Vec<EventRecord>> {
    let events = events.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut kept = events.kept()?;
        kept.retain(|record| record.seq > last);
        Ok(kept)
    });
    read.await.map_err(|e| Error::Internal(Report::new("read the journal of events").because(e)))?
}
