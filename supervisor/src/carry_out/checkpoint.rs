//! Taking a checkpoint: staged, dumped and captured under one freeze, sealed. It is hot then; the commit follows.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::checkpoint::WhileFrozen;
use engine::error::Report;
use engine::failpoint::fail_point;
use engine::freeze::Cgroup;
use engine::images::{About, Hot, RuntimeFacts, StageNeeds, Staging};
use engine::runtime::{Dump, Dumped, Instance, Keep};
use policies::id::{Attempt, ImageId};
use policies::image::{ImageFacts, ImageVerdict};
use policies::lease::Replicated;
use policies::reclaim::Intent;
use policies::service::Event;
use policies::time::WallTime;

use super::files::Ready;
use super::keep::{Safe, keep};
use super::{Freezes, Shared, blocking, failure, lock, naming};

/// Makes an image of what was dumped: from the runtime's notes and the pause.
type Seal = Box<dyn FnOnce(serde_json::Value, Duration) -> engine::Result<Hot> + Send>;

/// A checkpoint that is ready to be taken.
struct Planned {
    staging_dir: PathBuf,
    image: ImageId,
    taken_at: WallTime,
    while_frozen: WhileFrozen,
    seal: Seal,
}

impl Shared {
    pub(super) async fn checkpoint(self: &Arc<Self>, attempt: Attempt, limit: Duration) -> Event {
        let taken = self.take(limit).await;
        if taken.is_ok() {
            self.to_commit.notify_one();
        }
        answer(attempt, taken)
    }

    /// A checkpoint that ends the service, with its image durable, or hot at the node that is to have the service, before that.
    pub(super) async fn suspend(self: &Arc<Self>, attempt: Attempt, limit: Duration, paused: bool) -> Event {
        let _acting = self.acting.lock().await;
        answer(attempt, self.put_away(limit, paused).await)
    }

    async fn take(self: &Arc<Self>, limit: Duration) -> engine::Result<(ImageFacts, Duration)> {
        let begun = Instant::now();
        let freezing = Freezing::begin(&self.freezes);
        let instance = self.running_instance()?;
        let planned = self.plan(&instance).await?;
        let dump = Dump {
            images: &planned.staging_dir,
            limit,
            before_end: None,
            while_frozen: planned.while_frozen,
            cut: None,
        };
        let Dumped { pause, thawed, state } = self.parts().runtime.checkpoint(dump).await?;
        drop(freezing);
        *lock(&self.thawed) = Some((planned.image, thawed.duration_since(begun)));
        let (seal, taken_at) = (planned.seal, planned.taken_at);
        let hot = blocking(move || seal(state, pause)).await?;
        Ok((facts(hot, taken_at, Durable::NotYet), pause))
    }

    async fn put_away(
        self: &Arc<Self>,
        limit: Duration,
        paused: bool,
    ) -> engine::Result<(ImageFacts, Duration)> {
        let _freezing = Freezing::begin(&self.freezes);
        let instance = self.running_instance()?;
        let planned = self.plan(&instance).await?;
        self.intend(Intent::Suspending, Some(planned.image.to_string()), Some(instance), paused).await?;
        fail_point("suspend.intended");
        let (store, seal, begun) = (self.node.store.clone(), planned.seal, Instant::now());
        let handing = self.node.tenures.take_handing(&self.name);
        let agreed = handing.clone();
        let kept: Arc<Mutex<Option<(Hot, Safe)>>> = Arc::default();
        let keeping = Arc::clone(&kept);
        let before_end: Keep = Box::new(move |state| {
            let hot = seal(state, begun.elapsed())?;
            let safe = keep(&store, &hot, agreed)?;
            *lock(&keeping) = Some((hot, safe));
            Ok(())
        });
        let dump = Dump {
            images: &planned.staging_dir,
            limit,
            before_end: Some(before_end),
            while_frozen: planned.while_frozen,
            cut: None,
        };
        let dumped = self.parts().runtime.checkpoint(dump).await;
        fail_point("suspend.ended");
        let dumped = match dumped {
            Ok(dumped) => dumped,
            Err(error) => {
                // It runs on, or died by itself: then the next supervisor shall not take it for suspended.
                if let Some(handing) = handing {
                    let image = planned.image.clone();
                    tokio::spawn(async move { handing.take_back(&image).await });
                }
                self.outlived(planned.image).await;
                self.intend(Intent::Running, None, self.instance(), paused).await?;
                self.list().await;
                return Err(error);
            }
        };
        let kept = lock(&kept).take();
        let (hot, safe) = kept.ok_or_else(|| {
            engine::Error::Internal(Report::new(
                "suspend a service: it has ended, but its image was not kept",
            ))
        })?;
        let durable = match safe {
            Safe::OnDisk(manifest) => {
                self.tell_durable(&hot.id, &manifest, begun.elapsed());
                Durable::Already
            }
            Safe::Elsewhere(handing) => {
                self.is_handed_over.store(true, Ordering::SeqCst);
                let image = Replicated { epoch: self.node.tenures.epoch(&self.name), image: hot.id.clone() };
                self.node.replicas.handed_over(&self.name, handing.url(), image, planned.taken_at);
                Durable::NotYet
            }
        };
        Ok((facts(hot, planned.taken_at, durable), dumped.pause))
    }

