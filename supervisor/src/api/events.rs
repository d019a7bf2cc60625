//! The journal of events as lines of JSON or as server-sent events: first what is kept, then, if asked for, what comes.
//!
//! No gap and no duplicate: the live end is taken hold of before the kept records are read, and the numbers say what was seen
//! already. A record that never got to the disk (one that failed) leaves a gap that the numbers show.

use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response, sse};
use futures_util::{StreamExt, stream};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::answer::{ErrorBody, Failure};
use crate::events::Events;
use crate::status::EventRecord;

/// Records that may wait for a slow reader; the journal's own limit comes after it.
const WAITING: usize = 64;
/// How often a reader of server-sent events hears that we are there.
const ALIVE_EVERY: Duration = Duration::from_secs(15);
/// Which events.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only those after this number.
    since_seq: Option<u64>,
    /// Not older than this time, as `2026-01-31T12:00:00Z`.
    since: Option<String>,
    /// Only those of this service.
    service: Option<String>,
    /// Go on with what happens; server-sent events do always.
    #[serde(default)]
    #[param(default = false)]
    follow: bool,
    /// `false`: only what happens from now on.
    kept: Option<bool>,
}

/// What happened, oldest first: one object a line, or, for whoever accepts `text/event-stream`, server-sent events, which go on with what
/// happens.
#[utoipa::path(get, path = "/v1/events",
    params(Which, ("Last-Event-ID" = Option<u64>, Header, description = "Server-sent events only: the same as since_seq, and stronger")),
    responses(
        (status = 200, description = "Events", content(
            (EventRecord = "application/x-ndjson"), (String = "text/event-stream"))),
        (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn events(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let Query(which) = which.map_err(|e| Failure::bad(e.body_text()))?;
    let form = Form::asked_for(&headers);
    let Reading { kept, live, feed, records } = begin(&api, &which, form, &headers).await?;
    let live = (which.follow || form == Form::ServerSent).then_some(live);
    tokio::spawn(async move {
        // The reader has gone, or we stop: either way there is nobody to tell.
        let _ = feed.run(kept, live).await;
    });
    Ok(form.answer(records))
}

/// A reader's place in the journal.
struct Reading {
    kept: Vec<EventRecord>,
    live: Live,
    feed: Feed,
    records: mpsc::Receiver<EventRecord>,
}

async fn begin(api: &Api, which: &Which, form: Form, headers: &HeaderMap) -> Result<Reading, Failure> {
    let filter = Filter::new(which)?;
    let seen = match form {
        Form::Lines => None,
        Form::ServerSent => last_seen(headers)?,
    };
    let events = api.control.events().clone();
    let live = events.follow();
    let mut last = seen.or(which.since_seq).unwrap_or(0);
    let mut kept = events.kept_after(last).await?;
    // Whoever has seen something wants what came after it, connected anew or not.
    if which.kept == Some(false) && seen.is_none() {
        last = kept.drain(..).next_back().map_or(last, |record| record.seq);
    }
    let (out, records) = mpsc::channel(WAITING);
    Ok(Reading { kept, live, feed: Feed { events, filter, last, out, stop: api.stop.clone() }, records })
}

fn last_seen(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number.map(Some).ok_or_else(|| Failure::bad("Last-Event-ID is not the number of an event"))
}

/// How records are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Lines,
    ServerSent,
}

impl Form {
    fn asked_for(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        if accept.contains("text/event-stream") { Self::ServerSent } else { Self::Lines }
    }

    fn answer(self, records: mpsc::Receiver<EventRecord>) -> Response {
        let records = stream::unfold(records, async |mut records| records.recv().await.map(|r| (r, records)));
        match self {
            Self::Lines => {
                let lines = records.map(|record| line(&record));
                ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
            }
            Self::ServerSent => {
                let sent =
                    records.map(|record| sse::Event::default().id(record.seq.to_string()).json_data(record));
                // What stands between us and the reader must not take silence for an end.
                sse::Sse::new(sent).keep_alive(sse::KeepAlive::new().interval(ALIVE_EVERY)).into_response()
            }
        }
    }
}

fn line(record: &EventRecord) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
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
    out: mpsc::Sender<EventRecord>,
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
                        let missed = self.events.kept_after(self.last).await.unwrap_or_default();
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
                self.out.send(record).await.map_err(|_| Over)?;
            }
        }
        Ok(())
    }
}
