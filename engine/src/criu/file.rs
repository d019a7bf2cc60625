//! Files of CRIU's that are one or two magic numbers, a length and one message.

use std::path::Path;

use prost::Message;

/// They have some hundred bytes.
const LENGTH_MAX: u64 = 64 << 10;

/// The message of a file; `None` if it is not such a file. What is not as expected is not guessed at.
pub(super) fn read<M: Message + Default>(path: &Path, magics: &[u32]) -> Option<M> {
    parse(&crate::durable::read_limited(path, LENGTH_MAX).ok()?, magics)
}

pub(super) fn parse<M: Message + Default>(bytes: &[u8], magics: &[u32]) -> Option<M> {
    let head: Vec<u8> = magics.iter().flat_map(|magic| magic.to_le_bytes()).collect();
    let (length, message) = bytes.strip_prefix(head.as_slice())?.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    M::decode(message.get(..length)?).ok()
}
