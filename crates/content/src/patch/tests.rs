//! apply(make) = what it was made of; everything else is an error and not other bytes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::chunk::tests::noise;
use crate::signature::{Fineness, Signature};

type Kept = BTreeMap<ChunkId, Vec<u8>>;

fn keep(chunks: &[Vec<u8>]) -> Kept {
    chunks.iter().map(|bytes| (ChunkId::of(bytes), bytes.clone())).collect()
}

fn sources(chunks: &[Vec<u8>], fineness: Fineness) -> Sources {
    Sources::new(chunks.iter().map(|bytes| (ChunkId::of(bytes), Signature::of(bytes, fineness))))
}

fn make(target: &[u8], old: &[Vec<u8>], fineness: Fineness) -> Option<Patch> {
    let mut compressor = Compressor::new(3).unwrap();
    let stored = compressor.store(target).len();
    Patch::make(target, stored, &sources(old, fineness), &mut compressor)
}

fn apply(patch: &Patch, target: &[u8], kept: &Kept) -> Result<Vec<u8>, PatchError> {
    patch.apply(ChunkId::of(target), &mut |id| Ok(kept.get(&id).cloned())).map(|chunk| chunk.bytes)
}

fn changed(bytes: &[u8], at: usize, by: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.splice(at..at + by.len(), by.iter().copied());
    bytes
}

#[test]
fn a_small_change_is_a_small_patch() {
    let old = vec![noise(100_000, 1)];
    let target = changed(&old[0], 50_000, &noise(100, 2));
    let patch = make(&target, &old, Fineness::USUAL).unwrap();
    assert_eq!(patch.operations.len(), 3);
    assert!(patch.encode().len() < 6000, "{}", patch.encode().len());
    assert_eq!(patch.length(), 100_000);
    assert_eq!(apply(&patch, &target, &keep(&old)).unwrap(), target);
    assert_eq!(Patch::decode(&patch.encode()).unwrap(), patch);
}

#[test]
fn what_is_of_no_use_is_no_patch() {
    let old = vec![noise(100_000, 1)];
    assert_eq!(make(&noise(100_000, 2), &old, Fineness::USUAL), None, "nothing shared");
    assert_eq!(make(&old[0], &[], Fineness::USUAL), None, "nothing known");
    assert_eq!(make(&[], &old, Fineness::USUAL), None, "nothing");
    let quarter = [&old[0][..20_000], &noise(80_000, 2)].concat();
    assert_eq!(make(&quarter, &old, Fineness::USUAL), None, "little shared");
    assert_eq!(make(&[0; 100_000], &[vec![0; 90_000]], Fineness::USUAL), None, "shorter when compressed");
}

#[test]
fn no_more_old_chunks_than_may_be_are_used() {
    let old: Vec<_> = (0..120).map(|seed| noise(2000, seed)).collect();
    assert_eq!(make(&old.concat(), &old, Fineness::ALL[0]), None, "most of it would be its own");
    let large: Vec<_> = (0..MAX_SOURCES as u64).map(|seed| noise(9000, seed)).collect();
    let small: Vec<_> = (100..110).map(|seed| noise(1000, seed)).collect();
    let old = [&small[..], &large].concat();
    let target = old.concat();
    let patch = make(&target, &old, Fineness::ALL[0]).unwrap();
    let names: Vec<_> = large.iter().map(|bytes| ChunkId::of(bytes)).collect();
    assert_eq!(patch.sources(), names);
    assert_eq!(apply(&patch, &target, &keep(&old)).unwrap(), target);
}

#[test]
fn wrong_missing_and_failing_sources_are_told() {
    let old = vec![noise(60_000, 1), noise(60_000, 2)];
    let target = [&old[0][..], &old[1]].concat();
    let patch = make(&target, &old, Fineness::USUAL).unwrap();
    let mut kept = keep(&old);
    for bytes in kept.values_mut() {
        bytes[30_000] ^= 1;
    }
    assert!(matches!(apply(&patch, &target, &kept), Err(PatchError::Different(_))));
    for bytes in kept.values_mut() {
        bytes.truncate(30_000);
    }
    assert!(matches!(apply(&patch, &target, &kept), Err(PatchError::Different(_))));
    assert!(matches!(apply(&patch, &target, &Kept::new()), Err(PatchError::Missing(id)) if id == ChunkId::of(&old[0])));
    let failed = patch.apply(ChunkId::of(&target), &mut |_| Err(io::ErrorKind::TimedOut.into()));
    assert!(matches!(failed, Err(PatchError::Fetch { .. })));
}

#[test]
fn each_old_chunk_is_fetched_once() {
    let old = vec![noise(60_000, 1), noise(60_000, 2)];
    let target = [&old[0][..], &old[1], &old[0]].concat();
    let patch = make(&target, &old, Fineness::USUAL).unwrap();
    let (kept, mut fetched) = (keep(&old), Vec::new());
    let made = patch.apply(ChunkId::of(&target), &mut |id| {
        fetched.push(id);
        Ok(kept.get(&id).cloned())
    });
    assert_eq!(made.unwrap().bytes, target);
    assert_eq!(fetched, patch.sources());
}

