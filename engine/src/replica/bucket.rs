//! Images in a bucket, or in a folder that is used like one.
//!
//! ```text
//! <service>/epoch                       the newest epoch that was claimed; changed by compare-and-swap
//! <service>/<id>/<segment>/<number>     pieces of 8 MiB of a segment, numbered from 00000000
//! <service>/<id>/verdict=<word>         what is thought of the image
//! <service>/<id>/manifest               last: with it the image exists
//! ```
//!
//! A piece is whole or not there, so a cut costs one piece and no half upload is left behind that somebody pays for. Whoever reads an image
//! back checks every byte of it (the manifest has the checksums), so pieces need none of their own. An image is removed manifest first.
//! Pieces without a manifest are what a sender is at, or has given up: the holder of the epoch removes those of other images.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt;
use hyper::body::Bytes;
use policies::id::{Epoch, ImageId, ServiceName};
use policies::image::ImageVerdict;
use serde::{Deserialize, Serialize};

use super::objects::{Found, Objects, Version, Written};
use super::{Chunks, Listed, Pace, Place, Sent, Wanted, fenced};
use crate::durable::fail_point;
use crate::error::{Error, Report, Result};
use crate::images::{Head, Outgoing, Part, envelope};
use crate::replica::{blocking, nonce};
use crate::runtime::Effect;

/// Bytes of a piece; part of the format.
pub const PIECE_LENGTH: u64 = 8 << 20;
const MANIFEST: &str = "manifest";
const EPOCH: &str = "epoch";
const VERDICT: &str = "verdict=";
const WHAT: &str = "supervisor-epoch";
const VERSION: u32 = 1;
/// How often a swap is tried against others who swap too.
const SWAPS_MAX: usize = 8;

/// A bucket of images.
#[derive(Debug)]
pub struct Bucket {
    objects: Arc<dyn Objects>,
    url: String,
    /// Who claims: a node's name, for people who look into the bucket.
    node: String,
}

/// The content of the epoch's object. The nonce tells our own write from somebody else's of the same epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    epoch: u64,
    node: String,
    nonce: String,
}

/// What lies there of one image.
#[derive(Debug, Default)]
struct Lying {
    complete: bool,
    verdicts: BTreeSet<ImageVerdict>,
    pieces: BTreeMap<String, u64>,
    keys: Vec<String>,
}

impl Bucket {
    /// `url` is how people call it.
    pub fn new(objects: Arc<dyn Objects>, url: impl Into<String>, node: impl Into<String>) -> Self {
        Self { objects, url: url.into(), node: node.into() }
    }

    /// That nobody has claimed a newer epoch.
    async fn still_ours(&self, service: &ServiceName, epoch: Epoch) -> Result<()> {
        match self.claimed(service).await? {
            Some((claim, _)) if claim.epoch == epoch.0 => Ok(()),
            Some((claim, _)) if claim.epoch > epoch.0 => Err(self.fenced(service, epoch, &claim)),
            Some(_) | None => {
                // Somebody has removed or restored the object: it has to be claimed again before anything is written.
                Err(Error::Unavailable(Report::new(format!(
                    "epoch {} of {service} is not claimed at {}",
                    epoch.0, self.url
                ))))
            }
        }
    }

    async fn claimed(&self, service: &ServiceName) -> Result<Option<(Claim, Version)>> {
        let key = format!("{service}/{EPOCH}");
        let Some(found) = self.objects.get(&key).await? else { return Ok(None) };
        let shown = format!("{}/{key}", self.url);
        let json = envelope::open(WHAT, VERSION, &found.bytes, shown.as_ref())?;
        let claim = serde_json::from_slice(json.1);
        let claim =
            claim.map_err(|e| Error::Corrupt(Report::new(format!("not an epoch: {shown}")).because(e)))?;
        Ok(Some((claim, found.version)))
    }

    async fn claim_epoch(&self, service: &ServiceName, epoch: Epoch) -> Result<()> {
        let ours = Claim { epoch: epoch.0, node: self.node.clone(), nonce: nonce()? };
        let json = serde_json::to_vec(&ours)
            .map_err(|e| Error::Internal(Report::new("cannot write an epoch").because(e)))?;
        let bytes = Bytes::from(envelope::seal(WHAT, VERSION, &json));
        let key = format!("{service}/{EPOCH}");
        for _ in 0..SWAPS_MAX {
            let there = self.claimed(service).await?;
            match &there {
                Some((claim, _)) if claim.epoch > epoch.0 => return Err(self.fenced(service, epoch, claim)),
                Some((claim, _)) if claim.epoch == epoch.0 => return Ok(()),
                Some(_) | None => {}
            }
            let expected = there.as_ref().map(|(_, version)| version);
            // After `Look` the next round finds out whether it was us.
            if self.objects.swap(&key, expected, bytes.clone()).await? == Written::Yes {
                return Ok(());
            }
        }
        let text = format!("epoch of {service} at {} changes too often to be claimed", self.url);
        Err(Error::Unavailable(Report::new(text)))
    }

