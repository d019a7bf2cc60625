//! Taking a checkpoint: staged, dumped and captured under one freeze, sealed. It is hot then; the commit follows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use engine::error::Report;
use engine::failpoint::fail_point;
use engine::images::{About, RuntimeFacts, StageNeeds, Staging};
use engine::runtime::{Dump, Dumped, Instance};
use policies::id::{Attempt, Epoch, ImageId};
use policies::image::{ImageFacts, ImageVerdict};
use policies::service::Event;
use policies::time::WallTime;

use super::files::Ready;
use super::{Freezes, Shared, blocking, failure, lock};

impl Shared {
    pub(super) async fn checkpoint(self: &Arc<Self>, attempt: Attempt, limit: Duration) -> Event {
        let freezing = Freezing::begin(&self.freezes);
        let taken = self.take(limit, freezing).await;
        match taken {
            Ok((image, pause)) => {
                self.to_commit.notify_one();
                Event::CheckpointDone { attempt, image, pause }
            }
            Err(error) => Event::CheckpointFailed { attempt, failure: failure(&error) },
        }
    }

    async fn take(
        self: &Arc<Self>,
        limit: Duration,
        freezing: Freezing<'_>,
    ) -> engine::Result<(ImageFacts, Duration)> {
        let parts = self.parts();
        let instance = self.instance().ok_or_else(|| {
            engine::Error::Unavailable(Report::new("take a checkpoint: the service does not run"))
        })?;
        let staging = self.stage(&instance).await?;
        fail_point("checkpoint.staged");
        let files = Ready::open(self, &staging.files_dir(), instance.handle.cgroup.clone()).await?;
        let (while_frozen, captured, parent) = files.split();
        let images = staging.criu_dir();
        let dump = Dump { images: &images, limit, before_end: None, while_frozen };
        let taken_at = now();
        let dumped = parts.runtime.checkpoint(dump).await?;
        drop(freezing);
        let captured = lock(&captured).take();
        let about = self.about(taken_at, &dumped);
        let pause = dumped.pause;
        let sealed = blocking(move || {
            if let Some(mut captured) = captured {
                engine::capture::finish(&mut captured)?;
            }
            drop(parent);
            staging.seal(about)
        });
        let hot = sealed.await?;
        let image = ImageFacts {
            id: hot.id,
            taken_at,
            verdict: ImageVerdict::Unjudged,
            hot: true,
            durable: false,
            pinned: false,
            damaged: false,
            incompatible: None,
            size: hot.raw_len,
            parent: None,
        };
        Ok((image, pause))
    }

    async fn stage(&self, instance: &Instance) -> engine::Result<Staging> {
        let id = image_id()?;
        let (store, name) = (self.node.store.clone(), self.name.clone());
        let cgroup = instance.handle.cgroup.clone();
        blocking(move || {
            let needs = StageNeeds { memory: cgroup.touched_memory(), files: 0 };
            store.stage(&name, &id, needs)
        })
        .await
    }

    fn about(&self, taken_at: WallTime, dumped: &Dumped) -> About {
        let parts = self.parts();
        let features = parts.runtime.features();
        let versions: BTreeMap<String, String> = features.versions.into_iter().collect();
        About {
            taken_at,
            node: self.node.name.clone(),
            epoch: Epoch(0),
            runtime: RuntimeFacts { kind: features.kind.to_owned(), program: features.program, versions },
            host: self.node.host.clone(),
            container_digest: None,
            parent: None,
            verdict: ImageVerdict::Unjudged,
            pause_us: u64::try_from(dumped.pause.as_micros()).unwrap_or(u64::MAX),
            runtime_state: dumped.state.clone(),
            volumes: parts.volumes.iter().map(|v| v.display().to_string()).collect(),
        }
    }
}

/// From before the worker starts until after the thaw: probes of that time say nothing about the service.
struct Freezing<'a>(&'a Freezes);

impl<'a> Freezing<'a> {
    fn begin(freezes: &'a Freezes) -> Self {
        freezes.begin();
        Self(freezes)
    }
}

impl Drop for Freezing<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

fn now() -> WallTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    WallTime::from_unix_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Sorts by time; the tail keeps two nodes of one microsecond apart.
fn image_id() -> engine::Result<ImageId> {
    let now = humantime::format_rfc3339_micros(SystemTime::now()).to_string();
    let stamp: String = now.chars().filter(|c| !matches!(c, '-' | ':')).collect();
    let tail =
        (now_nanos() ^ (u64::from(std::process::id()) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
    ImageId::try_from(format!("{stamp}-{tail:04x}").as_str())
        .map_err(|e| engine::Error::Internal(Report::new("name an image").because(e)))
}

fn now_nanos() -> u64 {
    now().as_unix_nanos()
}
