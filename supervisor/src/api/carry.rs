//! Images on their way out and in: one archive each, as a stream of bytes in both directions.
//!
//! The store reads and writes on threads of its own; between them and the connection stand a few chunks, so that a slow reader or
//! writer costs no memory. It refuses to take half an archive for a whole one: a connection that breaks off is an error.

use std::io::{self, Read, Write};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use engine::compat::Host;
use engine::error::Report;
use engine::images::{RuntimeFacts, Store};
use engine::interchange::{self, Form, Format, Kind, RECOGNIZED_BY, Recipient};
use engine::runtime::Layout;
use engine::{Error, Result};
use futures_util::{StreamExt, stream};
use policies::id::{ImageId, ServiceName};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::Api;
use super::answer::{ErrorBody, Failure};
use super::images::{find, in_store, with_host};
use crate::carry_out::{image_id, wall_time};
use crate::status::ImageStatus;

/// Bytes of an archive that travel at once.
const CHUNK: usize = 256 << 10;
/// Chunks that may wait for a slow reader or writer.
const CHUNKS_WAITING: usize = 4;

/// In which form an image leaves.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct As {
    /// The archive's form.
    #[serde(default)]
    #[param(inline)]
    format: Name,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
enum Name {
    #[default]
    Native,
    Podman,
    Oci,
}

/// Whose image an archive becomes.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(super) struct For {
    /// An archive of podman's does not say.
    service: Option<String>,
}

/// An image as an archive. Damage is found before its first byte; whatever goes wrong after that breaks the
/// connection off, so that half an archive never looks like a whole one.
#[utoipa::path(get, path = "/v1/images/{id}/export",
    params(("id" = String, Path, description = "The image"), As),
    responses((status = 200, description = "The archive", content_type = "application/octet-stream"), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn export(
    State(api): State<Api>,
    Path(id): Path<String>,
    form: std::result::Result<Query<As>, QueryRejection>,
) -> std::result::Result<Response, Failure> {
    let Query(As { format }) = form.map_err(|e| Failure::bad(e.body_text()))?;
    let (service, id) = find(&api, &id).await?;
    let turn = api.exporting.clone().try_acquire_owned();
    let turn = turn.map_err(|_| Failure::busy("as many exports as allowed are running; try again"))?;
    let (sender, mut chunks) = mpsc::channel(CHUNKS_WAITING);
    let store = api.control.store().clone();
    let name = format!("attachment; filename=\"{service}-{id}.{}\"", format.ending());
    tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let mut to = Chunks { gathered: Vec::with_capacity(CHUNK), sender: sender.clone() };
        let written = format.write(&store, &id, &mut to).and_then(|()| to.flush().map_err(gone));
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

/// Makes an archive an image: ours or podman's, told by its first bytes.
#[utoipa::path(post, path = "/v1/images/import",
    params(For),
    request_body(content_type = "application/octet-stream", description = "The archive"),
    responses((status = 200, description = "The image", body = ImageStatus), (status = "default", description = "A refusal", body = ErrorBody)))]
pub(super) async fn import(
    State(api): State<Api>,
    to: std::result::Result<Query<For>, QueryRejection>,
    body: Body,
) -> std::result::Result<Json<ImageStatus>, Failure> {
    let Query(For { service }) = to.map_err(|e| Failure::bad(e.body_text()))?;
    let _turn =
        api.importing.try_acquire().map_err(|_| Failure::busy("another import is running; try again"))?;
    let service = service.map(|name| ServiceName::try_from(name.as_str())).transpose();
    let service = service.map_err(|e| Failure::bad(format!("not the name of a service: {e}")))?;
    let (sender, chunks) = mpsc::channel(CHUNKS_WAITING);
    let mut from = Arriving { chunks, current: Bytes::new() };
    tokio::spawn(feed(body, sender));
    let (kind, first, mut from) = in_store(&api, move |_| {
        let (kind, first) = from.kind()?;
        Ok::<_, Error>((kind, first, from))
    })
    .await??;
    let imported = match kind {
        Kind::Native => {
            in_store(&api, move |store| native(store, service.as_ref(), &mut first.chain(&mut from))).await?
        }
        Kind::Podman(form) => {
            let receiving = Receiving::prepare(&api, service).await?;
            in_store(&api, move |store| receiving.receive(store, &mut first.chain(&mut from), form)).await?
        }
    };
    let (service, id) = imported?;
    api.control.images_changed(&service).await;
    let record = in_store(&api, move |store| {
        Ok::<_, Error>(store.list(&service)?.into_iter().find(|record| record.facts.id == id))
    });
    let shown = with_host(&api, record.await??.into_iter().collect()).await?.pop();
    shown.map(Json).ok_or_else(|| Failure::absent("the image was removed meanwhile"))
}