    fn fenced(&self, service: &ServiceName, epoch: Epoch, claim: &Claim) -> Error {
        let at = format!("{} ({})", self.url, claim.node);
        fenced(service, (epoch, Epoch(claim.epoch)), &at)
    }

    async fn lying(&self, service: &ServiceName) -> Result<BTreeMap<ImageId, Lying>> {
        let mut images: BTreeMap<ImageId, Lying> = BTreeMap::new();
        for Found { key, length } in self.objects.list(service.as_str()).await? {
            let mut names = key.splitn(3, '/').skip(1);
            let (Some(id), Some(rest)) = (names.next(), names.next()) else { continue };
            let Ok(id) = ImageId::try_from(id) else { continue };
            let image = images.entry(id).or_default();
            match rest.strip_prefix(VERDICT) {
                Some(word) => image.verdicts.extend(word.parse::<ImageVerdict>().ok()),
                None if rest == MANIFEST => image.complete = true,
                None => drop(image.pieces.insert(rest.to_owned(), length)),
            }
            image.keys.push(key);
        }
        Ok(images)
    }

    async fn send_image(&self, image: &Arc<Outgoing>, epoch: Epoch, pace: &Pace) -> Result<Sent> {
        let (service, id) = (image.service(), image.id());
        self.claim_epoch(service, epoch).await?;
        let mut lying = self.lying(service).await?;
        let there = lying.remove(id).unwrap_or_default();
        let sent = if there.complete {
            self.is_the_same(image).await?;
            Sent { bytes: 0, skipped: image.manifest().sizes.stored }
        } else {
            let sent = self.send_pieces(image, &there, pace).await?;
            self.put_verdict((service, id), image.verdict()).await?;
            self.still_ours(service, epoch).await?;
            fail_point("replica.manifest.before");
            let manifest = Bytes::copy_from_slice(image.head().bytes());
            self.objects.put(&key((service, id), MANIFEST), manifest).await?;
            sent
        };
        // Only now: whoever has claimed a newer epoch since may have looked before the manifest was there.
        self.still_ours(service, epoch).await?;
        self.clear_up(service, lying).await?;
        Ok(sent)
    }

    /// Two images of one name are a mistake that nobody may overwrite.
    async fn is_the_same(&self, image: &Outgoing) -> Result<()> {
        let found = self.read_manifest(image.service(), image.id()).await?;
        if Head::decode(&found)?.is_of_the_same(image.head()) {
            return Ok(());
        }
        Err(Error::Invalid(Report::new(format!(
            "another image of this name is at {}: {}",
            self.url,
            image.id()
        ))))
    }

    async fn send_pieces(&self, image: &Arc<Outgoing>, there: &Lying, pace: &Pace) -> Result<Sent> {
        let mut sent = Sent::default();
        for part in image.parts() {
            for number in 0..pieces_of(&part) {
                let length = piece_length(&part, number);
                let name = piece_name(&part.name, number);
                if there.pieces.get(&name) == Some(&length) {
                    sent.skipped += length;
                    continue;
                }
                let bytes = read_piece(image, &part, number).await?;
                pace.pass(length).await;
                self.objects.put(&key((image.service(), image.id()), &name), bytes).await?;
                sent.bytes += length;
                fail_point("replica.part");
            }
        }
        Ok(sent)
    }

    /// What a sender gave up before its manifest.
    async fn clear_up(&self, service: &ServiceName, lying: BTreeMap<ImageId, Lying>) -> Result<()> {
        for (id, image) in lying.into_iter().filter(|(_, image)| !image.complete) {
            tracing::info!(%service, image = %id, replica = self.url, "clearing up an image that was never complete");
            self.delete_all(&image.keys).await?;
        }
        Ok(())
    }

    async fn put_verdict(&self, image: (&ServiceName, &ImageId), verdict: ImageVerdict) -> Result<()> {
        self.objects.put(&key(image, &format!("{VERDICT}{verdict}")), Bytes::new()).await?;
        for other in ImageVerdict::ALL.iter().filter(|other| **other != verdict) {
            self.objects.delete(&key(image, &format!("{VERDICT}{other}"))).await?;
        }
        Ok(())
    }

    async fn delete_all(&self, keys: &[String]) -> Result<()> {
        for key in keys {
            self.objects.delete(key).await?;
        }
        Ok(())
    }

    async fn remove_images(&self, service: &ServiceName, ids: &[ImageId], epoch: Epoch) -> Result<()> {
        self.claim_epoch(service, epoch).await?;
        let mut lying = self.lying(service).await?;
        for id in ids {
            self.objects.delete(&key((service, id), MANIFEST)).await?;
            fail_point("replica.removed");
            let rest = lying.remove(id).unwrap_or_default();
            self.delete_all(&rest.keys).await?;
        }
        Ok(())
    }

    async fn read_manifest(&self, service: &ServiceName, id: &ImageId) -> Result<Vec<u8>> {
        let found = self.objects.get(&key((service, id), MANIFEST)).await?;
        found.map(|found| found.bytes).ok_or_else(|| absent(id, &self.url))
    }

