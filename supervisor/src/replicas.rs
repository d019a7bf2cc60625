//! Durable images on their way to the replicas: beside the services, never in their way.
//!
//! ```text
//! an image is durable, or was judged -> each replica's task of that service: the newest that is not there yet is sent
//!    -> acknowledged -> verdicts -> retention there -> waits for the next
//!    -> failed: said once, tried again with backoff -> works again: said
//! ```
//!
//! An older image that was not sent when a newer one is durable is passed over. It refuses to wait for anybody: a commit, a recovery and the
//! supervisor's own end go on whatever a replica does. The epoch of each write is asked for when it is made.

mod bring;
mod push;
mod receive;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use engine::images::Store;
use engine::replica::Replica;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use policies::lease::Replicated;
use policies::retention;
use policies::time::WallTime;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

pub(crate) use bring::{FetchedImage, ReplicaImage, fetch, images};
pub(crate) use receive::Reception;

use crate::events::Events;
use crate::status::ReplicaStatus;

/// Images that are sent to one replica at the same time.
const SENDS: usize = 2;

/// Under which epoch a service's images are written.
pub(crate) type EpochOf = Arc<dyn Fn(&ServiceName) -> Epoch + Send + Sync>;

/// Who is told that an image is at a replica.
pub(crate) type Acknowledgement = Arc<dyn Fn(&ServiceName, Replicated) + Send + Sync>;

/// One replica as it is configured.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// How it is spoken to.
    pub(crate) replica: Arc<Replica>,
    /// Whose images; `None`: all services'.
    pub(crate) services: Option<BTreeSet<ServiceName>>,
    /// What is kept there.
    pub(crate) retention: retention::Settings,
}

/// All replicas of a node. Clones are the same.
#[derive(Clone)]
pub(crate) struct Replicas {
    inner: Arc<Inner>,
}

struct Inner {
    targets: Vec<Target>,
    sends: Vec<Semaphore>,
    store: Store,
    events: Events,
    epoch: EpochOf,
    acknowledged: Acknowledgement,
    lines: Mutex<BTreeMap<(ServiceName, usize), Arc<Line>>>,
}

/// One service's way to one replica.
#[derive(Debug)]
struct Line {
    wake: Notify,
    stop: CancellationToken,
    state: Mutex<State>,
}

/// What is known of it.
#[derive(Debug, Default)]
struct State {
    /// What the replica has, as far as is known; `None` before it was asked.
    acknowledged: Option<BTreeMap<ImageId, Acknowledged>>,
    /// It may have been changed by others, and is to be asked again.
    stale: bool,
    /// Durable images here that are newer than the newest there.
    behind: usize,
    sending: Option<ImageId>,
    last_error: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Acknowledged {
    taken_at: WallTime,
    verdict: ImageVerdict,
}

impl std::fmt::Debug for Replicas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replicas").field("targets", &self.inner.targets).finish_non_exhaustive()
    }
}

impl Replicas {
    /// Nothing is sent before a service is followed.
    pub(crate) fn new(
        targets: Vec<Target>,
        store: Store,
        events: Events,
        (epoch, acknowledged): (EpochOf, Acknowledgement),
    ) -> Self {
        let sends = targets.iter().map(|_| Semaphore::new(SENDS)).collect();
        let lines = Mutex::default();
        Self { inner: Arc::new(Inner { targets, sends, store, events, epoch, acknowledged, lines }) }
    }

    /// From now on a service's images are sent.
    pub(crate) fn follow(&self, service: &ServiceName) {
        for (number, target) in self.inner.targets.iter().enumerate() {
            if target.services.as_ref().is_some_and(|services| !services.contains(service)) {
                continue;
            }
            let mut lines = lock(&self.inner.lines);
            lines.entry((service.clone(), number)).or_insert_with(|| {
                let line = Arc::new(Line {
                    wake: Notify::new(),
                    stop: CancellationToken::new(),
                    state: Mutex::default(),
                });
                push::spawn(Arc::clone(&self.inner), (service.clone(), number), Arc::clone(&line));
                line
            });
        }
    }

