//! A checkpoint as an OCI image: one layer with what podman's archive holds, and annotations that say what it is.
//!
//! An `oci-archive`: `oci-layout`, `index.json` and the blobs by their digests. The layer's digest stands before the layer, so it is
//! written twice, once for its digest only.

use std::io::{self, Write};

use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::body::{Body, Head};
use super::package::{Package, taken};
use crate::capture::Timestamp;
use crate::error::Result;
use crate::images::Prepared;

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// What podman looks for, and what CRI-O does.
const PODMAN: &str = "io.podman.annotations.checkpoint";
const CRIO_NAME: &str = "io.kubernetes.cri-o.annotations.checkpoint.name";

/// A blob's digest and length.
#[derive(Debug, Clone)]
struct Blob {
    digest: String,
    size: u64,
}

/// Hashes what passes into nothing.
struct Hashing(Sha256);

pub(super) fn write(package: &Package<'_>, image: &Prepared, to: &mut dyn Write) -> Result<()> {
    let layer = hashed(|to| package.write(to))?;
    let config = config(image, &layer).to_string().into_bytes();
    let config_blob = hashed(|to| taken(to, &config).map(|()| config.len() as u64))?;
    let manifest = manifest(package, image, &config_blob, &layer).to_string().into_bytes();
    let manifest_blob = hashed(|to| taken(to, &manifest).map(|()| manifest.len() as u64))?;
    let index = index(image, &manifest_blob).to_string().into_bytes();
    let layout = json!({ "imageLayoutVersion": "1.0.0" }).to_string().into_bytes();

    let at = Timestamp(0, 0);
    let mut body = Body::new(to);
    let small = |body: &mut Body<'_>, name: &str, bytes: &[u8]| {
        body.copied(&Head::file(name, bytes.len() as u64, at), &mut &*bytes)
    };
    small(&mut body, "oci-layout", &layout)?;
    small(&mut body, "index.json", &index)?;
    for folder in ["blobs/", "blobs/sha256/"] {
        body.entry(&Head::folder(folder, at))?;
    }
    small(&mut body, &manifest_blob.name(), &manifest)?;
    small(&mut body, &config_blob.name(), &config)?;
    body.filled(&Head::file(layer.name(), layer.size, at), |to| package.write(to).map(drop))?;
    body.finish().map(drop)
}

impl Blob {
    fn name(&self) -> String {
        format!("blobs/sha256/{}", self.digest)
    }

    fn described(&self, media_type: &str) -> Value {
        json!({ "mediaType": media_type, "digest": format!("sha256:{}", self.digest), "size": self.size })
    }
}

fn hashed(write: impl FnOnce(&mut dyn Write) -> Result<u64>) -> Result<Blob> {
    let mut hashing = Hashing(Sha256::new());
    let size = write(&mut hashing)?;
    let digest = hashing.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Blob { digest, size })
}

fn config(image: &Prepared, layer: &Blob) -> Value {
    let created = created(image);
    json!({
        "created": created,
        "architecture": architecture(&image.about().host.architecture),
        "os": "linux",
        "config": {},
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.digest)] },
        "history": [{ "created": created, "created_by": "supervisor export" }],
    })
}

fn manifest(package: &Package<'_>, image: &Prepared, config: &Blob, layer: &Blob) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.described(CONFIG),
        "layers": [layer.described(LAYER)],
        "annotations": annotations(package.definition(), image),
    })
}

fn annotations(definition: &Value, image: &Prepared) -> Map<String, Value> {
    let host = &image.about().host;
    let text = |field: &str| definition[field].as_str().unwrap_or_default().to_owned();
    let named = [
        ("name", text("name")),
        ("rawImageName", text("RawImageName")),
        ("rootfsImageID", text("rootfsImageID")),
        ("rootfsImageName", text("rootfsImageName")),
        ("runtime.name", text("runtime")),
        ("criu.version", criu_number(&host.criu)),
        ("host.arch", architecture(&host.architecture).to_owned()),
        ("host.kernel", host.kernel.clone()),
    ];
    let known = named.into_iter().filter(|(_, value)| !value.is_empty());
    let mut annotations: Map<String, Value> =
        known.map(|(name, value)| (format!("{PODMAN}.{name}"), value.into())).collect();
    annotations.insert(CRIO_NAME.to_owned(), text("name").into());
    annotations
}

fn index(image: &Prepared, manifest: &Blob) -> Value {
    let mut described = manifest.described(MANIFEST);
    let name = format!("localhost/supervisor/{}:{}", image.service(), tag(image.id().as_str()));
    described["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
    json!({ "schemaVersion": 2, "manifests": [described] })
}

/// An id may have a plus, a tag may not.
fn tag(id: &str) -> String {
    id.replace('+', "_")
}

fn created(image: &Prepared) -> String {
    let since = std::time::Duration::from_nanos(image.about().taken_at.as_unix_nanos());
    humantime::format_rfc3339_nanos(std::time::UNIX_EPOCH + since).to_string()
}

/// Go's names, which the others use.
fn architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `4.1.1` as podman writes it: 40101.
fn criu_number(version: &str) -> String {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    format!("{}", next() * 10_000 + next() * 100 + next())
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_versions_are_written_as_others_do() {
        let blob = hashed(|to| taken(to, b"abc").map(|()| 3)).expect("it is hashed");
        assert_eq!(blob.digest, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!((criu_number("4.1.1"), criu_number("4.2")), ("40101".to_owned(), "40200".to_owned()));
        assert_eq!(tag("2026-1+a"), "2026-1_a");
    }
}
