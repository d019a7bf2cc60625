//! Replicas: known services, no place twice, certificates where peers are spoken to.

use std::collections::BTreeMap;

use super::{Rules, dependencies, overlap};
use crate::error::Draft;
use crate::raw::Raw;
use crate::settings::{Replica, ReplicaPlace};

const NO_TLS: &str =
    "write `[api] tls = { ca, cert, key }`; `supervisor cert init` and `cert issue` make the files";

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for (number, replica) in raw.store.replicas.iter().enumerate() {
        let at = format!("store/replica/{number}");
        let url = format!("{at}/url");
        let wanted = replica.services.iter().flatten();
        for name in wanted.filter(|name| !raw.services.contains_key(*name)) {
            dependencies::unknown(raw, &format!("{at}/services"), name, rules);
        }
        if !rules.places.sound(&[&url]) {
            continue;
        }
        if let Some(first) = known.insert(replica.place.to_string(), url.clone()) {
            let message = format!("the replica {} is there twice", replica.place);
            let draft = Draft::error(rules.places.nearest(&url), message);
            let first = rules.places.nearest(&first);
            rules.drafts.push(draft.also(first, "the first one").hint("leave one of them out"));
        }
        match &replica.place {
            ReplicaPlace::Peer(_) if !has_tls(rules, &at) => {
                rules.error(
                    &url,
                    &[],
                    "a peer is spoken to with certificates only, and there are none",
                    NO_TLS,
                );
            }
            ReplicaPlace::Folder(folder) if overlap(folder, &raw.store.path) => rules.error(
                &url,
                &["store/path", "node/state_dir"],
                "the replica is the store itself, or one of them lies inside the other",
                "use a folder on another disk, best of another host",
            ),
            ReplicaPlace::Peer(_)
            | ReplicaPlace::Folder(_)
            | ReplicaPlace::S3(_)
            | ReplicaPlace::Google(_)
            | ReplicaPlace::Azure(_) => {}
        }
    }
    listening(raw, rules);
    let Some(https) = &raw.api.https else { return };
    if raw.api.listen.as_ref() == Some(&https.listen) {
        rules.error(
            "api/https/listen",
            &["api/listen"],
            "peers are let in on this address already",
            "give operators a port of their own, as `listen = \"0.0.0.0:7444\"`",
        );
    }
}

fn listening(raw: &Raw, rules: &mut Rules<'_>) {
    let has_own =
        |(number, _): &(usize, _)| rules.places.written(&format!("store/replica/{number}/tls")).is_some();
    let is_peer = |replica: &Replica| matches!(replica.place, ReplicaPlace::Peer(_));
    let mut peers = raw.store.replicas.iter().enumerate().filter(|(_, replica)| is_peer(replica));
    let speaks = peers.any(|peer| !has_own(&peer));
    let listens = rules.places.written("api/listen").is_some();
    match rules.places.written("api/tls") {
        None if listens => {
            rules.error(
                "api/listen",
                &[],
                "peers are let in with certificates only, and there are none",
                NO_TLS,
            );
        }
        Some(_) if !listens && !speaks => rules.warning(
            "api/tls",
            &[],
            "`tls` does nothing: there is no `listen`, and no replica `peer://...`",
            "leave it out, or add `listen = \"0.0.0.0:7443\"`",
        ),
        Some(_) | None => {}
    }
}

/// Whether certificates are written down for a replica, right or wrong.
fn has_tls(rules: &Rules<'_>, replica: &str) -> bool {
    [&format!("{replica}/tls"), "api/tls"].into_iter().any(|place| rules.places.written(place).is_some())
}