    /// All pieces of a segment from an offset on; each is fetched when the one before has been taken.
    async fn read_part(&self, Wanted { service, id, part }: Wanted<'_>, offset: u64) -> Result<Chunks> {
        let lying = self.lying(service).await?.remove(id).unwrap_or_default();
        let prefix = format!("{part}/");
        let names: Vec<String> = lying.pieces.into_keys().filter(|name| name.starts_with(&prefix)).collect();
        let in_order = |(number, name): (usize, &String)| *name == piece_name(part, number as u64);
        if !names.iter().enumerate().all(in_order) {
            let text = format!("image {id} at {} lacks a piece of {part}", self.url);
            return Err(Error::Corrupt(Report::new(text)));
        }
        let first = usize::try_from(offset / PIECE_LENGTH).unwrap_or(usize::MAX);
        let keys: Vec<String> = names.iter().skip(first).map(|name| key((service, id), name)).collect();
        let (objects, url) = (Arc::clone(&self.objects), self.url.clone());
        let skip = usize::try_from(offset % PIECE_LENGTH).expect("less than a piece");
        let pieces = futures_util::stream::iter(keys).enumerate().then(move |(number, key)| {
            let (objects, url) = (Arc::clone(&objects), url.clone());
            async move {
                let found = objects.get(&key).await?;
                let found =
                    found.ok_or_else(|| Error::Corrupt(Report::new(format!("{key} is gone from {url}"))))?;
                let skip = if number == 0 { skip.min(found.bytes.len()) } else { 0 };
                Ok(Bytes::from(found.bytes).slice(skip..))
            }
        });
        Ok(pieces.boxed())
    }
}

impl Place for Bucket {
    fn claim<'a>(&'a self, service: &'a ServiceName, epoch: Epoch) -> Effect<'a, ()> {
        Box::pin(self.claim_epoch(service, epoch))
    }

    fn services(&self) -> Effect<'_, Vec<ServiceName>> {
        Box::pin(async move {
            let folders = self.objects.folders().await?;
            Ok(folders.iter().filter_map(|name| ServiceName::try_from(name.as_str()).ok()).collect())
        })
    }

    fn list<'a>(&'a self, service: &'a ServiceName) -> Effect<'a, Vec<Listed>> {
        Box::pin(async move {
            let complete = self.lying(service).await?.into_iter().filter(|(_, image)| image.complete);
            Ok(complete.map(|(id, image)| Listed { id, verdict: image.verdict() }).collect())
        })
    }

    fn head<'a>(&'a self, service: &'a ServiceName, id: &'a ImageId) -> Effect<'a, Vec<u8>> {
        Box::pin(self.read_manifest(service, id))
    }

    fn read<'a>(&'a self, wanted: Wanted<'a>, offset: u64) -> Effect<'a, Chunks> {
        Box::pin(self.read_part(wanted, offset))
    }

    fn send<'a>(&'a self, image: &'a Arc<Outgoing>, epoch: Epoch, pace: &'a Pace) -> Effect<'a, Sent> {
        Box::pin(self.send_image(image, epoch, pace))
    }

    fn judge<'a>(
        &'a self,
        image: (&'a ServiceName, &'a ImageId),
        verdict: ImageVerdict,
        epoch: Epoch,
    ) -> Effect<'a, ()> {
        Box::pin(async move {
            self.still_ours(image.0, epoch).await?;
            self.put_verdict(image, verdict).await
        })
    }

    fn remove<'a>(&'a self, service: &'a ServiceName, ids: &'a [ImageId], epoch: Epoch) -> Effect<'a, ()> {
        Box::pin(self.remove_images(service, ids, epoch))
    }
}

impl Lying {
    /// Of several, which a writer who died has left, the worst.
    fn verdict(&self) -> ImageVerdict {
        self.verdicts.last().copied().unwrap_or(ImageVerdict::Unjudged)
    }
}

/// Where something of an image lies.
fn key((service, id): (&ServiceName, &ImageId), name: &str) -> String {
    format!("{service}/{id}/{name}")
}

fn piece_name(part: &str, number: u64) -> String {
    format!("{part}/{number:08}")
}

fn pieces_of(part: &Part) -> u64 {
    part.length.div_ceil(PIECE_LENGTH)
}

fn piece_length(part: &Part, number: u64) -> u64 {
    (part.length - number * PIECE_LENGTH).min(PIECE_LENGTH)
}

async fn read_piece(image: &Arc<Outgoing>, part: &Part, number: u64) -> Result<Bytes> {
    let (image, part) = (Arc::clone(image), part.clone());
    blocking(move || {
        let mut file = image.open(&part, number * PIECE_LENGTH)?;
        let mut bytes = vec![0; usize::try_from(piece_length(&part, number)).expect("at most a piece")];
        std::io::Read::read_exact(&mut file, &mut bytes).map_err(|e| {
            Error::Corrupt(Report::new(format!("cannot read {} to its end", part.name)).because(e))
        })?;
        Ok(bytes.into())
    })
    .await
}

fn absent(id: &ImageId, url: &str) -> Error {
    Error::Invalid(Report::new(format!("there is no image {id} at {url}")))
}
