//! `images --replica`, `fetch`: what replicas have, and the way back from them.
//!
//! The running supervisor does it; where none runs, for the store was lost with the host, it is done here by the configuration, under
//! the same locks that a supervisor would take.

use std::path::Path;
use std::sync::Arc;

use config::Config;
use engine::images::Store;
use engine::lock::Lock;
use engine::replica::Replica;

use super::client::{Client, READING_MAX, encode, refusal};
use super::failure::Failure;
use super::screen::{Mood, Screen};
use super::{check, words};
use crate::api::FetchBody;
use crate::replicas::{self, FetchedImage, ReplicaImage};
use crate::{assemble, replicas::find};

const HEADER: [&str; 8] = ["ID", "SERVICE", "AGE", "VERDICT", "NODE", "EPOCH", "SIZE", "STORED"];
const VERDICT: usize = 3;

/// How the supervisor is reached, and the file to go by if it isn't.
type Ways<'a> = (&'a Client, Option<&'a Path>);

/// Lists what a replica has.
pub(crate) async fn images(
    screen: &Screen,
    (client, config): Ways<'_>,
    replica: &str,
    service: Option<&str>,
) -> Result<(), Failure> {
    let of = service.map(|service| format!("&service={}", encode(service))).unwrap_or_default();
    let asked = client.get(&format!("/v1/replicas/images?replica={}{of}", encode(replica))).await;
    let images: Vec<ReplicaImage> = match (asked, config) {
        (Err(Failure::Unreachable { .. }), Some(config)) => {
            let (_, replica) = without_supervisor(config, replica)?;
            replicas::images(&replica, service).await.map_err(failed)?
        }
        (asked, _) => asked?,
    };
    if screen.is_json() {
        return screen.json(&images);
    }
    if images.is_empty() {
        return screen.line("no images");
    }
    screen.print(&shown(screen, &images))
}

/// Brings one back.
pub(crate) async fn fetch(
    screen: &Screen,
    (client, config): Ways<'_>,
    replica: &str,
    id: &str,
) -> Result<(), Failure> {
    let body = FetchBody { replica: replica.to_owned(), image: id.to_owned() };
    let fetched: FetchedImage = match (client.ask("/v1/replicas/fetch", &body, READING_MAX).await, config) {
        (Err(Failure::Unreachable { .. }), Some(config)) => {
            let (config, replica) = without_supervisor(config, replica)?;
            let (_locks, store) = store(&config)?;
            replicas::fetch(&replica, &store, id).await.map_err(failed)?
        }
        (asked, _) => {
            let (status, body) = asked?;
            if !status.is_success() {
                return Err(refusal(status, &body));
            }
            serde_json::from_slice(&body).map_err(|e| Failure::Failed(e.to_string()))?
        }
    };
    if screen.is_json() {
        return screen.json(&fetched);
    }
    let FetchedImage { id, service, stored_bytes, took_ms } = fetched;
    let (size, took) = (words::size(stored_bytes), words::milliseconds(took_ms));
    screen.line(&format!(
        "{service}: image {id} is here, {size} in {took}; supervisor restore {service} --image {id}"
    ))
}

fn without_supervisor(config: &Path, replica: &str) -> Result<(Config, Arc<Replica>), Failure> {
    let config = check::read(config)?;
    let node = config.node.name.clone().unwrap_or_default();
    let targets = assemble::replicas(&config.store, &config.api, &node).map_err(failed)?;
    let found = find(&targets, replica);
    let found = found
        .ok_or_else(|| Failure::Denied(format!("there is no replica {replica} in the configuration")))?;
    Ok((config, found))
}

/// The store, which no supervisor uses.
fn store(config: &Config) -> Result<(Vec<Lock>, Store), Failure> {
    let folders = [("node.state_dir", &config.node.state_dir), ("store.path", &config.store.path)];
    let locks = folders.into_iter().map(|(key, folder)| {
        engine::durable::create_dir_all(folder)?;
        Lock::take(folder, key)
    });
    let locks = locks.collect::<engine::Result<Vec<_>>>().map_err(failed)?;
    let hot = assemble::hot_folder(config);
    let settings = assemble::store(&config.store, hot).map_err(failed)?;
    let (store, _) = Store::open(settings).map_err(failed)?;
    Ok((locks, store))
}

fn failed(error: engine::Error) -> Failure {
    match error {
        engine::Error::Invalid(_) => Failure::Denied(error.to_string()),
        engine::Error::Corrupt(_) => Failure::Unhealthy(error.to_string()),
        _ => Failure::Failed(error.to_string()),
    }
}

fn shown(screen: &Screen, images: &[ReplicaImage]) -> String {
    let row = |image: &ReplicaImage| {
        vec![
            image.id.clone(),
            image.service.clone(),
            words::span(image.age_seconds),
            image.verdict.clone(),
            image.node.clone(),
            image.epoch.to_string(),
            words::size(image.size_bytes),
            words::size(image.stored_bytes),
        ]
    };
    let mood = |image: &ReplicaImage| match image.verdict.as_str() {
        "good" => Mood::Good,
        "unjudged" => Mood::Plain,
        _ => Mood::Doubtful,
    };
    let (rows, moods): (Vec<_>, Vec<_>) = images.iter().map(|image| (row(image), mood(image))).unzip();
    screen.table(&HEADER, &rows, (VERDICT, &moods))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_a_replicas_images() {
        let image = ReplicaImage {
            id: "i2".to_owned(),
            service: "redis".to_owned(),
            taken_at: "2026-11-22T20:00:00Z".to_owned(),
            age_seconds: 3.2,
            verdict: "good".to_owned(),
            node: "alpha".to_owned(),
            epoch: 7,
            size_bytes: 100 << 20,
            stored_bytes: 20 << 20,
        };
        let expected = "\
ID  SERVICE  AGE  VERDICT  NODE   EPOCH    SIZE    STORED
i2  redis    3 s  good     alpha      7  100.0 MiB  20.0 MiB
";
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&shown(&Screen::plain(), &[image])), words(expected));
    }
}
