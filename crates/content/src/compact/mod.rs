//! Writes packs anew of which little is needed: because releases were removed that shared them, or because two tenants or two uploads sent the
//! same chunks. Uploads find only what their own tenant sent, so that nobody learns from an answer or its time what others have; the copies
//! meet here.
//!
//! ```text
//! 1 read     the roots' trees and their packs' indexes
//! 2 plan     each needed chunk gets one home; a pack in which too few have theirs is dissolved (pure, `plan`)
//! 3 copy     chunks of dissolved packs, as they are stored and checked, into new packs
//! 4 swing    each root that names a dissolved pack gets a new root with the same tree; the ledger replaces it, one transaction each
//! ```
//! Killed between any two of these, new objects are left that nothing needs, and every root has all its chunks. Nothing is removed here: the
//! dissolved packs go when the ledger stops naming the old roots.
//!
//! Deliberately absent: sealed roots, whose chunks nobody here can read; damaged ones, which `inspect` finds.

mod plan;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use futures_util::{StreamExt as _, TryStreamExt as _};

use self::plan::Plan;
use crate::chunk::ChunkId;
use crate::collect::Ledger;
use crate::id::{PackId, RootId};
use crate::pack::{Pack, Packer, Place};
use crate::root::Root;
use crate::store::{Store, StoreError, Stored};
use crate::tree::{Piece, Tree};

/// Share of a pack that has to be needed, in percent. More copies more to save less; less keeps more that is dead. At 60 a store is at most
/// 1.67 times what is needed, and a byte is copied for each 0.67 that come free or more.
pub const COMPACT_SHARE_PERCENT: u8 = 60;

/// Indexes that are read at the same time.
const AT_ONCE: usize = 16;

/// What a compaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompactOptions {
    /// Share of a pack that has to be needed for it to stay, in percent; [`COMPACT_SHARE_PERCENT`] by default.
    pub share_percent: u8,
    /// True to write nothing, and only say what would be.
    pub is_dry_run: bool,
}

impl Default for CompactOptions {
    fn default() -> CompactOptions {
        CompactOptions { share_percent: COMPACT_SHARE_PERCENT, is_dry_run: false }
    }
}

/// What a compaction did; in a dry run, what it would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Packs that no root of these needs any more.
    pub packs_dissolved: u64,
    /// Bytes of chunks in them.
    pub bytes_dissolved: u64,
    /// Of those, bytes that were copied into new packs. The difference comes free.
    pub bytes_copied: u64,
    /// New packs.
    pub packs_written: u64,
    /// Roots that were replaced.
    pub roots_replaced: u64,
    /// Roots that are sealed.
    pub roots_sealed: u64,
    /// Roots that lack something, and were left as they are.
    pub roots_damaged: Vec<RootId>,
}

/// How far a compaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompactProgress {
    /// So many of the roots were read.
    Read {
        /// These.
        roots: u64,
        /// Of so many.
        of: u64,
    },
    /// So many of the dissolved packs were copied.
    Copied {
        /// These.
        packs: u64,
        /// Of so many.
        of: u64,
    },
    /// So many roots were replaced.
    Replaced(u64),
}

