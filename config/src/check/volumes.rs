//! Volumes: no file may belong to two images, nor an image to itself.
//!
//! A path of a docker or podman container may be one inside it, which two containers may well have in common;
//! it refuses to guess, so what their mounts have in common on the host is the engine's to see.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Rules, overlap};
use crate::error::Draft;
use crate::raw::Raw;
use crate::settings::Runtime;

/// Where a volume's path leads from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Host,
    /// Only the container's mounts can tell.
    HostOrContainer,
}

struct Volume<'a> {
    service: &'a str,
    path: &'a Path,
    side: Side,
    place: String,
}

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    let volumes: Vec<_> = raw
        .services
        .iter()
        .flat_map(|(name, service)| {
            let (side, at) = (side(&service.runtime), raw.place(name));
            service.checkpoint.volumes.iter().enumerate().map(move |(position, path)| Volume {
                service: name.as_str(),
                path,
                side,
                place: format!("{at}/checkpoint/volumes/{position}"),
            })
        })
        .collect();
    let mut beside: BTreeMap<Option<&str>, Vec<Volume<'_>>> = BTreeMap::new();
    for volume in volumes.into_iter().filter(|volume| own_folders(volume, raw, rules)) {
        beside.entry(volume.only_within()).or_default().push(volume);
    }
    beside.into_values().for_each(|volumes| shared(volumes, rules));
}

fn side(runtime: &Runtime) -> Side {
    match runtime {
        Runtime::Process(_) | Runtime::Runc(_) | Runtime::Systemd(_) => Side::Host,
        Runtime::Docker(_) | Runtime::Podman(_) => Side::HostOrContainer,
        Runtime::Group(members) if members.iter().all(|member| side(&member.runtime) == Side::Host) => {
            Side::Host
        }
        Runtime::Group(_) => Side::HostOrContainer,
    }
}

impl<'a> Volume<'a> {
    /// The service beyond whose volumes this one says nothing.
    fn only_within(&self) -> Option<&'a str> {
        match self.side {
            Side::Host => None,
            Side::HostOrContainer => Some(self.service),
        }
    }
}

/// Whether it is apart from our own folders: an image that holds the store would hold itself; a restore would
/// put our own journal back in time.
fn own_folders(volume: &Volume<'_>, raw: &Raw, rules: &mut Rules<'_>) -> bool {
    let folders = [
        ("the store", raw.store.path.as_path(), "store/path"),
        ("`state_dir`", raw.node.state_dir.as_path(), "node/state_dir"),
        ("`run_dir`", raw.node.run_dir.as_path(), "node/run_dir"),
    ];
    let Some((what, _, key)) = folders.iter().find(|(_, folder, _)| overlap(volume.path, folder)) else {
        return true;
    };
    let hint = match volume.side {
        Side::Host => "keep the service's files and the supervisor's apart",
        Side::HostOrContainer => {
            "keep the service's files and the supervisor's apart; if the path in the container is meant, list \
            the mount's path on the host instead"
        }
    };
    rules.error(&volume.place, &[key], format!("the volume overlaps {what} of the supervisor"), hint);
    false
}

/// Sorted by path, a volume overlaps only what directly precedes it on the way down.
fn shared(mut volumes: Vec<Volume<'_>>, rules: &mut Rules<'_>) {
    volumes.sort_by(|one, other| one.path.cmp(other.path));
    let mut around: Vec<Volume<'_>> = Vec::new();
    for volume in volumes {
        while around.last().is_some_and(|outer| !volume.path.starts_with(outer.path)) {
            around.pop();
        }
        if let Some(outer) = around.last() {
            rules.drafts.push(overlapping(outer, &volume, rules));
        }
        around.push(volume);
    }
}

fn overlapping(outer: &Volume<'_>, inner: &Volume<'_>, rules: &Rules<'_>) -> Draft {
    let (one, other) = (rules.places.nearest(&outer.place), rules.places.nearest(&inner.place));
    let (first, second) = if one.start <= other.start { (one, other) } else { (other, one) };
    if outer.service == inner.service {
        let draft = Draft::error(second, "two volumes of this service overlap");
        return draft.also(first, "the first one").hint("name the outer folder only");
    }
    let message = format!("the services `{}` and `{}` have a volume in common", outer.service, inner.service);
    let draft = Draft::error(second, message).also(first, "the first one");
    draft.hint("restoring one service would change the files of the other: give each its own folder")
}
