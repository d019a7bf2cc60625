//! One service's task for one replica.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use engine::replica::Sent;
use policies::backoff::{self, Backoff};
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::{ImageFacts, ImageVerdict};
use policies::lease::Replicated;

use super::{Acknowledged, Inner, Line, State, lock};
use crate::carry_out::{blocking, mebibytes, now};
use crate::events::plain;

/// How long a failed replica is left alone; in between images go on being taken.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));

/// What a round came to.
#[derive(Debug, PartialEq, Eq)]
enum Round {
    /// There may be more to do.
    Worked,
    /// All that is worth it is there.
    Idle,
}

struct Pusher {
    inner: Arc<Inner>,
    service: ServiceName,
    number: usize,
    line: Arc<Line>,
    /// An outage has been said and not yet its end.
    is_out: bool,
}

/// Begins to send, until the line is stopped.
pub(super) fn spawn(inner: Arc<Inner>, (service, number): (ServiceName, usize), line: Arc<Line>) {
    let stop = line.stop.clone();
    let mut pusher = Pusher { inner, service, number, line, is_out: false };
    // Whatever is cut off here is gone on with at the next start.
    tokio::spawn(async move { stop.run_until_cancelled(pusher.run()).await });
}

impl Pusher {
    async fn run(&mut self) {
        let settings =
            backoff::Settings { initial: BACKOFF.0, max: BACKOFF.1, ..backoff::Settings::default() };
        let seed = u64::from(std::process::id()) ^ (self.number as u64) << 32;
        let mut backoff = Backoff::new(settings, seed);
        loop {
            match self.round().await {
                Ok(round) => {
                    self.mended();
                    backoff.reset();
                    if round == Round::Idle {
                        self.line.wake.notified().await;
                    }
                }
                Err(error) => {
                    self.failed(&error);
                    self.leave_alone(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Images go on being taken meanwhile, and are counted.
    async fn leave_alone(&self, delay: Duration) {
        let mut over = std::pin::pin!(tokio::time::sleep(delay));
        loop {
            let local = self.local().await.unwrap_or_default();
            let known = lock(&self.line.state).acknowledged.clone().unwrap_or_default();
            self.note_behind(&local, &known);
            tokio::select! {
                () = &mut over => return,
                () = self.line.wake.notified() => {}
            }
        }
    }

    /// The one thing that is most worth doing.
    async fn round(&self) -> engine::Result<Round> {
        let known = self.acknowledged().await?;
        let local = self.local().await?;
        self.note_behind(&local, &known);
        if let Some(image) = next(&local, &known) {
            self.send(image).await?;
            return Ok(Round::Worked);
        }
        let rejudged = local
            .iter()
            .find(|image| known.get(&image.id).is_some_and(|there| there.verdict != image.verdict));
        if let Some(image) = rejudged {
            let epoch = (self.inner.epoch)(&self.service);
            self.replica().judge(&self.service, &image.id, image.verdict, epoch).await?;
            self.acknowledge(image);
            return Ok(Round::Worked);
        }
        Ok(Round::Idle)
    }

    /// What the replica has; it is asked once, after that we are its only writer.
    async fn acknowledged(&self) -> engine::Result<BTreeMap<ImageId, Acknowledged>> {
        if let State { acknowledged: Some(known), stale: false, .. } = &*lock(&self.line.state) {
            return Ok(known.clone());
        }
        let replica = self.replica();
        replica.claim(&self.service, (self.inner.epoch)(&self.service)).await?;
        let there = replica.images(&self.service).await?;
        let facts = there.iter().map(engine::replica::Copy::facts);
        let known: BTreeMap<ImageId, Acknowledged> =
            facts.map(|facts| (facts.id.clone(), seen(&facts))).collect();
        let mut state = lock(&self.line.state);
        (state.acknowledged, state.stale) = (Some(known.clone()), false);
        Ok(known)
    }

    /// Durable images here, newest first.
    async fn local(&self) -> engine::Result<Vec<ImageFacts>> {
        let (store, service) = (self.inner.store.clone(), self.service.clone());
        let records = blocking(move || store.list(&service)).await?;
        Ok(records
            .into_iter()
            .map(|record| record.facts)
            .filter(|facts| facts.durable && !facts.damaged)
            .collect())
    }

    async fn send(&self, image: &ImageFacts) -> engine::Result<()> {
        let Ok(_turn) = self.inner.sends[self.number].acquire().await else { return Ok(()) };
        let begun = std::time::Instant::now();
        lock(&self.line.state).sending = Some(image.id.clone());
        let sent = self.send_now(image).await;
        lock(&self.line.state).sending = None;
        let Some((sent, taken_in)) = sent? else { return Ok(()) };
        self.acknowledge(image);
        let replicated = Replicated { epoch: taken_in, image: image.id.clone() };
        (self.inner.acknowledged)(&self.service, replicated);
        self.tell_sent(image, sent, begun.elapsed());
        let retention = &self.inner.targets[self.number].retention;
        let epoch = (self.inner.epoch)(&self.service);
        let removed = self.replica().retain(&self.service, retention, (now(), epoch)).await?;
        if let Some(known) = &mut lock(&self.line.state).acknowledged {
            known.retain(|id, _| !removed.contains(id));
        }
        Ok(())
    }

    /// With the epoch in which it was taken. `None`: it was removed here meanwhile.
    async fn send_now(&self, image: &ImageFacts) -> engine::Result<Option<(Sent, Epoch)>> {
        let (store, id) = (self.inner.store.clone(), image.id.clone());
        let outgoing = match blocking(move || store.outgoing(&id)).await {
            Err(engine::Error::Invalid(_)) => return Ok(None),
            other => Arc::new(other?),
        };
        let epoch = (self.inner.epoch)(&self.service);
        let sent = self.replica().send(&outgoing, epoch).await?;
        Ok(Some((sent, outgoing.manifest().about.epoch)))
    }

    fn acknowledge(&self, image: &ImageFacts) {
        let mut state = lock(&self.line.state);
        state.acknowledged.get_or_insert_default().insert(image.id.clone(), seen(image));
    }

    fn note_behind(&self, local: &[ImageFacts], known: &BTreeMap<ImageId, Acknowledged>) {
        let newest = known.values().map(|there| there.taken_at).max();
        let behind = local.iter().filter(|image| newest.is_none_or(|newest| image.taken_at > newest)).count();
        lock(&self.line.state).behind = behind;
    }

    fn tell_sent(&self, image: &ImageFacts, sent: Sent, took: Duration) {
        let text = format!(
            "image {} is replicated to {} ({:.1} MiB sent, {:.1} MiB were there)",
            image.id,
            self.replica().url(),
            mebibytes(sent.bytes),
            mebibytes(sent.skipped)
        );
        let mut record = plain(Some(self.service.as_str()), "image-replicated", text);
        record.image = Some(image.id.to_string());
        record.took_ms = Some(took.as_secs_f64() * 1e3);
        record.replica = Some(self.replica().url().to_owned());
        self.inner.events.record(record);
    }

    /// Said once an outage.
    fn failed(&mut self, error: &engine::Error) {
        let mut state = lock(&self.line.state);
        state.last_error = Some(error.to_string());
        state.stale = true;
        drop(state);
        if !std::mem::replace(&mut self.is_out, true) {
            let text = format!("images are not replicated to {}: {error}", self.replica().url());
            let mut record = plain(Some(self.service.as_str()), "replica-failed", text).for_error(error);
            record.replica = Some(self.replica().url().to_owned());
            self.inner.events.record(record);
        }
    }

    fn mended(&mut self) {
        lock(&self.line.state).last_error = None;
        if std::mem::take(&mut self.is_out) {
            let text = format!("images are replicated to {} again", self.replica().url());
            self.inner.events.record(plain(Some(self.service.as_str()), "replica-mended", text));
        }
    }

    fn replica(&self) -> &engine::replica::Replica {
        &self.inner.targets[self.number].replica
    }
}

/// The newest image, then the newest good one; only if the replica has nothing newer of that kind.
fn next<'a>(local: &'a [ImageFacts], known: &BTreeMap<ImageId, Acknowledged>) -> Option<&'a ImageFacts> {
    let good = local.iter().find(|image| image.verdict == ImageVerdict::Good);
    let wanted = [local.first(), good];
    let is_worth_it = |image: &&ImageFacts| {
        let newer = |there: &Acknowledged| there.taken_at > image.taken_at && there.verdict <= image.verdict;
        !known.contains_key(&image.id) && !known.values().any(newer)
    };
    wanted.into_iter().flatten().find(is_worth_it)
}

fn seen(facts: &ImageFacts) -> Acknowledged {
    Acknowledged { taken_at: facts.taken_at, verdict: facts.verdict }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(n: u64, verdict: ImageVerdict) -> ImageFacts {
        ImageFacts {
            id: ImageId::try_from(format!("i{n}")).expect("an id"),
            taken_at: policies::time::WallTime::from_unix_nanos(n),
            verdict,
            hot: false,
            durable: true,
            pinned: false,
            damaged: false,
            locked: false,
            incompatible: None,
            size: 1,
            parent: None,
        }
    }

    #[test]
    fn the_newest_is_sent_then_the_newest_good_one_and_nothing_older() {
        use ImageVerdict::{Good, Suspect, Unjudged};
        let local = [image(4, Suspect), image(3, Unjudged), image(2, Good), image(1, Good)];
        let mut known = BTreeMap::new();
        let mut order = Vec::new();
        while let Some(image) = next(&local, &known) {
            order.push(image.id.to_string());
            known.insert(image.id.clone(), seen(image));
        }
        assert_eq!(order, ["i4", "i2"]);
        let elsewhere = BTreeMap::from([(image(9, Good).id, seen(&image(9, Good)))]);
        assert_eq!(next(&local, &elsewhere), None, "the replica has something newer, and good");
    }
}
