//! Images over the API: what there is, whether it is whole, pins, and the way out as an archive.
//!
//! The store may take as long as a disk takes, so every call of it is on a thread for blocking work.

use std::io::{self, Write};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use engine::compat::{Host, Reason, Strictness};
use engine::error::Report;
use engine::images::{ImageRecord, Store};
use engine::{Error, compat};
use futures_util::stream;
use policies::id::{ImageId, ServiceName};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Api;
use super::answer::{Failure, VerifiedImage};
use crate::status::ImageStatus;

/// Bytes of an archive that travel at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for a slow reader.
const CHUNKS_WAITING: usize = 4;

/// Which images.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    service: Option<String>,
}

/// What is published of an image. `here` is this host, or why nothing can be restored on it.
fn image_status(record: &ImageRecord, here: Result<&Host, &str>, now: SystemTime) -> ImageStatus {
    let facts = &record.facts;
    let taken = UNIX_EPOCH + Duration::from_nanos(facts.taken_at.as_unix_nanos());
    ImageStatus {
        id: facts.id.to_string(),
        service: record.service.to_string(),
        taken_at: humantime::format_rfc3339_millis(taken).to_string(),
        // A clock that was set back makes no age.
        age_seconds: now.duration_since(taken).unwrap_or_default().as_secs_f64(),
        verdict: facts.verdict.to_string(),
        hot: facts.hot,
        durable: facts.durable,
        replicated: false,
        pinned: facts.pinned,
        damaged: record.damage.clone(),
        incompatible: facts.incompatible.clone().or_else(|| incompatible(record, here)),
        size_bytes: record.sizes.raw,
        stored_bytes: record.sizes.stored,
        pause_ms: record
            .about
            .as_ref()
            .map(|about| Duration::from_micros(about.pause_us).as_secs_f64() * 1e3),
    }
}

fn incompatible(record: &ImageRecord, here: Result<&Host, &str>) -> Option<String> {
    let about = record.about.as_ref()?;
    let here = match here {
        Ok(here) => here,
        Err(why) => return Some(why.to_owned()),
    };
    let reasons = compat::check(&about.host, here, Strictness::Enforced).err()?;
    Some(reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join("; "))
}

