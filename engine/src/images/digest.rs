//! BLAKE3 of a file from the hashes of its blocks.
//!
//! BLAKE3 is a tree, and blocks of 1 MiB are whole subtrees of it: so several threads may hash a file's blocks in any
//! order, and the outcome is the plain BLAKE3 of the file, which `b3sum` prints too.

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

use super::block::BLOCK_LENGTH;

/// What is known of the hash of one block.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part {
    /// The block is the whole file.
    Whole(blake3::Hash),
    /// It is a subtree.
    Subtree(ChainingValue),
}

/// Hashes block number `index` of a file that is `file_length` bytes long.
pub(super) fn hash_block(raw: &[u8], index: u64, file_length: u64) -> Part {
    let mut hasher = blake3::Hasher::new();
    if file_length <= BLOCK_LENGTH as u64 {
        return Part::Whole(hasher.update(raw).finalize());
    }
    hasher.set_input_offset(index * BLOCK_LENGTH as u64);
    Part::Subtree(hasher.update(raw).finalize_non_root())
}

/// The hash of the file whose blocks these are, in order; `None` if they can't be all of one file.
pub(super) fn combine(parts: &[Part]) -> Option<blake3::Hash> {
    match parts {
        [] => Some(blake3::hash(&[])),
        [Part::Whole(hash)] => Some(*hash),
        [_] => None,
        several => {
            let values: Option<Vec<ChainingValue>> = several.iter().map(Part::subtree).collect();
            let values = values?;
            let (left, right) = values.split_at(left_count(values.len()));
            Some(merge_subtrees_root(&merge(left), &merge(right), Mode::Hash))
        }
    }
}

impl Part {
    fn subtree(&self) -> Option<ChainingValue> {
        match self {
            Self::Subtree(value) => Some(*value),
            Self::Whole(_) => None,
        }
    }
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    if let [value] = values {
        return *value;
    }
    let (left, right) = values.split_at(left_count(values.len()));
    merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
}

/// The left side of the tree is the largest power of two that leaves something for the right side.
fn left_count(count: usize) -> usize {
    count.div_ceil(2).next_power_of_two()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_plain_hash_of_the_file() {
        let mut bytes = vec![0; 9 * BLOCK_LENGTH + 1];
        blake3::Hasher::new().update(b"file").finalize_xof().fill(&mut bytes);
        let mib = BLOCK_LENGTH;
        for length in [
            0,
            1,
            mib - 1,
            mib,
            mib + 1,
            2 * mib,
            3 * mib,
            3 * mib + 1024,
            4 * mib + 1,
            7 * mib + 9,
            9 * mib + 1,
        ] {
            let blocks = bytes[..length].chunks(mib).enumerate();
            let parts: Vec<Part> = blocks.map(|(n, raw)| hash_block(raw, n as u64, length as u64)).collect();
            assert_eq!(combine(&parts), Some(blake3::hash(&bytes[..length])), "{length}");
        }
    }

    #[test]
    fn blocks_that_cannot_be_one_file_have_no_hash() {
        let (one, many) = (hash_block(b"x", 0, 1), hash_block(b"x", 1, 5 << 20));
        assert_eq!(combine(&[many]), None);
        assert_eq!(combine(&[one, many]), None);
    }
}