    /// A service is not ours any more; what it has at the replicas stays.
    pub(crate) fn leave(&self, service: &ServiceName) {
        lock(&self.inner.lines).retain(|(of, _), line| {
            let stays = of != service;
            if !stays {
                line.stop.cancel();
            }
            stays
        });
    }

    /// Where a service's images are sent.
    pub(crate) fn of(&self, service: &ServiceName) -> Vec<Arc<Replica>> {
        let own =
            |target: &&Target| target.services.as_ref().is_none_or(|services| services.contains(service));
        self.inner.targets.iter().filter(own).map(|target| Arc::clone(&target.replica)).collect()
    }

    /// Something may have to be sent.
    pub(crate) fn changed(&self, service: &ServiceName) {
        for ((of, _), line) in lock(&self.inner.lines).iter() {
            if of == service {
                line.wake.notify_one();
            }
        }
    }

    /// Nothing is sent any more. What is half sent is gone on with by the next supervisor.
    pub(crate) fn stop(&self) {
        lock(&self.inner.lines).values().for_each(|line| line.stop.cancel());
    }

    /// A peer has taken a hot image, and says so: that counts like one that was sent.
    pub(crate) fn handed_over(
        &self,
        service: &ServiceName,
        url: &str,
        image: Replicated,
        taken_at: WallTime,
    ) {
        for ((of, number), line) in lock(&self.inner.lines).iter() {
            if of == service && self.inner.targets[*number].replica.url() == url {
                let known = Acknowledged { taken_at, verdict: ImageVerdict::Unjudged };
                lock(&line.state).acknowledged.get_or_insert_default().insert(image.image.clone(), known);
            }
        }
        (self.inner.acknowledged)(service, image);
    }

    /// Whether a replica has acknowledged an image.
    pub(crate) fn has(&self, image: &str) -> bool {
        lock(&self.inner.lines).values().any(|line| {
            let state = lock(&line.state);
            state.acknowledged.iter().flatten().any(|(id, _)| id.as_str() == image)
        })
    }

    /// What is published of a service's replicas.
    pub(crate) fn status(&self, service: &str) -> Vec<ReplicaStatus> {
        let lines = lock(&self.inner.lines);
        let own = lines.iter().filter(|((of, _), _)| of.as_str() == service);
        own.map(|((_, number), line)| lock(&line.state).status(self.inner.targets[*number].replica.url()))
            .collect()
    }

    /// A replica by its URL or its number, from 0.
    pub(crate) fn find(&self, named: &str) -> Option<Arc<Replica>> {
        find(&self.inner.targets, named)
    }
}

/// A replica by its URL or its number, from 0.
pub(crate) fn find(targets: &[Target], named: &str) -> Option<Arc<Replica>> {
    let by_number = named.parse().ok().and_then(|number: usize| targets.get(number));
    let found = by_number.or_else(|| targets.iter().find(|target| target.replica.url() == named));
    found.map(|target| Arc::clone(&target.replica))
}

impl State {
    fn status(&self, url: &str) -> ReplicaStatus {
        let newest = self.acknowledged.iter().flatten().max_by_key(|(id, known)| (known.taken_at, *id));
        let taken_at = newest
            .map(|(_, known)| SystemTime::UNIX_EPOCH + Duration::from_nanos(known.taken_at.as_unix_nanos()));
        ReplicaStatus {
            url: url.to_owned(),
            newest: newest.map(|(id, _)| id.to_string()),
            taken_at: taken_at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
            age_seconds: taken_at.map(|at| at.elapsed().unwrap_or_default().as_secs_f64()),
            images: self.acknowledged.as_ref().map(BTreeMap::len),
            behind: self.behind,
            sending: self.sending.as_ref().map(ToString::to_string),
            last_error: self.last_error.clone(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these is changed in single steps.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
