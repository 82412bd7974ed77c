//! Any bytes decode to a tree, a pack, a signature, a patch or a parcel that is consistent, or to an error.
#![no_main]

use content::{Body, ChunkId, MAX_CHUNK_BYTES, Parcel, Patch, Signature};
use libfuzzer_sys::fuzz_target;

/// No patch makes other bytes than those that are asked for, whatever it takes them of.
fn apply(patch: &Patch, id: ChunkId) {
    assert!((1..=MAX_CHUNK_BYTES).contains(&(patch.length() as usize)));
    if let Ok(chunk) = patch.apply(id, &mut |_| Ok(Some(vec![7; MAX_CHUNK_BYTES]))) {
        assert_eq!(ChunkId::of(&chunk.bytes), id);
    }
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tree) = content::Tree::decode(bytes) {
        assert_eq!(content::Tree::decode(&tree.encode()), Ok(tree));
    }
    if let Ok(pack) = content::Pack::read(bytes.to_vec(), None) {
        assert!(pack.places.iter().all(|place| pack.chunk(place).is_ok()));
    }
    if let Ok(signature) = Signature::decode(bytes) {
        assert_eq!(signature.encode(), bytes);
    }
    if let Ok(patch) = Patch::decode(bytes) {
        assert_eq!(Patch::decode(&patch.encode()).ok().as_ref(), Some(&patch));
        apply(&patch, ChunkId::of(bytes));
    }
    for item in Parcel::open(bytes).into_iter().flatten().flatten() {
        match item.body {
            Body::Whole(stored) => {
                if let Ok(chunk) = content::unpack(item.id, item.length, stored) {
                    assert_eq!(chunk.bytes.len(), item.length as usize);
                }
            }
            Body::Patch(patch) => apply(&patch, item.id),
        }
    }
});