/// `GET /v1/images`
pub(super) async fn list(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<ImageStatus>>, Failure> {
    let Query(Which { service }) = which.map_err(|e| Failure::bad(e.body_text()))?;
    let known = match &service {
        Some(name) => api.control.entry(name).await.is_ok(),
        None => true,
    };
    let records = in_store(&api, move |store| records(store, service.as_deref(), known)).await??;
    Ok(Json(with_host(&api, records).await?))
}

/// `POST /v1/images/{id}/verify`
pub(super) async fn verify(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<VerifiedImage>, Failure> {
    let (service, id) = find(&api, &id).await?;
    // One at a time: reading competes with the checkpoints for the disk and the processors.
    let _turn = api.verifying.acquire().await.map_err(|_| Failure::busy("the supervisor stops"))?;
    let begun = Instant::now();
    let wanted = id.clone();
    let outcome = in_store(&api, move |store| store.verify(&wanted)).await?;
    if matches!(outcome, Err(Error::Corrupt(_))) {
        api.control.images_changed(&service).await;
    }
    let verified = outcome?;
    Ok(Json(VerifiedImage {
        id: id.to_string(),
        service: service.to_string(),
        files: verified.files,
        size_bytes: verified.sizes.raw,
        stored_bytes: verified.sizes.stored,
        took_ms: begun.elapsed().as_secs_f64() * 1e3,
    }))
}

/// `POST /v1/images/{id}/pin`
pub(super) async fn pin(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ImageStatus>, Failure> {
    mark(&api, &id, Store::pin).await
}

/// `POST /v1/images/{id}/unpin`
pub(super) async fn unpin(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ImageStatus>, Failure> {
    mark(&api, &id, Store::unpin).await
}

/// `GET /v1/images/{id}/export`: the archive. Damage is found before its first byte; whatever goes wrong after that breaks the
/// connection off, so that half an archive never looks like a whole one.
pub(super) async fn export(State(api): State<Api>, Path(id): Path<String>) -> Result<Response, Failure> {
    let (service, id) = find(&api, &id).await?;
    let turn = api.exporting.clone().try_acquire_owned();
    let turn = turn.map_err(|_| Failure::busy("as many exports as allowed are running; try again"))?;
    let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
    let store = api.control.store().clone();
    let name = format!("attachment; filename=\"{service}-{id}.image\"");
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut to = Chunks { gathered: Vec::with_capacity(CHUNK), sender: sender.clone() };
        let written = store.export(&id, &mut to).and_then(|_| to.flush().map_err(gone));
        if let Err(error) = written {
            // If nobody listens any more, that was the error.
            let _ = sender.blocking_send(Err(error));
        }
    });
    let first = match chunks.recv().await {
        Some(Ok(chunk)) => chunk,
        Some(Err(error)) => {
            if matches!(error, Error::Corrupt(_)) {
                api.control.images_changed(&service).await;
            }
            return Err(error.into());
        }
        None => return Err(Error::Internal(Report::new("export ended without a byte")).into()),
    };
    let rest = stream::unfold((Some(first), chunks), async |(first, mut chunks)| {
        let chunk = match first {
            Some(chunk) => Some(Ok(chunk)),
            None => chunks.recv().await,
        };
        chunk.map(|chunk| (chunk, (None, chunks)))
    });
    let headers = [(header::CONTENT_TYPE, "application/octet-stream"), (header::CONTENT_DISPOSITION, &name)];
    Ok((headers, Body::from_stream(rest)).into_response())
}

async fn mark(
    api: &Api,
    id: &str,
    change: fn(&Store, &ImageId) -> engine::Result<()>,
) -> Result<Json<ImageStatus>, Failure> {
    let (service, id) = find(api, id).await?;
    let of = service.clone();
    let changed = in_store(api, move |store| {
        change(store, &id)?;
        Ok::<_, Error>(store.list(&of)?.into_iter().find(|record| record.facts.id == id))
    });
    let record = changed.await??;
    api.control.images_changed(&service).await;
    let shown = with_host(api, record.into_iter().collect()).await?.pop();
    shown.map(Json).ok_or_else(|| Failure::absent("the image was removed meanwhile"))
}

/// The images of one service or of all; a service that neither runs here nor has images is unknown.
fn records(store: &Store, service: Option<&str>, known: bool) -> Result<Vec<ImageRecord>, Failure> {
    let there = store.services()?;
    let Some(name) = service else {
        let lists = there.iter().map(|service| store.list(service)).collect::<engine::Result<Vec<_>>>()?;
        return Ok(lists.into_iter().flatten().collect());
    };
    match ServiceName::try_from(name) {
        Ok(name) if known || there.contains(&name) => Ok(store.list(&name)?),
        _ => Err(Failure::absent(format!("there is no service {name}"))),
    }
}

/// Whose image it is.
async fn find(api: &Api, id: &str) -> Result<(ServiceName, ImageId), Failure> {
    let absent = Failure::absent(format!("no such image: {id} (`supervisor images` lists those there are)"));
    let Ok(id) = ImageId::try_from(id) else { return Err(absent) };
    let wanted = id.clone();
    let records = in_store(api, |store| records(store, None, true)).await??;
    let found = records.into_iter().find(|record| record.facts.id == wanted);
    found.map(|record| (record.service, id)).ok_or(absent)
}

async fn with_host(api: &Api, records: Vec<ImageRecord>) -> Result<Vec<ImageStatus>, Failure> {
    let criu = api.control.status().await.criu;
    let mut images = in_store(api, move |_| {
        // The node's status says CRIU's version, or in words why there is none.
        let here = match criu.starts_with(|c: char| c.is_ascii_digit()) {
            true => Host::probe(&criu)?,
            false => return Ok(shown(&records, Err(&format!("there is no CRIU to restore it: {criu}")))),
        };
        Ok::<_, Failure>(shown(&records, Ok(&here)))
    })
    .await??;
    for image in &mut images {
        image.replicated = api.control.replicas().has(&image.id);
    }
    Ok(images)
}

fn shown(records: &[ImageRecord], here: Result<&Host, &str>) -> Vec<ImageStatus> {
    let now = SystemTime::now();
    records.iter().map(|record| image_status(record, here, now)).collect()
}

async fn in_store<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Failure> {
    let store = api.control.store().clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|e| Error::Internal(Report::new("work in the store").because(e)).into())
}

fn gone(error: io::Error) -> Error {
    Error::Unavailable(Report::new("cannot send the archive").because(error))
}

/// Gathers an archive into chunks for the connection.
struct Chunks {
    gathered: Vec<u8>,
    sender: mpsc::Sender<engine::Result<Vec<u8>>>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(CHUNK - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..taken]);
        if self.gathered.len() == CHUNK {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.gathered, Vec::with_capacity(CHUNK));
        self.sender.blocking_send(Ok(chunk)).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}
