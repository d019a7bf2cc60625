//! Encryption of images: one key, kept apart from what it locks, and nothing unencrypted on disk.

use super::Rules;
use crate::raw::Raw;
use crate::settings::{Hot, KeyFile};

const KEY: &str = "store/encryption_key_file";
const PASSPHRASE: &str = "store/encryption_passphrase_file";

pub(super) fn check(raw: &Raw, rules: &mut Rules<'_>) {
    if rules.places.written(KEY).is_some() && rules.places.written(PASSPHRASE).is_some() {
        rules.error(
            PASSPHRASE,
            &[KEY],
            "images can be encrypted under one key, and here are a key file and a passphrase",
            "leave one of them out; a former one goes into `encryption_old_key_files` or `encryption_old_passphrase_files`",
        );
    }
    let Some(present) = &raw.store.encryption else { return };
    let (KeyFile::Key(path) | KeyFile::Passphrase(path)) = present;
    let at = match present {
        KeyFile::Key(_) => KEY,
        KeyFile::Passphrase(_) => PASSPHRASE,
    };
    if raw.store.hot == Hot::Disk {
        rules.error(
            at,
            &["store/hot"],
            "with `hot = \"disk\"` images would lie on disk unencrypted",
            "write `hot = \"memory\"`, or leave the key out",
        );
    }
    if path.starts_with(&raw.store.path) {
        rules.error(
            at,
            &["store/path", "node/state_dir"],
            "the key lies in the store, beside what it locks",
            "put it elsewhere: whoever gets the store must not get the key with it",
        );
    }
    if raw.store.old_keys.contains(present) {
        rules.warning(
            at,
            &[],
            "the key is named as the present and as a former one",
            "name it once: a former key is one that new images do not get any more",
        );
    }
}
