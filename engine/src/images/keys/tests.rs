#![expect(clippy::disallowed_methods, reason = "tests write key files as an operator does")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;

fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").expect("a folder in memory")
}

fn written(path: &Path, bytes: &[u8], mode: u32) {
    fs::write(path, bytes).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}

#[test]
fn a_key_file_that_cannot_be_used_is_refused_with_a_remedy() {
    let folder = folder();
    let path = folder.path().join("key");
    let (key, words) = (KeySource::File(path.clone()), KeySource::Passphrase(path.clone()));
    let refused = |source: &KeySource, expected: &str| {
        for result in [Keyring::load(Some(source), &[]), Keyring::load(None, std::slice::from_ref(source))] {
            let error = result.expect_err(expected);
            assert!(error.to_string().contains(expected), "{error}");
            assert!(error.report().remedy_text().is_some(), "{error}");
        }
    };
    refused(&key, "head -c 32 /dev/urandom");
    for mode in [0o644, 0o640, 0o604, 0o620, 0o601] {
        written(&path, &[1; 32], mode);
        refused(&key, &format!("chmod 600 {}", path.display()));
        refused(&words, "read or written by others");
    }
    for length in [0, 31, 33, 64, 10_000] {
        written(&path, &vec![1; length], 0o600);
        refused(&key, "must hold 32 bytes exactly");
    }
    for length in [0, 11, 4097, 10_000] {
        written(&path, &vec![b'x'; length], 0o600);
        refused(&words, "must have 12 to 4096 bytes");
    }
    written(&path, &[1; 32], 0o400);
    Keyring::load(Some(&key), &[]).expect("nobody else can read it");
    nix::unistd::chown(&path, Some(65534.into()), None).expect("we are root");
    refused(&key, "belongs to another user");
}

#[test]
fn a_link_is_no_key_file() {
    let folder = folder();
    written(&folder.path().join("real"), &[1; 32], 0o600);
    symlink(folder.path().join("real"), folder.path().join("link")).expect("linked");
    let error = Keyring::load(Some(&KeySource::File(folder.path().join("link"))), &[]).expect_err("a link");
    assert_eq!(error.kind(), "refused", "{error}");
}

#[test]
fn an_id_names_a_key_and_a_newline_ends_a_passphrase() {
    let folder = folder();
    let id = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        written(&path, bytes, 0o600);
        let keys = Keyring::load(Some(&KeySource::File(path)), &[]).expect("a key");
        assert!(keys.encrypts());
        keys.current_id().expect("known").expect("there is one")
    };
    assert_eq!(id("a", &[1; 32]), id("b", &[1; 32]));
    assert_ne!(id("a", &[1; 32]), id("b", &[2; 32]));
    assert_eq!(id("a", &[1; 32]).len(), 16);
    let secret = |words: &[u8]| {
        let path = folder.path().join("words");
        written(&path, words, 0o600);
        match Secret::load(&KeySource::Passphrase(path)).expect("long enough") {
            Secret::Passphrase(words) => words.to_vec(),
            Secret::Raw(_) => panic!("not a key file"),
        }
    };
    assert_eq!(secret(b"a long passphrase\r\n"), b"a long passphrase");
    assert_eq!(secret(b"a long passphrase "), b"a long passphrase ", "only newlines go");
}

#[test]
fn nothing_of_a_key_is_shown() {
    let folder = folder();
    let path = folder.path().join("key");
    written(&path, &[b'S'; 32], 0o600);
    let keys = Keyring::load(Some(&KeySource::File(path)), &[]).expect("a key");
    let shown = format!("{keys:?}");
    assert!(shown.contains("key") && !shown.contains("SS") && !shown.contains("83, 83"), "{shown}");
    assert!(Keyring::none() != keys && !Keyring::none().encrypts());
}

#[test]
fn costs_out_of_all_proportion_are_no_derivation() {
    let argon2id = |memory_kib, passes, lanes, salt: usize| Derivation::Argon2id {
        memory_kib,
        passes,
        lanes,
        salt: vec![0; salt],
    };
    assert!(Derivation::KeyFile.is_sound() && argon2id(64 << 10, 3, 4, 16).is_sound());
    for wrong in [
        argon2id(u32::MAX, 3, 4, 16),
        argon2id(0, 3, 4, 16),
        argon2id(64 << 10, 17, 4, 16),
        argon2id(64 << 10, 0, 4, 16),
        argon2id(64 << 10, 3, 65, 16),
        argon2id(64 << 10, 3, 0, 16),
        argon2id(64 << 10, 3, 4, 15),
    ] {
        assert!(!wrong.is_sound(), "{wrong:?}");
    }
}
