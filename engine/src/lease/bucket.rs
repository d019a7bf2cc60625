//! Leases in a bucket, for those who have nothing but the place where images go: `s3://bucket/prefix` (any S3-compatible
//! server that honours `If-Match` and `If-None-Match`), or `file:///folder` on a file system that all nodes share.
//!
//! A bucket has no clock, so nothing expires by itself: a standby watches the beat (see [`policies::lease`]). Servers that
//! ignore conditions and answer "done" would give one lease to two nodes; [`Keeper::check`] writes under a name of its own
//! and refuses them. Credentials and endpoint come from the environment, by the usual `AWS_*` variables.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig, UpdateVersion,
};

use super::document::LENGTH_MAX;
use super::folder::Folder;
use super::swap::{Cell, Cells, Swap, SwapKeeper};
use super::{Keeper, draw};
use crate::error::{Error, Report, Result};
use crate::runtime::Effect;

/// Leases in the bucket of this URL. Each call ends within `limit`.
///
/// # Errors
/// `Invalid` if the URL or the environment is none that can be used.
pub fn open(url: &str, limit: Duration) -> Result<Arc<dyn Keeper>> {
    if let Some(folder) = url.strip_prefix("file://") {
        if !folder.starts_with('/') {
            return Err(Error::Invalid(Report::new(format!("use as a bucket: {url}")).remedy(FORM)));
        }
        let cells = Folder::open(PathBuf::from(folder).join(FOLDER), limit)?;
        return Ok(Arc::new(SwapKeeper { cells, clock: None, limit }));
    }
    let cells = Bucket::open(url, AmazonS3Builder::from_env(), limit)?;
    Ok(Arc::new(SwapKeeper { cells, clock: None, limit }))
}

const FORM: &str = "write s3://bucket/prefix or file:///folder";
/// Below the prefix, beside the images.
const FOLDER: &str = "leases";
const ENDING: &str = ".json";

/// Objects of an S3-compatible server.
#[derive(Debug)]
pub(super) struct Bucket {
    store: AmazonS3,
    prefix: Path,
}

impl Bucket {
    pub(super) fn open(url: &str, builder: AmazonS3Builder, limit: Duration) -> Result<Self> {
        let invalid = || Report::new(format!("use as a bucket: {url}")).remedy(FORM);
        let Some(place) = url.strip_prefix("s3://") else { return Err(Error::Invalid(invalid())) };
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() {
            return Err(Error::Invalid(invalid()));
        }
        // Whoever links us may have chosen another provider before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // Whether a request took effect is found out by reading, so the client need not repeat any.
        let retry = RetryConfig { max_retries: 0, retry_timeout: limit, ..RetryConfig::default() };
        let options = ClientOptions::new()
            .with_timeout(limit)
            .with_connect_timeout(limit)
            .with_pool_max_idle_per_host(0)
            .with_allow_http(true);
        let store = builder.with_bucket_name(bucket).with_retry(retry).with_client_options(options).build();
        let store = store.map_err(|e| {
            let remedy = "set AWS_REGION, AWS_ENDPOINT_URL and credentials in the environment";
            Error::Invalid(Report::new(format!("use as a bucket: {url}")).because(e).remedy(remedy))
        })?;
        Ok(Self { store, prefix: Path::from(prefix).join(FOLDER) })
    }

    fn path(&self, name: &str) -> Path {
        self.prefix.clone().join(format!("{name}{ENDING}"))
    }

