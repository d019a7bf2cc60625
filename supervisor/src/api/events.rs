//! The journal of events as lines of JSON: first what is kept, then, if asked for, what comes.
//!
//! No gap and no duplicate: the live end is taken hold of before the kept records are read, and the numbers say what was seen
//! already. A record reaches followers a moment before the disk, so a number that is missing is looked for on disk before the
//! next one is sent. A record that never got there (a disk that failed) leaves a gap that the numbers show.

use std::time::{Duration, SystemTime};

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
/// How long a record is waited for while the disk does not get on: the sum of these.
const LOOK_AGAIN: [Duration; 6] = [
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(50),
    Duration::from_millis(150),
    Duration::from_millis(300),
    Duration::from_millis(500),
];
/// So many records may reach the disk before one that has a lower number.
const LATE_MAX: usize = 64;
/// After that long, what was on its way to the disk when we began is there.
const SETTLED: Duration = Duration::from_millis(200);

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
        let Some(mut live) = live else { return self.send_all(kept).await };
        self.send_all(sure(kept, self.last)).await?;
        let settled = tokio::time::sleep(SETTLED);
        tokio::pin!(settled);
        let mut looked = false;
        loop {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Over),
                () = self.out.closed() => return Err(Over),
                record = live.recv() => match record {
                    Ok(record) => self.next(record).await?,
                    Err(RecvError::Lagged(_)) => {
                        let kept = kept_after(&self.events, self.last).await.unwrap_or_default();
                        self.send_all(sure(kept, self.last)).await?;
                    }
                    Err(RecvError::Closed) => return Ok(()),
                },
                () = &mut settled, if !looked => {
                    looked = true;
                    let kept = kept_after(&self.events, self.last).await.unwrap_or_default();
                    self.send_all(kept).await?;
                }
            }
        }
    }

    /// One that is live; first those before it that were not seen yet.
    async fn next(&mut self, record: EventRecord) -> Result<(), Over> {
        let mut delays = LOOK_AGAIN.iter();
        while record.seq > self.last + 1 {
            let before = self.last;
            let kept = kept_after(&self.events, before).await.unwrap_or_default();
            // Those before it may not all be on disk yet: only what is without a gap may go out.
            let row =
                kept.into_iter().zip(before + 1..record.seq).take_while(|(found, seq)| found.seq == *seq);
            self.send_all(row.map(|(found, _)| found).collect()).await?;
            if self.last > before {
                // The disk is behind and gets on: it has all the time it wants.
                delays = LOOK_AGAIN.iter();
                continue;
            }
            match delays.next() {
                Some(delay) => tokio::time::sleep(*delay).await,
                None => break,
            }
        }
        if record.seq > self.last + 1 {
            let kept = kept_after(&self.events, self.last).await.unwrap_or_default();
            self.send_all(kept.into_iter().take_while(|found| found.seq < record.seq).collect()).await?;
        }
        self.send_all(vec![record]).await
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

/// The records up to a gap that may yet be filled. One that has been passed by many later ones never will be.
fn sure(mut kept: Vec<EventRecord>, last: u64) -> Vec<EventRecord> {
    let from = kept.len().saturating_sub(LATE_MAX);
    let before = |index: usize| match index {
        0 => last,
        index => kept[index - 1].seq,
    };
    // After nothing, any number may be the first: older ones are dropped in time.
    let gap = (from..kept.len()).find(|index| before(*index) > 0 && kept[*index].seq != before(*index) + 1);
    kept.truncate(gap.unwrap_or(kept.len()));
    kept
}

/// The kept records after a number, in order.
async fn kept_after(events: &Events, last: u64) -> engine::Result<Vec<EventRecord>> {
    let events = events.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut kept = events.kept()?;
        kept.retain(|record| record.seq > last);
        // Two that happen at once may reach the disk the other way round.
        kept.sort_by_key(|record| record.seq);
        Ok(kept)
    });
    read.await.map_err(|e| Error::Internal(Report::new("read the journal of events").because(e)))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::plain;

    #[test]
    fn what_may_come_yet_is_waited_for_and_what_is_lost_is_not() {
        let sure = |numbers: Vec<u64>, last| {
            let records = numbers.into_iter().map(|seq| EventRecord { seq, ..plain(None, "x", "") });
            super::sure(records.collect(), last).iter().map(|record| record.seq).collect::<Vec<_>>()
        };
        assert_eq!(sure(vec![1, 2, 3], 0), [1, 2, 3]);
        assert_eq!(sure(vec![7, 8], 0), [7, 8], "the older ones were dropped");
        assert_eq!(sure(vec![7, 8], 5), [0_u64; 0], "6 is on its way");
        assert_eq!(sure(vec![1, 2, 4], 0), [1, 2], "3 is on its way");
        let lost: Vec<u64> = (1..=200).filter(|seq| *seq != 50).collect();
        assert_eq!(sure(lost.clone(), 0), lost, "50 will never come");
        assert_eq!(sure(Vec::new(), 9), [0_u64; 0]);
    }
}
