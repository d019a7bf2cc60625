//! The data key of one image and what is done with it: blocks and the manifest, each encrypted and authenticated.
//!
//! XChaCha20-Poly1305 with a key per image. A block's nonce is its place (segment, block): a data key is made for one commit and
//! each place is written once, so no nonce comes twice under a key. A block is bound to its image and its place, a manifest to its
//! readable part: what was exchanged, moved, cut or changed does not open. It refuses to say which of these it was.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};
use policies::id::{ImageId, ServiceName};
use zeroize::Zeroizing;

use crate::error::{Error, Report, Result};

/// Bytes of a key.
pub(super) const KEY_LENGTH: usize = 32;
/// Bytes that prove that a text is as it was encrypted.
pub(super) const TAG_LENGTH: usize = 16;
const NONCE_LENGTH: usize = 24;

/// 32 secret bytes that are forgotten when dropped.
pub(super) type KeyBytes = Zeroizing<[u8; KEY_LENGTH]>;

/// What one image is encrypted with.
pub(super) struct DataKey(KeyBytes);

/// Encrypts the blocks of one image.
#[derive(Clone)]
pub(super) struct BlockCipher {
    cipher: XChaCha20Poly1305,
    image: Vec<u8>,
}

/// Where a block lies in its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlockPlace {
    /// Number of the segment, in the order of the manifest.
    pub(super) segment: u64,
    /// Number of the block in the segment.
    pub(super) block: u64,
}

impl DataKey {
    /// A new one, for one commit.
    pub(super) fn random() -> Result<Self> {
        random_key().map(Self)
    }

    pub(super) fn blocks(&self, service: &ServiceName, id: &ImageId) -> BlockCipher {
        let image = bound("supervisor-block 2", service, id);
        BlockCipher { cipher: cipher(&self.derive("supervisor image format 2: blocks")), image }
    }

    /// Nonce, then `json` encrypted, then the tag.
    pub(super) fn seal_manifest(&self, readable: &[u8], json: &[u8]) -> Result<Vec<u8>> {
        seal(&self.derive("supervisor image format 2: manifest"), readable, json)
    }

    /// `None`: it is not what was encrypted with this key beside this readable part.
    pub(super) fn open_manifest(&self, readable: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        open(&self.derive("supervisor image format 2: manifest"), readable, sealed)
            .map(|json| json.as_slice().to_vec())
    }

    /// Itself encrypted under another key: nonce, text, tag.
    pub(super) fn wrap(&self, under: &KeyBytes, about: &[u8]) -> Result<Vec<u8>> {
        seal(under, about, self.0.as_slice())
    }

    /// `None`: it was not wrapped under this key, or not with these words about it.
    pub(super) fn unwrap(under: &KeyBytes, about: &[u8], wrapped: &[u8]) -> Option<Self> {
        let bytes = open(under, about, wrapped)?;
        <[u8; KEY_LENGTH]>::try_from(bytes.as_slice()).ok().map(|key| Self(Zeroizing::new(key)))
    }

    /// One key for one purpose.
    fn derive(&self, purpose: &str) -> KeyBytes {
        Zeroizing::new(blake3::derive_key(purpose, self.0.as_slice()))
    }
}

impl BlockCipher {
    /// Encrypts in place; the tag stands before the bytes.
    pub(super) fn seal(&self, place: BlockPlace, bytes: &mut [u8]) -> Result<[u8; TAG_LENGTH]> {
        let tag =
            self.cipher.encrypt_inout_detached(&place.nonce(), &self.about(place, bytes.len()), bytes.into());
        tag.map(Into::into).map_err(|_| Error::Internal(Report::new("block is too long to be encrypted")))
    }

    /// Decrypts in place.
    pub(super) fn open(&self, place: BlockPlace, bytes: &mut [u8], tag: [u8; TAG_LENGTH]) -> Result<()> {
        let (about, tag) = (self.about(place, bytes.len()), Tag::from(tag));
        let opened = self.cipher.decrypt_inout_detached(&place.nonce(), &about, bytes.into(), &tag);
        opened.map_err(|_| Error::Corrupt(Report::new("encrypted block is not the one written there")))
    }

    fn about(&self, place: BlockPlace, length: usize) -> Vec<u8> {
        let numbers = [place.segment, place.block, length as u64];
        let mut about = self.image.clone();
        about.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        about
    }
}

impl BlockPlace {
    fn nonce(self) -> XNonce {
        let mut nonce = [0; NONCE_LENGTH];
        nonce[..8].copy_from_slice(&self.segment.to_le_bytes());
        nonce[8..16].copy_from_slice(&self.block.to_le_bytes());
        nonce.into()
    }
}

/// Words that belong to one image and one purpose; neither names nor purposes hold a zero byte.
pub(super) fn bound(purpose: &str, service: &ServiceName, id: &ImageId) -> Vec<u8> {
    format!("{purpose}\0{service}\0{id}\0").into_bytes()
}

/// Bytes that nobody can guess.
pub(super) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        let flags = rustix::rand::GetRandomFlags::empty();
        match rustix::rand::getrandom(&mut bytes[filled..], flags) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(why) => {
                let why = std::io::Error::from(why);
                return Err(Error::Unavailable(Report::new("kernel gives no random bytes").because(why)));
            }
        }
    }
    Ok(bytes)
}

fn random_key() -> Result<KeyBytes> {
    random().map(Zeroizing::new)
}

fn cipher(key: &KeyBytes) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.as_slice().try_into().expect("a key has its length"))
}

fn seal(key: &KeyBytes, about: &[u8], text: &[u8]) -> Result<Vec<u8>> {
    let nonce: [u8; NONCE_LENGTH] = random()?;
    let mut sealed = [&nonce[..], text].concat();
    let tag = cipher(key).encrypt_inout_detached(&nonce.into(), about, (&mut sealed[NONCE_LENGTH..]).into());
    let tag: [u8; TAG_LENGTH] =
        tag.map_err(|_| Error::Internal(Report::new("text is too long to be encrypted")))?.into();
    sealed.extend_from_slice(&tag);
    Ok(sealed)
}

fn open(key: &KeyBytes, about: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (nonce, rest) = sealed.split_first_chunk::<NONCE_LENGTH>()?;
    let (text, tag) = rest.split_last_chunk::<TAG_LENGTH>()?;
    let mut text = Zeroizing::new(text.to_vec());
    let opened = cipher(key).decrypt_inout_detached(
        &(*nonce).into(),
        about,
        text.as_mut_slice().into(),
        &Tag::from(*tag),
    );
    opened.ok().map(|()| text)
}

#[cfg(test)]
mod tests;