impl Name {
    fn ending(self) -> &'static str {
        match self {
            Self::Native => "image",
            Self::Podman => "tar.zst",
            Self::Oci => "oci.tar",
        }
    }

    fn write(self, store: &Store, id: &ImageId, to: &mut dyn Write) -> Result<()> {
        let format = match self {
            Self::Native => return store.export(id, to).map(drop),
            Self::Podman => Format::Podman,
            Self::Oci => Format::Oci,
        };
        interchange::export(&store.open_for_restore(id)?, format, to)
    }
}

fn native(
    store: &Store,
    wanted: Option<&ServiceName>,
    from: &mut dyn Read,
) -> Result<(ServiceName, ImageId)> {
    let manifest = match wanted {
        Some(service) => store.import_for(service, from)?,
        None => store.import(from)?,
    };
    // Retention would weigh it by its age, and it may be old: whoever imports it decides.
    store.pin(&manifest.id)?;
    Ok((manifest.service, manifest.id))
}

/// What has to be known of a service before an archive can become its image.
struct Receiving {
    service: ServiceName,
    id: ImageId,
    node: String,
    runtime: RuntimeFacts,
    layout: Layout,
    host: Host,
}

impl Receiving {
    async fn prepare(api: &Api, service: Option<ServiceName>) -> std::result::Result<Self, Failure> {
        let service = service.ok_or_else(|| {
            Failure::bad("this is an archive of podman: say whose image it is to be, with --service")
        })?;
        let parts = api.control.parts(&service).await.map_err(|unknown| {
            Failure::absent(format!("{unknown}: configure it as a podman service of the same image first"))
        })?;
        let features = parts.runtime.features();
        if features.kind != "podman" || !parts.rootfs {
            let text = format!("import an archive of podman for {service}");
            let remedy = "it must be a podman service, with `checkpoint.rootfs` left on";
            return Err(Error::Refused(Report::new(text).remedy(remedy)).into());
        }
        let status = api.control.status().await;
        let criu = status.criu;
        let host = in_store(api, move |_| Host::probe(&criu)).await??;
        let named = service.clone();
        let id = in_store(api, move |store| image_id(&store.ids(&named)?)).await??;
        let versions = features.versions.into_iter().collect();
        let runtime = RuntimeFacts { kind: features.kind.to_owned(), program: features.program, versions };
        let layout = parts.runtime.layout().await?;
        Ok(Self { service, id, node: status.node, runtime, layout, host })
    }

    fn receive(self, store: &Store, from: &mut dyn Read, form: Form) -> Result<(ServiceName, ImageId)> {
        let recipient = Recipient {
            service: &self.service,
            id: &self.id,
            node: &self.node,
            runtime: self.runtime,
            layout: &self.layout,
            host: &self.host,
            now: wall_time(engine::clock::wall()),
        };
        interchange::receive(store, from, form, recipient)?;
        Ok((self.service, self.id))
    }
}

/// Brings the body to whoever reads it. What nobody wants to read any more is read past: a client reads its answer when it has sent
/// everything.
async fn feed(body: Body, to: mpsc::Sender<Result<Bytes>>) {
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        let broken = |e| Error::Unavailable(Report::new("the archive broke off on its way").because(e));
        let _ = to.send(chunk.map_err(broken)).await;
    }
}

/// An archive that arrives, for a thread that reads.
struct Arriving {
    chunks: mpsc::Receiver<Result<Bytes>>,
    current: Bytes,
}

impl Arriving {
    /// What it is, and the bytes that told.
    fn kind(&mut self) -> Result<(Kind, io::Cursor<Vec<u8>>)> {
        let mut first = Vec::with_capacity(RECOGNIZED_BY);
        let read = self.take(RECOGNIZED_BY as u64).read_to_end(&mut first);
        read.map_err(|e| Error::Unavailable(Report::new("cannot read the archive").because(e)))?;
        let kind = interchange::recognize(&first).ok_or_else(|| {
            let remedy = "give a file of `supervisor export` or of `podman container checkpoint --export`";
            Error::Invalid(Report::new("neither an archive of ours nor one of podman's").remedy(remedy))
        })?;
        Ok((kind, io::Cursor::new(first)))
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(Ok(chunk)) => self.current = chunk,
                Some(Err(error)) => return Err(io::Error::new(io::ErrorKind::ConnectionReset, error)),
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}

fn gone(error: io::Error) -> Error {
    Error::Unavailable(Report::new("cannot send the archive").because(error))
}

/// Gathers an archive into chunks for the connection.
struct Chunks {
    gathered: Vec<u8>,
    sender: mpsc::Sender<Result<Vec<u8>>>,
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
