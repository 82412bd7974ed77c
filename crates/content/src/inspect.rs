//! Reads what the store has: whether it is what its names say and whether roots have all that they name, and how much it is. Changes nothing.
//!
//! Deliberately absent: mending. A damaged object is restored from a copy, or its release is pushed again.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::chunk::ChunkId;
use crate::collect::Amount;
use crate::id::{PackId, RootId};
use crate::root::Root;
use crate::store::{ObjectKind, ObjectName, Store, StoreError};
use crate::tree::{Piece, Tree};

/// Objects that are read at the same time, of up to 16 MB each mostly. More reads no faster from a disk.
const AT_ONCE: usize = 4;

/// Indexes that are read at the same time.
const INDEXES_AT_ONCE: usize = 16;

/// What is wrong with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// It is not there.
    Missing,
    /// Its bytes are not what its name says.
    Damaged,
    /// Said of a root: so many chunks of its tree are in none of its packs.
    Lacks {
        /// How many.
        chunks: u64,
    },
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The object.
    pub object: ObjectName,
    /// What is wrong with it.
    pub problem: Problem,
    /// The roots that need it.
    pub roots: Vec<RootId>,
}

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Of so many.
    pub of: u64,
}

/// Reads every object that these roots need, each once, and says what is wrong: the objects in their names' order, then roots that lack chunks.
/// Fails only when the store does. Memory: 150 bytes an object for each root that names it, and 40 for each chunk of one root.
pub async fn verify(
    store: &Store,
    roots: &[RootId],
    progress: &(dyn Fn(Verified) + Sync),
) -> Result<Vec<Fault>, StoreError> {
    let mut needed: BTreeMap<ObjectName, Vec<RootId>> = BTreeMap::new();
    let mut found = Vec::new();
    for id in roots.iter().copied().collect::<BTreeSet<_>>() {
        needed.insert(id.into(), vec![id]);
        // A root that cannot be read is found below.
        let Some(root) = whole(store.root(id).await)? else { continue };
        let named = root.packs.iter().map(|&pack| pack.into()).chain([root.tree.into()]);
        for name in named.collect::<BTreeSet<ObjectName>>() {
            needed.entry(name).or_default().push(id);
        }
        found.push((id, root));
    }
    let of = needed.len() as u64;
    let checks = futures_util::stream::iter(needed).map(async |(object, roots)| {
        let problem = match store.check(&object).await {
            Ok(true) => None,
            Ok(false) => Some(Problem::Damaged),
            Err(StoreError::Missing(_)) => Some(Problem::Missing),
            Err(error) => return Err(error),
        };
        Ok(problem.map(|problem| Fault { object, problem, roots }))
    });
    let mut checks = std::pin::pin!(checks.buffered(AT_ONCE));
    let (mut faults, mut objects) = (Vec::new(), 0);
    while let Some(fault) = checks.try_next().await? {
        objects += 1;
        progress(Verified { objects, of });
        faults.extend(fault);
    }
    for (id, root) in found {
        let chunks = lacking(store, &root).await?;
        if chunks > 0 {
            faults.push(Fault { object: id.into(), problem: Problem::Lacks { chunks }, roots: vec![id] });
        }
    }
    Ok(faults)
}

/// How many chunks of the root's tree are in none of its packs; none of what cannot be read.
async fn lacking(store: &Store, root: &Root) -> Result<u64, StoreError> {
    if root.is_sealed {
        return Ok(0);
    }
    let Some(tree) = whole(store.tree(root.tree).await)? else { return Ok(0) };
    let mut lacking: HashSet<ChunkId> = chunks(&tree).map(|(id, _)| id).collect();
    let indexes = futures_util::stream::iter(root.packs.clone()).map(async |pack| whole(store.places(pack).await));
    let mut indexes = std::pin::pin!(indexes.buffered(INDEXES_AT_ONCE));
    while let Some(places) = indexes.try_next().await? {
        // What a pack had that cannot be read is not known, and is told of the pack already.
        let Some(places) = places else { return Ok(0) };
        for place in &places {
            lacking.remove(&place.id);
        }
    }
    Ok(lacking.len() as u64)
}

/// `None` of an object that is missing or damaged.
fn whole<T>(read: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_about_the_object() => Ok(None),
        Err(error) => Err(error),
    }
}

fn chunks(tree: &Tree) -> impl Iterator<Item = (ChunkId, u64)> {
    tree.pieces().filter_map(|piece| match piece {
        Piece::Chunk { id, length } => Some((id, u64::from(length))),
        Piece::Hole { .. } => None,
    })
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of all files of the roots that are not sealed, each root by itself; holes do not count.
    pub logical_bytes: u64,
    /// Bytes of their chunks, each once.
    pub unique_bytes: u64,
    /// What the packs take that they name, each once.
    pub stored_bytes: u64,
    /// What the packs take that sealed roots name, each once. What is in them nobody here can tell.
    pub sealed_bytes: u64,
    /// All packs in the store, needed or not.
    pub packs: Amount,
    /// All trees.
    pub trees: Amount,
    /// All roots.
    pub roots: Amount,
}

impl Stats {
    /// How many bytes of files a stored byte stands for; `None` when nothing is stored.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.stored_bytes > 0).then(|| self.logical_bytes as f64 / self.stored_bytes as f64)
    }
}

/// Counts what the store has and what these roots need of it. Fails when one of them cannot be read. Memory: 50 bytes for each different chunk of
/// the roots, 1 GB for 1.3 TB, and 100 for each pack of the store.
pub async fn stats(store: &Store, roots: &[RootId]) -> Result<Stats, StoreError> {
    let mut stats = Stats::default();
    let mut lengths: BTreeMap<PackId, u64> = BTreeMap::new();
    for kind in ObjectKind::ALL {
        let mut objects = std::pin::pin!(store.list(kind));
        while let Some(listed) = objects.try_next().await? {
            match kind {
                ObjectKind::Pack => {
                    stats.packs.add(listed.bytes);
                    lengths.extend(listed.name.id.parse::<PackId>().map(|id| (id, listed.bytes)));
                }
                ObjectKind::Tree => stats.trees.add(listed.bytes),
                ObjectKind::Root => stats.roots.add(listed.bytes),
            }
        }
    }
    let (mut met, mut packs) = (HashSet::new(), HashSet::new());
    for id in roots.iter().copied().collect::<BTreeSet<_>>() {
        let root = store.root(id).await?;
        let new = root.packs.iter().filter(|pack| packs.insert(**pack));
        let bytes: u64 = new.filter_map(|pack| lengths.get(pack)).sum();
        if root.is_sealed {
            stats.sealed_bytes += bytes;
            continue;
        }
        stats.stored_bytes += bytes;
        for (chunk, length) in chunks(&store.tree(root.tree).await?) {
            stats.logical_bytes += length;
            if met.insert(chunk) {
                stats.unique_bytes += length;
            }
        }
    }
    Ok(stats)
}
