use super::*;

fn names(service: &str, id: &str) -> (ServiceName, ImageId) {
    (ServiceName::try_from(service).expect("a name"), ImageId::try_from(id).expect("an id"))
}

fn bytes(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; 64 + usize::try_from(seed * 37 % 5000).expect("small")];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

#[test]
fn a_block_opens_in_its_place_and_nowhere_else() {
    let ((service, id), (other_service, other_id)) = (names("web", "a-1"), names("we", "ba-1"));
    let key = DataKey::random().expect("random");
    let cipher = key.blocks(&service, &id);
    let others = [
        DataKey::random().expect("random").blocks(&service, &id),
        key.blocks(&other_service, &id),
        key.blocks(&service, &other_id),
        // Without a mark between them these would be the same letters.
        key.blocks(&other_service, &other_id),
    ];
    for seed in 0..50 {
        let (place, plain) = (BlockPlace { segment: seed % 3, block: seed }, bytes(seed));
        let mut sealed = plain.clone();
        let tag = cipher.seal(place, &mut sealed).expect("short enough");
        assert!(sealed != plain);
        let mut opened = sealed.clone();
        cipher.open(place, &mut opened, tag).expect("as it was");
        assert_eq!(opened, plain);
        let refused = |cipher: &BlockCipher, place: BlockPlace, sealed: &[u8], tag: [u8; 16]| {
            let error = cipher.open(place, &mut sealed.to_vec(), tag).expect_err("not as it was");
            assert_eq!(error.kind(), "corrupt");
        };
        for other in &others {
            refused(other, place, &sealed, tag);
        }
        refused(&cipher, BlockPlace { segment: place.segment + 1, ..place }, &sealed, tag);
        refused(&cipher, BlockPlace { block: place.block + 1, ..place }, &sealed, tag);
        refused(&cipher, place, &sealed[..sealed.len() - 1], tag);
        let at = usize::try_from(seed).expect("small") * 7 % sealed.len();
        sealed[at] ^= 1 << (seed % 8);
        refused(&cipher, place, &sealed, tag);
    }
}

#[test]
fn no_two_places_share_a_nonce() {
    let places = (0..40).flat_map(|segment| (0..40).map(move |block| BlockPlace { segment, block }));
    let far = [(u64::MAX, 0), (0, u64::MAX), (1 << 32, 0), (0, 1 << 32)];
    let far = far.map(|(segment, block)| BlockPlace { segment, block });
    let nonces: std::collections::BTreeSet<Vec<u8>> =
        places.chain(far).map(|place| place.nonce().to_vec()).collect();
    assert_eq!(nonces.len(), 1604);
}

#[test]
fn a_manifest_opens_beside_its_readable_part_only() {
    let key = DataKey::random().expect("random");
    let sealed = key.seal_manifest(b"readable", b"json").expect("sealed");
    assert_eq!(key.open_manifest(b"readable", &sealed).as_deref(), Some(&b"json"[..]));
    assert_eq!(key.open_manifest(b"readablE", &sealed), None);
    assert_eq!(DataKey::random().expect("random").open_manifest(b"readable", &sealed), None);
    for at in 0..sealed.len() {
        assert_eq!(key.open_manifest(b"readable", &sealed[..at]), None);
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        assert_eq!(key.open_manifest(b"readable", &bad), None);
    }
    assert_ne!(key.seal_manifest(b"readable", b"json").expect("sealed"), sealed, "a nonce of its own");
}