    /// An image that was to be the last one, if it is there, holds connections with which the service has gone on: it is not the first choice.
    async fn outlived(&self, image: ImageId) {
        let store = self.node.store.clone();
        let marked = blocking(move || store.set_verdict(&image, ImageVerdict::Suspect)).await;
        if let Err(error) = marked {
            tracing::debug!(%error, "the last image was not kept");
        }
    }

    fn running_instance(&self) -> engine::Result<Instance> {
        self.instance().ok_or_else(|| {
            engine::Error::Unavailable(Report::new("take a checkpoint: the service does not run"))
        })
    }

    /// Everything that can be made ready while the service runs.
    async fn plan(self: &Arc<Self>, instance: &Instance) -> engine::Result<Planned> {
        let staging = self.stage(instance).await?;
        fail_point("checkpoint.staged");
        let files = Ready::open(self, &staging.files_dir(), instance.handle.cgroups()).await?;
        let (while_frozen, captured, parent) = files.split();
        let (staging_dir, image) = (staging.criu_dir(), staging.id().clone());
        let taken_at = naming::time_of(&image).unwrap_or_else(naming::now);
        let shared = Arc::clone(self);
        let seal: Seal = Box::new(move |state, pause| {
            let captured = lock(&captured).take();
            if let Some(mut captured) = captured {
                engine::capture::finish(&mut captured)?;
            }
            drop(parent);
            staging.seal(shared.about(taken_at, state, pause))
        });
        Ok(Planned { staging_dir, image, taken_at, while_frozen, seal })
    }

    async fn stage(&self, instance: &Instance) -> engine::Result<Staging> {
        let (store, name) = (self.node.store.clone(), self.name.clone());
        let cgroups = instance.handle.cgroups();
        blocking(move || {
            let id = naming::image_id(&store.ids(&name)?)?;
            let memory = cgroups.iter().map(Cgroup::touched_memory).sum();
            let needs = StageNeeds { memory, files: 0 };
            store.stage(&name, &id, needs)
        })
        .await
    }

    fn about(&self, taken_at: WallTime, runtime_state: serde_json::Value, pause: Duration) -> About {
        let parts = self.parts();
        let features = parts.runtime.features();
        let versions: BTreeMap<String, String> = features.versions.into_iter().collect();
        About {
            taken_at,
            node: self.node.name.clone(),
            epoch: self.node.tenures.epoch(&self.name),
            runtime: RuntimeFacts { kind: features.kind.to_owned(), program: features.program, versions },
            host: self.node.host.clone(),
            container_digest: None,
            parent: None,
            verdict: ImageVerdict::Unjudged,
            pause_us: u64::try_from(pause.as_micros()).unwrap_or(u64::MAX),
            runtime_state,
            volumes: parts.volumes.iter().map(|v| v.display().to_string()).collect(),
        }
    }
}

/// Whether an image is on disk.
#[derive(Clone, Copy, PartialEq)]
enum Durable {
    Already,
    NotYet,
}

fn answer(attempt: Attempt, taken: engine::Result<(ImageFacts, Duration)>) -> Event {
    match taken {
        Ok((image, pause)) => Event::CheckpointDone { attempt, image, pause },
        Err(error) => Event::CheckpointFailed { attempt, failure: failure(&error) },
    }
}

fn facts(hot: Hot, taken_at: WallTime, durable: Durable) -> ImageFacts {
    ImageFacts {
        id: hot.id,
        taken_at,
        verdict: ImageVerdict::Unjudged,
        hot: true,
        durable: durable == Durable::Already,
        pinned: false,
        damaged: false,
        locked: false,
        incompatible: None,
        size: hot.raw_len,
        parent: None,
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
