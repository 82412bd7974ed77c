//! What has to be done to have a release's files: which chunks come from which pack, which from releases that are here already, which files are
//! here whole. Pure.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::chunk::ChunkId;
use crate::id::PackId;
use crate::pack::Place;
use crate::path::TreePath;
use crate::tree::{Entry, EntryKind, Piece, Tree};

/// A release that is on the volume already.
#[derive(Clone, Debug)]
pub(super) struct Elder {
    /// Its files' directory.
    pub(super) files: PathBuf,
    pub(super) tree: Arc<Tree>,
}

/// Where a chunk's bytes belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) chunk: ChunkId,
    /// Index of the file among the tree's entries.
    pub(super) entry: u32,
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// Chunks that lie in a file of an elder release.
#[derive(Clone, Debug)]
pub(super) struct Local {
    pub(super) file: PathBuf,
    /// Offset in that file.
    pub(super) chunks: Vec<(ChunkId, u64, u32)>,
}

/// Everything that has to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Sorted by chunk, so that those of one are found together.
    targets: Vec<Target>,
    /// What to fetch, in the order of each pack.
    pub(super) packs: Vec<(PackId, Vec<Place>)>,
    /// What to copy.
    pub(super) local: Vec<Local>,
    /// Files that an elder release has whole: index among the entries, and where.
    pub(super) linked: HashMap<u32, PathBuf>,
    /// Bytes that will be written.
    pub(super) bytes: u64,
}

/// All places of a file's chunks.
pub(super) fn targets_of(entry: u32, pieces: &[Piece]) -> impl Iterator<Item = Target> {
    let mut offset = 0;
    pieces.iter().filter_map(move |piece| {
        let at = offset;
        offset += piece.length();
        match *piece {
            Piece::Chunk { id, length } => Some(Target { chunk: id, entry, offset: at, length }),
            Piece::Hole { .. } => None,
        }
    })
}

pub(super) fn files(tree: &Tree) -> impl Iterator<Item = (u32, &TreePath, bool, &[Piece])> {
    tree.entries().iter().zip(0_u32..).filter_map(|(Entry { path, kind }, index)| match kind {
        EntryKind::File { is_executable, pieces, .. } => Some((index, path, *is_executable, &pieces[..])),
        EntryKind::Directory | EntryKind::Symlink { .. } | EntryKind::HardLink { .. } => None,
    })
}

impl Plan {
    /// Plans for the tree. `is_done` says which targets need nothing; a chunk that is nowhere is the error, as the path of a file that needs
    /// it. A copy that is mended may not link whole files of elders: they could be the damaged ones, under another name.
    pub(super) fn make(
        tree: &Tree,
        packs: &[(PackId, Vec<Place>)],
        elders: &[Elder],
        is_done: &HashSet<(u32, u64)>,
        may_link: bool,
    ) -> Result<Plan, TreePath> {
        let linked = if may_link { find_whole(tree, elders, is_done) } else { HashMap::new() };
        let mut targets: Vec<Target> = files(tree)
            .filter(|(index, ..)| !linked.contains_key(index))
            .flat_map(|(index, _, _, pieces)| targets_of(index, pieces))
            .filter(|target| !is_done.contains(&(target.entry, target.offset)))
            .collect();
        targets.sort_unstable();
        let bytes = targets.iter().map(|target| u64::from(target.length)).sum();
        let mut open: HashSet<ChunkId> = targets.iter().map(|target| target.chunk).collect();
        let local = find_local(elders, &mut open);
        let mut fetched = Vec::new();
        for (pack, places) in packs {
            let wanted: Vec<Place> = places.iter().filter(|place| open.remove(&place.id)).copied().collect();
            if !wanted.is_empty() {
                fetched.push((*pack, wanted));
            }
        }
        if let Some(missing) = targets.iter().find(|target| open.contains(&target.chunk)) {
            return Err(tree.entries()[missing.entry as usize].path.clone());
        }
        Ok(Plan { targets, packs: fetched, local, linked, bytes })
    }

    /// Where the chunk's bytes belong.
    pub(super) fn targets(&self, chunk: ChunkId) -> &[Target] {
        let start = self.targets.partition_point(|target| target.chunk < chunk);
        let length = self.targets[start..].iter().take_while(|target| target.chunk == chunk).count();
        &self.targets[start..start + length]
    }
}

/// Files of the tree that an elder has with the same bytes. When they were changed does not matter: the copies are one file, with one time.
fn find_whole(tree: &Tree, elders: &[Elder], is_done: &HashSet<(u32, u64)>) -> HashMap<u32, PathBuf> {
    let mut known: HashMap<(&[Piece], bool), (&Elder, &TreePath)> = HashMap::new();
    for elder in elders {
        for (_, path, is_executable, pieces) in files(&elder.tree) {
            known.entry((pieces, is_executable)).or_insert((elder, path));
        }
    }
    files(tree)
        .filter(|(index, _, _, pieces)| {
            // What is here in part, and empty files, are not worth a link.
            !pieces.is_empty()
                && !targets_of(*index, pieces).any(|target| is_done.contains(&(target.entry, target.offset)))
        })
        .filter_map(|(index, _, is_executable, pieces)| {
            let (elder, path) = known.get(&(pieces, is_executable))?;
            Some((index, elder.files.join(path.as_path())))
        })
        .collect()
}

/// Takes from `open` what elder releases have in other files.
fn find_local(elders: &[Elder], open: &mut HashSet<ChunkId>) -> Vec<Local> {
    let mut local = Vec::new();
    for elder in elders {
        for (index, path, _, pieces) in files(&elder.tree) {
            let chunks: Vec<_> = targets_of(index, pieces)
                .filter(|target| open.remove(&target.chunk))
                .map(|target| (target.chunk, target.offset, target.length))
                .collect();
            if !chunks.is_empty() {
                local.push(Local { file: elder.files.join(path.as_path()), chunks });
            }
        }
    }
    local
}
