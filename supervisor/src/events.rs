//! The journal of events: what happened, when, to whom, in order; on disk with bounded size, and live.
//!
//! Writing never holds up a service: records go through a bounded queue to a thread of their own; were it ever full, the
//! record is still seen live and in the log, and the gap shows in the numbers. Numbers, live end and queue have one order.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use engine::durable::Log;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio_util::sync::CancellationToken;

use crate::status::EventRecord;

/// How many records may wait for the disk.
const QUEUE: usize = 4096;
/// How many records a slow follower may be behind before it misses some.
const LIVE: usize = 1024;
/// How long a reader waits for what is on its way to the disk; a disk that takes longer shows what it has.
const DISK_WAIT: Duration = Duration::from_secs(5);
/// The journal's size at which its older half is dropped.
const SIZE_MAX: u64 = 16 << 20;

/// The journal. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: std::path::PathBuf,
    /// The next number; whoever holds it may hand a record on.
    next: Mutex<u64>,
    to_disk: mpsc::SyncSender<ToDisk>,
    live: broadcast::Sender<EventRecord>,
}

#[derive(Debug)]
enum ToDisk {
    Record(Box<EventRecord>),
    /// Say when everything before this is written.
    Tell(mpsc::SyncSender<()>),
}

impl Events {
    /// Opens the journal and goes on where it ended.
    pub(crate) fn open(path: &Path) -> engine::Result<Self> {
        let (log, replay) = Log::open(path)?;
        let last = replay.records.iter().rev().find_map(|bytes| decode(bytes)).map_or(0, |r| r.seq);
        let (to_disk, queue) = mpsc::sync_channel(QUEUE);
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn({
                let path = path.to_owned();
                move || write_on(log, &path, &queue)
            })
            .map_err(|e| {
                engine::Error::Unavailable(engine::error::Report::new("start a thread").because(e))
            })?;
        let (live, _) = broadcast::channel(LIVE);
        let inner = Inner { path: path.to_owned(), next: Mutex::new(last + 1), to_disk, live };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Records an event; number and time are filled in here.
    pub(crate) fn record(&self, mut record: EventRecord) {
        record.at = humantime::format_rfc3339_millis(engine::clock::wall()).to_string();
        let kept = {
            let mut next = self.inner.next.lock().unwrap_or_else(PoisonError::into_inner);
            record.seq = *next;
            *next += 1;
            // Nobody may be following.
            let _ = self.inner.live.send(record.clone());
            self.inner.to_disk.try_send(ToDisk::Record(Box::new(record.clone()))).is_ok()
        };
        let service = record.service.as_deref().unwrap_or("-");
        match record.kind.as_str() {
            "noticed" | "gave-up" | "rung-failed" | "checkpoint-failed" | "degraded" | "kill-failed"
            | "start-failed" | "images-locked" | "replica-failed" | "telemetry-failed" => {
                tracing::warn!(service, kind = record.kind, "{}", record.text);
            }
            _ => tracing::info!(service, kind = record.kind, "{}", record.text),
        }
        if !kept {
            tracing::warn!("the journal of events is behind; a record was not kept on disk");
        }
    }

    /// The records on disk, oldest first; all that were recorded before this call, unless the disk is stuck. Blocks.
    pub(crate) fn kept(&self) -> engine::Result<Vec<EventRecord>> {
        let (tell, told) = mpsc::sync_channel(1);
        if self.inner.to_disk.try_send(ToDisk::Tell(tell)).is_ok() {
            let _ = told.recv_timeout(DISK_WAIT);
        }
        Ok(Log::read_all(&self.inner.path)?.records.iter().filter_map(|b| decode(b)).collect())
    }

    /// Those of them after a number, in order.
    pub(crate) async fn kept_after(&self, last: u64) -> engine::Result<Vec<EventRecord>> {
        let events = self.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut kept = events.kept()?;
            kept.retain(|record| record.seq > last);
            Ok(kept)
        });
        read.await.map_err(|e| {
            engine::Error::Internal(engine::error::Report::new("read the journal of events").because(e))
        })?
    }

    /// The number of the newest so far, and those to come.
    pub(crate) fn follow_from_now(&self) -> (u64, broadcast::Receiver<EventRecord>) {
        let next = self.inner.next.lock().unwrap_or_else(PoisonError::into_inner);
        (*next - 1, self.inner.live.subscribe())
    }

    /// Hands on each record after a number, in order, also those that a slow follower missed, until nobody can record any more.
    pub(crate) async fn hand_on(
        &self,
        live: broadcast::Receiver<EventRecord>,
        last: u64,
        to: impl FnMut(&EventRecord),
    ) {
        self.hand_on_until(&CancellationToken::new(), live, last, to).await;
    }

    /// The same, until stopped; what was recorded by then is handed on.
    pub(crate) async fn hand_on_until(
        &self,
        stop: &CancellationToken,
        mut live: broadcast::Receiver<EventRecord>,
        mut last: u64,
        mut to: impl FnMut(&EventRecord),
    ) {
        loop {
            let received = tokio::select! {
                biased;
                received = live.recv() => received,
                () = stop.cancelled() => return,
            };
            let records = match received {
                Ok(record) => vec![record],
                // What cannot be read is lost to this follower, and to nobody else.
                Err(RecvError::Lagged(_)) => self.kept_after(last).await.unwrap_or_default(),
                Err(RecvError::Closed) => return,
            };
            for record in records {
                if record.seq > last {
                    last = record.seq;
                    to(&record);
                }
            }
        }
    }

    /// Those to come.
    pub(crate) fn follow(&self) -> broadcast::Receiver<EventRecord> {
        self.inner.live.subscribe()
    }
}

/// An event that is about nothing more than its text.
pub(crate) fn plain(service: Option<&str>, kind: &str, text: impl Into<String>) -> EventRecord {
    EventRecord {
        service: service.map(str::to_owned),
        kind: kind.to_owned(),
        text: text.into(),
        ..EventRecord::default()
    }
}

/// An event that is an error.
pub(crate) fn failed(service: Option<&str>, kind: &str, error: &engine::Error) -> EventRecord {
    plain(service, kind, error.to_string()).for_error(error)
}

fn decode(bytes: &[u8]) -> Option<EventRecord> {
    serde_json::from_slice(bytes).ok()
}

fn write_on(mut log: Log, path: &Path, queue: &mpsc::Receiver<ToDisk>) {
    while let Ok(first) = queue.recv() {
        // What came meanwhile goes with one wait for the disk.
        let (mut records, mut waiting) = (Vec::new(), Vec::new());
        for item in std::iter::once(first).chain(queue.try_iter().take(QUEUE)) {
            match item {
                ToDisk::Record(record) => records.extend(serde_json::to_vec(&record).ok()),
                ToDisk::Tell(tell) => waiting.push(tell),
            }
        }
        let lines = records.iter().map(Vec::as_slice);
        if let Err(error) = log.append_all(lines).and_then(|()| shorten(&mut log, path)) {
            tracing::warn!(%error, "{} events could not be kept on disk", records.len());
        }
        for tell in waiting {
            // It may have stopped waiting.
            let _ = tell.try_send(());
        }
    }
}

fn shorten(log: &mut Log, path: &Path) -> engine::Result<()> {
    if log.length() < SIZE_MAX {
        return Ok(());
    }
    let all = Log::read_all(path)?.records;
    log.rewrite(all[all.len() / 2..].iter().map(Vec::as_slice))
}
