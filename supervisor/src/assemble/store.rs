//! The store of images on this host.

use std::path::{Path, PathBuf};

use config as words;
use engine::images;

/// The store's settings. Reads the keys of its images.
pub(crate) fn store(store: &words::Store, hot_folder: Option<PathBuf>) -> engine::Result<images::Settings> {
    Ok(images::Settings {
        path: store.path.clone(),
        hot: hot_folder,
        hot_max_size: store.hot_max_size,
        keep_hot: 1,
        codec: match store.compression {
            words::Compression::Zstd => images::Codec::Zstd,
            words::Compression::Lz4 => images::Codec::Lz4,
            words::Compression::None => images::Codec::None,
        },
        keys: keys(store)?,
        min_free: store.min_free,
        max_total_size: store.max_total_size,
    })
}

/// The keys of a store's images.
pub(crate) fn keys(store: &words::Store) -> engine::Result<images::Keyring> {
    let old: Vec<_> = store.old_keys.iter().map(key_source).collect();
    images::Keyring::load(store.encryption.as_ref().map(key_source).as_ref(), &old)
}

fn key_source(file: &words::KeyFile) -> images::KeySource {
    match file {
        words::KeyFile::Key(path) => images::KeySource::File(path.clone()),
        words::KeyFile::Passphrase(path) => images::KeySource::Passphrase(path.clone()),
    }
}

/// Where hot images lie: in memory, if there is a tmpfs for it; a state folder has its own.
pub(crate) fn hot_folder(config: &words::Config) -> Option<PathBuf> {
    if config.store.hot == words::Hot::Disk {
        return None;
    }
    let shm = Path::new("/dev/shm");
    let is_memory =
        nix::sys::statfs::statfs(shm).is_ok_and(|fs| fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC);
    if !is_memory {
        tracing::warn!("/dev/shm is no tmpfs: hot images are kept on disk, and restores will be slower");
        return None;
    }
    let state = config.node.state_dir.display().to_string();
    let mark: String = state.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    Some(shm.join(format!("supervisor{mark}")))
}
