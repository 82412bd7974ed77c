//! Reads a copy and says which chunks are where they belong. For copies that were being fetched when the process ended, and for those that are
//! present and shall be verified: neither is believed, both are read.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

use super::plan::{files, targets_of};
use super::write::Files;
use crate::chunk::ChunkId;
use crate::tree::Tree;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Chunks that are where they belong: index of the file among the entries, offset.
    pub(super) good: HashSet<(u32, u64)>,
    /// Their bytes.
    pub(super) good_bytes: u64,
    /// Chunks and entries that are not.
    pub(super) faults: u64,
}

/// How often `progress` is told within a file.
const PROGRESS_BYTES: u64 = 16 << 20;

/// Looks at everything. `progress` is told the bytes that were looked at, and says whether to go on; `None` when it said no.
pub(super) fn check(dir: &Files, tree: &Tree, progress: &dyn Fn(u64) -> bool) -> Option<Found> {
    let mut found = Found::default();
    let (mut looked_at, mut told) = (0, 0);
    let mut buffer = Vec::new();
    for (index, path, _, pieces) in files(tree) {
        let file = dir.read(path);
        for target in targets_of(index, pieces) {
            let is_good =
                file.as_ref().is_some_and(|file| has(file, target.chunk, target.offset, target.length, &mut buffer));
            if is_good {
                found.good.insert((index, target.offset));
                found.good_bytes += u64::from(target.length);
            } else {
                found.faults += 1;
            }
            looked_at += u64::from(target.length);
            if looked_at - told >= PROGRESS_BYTES {
                told = looked_at;
                if !progress(looked_at) {
                    return None;
                }
            }
        }
        if !progress(looked_at) {
            return None;
        }
    }
    found.faults += tree.entries().iter().filter(|entry| !dir.is_as(entry)).count() as u64;
    Some(found)
}

fn has(file: &File, chunk: ChunkId, offset: u64, length: u32, buffer: &mut Vec<u8>) -> bool {
    buffer.resize(length as usize, 0);
    file.read_exact_at(buffer, offset).is_ok() && ChunkId::of(buffer) == chunk
}
