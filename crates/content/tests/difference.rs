//! Changes that are scattered over a packed file are sent in a small multiple of the bytes that changed, not in whole chunks.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use content::{Body, ChunkId, Cutter, Fineness, Parcel, ParcelBuilder, Signature, Sources, unpack};

type Chunks = BTreeMap<ChunkId, Vec<u8>>;

/// Bytes without a pattern, the same for the same seed.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn cut(bytes: &[u8]) -> Chunks {
    Cutter::new(bytes, bytes.len() as u64).map(|chunk| chunk.map(|chunk| (chunk.id, chunk.bytes)).unwrap()).collect()
}

/// Chunks of `one` that are not in `other`.
fn without(one: &Chunks, other: &Chunks) -> Chunks {
    one.iter().filter(|(id, _)| !other.contains_key(id)).map(|(id, bytes)| (*id, bytes.clone())).collect()
}

/// Sends `new` to somebody who has `old`, and takes it there. Returns the bytes of signatures, and those of parcels.
fn send(old: &Chunks, new: &Chunks) -> (usize, usize) {
    let signed: Vec<_> =
        without(old, new).iter().map(|(id, bytes)| (*id, Signature::of(bytes, Fineness::USUAL).encode())).collect();
    let down = signed.iter().map(|(_, signature)| 32 + signature.len()).sum();
    let sources = Sources::new(signed.iter().map(|(id, signature)| (*id, Signature::decode(signature).unwrap())));
    let mut builder = ParcelBuilder::new(3).unwrap();
    let wanted = without(new, old);
    wanted.values().for_each(|bytes| builder.add(&content::Chunk::new(bytes.clone()), &sources));
    let parcel = builder.finish();
    let mut arrived = Chunks::new();
    for item in Parcel::open(&parcel).unwrap() {
        let item = item.unwrap();
        let chunk = match item.body {
            Body::Whole(stored) => unpack(item.id, item.length, stored).unwrap(),
            Body::Patch(patch) => patch.apply(item.id, &mut |id| Ok(old.get(&id).cloned())).unwrap(),
        };
        arrived.insert(chunk.id, chunk.bytes);
    }
    assert!(arrived == wanted);
    (down, parcel.len())
}

/// 8 MB of noise, of which 1 % changed in places of so many bytes: what is sent is at most `most` times that.
#[track_caller]
fn check(change_bytes: usize, most: f64) {
    const LENGTH: usize = 8_000_000;
    let before = noise(LENGTH, 1);
    let mut after = before.clone();
    let places = LENGTH / 100 / change_bytes;
    for place in 0..places {
        let at = LENGTH / places * place + LENGTH / places / 3;
        after[at..at + change_bytes].copy_from_slice(&noise(change_bytes, 2 + place as u64));
    }
    let (old, new) = (cut(&before), cut(&after));
    let (down, up) = send(&old, &new);
    let changed = places * change_bytes;
    let whole: usize = without(&new, &old).values().map(Vec::len).sum();
    let share = (down + up) as f64 / changed as f64;
    assert!(share <= most, "{share:.2}: {down} down, {up} up, {whole} in whole chunks");
}

// Around each change some 1.2 KB more are sent than changed, and 1.3 KB of signature for the chunk that it is in: the smaller the changes,
// the more this weighs.

#[test]
fn changes_of_16_kb() {
    check(16_000, 1.3);
}

#[test]
fn changes_of_8_kb() {
    check(8_000, 1.4);
}

#[test]
fn changes_of_4_kb() {
    check(4_000, 1.75);
}

#[test]
fn changes_of_2_kb() {
    check(2_000, 2.65);
}

#[test]
fn changes_of_200_bytes() {
    check(200, 8.5);
}

#[test]
fn what_moved_is_found_again() {
    let before = noise(4_000_000, 1);
    let mut after = before.clone();
    for place in 0..20_u64 {
        let at = usize::try_from(place).unwrap() * 180_000 + 7;
        after.splice(at..at, noise(500, 100 + place));
    }
    let (down, up) = send(&cut(&before), &cut(&after));
    assert!(down + up < 140_000, "{down} + {up}");
}