    async fn get(&self, name: &str) -> Result<Option<Cell>> {
        let path = self.path(name);
        let found = match self.store.get(&path).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(failed("read", &path, error)),
        };
        if found.meta.size > LENGTH_MAX {
            let text = format!("read {path}: it has {} bytes", found.meta.size);
            return Err(Error::Corrupt(Report::new(text)));
        }
        let tag = found.meta.e_tag.clone();
        let bytes = found.bytes().await.map_err(|e| failed("read", &path, e))?.to_vec();
        Ok(Some(Cell { bytes, tag }))
    }

    async fn put(&self, name: &str, expected: Option<&Cell>, bytes: Vec<u8>) -> Result<Swap> {
        let path = self.path(name);
        let mode = match expected {
            None => PutMode::Create,
            Some(cell) => PutMode::Update(UpdateVersion { e_tag: Some(tag_of(cell, &path)?), version: None }),
        };
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(&path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(Swap::Done),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Swap::Changed)
            }
            Err(error) => Err(failed("write", &path, error)),
        }
    }

    async fn delete(&self, name: &str) -> Result<()> {
        let path = self.path(name);
        match self.store.delete(&path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("delete", &path, error)),
        }
    }

    async fn list(&self, beginning: &str) -> Result<Vec<String>> {
        let listed: Vec<_> = match self.store.list(Some(&self.prefix)).try_collect().await {
            Ok(listed) => listed,
            Err(error) => return Err(failed("list", &self.prefix, error)),
        };
        let names = listed.iter().filter_map(|object| object.location.filename()?.strip_suffix(ENDING));
        Ok(names.filter(|name| name.starts_with(beginning)).map(str::to_owned).collect())
    }

    /// Two conditional writes that must succeed, and two that must not.
    async fn test_conditions(&self) -> Result<()> {
        let name = format!(".check-{}", draw()?);
        let tested = self.test_under(&name).await;
        // An object that stays is in nobody's way.
        let _ = self.delete(&name).await;
        tested
    }

    async fn test_under(&self, name: &str) -> Result<()> {
        let refused = |what: &str| {
            let text = format!("keep leases in the bucket: its server {what}");
            Error::Refused(Report::new(text).remedy("use a server with conditional writes, or etcd"))
        };
        let write = async |expected: Option<&Cell>, text: &str| {
            self.put(name, expected, text.as_bytes().to_vec()).await
        };
        if write(None, "one").await? != Swap::Done {
            return Err(refused("refuses an object that is not there (If-None-Match: *)"));
        }
        if matches!(write(None, "two").await, Ok(Swap::Done)) {
            return Err(refused("overwrites an object that is there (it ignores If-None-Match: *)"));
        }
        let first = self.get(name).await?.ok_or_else(|| refused("forgets an object"))?;
        if write(Some(&first), "three").await? != Swap::Done {
            return Err(refused("refuses to update an object that has not changed (If-Match)"));
        }
        if matches!(write(Some(&first), "four").await, Ok(Swap::Done)) {
            return Err(refused("overwrites an object that has changed (it ignores If-Match)"));
        }
        Ok(())
    }
}

impl Cells for Bucket {
    fn load<'a>(&'a self, name: &'a str) -> Effect<'a, Option<Cell>> {
        Box::pin(self.get(name))
    }

    fn swap<'a>(&'a self, name: &'a str, expected: Option<&'a Cell>, bytes: Vec<u8>) -> Effect<'a, Swap> {
        Box::pin(self.put(name, expected, bytes))
    }

    fn remove<'a>(&'a self, name: &'a str) -> Effect<'a, ()> {
        Box::pin(self.delete(name))
    }

    fn names<'a>(&'a self, beginning: &'a str) -> Effect<'a, Vec<String>> {
        Box::pin(self.list(beginning))
    }

    fn check(&self) -> Effect<'_, ()> {
        Box::pin(self.test_conditions())
    }

    fn place(&self, name: &str) -> String {
        format!("{}, {}", self.store, self.path(name))
    }
}

fn tag_of(cell: &Cell, path: &Path) -> Result<String> {
    cell.tag.clone().ok_or_else(|| {
        let text = format!("write {path}: the server gives objects no ETag");
        Error::Refused(Report::new(text).remedy("use a server with conditional writes, or etcd"))
    })
}

fn failed(tried: &str, path: &Path, error: object_store::Error) -> Error {
    use object_store::Error as Store;
    let report = Report::new(format!("{tried} {path} in the bucket"));
    match error {
        Store::NotImplemented { .. } | Store::NotSupported { .. } => {
            Error::Refused(report.because(error).remedy("use a server with conditional writes, or etcd"))
        }
        Store::PermissionDenied { .. } | Store::Unauthenticated { .. } => {
            Error::Refused(report.because(error).remedy("correct the credentials in the environment"))
        }
        other => Error::Unavailable(report.because(other)),
    }
}
