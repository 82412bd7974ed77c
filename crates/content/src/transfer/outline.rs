//! A tree on its way: chunks that both sides know are named by their number in the list of known ones. Pure; read totally and within limits.
//!
//! A package of 4 GB has 65,000 chunks, whose names take 2 MB. In the next build nearly all of them follow each other as they did before: such a
//! run is two numbers.

use std::io::Read as _;

use serde::{Deserialize, Serialize};

use super::known::Known;
use crate::chunk::ChunkId;
use crate::encoding::encode_onto;
use crate::path::TreePath;
use crate::tree::{Entry, EntryKind, MAX_TREE_BYTES, Piece, Tree, TreeError};

/// Longest outline on its way, in bytes.
pub const MAX_OUTLINE_BYTES: usize = 256 << 20;

/// zstd's level: an outline is small, and goes over the network.
const LEVEL: i32 = 6;

#[derive(Serialize, Deserialize)]
enum Part {
    /// So many known chunks from this number on.
    Known { first: u32, count: u32 },
    /// A chunk that was sent.
    Sent { id: ChunkId, length: u32 },
    /// Zeros.
    Hole { length: u64 },
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Directory,
    File { is_executable: bool, modified_s: i64, parts: Vec<Part> },
    Symlink { target: Vec<u8> },
    HardLink { to: TreePath },
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: TreePath,
    kind: Kind,
}

/// Why bytes are no outline.
#[derive(Debug, thiserror::Error)]
pub enum OutlineError {
    /// Damaged, or of another version: send it again.
    #[error("this is no outline of a package: {0}")]
    NoOutline(&'static str),
    /// What it says has no place in a package.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Writes the tree's outline; `number` gives a known chunk's number.
pub(super) fn encode(tree: &Tree, number: &dyn Fn(ChunkId) -> Option<u32>) -> std::io::Result<Vec<u8>> {
    let lines: Vec<Line> = tree.entries().iter().map(|entry| line(entry, number)).collect();
    zstd::bulk::compress(&encode_onto(Vec::new(), &lines), LEVEL)
}

fn line(entry: &Entry, number: &dyn Fn(ChunkId) -> Option<u32>) -> Line {
    let kind = match &entry.kind {
        EntryKind::Directory => Kind::Directory,
        EntryKind::File { is_executable, modified_s, pieces } => {
            Kind::File { is_executable: *is_executable, modified_s: *modified_s, parts: parts(pieces, number) }
        }
        EntryKind::Symlink { target } => Kind::Symlink { target: target.clone() },
        EntryKind::HardLink { to } => Kind::HardLink { to: to.clone() },
    };
    Line { path: entry.path.clone(), kind }
}

fn parts(pieces: &[Piece], number: &dyn Fn(ChunkId) -> Option<u32>) -> Vec<Part> {
    let mut parts = Vec::new();
    for piece in pieces {
        match *piece {
            Piece::Hole { length } => parts.push(Part::Hole { length }),
            Piece::Chunk { id, length } => match (number(id), parts.last_mut()) {
                (Some(next), Some(Part::Known { first, count })) if *first + *count == next => *count += 1,
                (Some(first), _) => parts.push(Part::Known { first, count: 1 }),
                (None, _) => parts.push(Part::Sent { id, length }),
            },
        }
    }
    parts
}

/// Reads an outline; the lengths of known chunks are the server's own.
pub(super) fn decode(bytes: &[u8], known: &Known) -> Result<Tree, OutlineError> {
    let damaged = OutlineError::NoOutline;
    let mut encoded = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(bytes).map_err(|_error| damaged("it is not compressed"))?;
    let read = decoder.take(MAX_TREE_BYTES as u64 + 1).read_to_end(&mut encoded);
    read.map_err(|_error| damaged("it is cut off or damaged"))?;
    if encoded.len() > MAX_TREE_BYTES {
        return Err(damaged("it is longer than outlines are"));
    }
    let (lines, rest): (Vec<Line>, _) =
        postcard::take_from_bytes(&encoded).map_err(|_error| damaged("it is cut off or damaged"))?;
    if !rest.is_empty() {
        return Err(damaged("something follows it"));
    }
    // What many small runs say may be long: as long as a tree at most.
    let mut left = MAX_TREE_BYTES / size_of::<Piece>();
    let entries = lines.into_iter().map(|Line { path, kind }| {
        let kind = match kind {
            Kind::Directory => EntryKind::Directory,
            Kind::File { is_executable, modified_s, parts } => {
                EntryKind::File { is_executable, modified_s, pieces: pieces(&parts, known, &mut left)? }
            }
            Kind::Symlink { target } => EntryKind::Symlink { target },
            Kind::HardLink { to } => EntryKind::HardLink { to },
        };
        Ok(Entry { path, kind })
    });
    Ok(Tree::new(entries.collect::<Result<_, OutlineError>>()?)?)
}

fn pieces(parts: &[Part], known: &Known, left: &mut usize) -> Result<Vec<Piece>, OutlineError> {
    let mut pieces = Vec::new();
    for part in parts {
        let count = match *part {
            Part::Known { count, .. } => count as usize,
            Part::Sent { .. } | Part::Hole { .. } => 1,
        };
        *left = left.checked_sub(count).ok_or(OutlineError::NoOutline("it names more chunks than packages have"))?;
        match *part {
            Part::Hole { length } => pieces.push(Piece::Hole { length }),
            Part::Sent { id, length } => pieces.push(Piece::Chunk { id, length }),
            Part::Known { first, count } => {
                for number in first..first.saturating_add(count) {
                    let kept = known.chunk(number).and_then(|id| Some((id, known.kept(id)?)));
                    let (id, kept) = kept.ok_or(OutlineError::NoOutline("it names a chunk that was not told"))?;
                    pieces.push(Piece::Chunk { id, length: kept.place.length() });
                }
            }
        }
    }
    Ok(pieces)
}
