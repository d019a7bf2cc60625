//! What the operator keeps secret, and the keys made of it.
//!
//! A file of 32 random bytes is used as it is; a passphrase goes through Argon2id, whose salt and costs stand beside each wrapped
//! data key. It refuses files that anybody else may read, and costs out of all proportion.

use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::KeySource;
use crate::durable;
use crate::error::{Error, Report, Result};
use crate::images::cipher::{KEY_LENGTH, KeyBytes, random};

/// RFC 9106's second recommendation, for where not every host has 2 GiB to spare: about 0.2 s.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What an image may ask of us, which may come from elsewhere.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 64;
const SALT_LENGTH: usize = 16;
/// A shorter one is found by trying.
const PASSPHRASE_LENGTH_MIN: usize = 12;
const PASSPHRASE_LENGTH_MAX: usize = 4096;

/// As it was read.
pub(super) enum Secret {
    Raw(KeyBytes),
    Passphrase(Zeroizing<Vec<u8>>),
}

/// How a key is made of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(in crate::images) enum Derivation {
    /// Of the 32 bytes of a key file.
    KeyFile,
    /// Of a passphrase.
    Argon2id {
        /// Costs.
        memory_kib: u32,
        /// Costs.
        passes: u32,
        /// Costs.
        lanes: u32,
        /// Random.
        #[serde(with = "crate::capture::hex")]
        salt: Vec<u8>,
    },
}

/// What wraps data keys.
pub(super) struct MasterKey {
    /// Names it, and says nothing else about it.
    pub(super) id: String,
    pub(super) key: KeyBytes,
}

impl Secret {
    pub(super) fn load(source: &KeySource) -> Result<Self> {
        match source {
            KeySource::File(path) => {
                let bytes = read_private(path, KEY_LENGTH)?;
                let key = <[u8; KEY_LENGTH]>::try_from(bytes.as_slice());
                key.map(|key| Self::Raw(Zeroizing::new(key))).map_err(|_| {
                    let text = format!("key file must hold {KEY_LENGTH} bytes exactly: {}", path.display());
                    Error::Invalid(Report::new(text).remedy(how_to_make(path)))
                })
            }
            KeySource::Passphrase(path) => {
                let mut bytes = read_private(path, PASSPHRASE_LENGTH_MAX)?;
                while bytes.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
                    bytes.pop();
                }
                if (PASSPHRASE_LENGTH_MIN..=PASSPHRASE_LENGTH_MAX).contains(&bytes.len()) {
                    return Ok(Self::Passphrase(bytes));
                }
                let text = format!(
                    "passphrase must have {PASSPHRASE_LENGTH_MIN} to {PASSPHRASE_LENGTH_MAX} bytes: {}",
                    path.display()
                );
                Err(Error::Invalid(Report::new(text).remedy("choose a longer one: several random words")))
            }
        }
    }

    /// How a key is to be made of it now.
    pub(super) fn fresh_derivation(&self) -> Result<Derivation> {
        Ok(match self {
            Self::Raw(_) => Derivation::KeyFile,
            Self::Passphrase(_) => Derivation::Argon2id {
                memory_kib: MEMORY_KIB,
                passes: PASSES,
                lanes: LANES,
                salt: random::<SALT_LENGTH>()?.to_vec(),
            },
        })
    }

    /// `None` if it is another kind of secret.
    pub(super) fn derive(&self, by: &Derivation) -> Result<Option<MasterKey>> {
        let bytes = match (self, by) {
            (Self::Raw(bytes), Derivation::KeyFile) => bytes.clone(),
            (Self::Passphrase(words), Derivation::Argon2id { memory_kib, passes, lanes, salt }) => {
                argon2id(words, (*memory_kib, *passes, *lanes), salt)?
            }
            (Self::Raw(_), Derivation::Argon2id { .. }) | (Self::Passphrase(_), Derivation::KeyFile) => {
                return Ok(None);
            }
        };
        let derive = |purpose: &str| blake3::derive_key(purpose, bytes.as_slice());
        let id = blake3::Hash::from(derive("supervisor image format 2: key id")).to_hex()[..16].to_owned();
        let key = Zeroizing::new(derive("supervisor image format 2: data keys"));
        Ok(Some(MasterKey { id, key }))
    }
}

impl Derivation {
    /// Whether it asks for no more than we would ever ask for.
    pub(super) fn is_sound(&self) -> bool {
        match self {
            Self::KeyFile => true,
            Self::Argon2id { memory_kib, passes, lanes, salt } => {
                (8 * LANES..=MEMORY_KIB_MAX).contains(memory_kib)
                    && (1..=PASSES_MAX).contains(passes)
                    && (1..=LANES_MAX).contains(lanes)
                    && salt.len() == SALT_LENGTH
            }
        }
    }
}

fn argon2id(words: &[u8], (memory, passes, lanes): (u32, u32, u32), salt: &[u8]) -> Result<KeyBytes> {
    let refused = |e: argon2::Error| {
        Error::Refused(Report::new(format!("cannot make a key of a passphrase by argon2id: {e}")))
    };
    let params = Params::new(memory, passes, lanes, Some(KEY_LENGTH)).map_err(refused)?;
    let mut key = Zeroizing::new([0; KEY_LENGTH]);
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password_into(words, salt, key.as_mut_slice()).map_err(refused)?;
    Ok(key)
}

/// Reads a key file; a little more than `length_max` is read to notice more.
fn read_private(path: &Path, length_max: usize) -> Result<Zeroizing<Vec<u8>>> {
    durable::read_private("key file", path, length_max).map_err(|error| match error {
        Error::Invalid(report) => Error::Invalid(report.remedy(how_to_make(path))),
        other => other,
    })
}

fn how_to_make(path: &Path) -> String {
    format!(
        "make one: (umask 077; head -c {KEY_LENGTH} /dev/urandom > {}); keep a copy of it elsewhere",
        path.display()
    )
}
