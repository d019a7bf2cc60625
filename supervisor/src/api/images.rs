//! Images over the API: what there is, whether it is whole, pins.
//!
//! The store may take as long as a disk takes, so every call of it is on a thread for blocking work.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use engine::compat::{Host, Reason, Strictness};
use engine::error::Report;
use engine::images::{ImageRecord, Store};
use engine::{Error, compat};
use policies::id::{ImageId, ServiceName};
use serde::Deserialize;

use super::Api;
use super::answer::{ErrorBody, Failure, LeftImage, RekeyedImages, VerifiedImage};
use crate::status::ImageStatus;

/// Which images.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct Which {
    /// Only those of this service.
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
        key: record.key.clone(),
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

/// Images, the newest of each service first.
#[utoipa::path(get, path = "/v1/images",
    params(Which),
    responses((status = 200, description = "Images", body = Vec<ImageStatus>), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn list(
    State(api): State<Api>,
    which: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Vec<ImageStatus>>, Failure> {
    let Query(Which { service }) = which.map_err(|e| Failure::bad(e.body_text()))?;
    of(&api, service).await.map(Json)
}

/// Those of one service, or all.
pub(super) async fn of(api: &Api, service: Option<String>) -> Result<Vec<ImageStatus>, Failure> {
    let known = match &service {
        Some(name) => api.control.entry(name).await.is_ok(),
        None => true,
    };
    let records = in_store(api, move |store| records(store, service.as_deref(), known)).await??;
    with_host(api, records).await
}

/// Reads all of an image and compares every checksum.
#[utoipa::path(post, path = "/v1/images/{id}/verify",
    params(("id" = String, Path, description = "The image")),
    responses((status = 200, description = "It is whole", body = VerifiedImage), (status = "default", description = "A refusal", body = ErrorBody)))]
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

/// Wraps the data keys of all images under the present key.
#[utoipa::path(post, path = "/v1/rekey",
    responses((status = 200, description = "What was done", body = RekeyedImages), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn rekey(State(api): State<Api>) -> Result<Json<RekeyedImages>, Failure> {
    let outcome = in_store(&api, Store::rekey).await??;
    let left = outcome.left.into_iter().map(|(id, why)| LeftImage { id: id.to_string(), why });
    Ok(Json(RekeyedImages {
        key: outcome.key,
        done: outcome.done.iter().map(ToString::to_string).collect(),
        already: outcome.already,
        plain: outcome.plain,
        left: left.collect(),
    }))
}

/// Keeps an image whatever retention says.
#[utoipa::path(post, path = "/v1/images/{id}/pin",
    params(("id" = String, Path, description = "The image")),
    responses((status = 200, description = "The image", body = ImageStatus), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn pin(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ImageStatus>, Failure> {
    mark(&api, &id, Store::pin).await
}

/// Lets retention decide about an image again.
#[utoipa::path(post, path = "/v1/images/{id}/unpin",
    params(("id" = String, Path, description = "The image")),
    responses((status = 200, description = "The image", body = ImageStatus), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn unpin(
    State(api): State<Api>,
    Path(id): Path<String>,
) -> Result<Json<ImageStatus>, Failure> {
    mark(&api, &id, Store::unpin).await
}

pub(super) async fn mark(
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
pub(super) async fn find(api: &Api, id: &str) -> Result<(ServiceName, ImageId), Failure> {
    let absent = Failure::absent(format!("no such image: {id} (`supervisor images` lists those there are)"));
    let Ok(id) = ImageId::try_from(id) else { return Err(absent) };
    let wanted = id.clone();
    let records = in_store(api, |store| records(store, None, true)).await??;
    let found = records.into_iter().find(|record| record.facts.id == wanted);
    found.map(|record| (record.service, id)).ok_or(absent)
}

pub(super) async fn with_host(api: &Api, records: Vec<ImageRecord>) -> Result<Vec<ImageStatus>, Failure> {
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
    let now = engine::clock::wall();
    records.iter().map(|record| image_status(record, here, now)).collect()
}

pub(super) async fn in_store<T: Send + 'static>(
    api: &Api,
    work: impl FnOnce(&Store) -> T + Send + 'static,
) -> Result<T, Failure> {
    let store = api.control.store().clone();
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(|e| Error::Internal(Report::new("work in the store").because(e)).into())
}