#[test]
fn what_a_patch_may_be() {
    let copy = |source, length| Operation::Copy { source, offset: 0, length };
    let literal = |length| Operation::Literal { length };
    let is_one = |sources: u8, operations: Vec<Operation>, own: usize| {
        let sources = (0..sources).map(|source| ChunkId::of(&[source])).collect();
        Patch::decode(&Patch { sources, operations, own: vec![7; own] }.encode()).is_ok()
    };
    assert!(is_one(1, vec![copy(0, 10), literal(5)], 5));
    assert!(is_one(1, vec![copy(0, 262_144)], 0));
    assert!(!is_one(0, vec![], 0), "nothing");
    assert!(!is_one(0, vec![copy(0, 10)], 0), "of a chunk without a name");
    assert!(!is_one(2, vec![copy(0, 10)], 0), "a chunk that is not used");
    assert!(!is_one(1, vec![copy(0, 262_144), literal(1)], 1), "too long");
    assert!(!is_one(1, vec![copy(0, u32::MAX), copy(0, u32::MAX)], 0), "much too long");
    assert!(!is_one(1, vec![copy(0, 10), literal(0)], 0), "an empty part");
    assert!(!is_one(1, vec![copy(0, 10), literal(5)], 6), "more of its own than it uses");
    assert!(!is_one(25, (0..25).map(|source| copy(source, 10)).collect(), 0), "too many chunks");
    let twice = Patch { sources: vec![ChunkId::of(b"a"); 2], operations: vec![copy(0, 1), copy(1, 1)], own: vec![] };
    assert!(Patch::decode(&twice.encode()).is_err(), "a chunk twice");
    let long = Patch { sources: vec![], operations: vec![literal(262_144)], own: vec![0; 262_144] };
    assert!(Patch::decode(&long.encode()).is_err(), "longer than the chunk");
}

/// Where old bytes stay (`None`), or something else stands.
type Edit = (usize, usize, Option<(usize, u64)>);

fn edited(old: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = old.to_vec();
    for (at, removed, put) in edits {
        let at = at % (bytes.len() + 1);
        let end = (at + removed).min(bytes.len());
        bytes.splice(at..end, put.map(|(length, seed)| noise(length, seed)).unwrap_or_default());
    }
    bytes.truncate(MAX_CHUNK_BYTES);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_was_made_makes_the_target(
        lengths in prop::collection::vec(1usize..90_000, 1..5),
        edits in prop::collection::vec((any::<usize>(), 0usize..5000, prop::option::of((1usize..5000, any::<u64>()))), 0..8),
        fineness in prop::sample::select(&Fineness::ALL[..]),
    ) {
        let old: Vec<_> = lengths.iter().zip(0..).map(|(length, seed)| noise(*length, seed)).collect();
        let target = edited(&old.concat(), &edits);
        if let Some(patch) = make(&target, &old, fineness) {
            prop_assert_eq!(patch.length() as usize, target.len());
            prop_assert!(patch.encode().len() < target.len());
            let decoded = Patch::decode(&patch.encode()).unwrap();
            prop_assert_eq!(&decoded, &patch);
            prop_assert!(apply(&decoded, &target, &keep(&old)).unwrap() == target);
            // Nothing else is ever made of it.
            let turned: Vec<_> = old.iter().map(|bytes| { let mut bytes = bytes.clone(); bytes.reverse(); bytes }).collect();
            let wrong = old.iter().zip(turned).map(|(bytes, turned)| (ChunkId::of(bytes), turned)).collect();
            prop_assert!(patch.sources().is_empty() || apply(&patch, &target, &wrong).is_err());
        }
    }

    #[test]
    fn any_bytes_end_in_a_patch_or_an_error(
        sources in 0u8..3,
        operations in prop::collection::vec((0u16..3, 0u32..100, 0u32..300_000, any::<bool>()), 0..8),
        own in prop::collection::vec(any::<u8>(), 0..100),
        cut in prop::option::of(0usize..100),
        flip in prop::option::of((any::<usize>(), any::<u8>())),
    ) {
        let sources = (0..sources).map(|source| ChunkId::of(&[source])).collect();
        let operations = operations.into_iter().map(|(source, offset, length, is_copy)| match is_copy {
            true => Operation::Copy { source, offset, length },
            false => Operation::Literal { length },
        });
        let mut bytes = Patch { sources, operations: operations.collect(), own }.encode();
        bytes.truncate(cut.unwrap_or(usize::MAX));
        if let Some((at, by)) = flip && !bytes.is_empty() {
            let at = at % bytes.len();
            bytes[at] ^= by;
        }
        if let Ok(patch) = Patch::decode(&bytes) {
            prop_assert!((1..=MAX_CHUNK_BYTES).contains(&(patch.length() as usize)));
            prop_assert_eq!(&Patch::decode(&patch.encode()).unwrap(), &patch);
            let applied = patch.apply(ChunkId::of(b"no such"), &mut |_| Ok(Some(vec![0; MAX_CHUNK_BYTES])));
            prop_assert!(applied.is_err());
        }
    }
}
