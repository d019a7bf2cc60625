//! `images`, `verify`, `pin`, `unpin`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::client::{ANSWER_MAX, Client, READING_MAX, encode};
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::words;
use crate::api::VerifiedImage;
use crate::status::ImageStatus;

const HEADER: [&str; 9] = ["ID", "SERVICE", "AGE", "VERDICT", "WHERE", "SIZE", "STORED", "PAUSE", "NOTE"];
const VERDICT: usize = 3;

/// Lists them.
pub(crate) async fn list(screen: &Screen, client: &Client, service: Option<&str>) -> Result<(), Failure> {
    let images = fetch(client, service).await?;
    if screen.is_json() {
        return screen.json(&images);
    }
    if images.is_empty() {
        return screen.line("no images");
    }
    screen.print(&shown(screen, &images))
}

/// Reads one or all of those on disk. All of them are read, whatever the first ones are like.
pub(crate) async fn verify(screen: &Screen, client: &Client, id: Option<String>) -> Result<(), Failure> {
    let ids = match id {
        Some(id) => vec![id],
        None => {
            let images = fetch(client, None).await?;
            images.into_iter().filter(|image| image.durable).map(|image| image.id).collect()
        }
    };
    let progress = bar(ids.len());
    let mut findings = Vec::new();
    for id in &ids {
        progress.set_message(id.clone());
        let answer = client.post(&format!("/v1/images/{}/verify", encode(id)), READING_MAX).await;
        if let Some(finding) = Finding::new(id, answer, ids.len() == 1)? {
            if !screen.is_json() {
                progress.suspend(|| screen.line(&finding.shown(screen)))?;
            }
            findings.push(finding);
        }
        progress.inc(1);
    }
    progress.finish_and_clear();
    if screen.is_json() {
        screen.json(&findings)?;
    } else if findings.is_empty() {
        screen.line("no images on disk")?;
    }
    let damaged = findings.iter().filter(|finding| finding.damaged.is_some()).count();
    match damaged {
        0 => Ok(()),
        _ => Err(Failure::Unhealthy(format!(
            "{} damaged; such an image is kept for inspection and never restored",
            words::count(damaged, "image")
        ))),
    }
}

/// Pins or unpins.
pub(crate) async fn mark(screen: &Screen, client: &Client, id: &str, verb: &str) -> Result<(), Failure> {
    let path = format!("/v1/images/{}/{verb}", encode(id));
    let image: ImageStatus = client.post(&path, ANSWER_MAX).await?;
    if screen.is_json() {
        return screen.json(&image);
    }
    let now =
        if image.pinned { "pinned: retention leaves it" } else { "no longer pinned: retention decides" };
    screen.line(&format!("{}: image {} is {now}", image.service, image.id))
}

/// What there is.
pub(crate) async fn fetch(client: &Client, service: Option<&str>) -> Result<Vec<ImageStatus>, Failure> {
    match service {
        Some(service) => client.get(&format!("/v1/images?service={}", encode(service))).await,
        None => client.get("/v1/images").await,
    }
}

/// What became of one image.
#[derive(Debug, Serialize)]
struct Finding {
    id: String,
    #[serde(flatten)]
    whole: Option<Whole>,
    damaged: Option<String>,
}

/// What was read of a whole one.
#[derive(Debug, Serialize)]
struct Whole {
    service: String,
    files: usize,
    size_bytes: u64,
    stored_bytes: u64,
    took_ms: f64,
}

