//! A bucket at a provider, through the `object_store` library: S3 and what is compatible with it, Google's, Azure's.
//!
//! It refuses a server that does not honour conditional writes: there, two holders could each believe that the newest epoch is theirs.
//! Such servers answer `200` to what they ignored, so it is tried out once before the first claim.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use hyper::body::Bytes;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion,
};
use tokio::sync::OnceCell;

use super::{Found, Objects, Version, Versioned, Written};
use crate::durable::read_limited;
use crate::error::{Error, Report, Result};
use crate::replica::nonce;
use crate::runtime::Effect;

const CREDENTIALS_LENGTH_MAX: u64 = 64 << 10;
/// What the trial of conditional writes is made on, with a name that nobody else uses; never kept.
const TRIAL: &str = ".conditional-writes-";

/// Whose bucket it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// `s3://BUCKET/PREFIX`
    S3,
    /// `gs://BUCKET/PREFIX`
    Google,
    /// `az://CONTAINER/PREFIX`
    Azure,
}

/// How a bucket is reached.
#[derive(Debug, Clone)]
pub struct Access {
    /// Whose it is.
    pub provider: Provider,
    /// Its URL.
    pub url: String,
    /// The server's address; `None`: the provider's own.
    pub endpoint: Option<String>,
    /// The region.
    pub region: Option<String>,
    /// Who we are; `None`: what the environment and the machine say.
    pub credentials_file: Option<PathBuf>,
    /// How long the server may be silent.
    pub timeout: Duration,
}

/// A bucket, or what lies under a prefix in one.
pub struct Cloud {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    url: String,
    /// Whether conditional writes are honoured: tried once.
    conditional: OnceCell<()>,
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Cloud {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot be, or a file of credentials that cannot be read.
    pub fn new(access: &Access) -> Result<Self> {
        crate::replica::tls::use_ring();
        let store: Arc<dyn ObjectStore> = match access.provider {
            Provider::S3 => Arc::new(s3(access)?),
            Provider::Google => Arc::new(google(access)?),
            Provider::Azure => Arc::new(azure(access)?),
        };
        let rest = access.url.split_once("://").map_or("", |(_, rest)| rest);
        let prefix = rest.split_once('/').map_or("", |(_, prefix)| prefix);
        Ok(Self::over(store, prefix, &access.url))
    }

    /// Any store of the library.
    pub fn over(store: Arc<dyn ObjectStore>, prefix: &str, url: &str) -> Self {
        let prefix = prefix.trim_matches('/').to_owned();
        Self { store, prefix, url: url.to_owned(), conditional: OnceCell::new() }
    }

    fn path(&self, key: &str) -> Path {
        Path::from(if self.prefix.is_empty() { key.to_owned() } else { format!("{}/{key}", self.prefix) })
    }

    /// That of two who create the same object, and of two who change the same version, one is refused.
    async fn honours_conditions(&self) -> Result<()> {
        let tried = self.conditional.get_or_try_init(async || {
            let path = self.path(&format!("{TRIAL}{}", nonce()?));
            let first = self.conditional_put(&path, PutMode::Create, Bytes::from_static(b"1")).await?;
            let second = self.conditional_put(&path, PutMode::Create, Bytes::from_static(b"2")).await?;
            let found = self.read(&path).await?;
            let stale = UpdateVersion { e_tag: Some("\"00000000000000000000000000000000\"".to_owned()), version: None };
            let third = match &found {
                Some(found) if named(&found.version).version.is_none() => {
                    self.conditional_put(&path, PutMode::Update(stale), Bytes::from_static(b"3")).await?
                }
                Some(_) | None => Written::Look,
            };
            self.removed(&path).await?;
            let honoured = second == Written::Look && third == Written::Look && found.is_some();
            if first == Written::Yes && honoured {
                return Ok(());
            }
            let report = Report::new(format!("the server of {} does not honour conditional writes", self.url));
            Err(Error::Refused(report.remedy(
                "use a server that knows If-Match and If-None-Match on PUT; without, two nodes could both hold a service",
            )))
        });
        tried.await.copied()
    }

    async fn conditional_put(&self, path: &Path, mode: PutMode, bytes: Bytes) -> Result<Written> {
        let options = PutOptions { mode, ..PutOptions::default() };
        match self.store.put_opts(path, PutPayload::from_bytes(bytes), options).await {
            Ok(_) => Ok(Written::Yes),
            // `AlreadyExists` is also what the library makes of a 409, and a condition that fails may be our own write, repeated.
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(Written::Look)
            }
            Err(error) => Err(self.failed("write", path, error)),
        }
    }

    async fn read(&self, path: &Path) -> Result<Option<Versioned>> {
        let got = match self.store.get(path).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed("read", path, error)),
        };
        let version = Version::Named { e_tag: got.meta.e_tag.clone(), version: got.meta.version.clone() };
        let bytes = got.bytes().await.map_err(|error| self.failed("read", path, error))?;
        Ok(Some(Versioned { bytes: bytes.into(), version }))
    }

    async fn removed(&self, path: &Path) -> Result<()> {
        match self.store.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("remove", path, error)),
        }
    }

    fn failed(&self, tried: &str, path: &Path, error: object_store::Error) -> Error {
        let report = Report::new(format!("cannot {tried} {path} at {}", self.url)).because(&error);
        match error {
            object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
                Error::Refused(
                    report.remedy("check credentials_file and what its owner may do in the bucket"),
                )
            }
            object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
                Error::Refused(report)
            }
            object_store::Error::NotFound { .. } => {
                Error::Refused(report.remedy("create the bucket, or correct its name"))
            }
            _ => Error::Unavailable(report),
        }
    }
}

