//! Files of CRIU's that are two magic numbers, a length and one message.

use std::path::Path;

use prost::Message;

/// They have some hundred bytes.
const LENGTH_MAX: u64 = 64 << 10;

/// The message of a file; `None` if it is not such a file. What is not as expected is not guessed at.
pub(super) fn read<M: Message + Default>(path: &Path, magic: [u32; 2]) -> Option<M> {
    parse(&crate::durable::read_limited(path, LENGTH_MAX).ok()?, magic)
}

pub(super) fn parse<M: Message + Default>(bytes: &[u8], magic: [u32; 2]) -> Option<M> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    let (second, rest) = rest.split_first_chunk::<4>()?;
    if [u32::from_le_bytes(*first), u32::from_le_bytes(*second)] != magic {
        return None;
    }
    let (length, message) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    M::decode(message.get(..length)?).ok()
}