impl Finding {
    /// `None` for an image of a list that retention has removed meanwhile.
    fn new(id: &str, answer: Result<VerifiedImage, Failure>, by_name: bool) -> Result<Option<Self>, Failure> {
        let id = id.to_owned();
        match answer {
            Ok(VerifiedImage { id: _, service, files, size_bytes, stored_bytes, took_ms }) => {
                let whole = Some(Whole { service, files, size_bytes, stored_bytes, took_ms });
                Ok(Some(Self { id, whole, damaged: None }))
            }
            Err(Failure::Unhealthy(why)) => Ok(Some(Self { id, whole: None, damaged: Some(why) })),
            Err(Failure::Denied(_)) if !by_name => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn shown(&self, screen: &Screen) -> String {
        let Self { id, whole, damaged } = self;
        if let Some(whole) = whole {
            let (files, size) = (words::count(whole.files, "file"), words::size(whole.size_bytes));
            let (word, took) = (screen.paint(Mood::Good, "whole"), words::milliseconds(whole.took_ms));
            return format!("{id}  {word}  {}, {files}, {size} read in {took}", whole.service);
        }
        let why = damaged.as_deref().unwrap_or_default();
        format!("{id}  {}  {why}", screen.paint(Mood::Bad, "damaged"))
    }
}

fn bar(images: usize) -> ProgressBar {
    if images == 0 {
        return ProgressBar::hidden();
    }
    // On standard error, and only if that is a terminal.
    let bar = ProgressBar::with_draw_target(Some(images as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{spinner} verify {pos}/{len} {bar:30} {msg} {elapsed}");
    bar.set_style(style.expect("the template is right"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn shown(screen: &Screen, images: &[ImageStatus]) -> String {
    let rows: Vec<_> = images.iter().map(|image| row(image).to_vec()).collect();
    let moods: Vec<_> = images.iter().map(mood).collect();
    screen.table(&HEADER, &rows, (VERDICT, &moods))
}

/// Its cells, in the order of the header.
pub(super) fn row(image: &ImageStatus) -> [String; 9] {
    let places = [(image.hot, "hot"), (image.durable, "disk"), (image.replicated, "replica")];
    let places: Vec<_> = places.into_iter().filter(|(is, _)| *is).map(|(_, word)| word).collect();
    let place = (!places.is_empty()).then(|| places.join(", "));
    let pinned = image.pinned.then(|| "pinned".to_owned());
    let damaged = image.damaged.as_ref().map(|why| format!("damaged: {why}"));
    let foreign = image.incompatible.as_ref().map(|why| format!("does not suit this host: {why}"));
    let encrypted = image.key.as_ref().map(|key| format!("key {key}"));
    let notes: Vec<_> = [pinned, damaged, foreign, encrypted].into_iter().flatten().collect();
    [
        image.id.clone(),
        image.service.clone(),
        words::span(image.age_seconds),
        image.verdict.clone(),
        words::or_dash(place),
        words::size(image.size_bytes),
        words::or_dash(image.durable.then(|| words::size(image.stored_bytes))),
        words::or_dash(image.pause_ms.map(words::milliseconds)),
        notes.join("; "),
    ]
}

/// What it is worth to whoever looks.
pub(super) fn mood(image: &ImageStatus) -> Mood {
    if image.damaged.is_some() {
        return Mood::Bad;
    }
    match image.verdict.as_str() {
        "good" if image.incompatible.is_none() => Mood::Good,
        "unjudged" => Mood::Plain,
        _ => Mood::Doubtful,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_images() {
        let image = |id: &str, durable: bool, damaged: Option<&str>| ImageStatus {
            id: id.to_owned(),
            service: "redis".to_owned(),
            taken_at: "2026-11-22T20:00:00Z".to_owned(),
            age_seconds: 3.2,
            verdict: "good".to_owned(),
            hot: !durable,
            durable,
            replicated: false,
            pinned: durable,
            damaged: damaged.map(str::to_owned),
            incompatible: None,
            key: None,
            size_bytes: 104_857_600,
            stored_bytes: 20 << 20,
            pause_ms: Some(61.7),
        };
        let images = [image("i2", false, None), image("i1", true, Some("checksum\nis wrong"))];
        let expected = "\
ID  SERVICE  AGE  VERDICT  WHERE       SIZE    STORED    PAUSE  NOTE
i2  redis    3 s  good     hot    100.0 MiB         -  61.7 ms
i1  redis    3 s  good     disk   100.0 MiB  20.0 MiB  61.7 ms  pinned; damaged: checksum is wrong
";
        assert_eq!(shown(&Screen::plain(), &images), expected);
        assert!(shown(&Screen::coloured(), &images).contains("3 s  \x1b[31mgood\x1b[0m     disk"));
    }

    #[test]
    fn an_image_that_vanished_is_passed_over_unless_it_was_named() {
        let gone = || Err(Failure::Denied("no such image".to_owned()));
        assert!(Finding::new("i", gone(), false).expect("no failure").is_none());
        assert_eq!(Finding::new("i", gone(), true).expect_err("named").exit_code(), 4);
        let damaged = Err(Failure::Unhealthy("cut off".to_owned()));
        let finding = Finding::new("i", damaged, true).expect("a finding").expect("a finding");
        assert_eq!(finding.shown(&Screen::plain()), "i  damaged  cut off");
    }
}