/// Why a compaction ended early. Whatever it did is whole; it can be begun anew.
#[derive(Debug, thiserror::Error)]
pub enum CompactError {
    /// The database did not answer: try again.
    #[error("the database did not replace a root")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// There is no memory for the compressor.
    #[error("no memory for a pack")]
    Memory(#[source] std::io::Error),
    /// The store failed, or an object is damaged that was whole to its index: verify the store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compacts the packs of these roots, which are those of releases that are not being removed. Roots that are not named here keep what they name.
///
/// Never beside a collection, and in less time than the collection's grace. Memory: about 200 bytes for each chunk, 3.5 GB for 1 TB. A larger
/// store is compacted in parts, for example by app: less is found then, nothing breaks.
pub async fn compact<L: Ledger>(
    store: &Store,
    ledger: &L,
    roots: &[RootId],
    options: CompactOptions,
    progress: &(dyn Fn(CompactProgress) + Sync),
) -> Result<Compacted, CompactError> {
    let mut compaction = Compaction::read(store.clone(), roots, options, progress).await?;
    if options.is_dry_run {
        return Ok(compaction.done);
    }
    compaction.copy(progress).await?;
    while compaction.swing(ledger).await? {
        progress(CompactProgress::Replaced(compaction.done.roots_replaced));
    }
    let Compacted { packs_dissolved, bytes_dissolved, bytes_copied, .. } = compaction.done;
    tracing::info!(packs_dissolved, bytes_dissolved, bytes_copied, "content store was compacted");
    Ok(compaction.done)
}

/// A compaction between two of its steps.
#[derive(Debug)]
pub(crate) struct Compaction {
    store: Store,
    plan: Plan,
    /// Roots that name a dissolved pack.
    affected: Vec<(RootId, Root)>,
    pub(crate) done: Compacted,
}

impl Compaction {
    /// Steps 1 and 2.
    pub(crate) async fn read(
        store: Store,
        ids: &[RootId],
        options: CompactOptions,
        progress: &(dyn Fn(CompactProgress) + Sync),
    ) -> Result<Compaction, CompactError> {
        let mut done = Compacted::default();
        let mut seen = Seen::default();
        let (mut roots, mut met) = (Vec::new(), BTreeSet::new());
        for &id in ids {
            if !met.insert(id) {
                continue;
            }
            match seen.read(&store, id).await? {
                Found::Sealed => done.roots_sealed += 1,
                Found::Damaged => done.roots_damaged.push(id),
                Found::Whole(root) => roots.push((id, root)),
            }
            progress(CompactProgress::Read { roots: met.len() as u64, of: ids.len() as u64 });
        }
        let Seen { order, indexes, needed } = seen;
        let plan = Plan::make(&order, &indexes, &needed, options.share_percent);
        let dissolved: BTreeSet<PackId> = plan.dissolved.iter().map(|(pack, _)| *pack).collect();
        roots.retain(|(_, root)| root.packs.iter().any(|pack| dissolved.contains(pack)));
        done.packs_dissolved = dissolved.len() as u64;
        done.bytes_dissolved = dissolved.iter().filter_map(|pack| indexes.get(pack)).map(|places| stored(places)).sum();
        done.bytes_copied = plan.dissolved.iter().map(|(_, places)| stored(places)).sum();
        if options.is_dry_run {
            done.roots_replaced = roots.len() as u64;
        }
        Ok(Compaction { store, plan, affected: roots, done })
    }

    /// Step 3.
    pub(crate) async fn copy(&mut self, progress: &(dyn Fn(CompactProgress) + Sync)) -> Result<(), CompactError> {
        let mut packer = Packer::new().map_err(CompactError::Memory)?;
        let dissolved = std::mem::take(&mut self.plan.dissolved);
        for (index, (pack, places)) in dissolved.iter().enumerate() {
            if !places.is_empty() {
                let stored = self.store.stored(*pack, places).await?;
                let work = tokio::task::spawn_blocking(move || fill(packer, &stored)).await;
                let (rest, full) = work.map_err(|error| StoreError::Failed(Box::new(error)))??;
                packer = rest;
                for pack in full {
                    self.put(pack).await?;
                }
            }
            progress(CompactProgress::Copied { packs: index as u64 + 1, of: dissolved.len() as u64 });
        }
        if !packer.is_empty() {
            self.put(packer.finish()).await?;
        }
        Ok(())
    }

    /// Keeps a new pack; it is the home of its chunks.
    async fn put(&mut self, pack: Pack) -> Result<(), StoreError> {
        let Pack { id, bytes, places } = pack;
        self.store.put_pack(id, bytes).await?;
        self.plan.homes.extend(places.iter().map(|place| (place.id, id)));
        self.done.packs_written += 1;
        Ok(())
    }

    /// Step 4 for one root; false when there is none left.
    pub(crate) async fn swing<L: Ledger>(&mut self, ledger: &L) -> Result<bool, CompactError> {
        let Some((id, old)) = self.affected.pop() else { return Ok(false) };
        let tree = match self.store.tree(old.tree).await {
            // The release was removed since its tree was read, or it is damaged since.
            Err(error) if error.is_about_the_object() => return Ok(true),
            found => found?,
        };
        let mut met = HashSet::new();
        let homes = chunks_of(&tree).map(|chunk| self.plan.homes.get(&chunk).copied());
        let Some(homes) = homes.collect::<Option<Vec<PackId>>>() else { return Ok(true) };
        let packs = homes.into_iter().filter(|pack| met.insert(*pack)).collect();
        let new = self.store.put_root(&Root { tree: old.tree, packs, is_sealed: false }).await?;
        if ledger.replace(id, new).await.map_err(|error| CompactError::Ledger(error.into()))? {
            self.done.roots_replaced += 1;
        }
        Ok(true)
    }
}

/// What the roots that were read so far name.
#[derive(Debug, Default)]
struct Seen {
    /// The packs, in the order in which they were met.
    order: Vec<PackId>,
    indexes: BTreeMap<PackId, Vec<Place>>,
    /// Chunks of their trees.
    needed: HashSet<ChunkId>,
}

/// What a root is like.
enum Found {
    Sealed,
    /// It, its tree, or a pack cannot be read, or a chunk is in none of the packs.
    Damaged,
    Whole(Root),
}

impl Seen {
    /// Reads a root, its tree and its packs' indexes.
    async fn read(&mut self, store: &Store, id: RootId) -> Result<Found, StoreError> {
        match self.try_read(store, id).await {
            Err(error) if error.is_about_the_object() => Ok(Found::Damaged),
            found => found,
        }
    }

    async fn try_read(&mut self, store: &Store, id: RootId) -> Result<Found, StoreError> {
        let root = store.root(id).await?;
        if root.is_sealed {
            return Ok(Found::Sealed);
        }
        let tree = store.tree(root.tree).await?;
        let unread: Vec<PackId> = root.packs.iter().filter(|pack| !self.indexes.contains_key(pack)).copied().collect();
        let reading = futures_util::stream::iter(unread.clone())
            .map(async |pack| store.places(pack).await.map(|places| (pack, places)));
        let new: Vec<(PackId, Vec<Place>)> = reading.buffered(AT_ONCE).try_collect().await?;
        let chunks: HashSet<ChunkId> = chunks_of(&tree).collect();
        let old = root.packs.iter().filter_map(|pack| self.indexes.get(pack)).flatten();
        let there: HashSet<ChunkId> =
            old.chain(new.iter().flat_map(|(_, places)| places)).map(|place| place.id).collect();
        if !chunks.is_subset(&there) {
            return Ok(Found::Damaged);
        }
        self.order.extend(unread);
        self.indexes.extend(new);
        self.needed.extend(chunks);
        Ok(Found::Whole(root))
    }
}

/// The chunks of a tree; one may come many times.
fn chunks_of(tree: &Tree) -> impl Iterator<Item = ChunkId> {
    tree.pieces().filter_map(|piece| match piece {
        Piece::Chunk { id, .. } => Some(id),
        Piece::Hole { .. } => None,
    })
}

/// Bytes of chunks in a pack.
fn stored(places: &[Place]) -> u64 {
    places.iter().map(|place| place.range().end - place.range().start).sum()
}

/// Adds chunks to a pack; the packs that became full of it.
fn fill(mut packer: Packer, stored: &Stored) -> Result<(Packer, Vec<Pack>), StoreError> {
    let mut full = Vec::new();
    stored.each(|place, stored, _bytes| {
        packer.add_stored(place.id, place.length(), stored);
        if packer.is_full() {
            full.push(packer.finish());
        }
        Ok::<(), StoreError>(())
    })?;
    Ok((packer, full))
}
