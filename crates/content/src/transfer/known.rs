//! Chunks that a tenant has in the store already, in an order that both sides count by.

use std::collections::HashMap;

use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::chunk::ChunkId;
use crate::id::{PackId, RootId};
use crate::pack::Place;
use crate::store::{Store, StoreError};
use crate::tree::Piece;

/// Most chunks that are told: 250 GB of them, which takes 32 MB to tell. Those of the newest releases come first.
pub const MAX_KNOWN: usize = 4 << 20;

/// Packs whose indexes are read at the same time.
const INDEXES_AT_ONCE: usize = 16;

/// The first 8 bytes of a chunk's hash. Among all that one tenant has two are the same less than once in a million releases; the end of an
/// upload notices it.
pub type Prefix = u64;

pub(super) fn prefix(id: ChunkId) -> Prefix {
    id.prefix()
}

/// Where a chunk lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) pack: PackId,
    pub(crate) place: Place,
}

/// What a tenant has.
#[derive(Debug, Default)]
pub struct Known {
    order: Vec<ChunkId>,
    kept: HashMap<ChunkId, Kept>,
    /// How many of the first in the order are those of the newest release.
    base: usize,
}

impl Known {
    /// Reads what these releases have, the newest first, and what lies in these packs of unfinished uploads.
    pub async fn read(store: &Store, releases: &[RootId], packs: &[PackId]) -> Result<Known, StoreError> {
        let mut known = Known::default();
        for (index, release) in releases.iter().enumerate() {
            let root = store.root(*release).await?;
            let mut places = HashMap::new();
            let mut indexes =
                futures_util::stream::iter(root.packs).map(|pack| indexed(store, pack)).buffered(INDEXES_AT_ONCE);
            while let Some((pack, found)) = indexes.try_next().await? {
                for place in found {
                    places.entry(place.id).or_insert(Kept { pack, place });
                }
            }
            for piece in store.tree(root.tree).await?.pieces() {
                if let Piece::Chunk { id, .. } = piece
                    && let Some(kept) = places.get(&id)
                {
                    known.add(id, *kept);
                }
            }
            if index == 0 {
                known.base = known.order.len();
            }
            if known.order.len() >= MAX_KNOWN {
                break;
            }
        }
        for pack in packs {
            match store.places(*pack).await {
                Ok(found) => found.into_iter().for_each(|place| known.add(place.id, Kept { pack: *pack, place })),
                // It was announced and never written, or not whole: then it is not known.
                Err(error) if error.is_about_the_object() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(known)
    }

    fn add(&mut self, id: ChunkId, kept: Kept) {
        if self.order.len() < MAX_KNOWN && self.kept.insert(id, kept).is_none() {
            self.order.push(id);
        }
    }

    /// The chunks in their order, as they are told the client.
    pub fn prefixes(&self) -> impl ExactSizeIterator<Item = Prefix> {
        self.order.iter().map(|id| prefix(*id))
    }

    /// How many of the first are the newest release's: what a new build is compared with.
    #[must_use]
    pub fn base(&self) -> usize {
        self.base
    }

    /// The chunk of this number.
    #[must_use]
    pub fn chunk(&self, number: u32) -> Option<ChunkId> {
        self.order.get(number as usize).copied()
    }

    pub(crate) fn kept(&self, id: ChunkId) -> Option<Kept> {
        self.kept.get(&id).copied()
    }
}

async fn indexed(store: &Store, pack: PackId) -> Result<(PackId, Vec<Place>), StoreError> {
    Ok((pack, store.places(pack).await?))
}
