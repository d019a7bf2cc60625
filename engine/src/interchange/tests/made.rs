//! Archives as podman would write them, with one thing or another in them; and a store and a container to import them for.

use std::io::Write;
use std::path::PathBuf;

use policies::id::{ImageId, ServiceName};
use policies::time::WallTime;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

use super::super::{Kind, RECOGNIZED_BY, Recipient, receive, recognize};
use crate::compat::Host;
use crate::error::{Error, Result};
use crate::images::{Codec, Manifest, RuntimeFacts, Settings, Store};
use crate::runtime::{Layout, Volume};

/// A tar archive that grows.
pub(super) struct Tar(pub(super) Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// An entry of any kind; the name goes in as it is, whatever it is.
    pub(super) fn entry(mut self, kind: EntryType, name: &str, target: &str, content: &[u8]) -> Self {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if !target.is_empty() {
            header.set_link_name_literal(target).expect("it is short");
        }
        header.set_mode(0o640);
        header.set_uid(7);
        header.set_gid(8);
        header.set_mtime(1_700_000_000);
        header.set_size(content.len() as u64);
        header.set_cksum();
        self.0.append(&header, content).expect("memory takes it");
        self
    }

    pub(super) fn file(self, name: &str, content: impl AsRef<[u8]>) -> Self {
        self.entry(EntryType::Regular, name, "", content.as_ref())
    }

    pub(super) fn folder(self, name: &str) -> Self {
        self.entry(EntryType::Directory, name, "", b"")
    }

    pub(super) fn link(self, kind: EntryType, name: &str, target: &str) -> Self {
        self.entry(kind, name, target, b"")
    }

    pub(super) fn attribute(mut self, name: &str, value: &[u8]) -> Self {
        self.0.append_pax_extensions([(name, value)]).expect("memory takes it");
        self
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().expect("memory takes it")
    }
}

/// What podman says of the container.
pub(super) fn definition() -> Value {
    json!({
        "id": "abc", "name": "theirs", "rootfsImageID": "image",
        "namedVolumes": [{ "volumeName": "theirs", "dest": "/data" }],
    })
}

/// An archive with everything, these trees in it.
pub(super) fn archive(layer: Tar, volume: Tar) -> Tar {
    Tar::new()
        .folder("artifacts/")
        .file("config.dump", definition().to_string())
        .file("spec.dump", "{}")
        .file("network.status", "{}")
        .file("stats-dump", "whatever")
        .folder("checkpoint/")
        .file("checkpoint/inventory.img", "inventory")
        .file("checkpoint/pages-1.img", vec![5; 10_000])
        .file("rootfs-diff.tar", layer.bytes())
        .file("deleted.files", r#"["/gone"]"#)
        .file("volumes/theirs.tar", volume.bytes())
}

/// A store, and a container of podman's beside it.
pub(super) struct Site {
    pub(super) folder: TempDir,
    pub(super) store: Store,
    pub(super) layout: Layout,
    pub(super) service: ServiceName,
    pub(super) id: ImageId,
}

impl Site {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| -> PathBuf {
            let path = folder.path().join(name);
            std::fs::create_dir(&path).expect("a folder");
            path
        };
        let settings = Settings {
            path: at("store"),
            hot: None,
            hot_max_size: None,
            keep_hot: 1,
            codec: Codec::Zstd,
            min_free: 0,
            max_total_size: None,
            keys: crate::images::Keyring::none(),
        };
        let layout = Layout {
            image: "image".to_owned(),
            changes: at("changes"),
            lower: vec![at("lower")],
            volumes: vec![Volume {
                name: "ours".to_owned(),
                destination: "/data".into(),
                source: at("volume"),
            }],
        };
        let (store, _) = Store::open(settings).expect("a store");
        let service = ServiceName::try_from("service").expect("a name");
        Self { folder, store, layout, service, id: ImageId::try_from("i1").expect("an id") }
    }

    pub(super) fn import(&self, archive: &[u8]) -> Result<Manifest> {
        self.import_as("podman", archive)
    }

    pub(super) fn import_as(&self, kind: &str, archive: &[u8]) -> Result<Manifest> {
        let first = &archive[..archive.len().min(RECOGNIZED_BY)];
        let Some(Kind::Podman(form)) = recognize(first) else { panic!("not recognized") };
        let host = Host {
            boot_id: String::new(),
            kernel: "6.1".to_owned(),
            architecture: "x86_64".to_owned(),
            cpu_features: Vec::new(),
            criu: "4.1.1".to_owned(),
        };
        let recipient = Recipient {
            service: &self.service,
            id: &self.id,
            node: "node",
            runtime: RuntimeFacts {
                kind: kind.to_owned(),
                program: "program".to_owned(),
                versions: std::collections::BTreeMap::new(),
            },
            layout: &self.layout,
            host: &host,
            now: WallTime::from_unix_nanos(1_800_000_000_000_000_000),
        };
        receive(&self.store, &mut &*archive, form, recipient)
    }

    /// That an archive is refused with these words, and leaves nothing.
    #[track_caller]
    pub(super) fn refuses(&self, archive: &[u8], kind: &str, words: &str) {
        let error: Error = self.import(archive).map(|_| ()).expect_err("it is refused");
        let said = error.to_string();
        assert!(error.kind() == kind && said.contains(words), "{kind} {words}: {} {said}", error.kind());
        assert_eq!(self.store.list(&self.service).expect("a list").len(), 0, "{words}");
    }
}

/// The same, compressed.
pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}