impl Objects for Cloud {
    fn put<'a>(&'a self, key: &'a str, bytes: Bytes) -> Effect<'a, ()> {
        Box::pin(async move {
            let path = self.path(key);
            let put = self.store.put(&path, PutPayload::from_bytes(bytes)).await;
            put.map(drop).map_err(|error| self.failed("write", &path, error))
        })
    }

    fn swap<'a>(&'a self, key: &'a str, expected: Option<&'a Version>, bytes: Bytes) -> Effect<'a, Written> {
        Box::pin(async move {
            self.honours_conditions().await?;
            let mode = expected.map_or(PutMode::Create, |version| PutMode::Update(named(version)));
            self.conditional_put(&self.path(key), mode, bytes).await
        })
    }

    fn get<'a>(&'a self, key: &'a str) -> Effect<'a, Option<Versioned>> {
        Box::pin(async move { self.read(&self.path(key)).await })
    }

    fn list<'a>(&'a self, folder: &'a str) -> Effect<'a, Vec<Found>> {
        Box::pin(async move {
            let path = self.path(folder);
            let objects: Vec<_> = self
                .store
                .list(Some(&path))
                .try_collect()
                .await
                .map_err(|e| self.failed("list", &path, e))?;
            let before = if self.prefix.is_empty() { 0 } else { self.prefix.len() + 1 };
            let found = |meta: object_store::ObjectMeta| {
                let key = meta.location.as_ref().get(before..)?.to_owned();
                Some(Found { key, length: meta.size })
            };
            Ok(objects.into_iter().filter_map(found).collect())
        })
    }

    fn folders(&self) -> Effect<'_, Vec<String>> {
        Box::pin(async move {
            let root = (!self.prefix.is_empty()).then(|| Path::from(self.prefix.as_str()));
            let listed = self.store.list_with_delimiter(root.as_ref()).await;
            let listed = listed.map_err(|e| self.failed("list", &root.clone().unwrap_or_default(), e))?;
            Ok(listed.common_prefixes.iter().filter_map(|path| path.filename().map(str::to_owned)).collect())
        })
    }

    fn delete<'a>(&'a self, key: &'a str) -> Effect<'a, ()> {
        Box::pin(async move { self.removed(&self.path(key)).await })
    }
}

fn named(version: &Version) -> UpdateVersion {
    match version {
        Version::Named { e_tag, version } => UpdateVersion { e_tag: e_tag.clone(), version: version.clone() },
        // Never what this place gave out; it matches nothing.
        Version::Content(_) => UpdateVersion { e_tag: Some(String::new()), version: None },
    }
}

fn s3(access: &Access) -> Result<object_store::aws::AmazonS3> {
    let mut builder = AmazonS3Builder::from_env()
        .with_url(&access.url)
        .with_client_options(client(access))
        .with_retry(retry(access));
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(region) = &access.region {
        builder = builder.with_region(region);
    }
    for (name, value) in credentials(access)? {
        builder = builder.with_config(known::<AmazonS3ConfigKey>(access, &name)?, value);
    }
    builder.build().map_err(|e| unusable(access, e))
}

fn azure(access: &Access) -> Result<object_store::azure::MicrosoftAzure> {
    let mut builder = MicrosoftAzureBuilder::from_env()
        .with_url(&access.url)
        .with_client_options(client(access))
        .with_retry(retry(access));
    if let Some(endpoint) = &access.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    for (name, value) in credentials(access)? {
        builder = builder.with_config(known::<AzureConfigKey>(access, &name)?, value);
    }
    builder.build().map_err(|e| unusable(access, e))
}

fn google(access: &Access) -> Result<object_store::gcp::GoogleCloudStorage> {
    let mut builder = GoogleCloudStorageBuilder::from_env()
        .with_url(&access.url)
        .with_client_options(client(access))
        .with_retry(retry(access));
    if let Some(file) = &access.credentials_file {
        builder = builder.with_service_account_path(file.display().to_string());
    }
    builder.build().map_err(|e| unusable(access, e))
}

fn client(access: &Access) -> ClientOptions {
    let plain = access.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    ClientOptions::new()
        .with_allow_http(plain)
        .with_connect_timeout(access.timeout)
        .with_read_timeout(access.timeout)
        .with_timeout(access.timeout.saturating_mul(4))
}

/// A few quick attempts; the long waiting is done by whoever sends.
fn retry(access: &Access) -> RetryConfig {
    RetryConfig { backoff: BackoffConfig::default(), max_retries: 2, retry_timeout: access.timeout }
}

/// Lines of `name = value`; comments begin with `#`.
fn credentials(access: &Access) -> Result<Vec<(String, String)>> {
    let Some(file) = &access.credentials_file else { return Ok(Vec::new()) };
    let bytes = read_limited(file, CREDENTIALS_LENGTH_MAX)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', '[']));
    let pairs = lines.map(|line| {
        line.split_once('=').map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
    });
    pairs.collect::<Option<Vec<_>>>().ok_or_else(|| {
        let report = Report::new(format!("credentials are not lines of `name = value`: {}", file.display()));
        Error::Invalid(report.remedy("write for example `aws_access_key_id = ...`"))
    })
}

fn known<K: FromStr>(access: &Access, name: &str) -> Result<K> {
    name.to_ascii_lowercase().parse().map_err(|_| {
        let file =
            access.credentials_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        Error::Invalid(Report::new(format!("`{name}` is no credential for {}: {file}", access.url)))
    })
}

fn unusable(access: &Access, error: object_store::Error) -> Error {
    Error::Invalid(Report::new(format!("cannot use the bucket {}", access.url)).because(error))
}
