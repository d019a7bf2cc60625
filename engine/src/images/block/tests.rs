use super::*;

const CODECS: [Codec; 3] = [Codec::None, Codec::Lz4, Codec::Zstd];

/// Reproducible noise, which no codec makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut mixed = noise(BLOCK_LENGTH);
    for page in mixed.chunks_mut(PAGE_LENGTH).step_by(3) {
        page.fill(0);
    }
    let mut last = vec![0; BLOCK_LENGTH - 100];
    last[BLOCK_LENGTH - 101] = 7;
    vec![
        ("one byte", vec![9]),
        ("one zero", vec![0]),
        ("text", b"the same words again, the same words again, the same words again".to_vec()),
        ("noise", noise(BLOCK_LENGTH)),
        ("odd noise", noise(70_001)),
        ("zeros", vec![0; BLOCK_LENGTH]),
        ("odd zeros", vec![0; PAGE_LENGTH + 5]),
        ("mixed", mixed),
        ("a short last page", last),
    ]
}

#[test]
fn every_codec_gives_back_what_it_got() {
    for codec in CODECS {
        let (mut encoder, mut decoder) =
            (Encoder::new(codec).expect("set up"), Decoder::new(codec).expect("set up"));
        for (name, raw) in samples() {
            let (header, stored) = encoder.encode(&raw);
            assert!(stored.len() <= raw.len(), "{name} grew");
            let read = Header::decode(&header.encode()).expect("it is whole");
            assert_eq!(read, header);
            assert!(decoder.decode(&read, stored).expect("whole") == raw, "{codec:?} {name}");
        }
    }
}

#[test]
fn zero_pages_take_no_space_and_repetition_little() {
    for codec in CODECS {
        let mut encoder = Encoder::new(codec).expect("set up");
        assert_eq!(encoder.encode(&[0; BLOCK_LENGTH]).1.len(), 0);
        let mut one = vec![0; BLOCK_LENGTH];
        one[500_000] = 1;
        assert!(encoder.encode(&one).1.len() <= PAGE_LENGTH);
    }
    for codec in [Codec::Lz4, Codec::Zstd] {
        assert!(Encoder::new(codec).expect("set up").encode(&[7; BLOCK_LENGTH]).1.len() < BLOCK_LENGTH / 100);
    }
}

#[test]
fn every_flipped_byte_of_a_small_block_is_refused_or_changes_the_header() {
    for codec in CODECS {
        let raw = [&[0; PAGE_LENGTH][..], &[b'x'; 200]].concat();
        let mut encoder = Encoder::new(codec).expect("set up");
        let mut decoder = Decoder::new(codec).expect("set up");
        let (header, stored) = encoder.encode(&raw);
        for at in 0..stored.len() {
            let mut bad = stored.to_vec();
            bad[at] ^= 0x20;
            assert_eq!(decoder.decode(&header, &bad).expect_err("flipped").kind(), "corrupt");
        }
        // A header may be flipped into another valid one: the segment's checksum covers all headers.
        for at in 0..HEADER_LENGTH {
            let mut bytes = header.encode();
            bytes[at] ^= 0x01;
            if let Ok(read) = Header::decode(&bytes) {
                assert_ne!(read, header);
                assert!(decoder.decode(&read, stored).map_or(true, |got| got.len() <= BLOCK_LENGTH));
            }
        }
    }
}

#[test]
fn lengths_without_bound_are_refused() {
    let mut encoder = Encoder::new(Codec::None).expect("set up");
    let good = encoder.encode(b"x").0.encode();
    for (at, value) in [(0, u32::MAX), (0, 0), (0, BLOCK_LENGTH as u32 + 1), (4, u32::MAX), (4, 0), (4, 2)] {
        let mut bytes = good;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        assert_eq!(Header::decode(&bytes).expect_err("out of bounds").kind(), "corrupt", "{value} at {at}");
    }
}
