//! The server's side of one upload. Its caller notes each pack where the collector sees it before the pack is written, and the end in one
//! transaction.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::known::{Kept, Known};
use super::outline::{self, OutlineError};
use crate::chunk::{Chunk, ChunkId};
use crate::id::{PackId, RootId};
use crate::pack::{Pack, Packer};
use crate::parcel::{Body, Parcel, ParcelError};
use crate::patch::PatchError;
use crate::root::Root;
use crate::signature::{Fineness, Signature};
use crate::store::{Store, StoreError};
use crate::stored::Unpacker;
use crate::tree::{EntryKind, Piece, Tree};

/// Most chunks whose signatures one request gets: 64 MB of chunks to read, 1 MB of signatures.
const MAX_SIGNATURES: usize = 1024;

/// Most names of missing chunks that are told at once.
const MAX_MISSING: usize = 1 << 16;

/// An upload that is going on.
#[derive(Debug)]
pub struct Upload {
    known: Known,
    received: Mutex<HashMap<ChunkId, Kept>>,
}

/// A parcel that was checked.
#[derive(Debug)]
pub struct Received {
    /// What is to be kept: none when nothing of it was new, several when patches made many chunks.
    pub packs: Vec<Pack>,
    /// Chunks that could not be made of their patches: to be sent whole.
    pub refused: Vec<ChunkId>,
}

/// Why a parcel was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// It is damaged or of another version.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// A chunk's bytes are not what its name says: read the file again.
    #[error("the bytes sent for chunk {0} are not its own")]
    Damaged(ChunkId),
    /// More signatures were asked for than one answer has, or of chunks that were not told.
    #[error("signatures of at most {MAX_SIGNATURES} known chunks can be had at once")]
    Signatures,
    /// An old chunk cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No memory for the compressor.
    #[error("the parcel cannot be worked on")]
    Memory(#[source] io::Error),
}

/// Why an upload did not become a release.
#[derive(Debug, thiserror::Error)]
pub enum FinishError {
    /// It is damaged, or names what has no place in a package.
    #[error(transparent)]
    Outline(#[from] OutlineError),
    /// Chunks did not arrive: to be sent, then finished again.
    #[error("{} chunks of the package are missing", .0.len())]
    Missing(Vec<ChunkId>),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Upload {
    /// An upload of somebody who has this.
    #[must_use]
    pub fn new(known: Known) -> Upload {
        Upload { known, received: Mutex::default() }
    }

    /// What he has.
    #[must_use]
    pub fn known(&self) -> &Known {
        &self.known
    }

    fn received(&self) -> MutexGuard<'_, HashMap<ChunkId, Kept>> {
        // No code between lock and unlock can panic halfway through a change.
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self, id: ChunkId) -> Option<Kept> {
        self.known.kept(id).or_else(|| self.received().get(&id).copied())
    }

    /// The fine cuts of known chunks, one after the other, each behind the chunk's name and its own length in 4 bytes. Numbers as [`Known`]
    /// counts.
    pub async fn signatures(&self, store: &Store, numbers: &[u32]) -> Result<Vec<u8>, ReceiveError> {
        if numbers.len() > MAX_SIGNATURES {
            return Err(ReceiveError::Signatures);
        }
        let ids: Option<Vec<ChunkId>> = numbers.iter().map(|number| self.known.chunk(*number)).collect();
        let ids = ids.ok_or(ReceiveError::Signatures)?;
        let chunks = self.read(store, &ids).await?;
        let mut bytes = Vec::new();
        for id in ids {
            let signature =
                chunks.get(&id).map(|bytes| Signature::of(bytes, Fineness::USUAL).encode()).unwrap_or_default();
            bytes.extend_from_slice(&id.bytes());
            bytes.extend_from_slice(&u32::try_from(signature.len()).unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(&signature);
        }
        Ok(bytes)
    }

    /// Reads chunks that the client may refer to; others are left out.
    async fn read(&self, store: &Store, ids: &[ChunkId]) -> Result<HashMap<ChunkId, Vec<u8>>, StoreError> {
        let mut by_pack: HashMap<PackId, Vec<Kept>> = HashMap::new();
        for kept in ids.iter().filter_map(|id| self.kept(*id)) {
            by_pack.entry(kept.pack).or_default().push(kept);
        }
        let mut packs: Vec<_> = by_pack.into_iter().collect();
        packs.sort_unstable_by_key(|(pack, _)| *pack);
        let mut chunks = HashMap::new();
        for (pack, kept) in packs {
            let mut places: Vec<_> = kept.iter().map(|kept| kept.place).collect();
            places.sort_unstable_by_key(|place| place.range().start);
            places.dedup();
            for Chunk { id, bytes } in store.chunks(pack, &places).await? {
                chunks.insert(id, bytes);
            }
        }
        Ok(chunks)
    }

    /// Checks every chunk of a parcel. What is not known yet is to be kept: note the pack, [`Store::put_pack`] it, then [`Upload::keep`].
    pub async fn receive(&self, store: &Store, parcel: &[u8]) -> Result<Received, ReceiveError> {
        let mut sources = Vec::new();
        for item in Parcel::open(parcel)? {
            if let Body::Patch(patch) = item?.body {
                sources.extend_from_slice(patch.sources());
            }
        }
        sources.sort_unstable();
        sources.dedup();
        let old = self.read(store, &sources).await?;
        super::in_place(|| self.check(parcel, &old))
    }

    fn check(&self, parcel: &[u8], old: &HashMap<ChunkId, Vec<u8>>) -> Result<Received, ReceiveError> {
        let mut packer = Packer::new().map_err(ReceiveError::Memory)?;
        let mut unpacker = Unpacker::new().map_err(ReceiveError::Memory)?;
        let mut packs = Vec::new();
        let (mut refused, mut seen) = (Vec::new(), std::collections::HashSet::new());
        for item in Parcel::open(parcel)? {
            let item = item?;
            let is_new = self.kept(item.id).is_none() && seen.insert(item.id);
            match item.body {
                Body::Whole(stored) => {
                    unpacker
                        .unpack(item.id, item.length, stored)
                        .map_err(|damaged| ReceiveError::Damaged(damaged.0))?;
                    if is_new {
                        packer.add_stored(item.id, item.length, stored);
                    }
                }
                Body::Patch(patch) => match patch.apply(item.id, &mut |id| Ok(old.get(&id).cloned())) {
                    Ok(chunk) if is_new => packer.add(&chunk),
                    Ok(_) => {}
                    Err(PatchError::Different(_) | PatchError::Missing(_)) => refused.push(item.id),
                    Err(source) => return Err(ParcelError::Patch { id: item.id, source }.into()),
                },
            }
            if packer.is_full() {
                packs.push(packer.finish());
            }
        }
        if !packer.is_empty() {
            packs.push(packer.finish());
        }
        Ok(Received { packs, refused })
    }

    /// A pack is in the store: its chunks can be referred to.
    pub fn keep(&self, pack: &Pack) {
        let mut received = self.received();
        for place in &pack.places {
            received.entry(place.id).or_insert(Kept { pack: pack.id, place: *place });
        }
    }

    /// Reads the outline: the tree, and the root that would name it. Nothing is written.
    pub fn finish(&self, outline: &[u8]) -> Result<(Tree, Root), FinishError> {
        let tree = outline::decode(outline, &self.known)?;
        let (mut packs, mut missing) = (Vec::new(), Vec::new());
        for piece in tree.pieces() {
            let Piece::Chunk { id, length } = piece else { continue };
            match self.kept(id).filter(|kept| kept.place.length() == length) {
                Some(kept) => packs.push(kept.pack),
                None if missing.len() < MAX_MISSING => missing.push(id),
                None => {}
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            missing.dedup();
            return Err(FinishError::Missing(missing));
        }
        packs.sort_unstable();
        packs.dedup();
        let root = Root { tree: crate::id::TreeId::of(&tree.encode()), packs, is_sealed: false };
        Ok((tree, root))
    }

    /// Writes tree and root; the release exists as soon as the caller says so where releases are kept.
    pub async fn write(&self, store: &Store, tree: &Tree, root: &Root) -> Result<RootId, StoreError> {
        store.put_tree_bytes(tree.encode()).await?;
        store.put_root(root).await
    }

    /// The bytes of one file of the new tree; `None` when there is no such file or it is longer.
    pub async fn file(
        &self,
        store: &Store,
        tree: &Tree,
        path: &[u8],
        most: u64,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let entry = tree.entries().iter().find(|entry| entry.path.as_bytes() == path);
        let Some(EntryKind::File { pieces, .. }) = entry.map(|entry| &entry.kind) else { return Ok(None) };
        if pieces.iter().map(|piece| piece.length()).sum::<u64>() > most {
            return Ok(None);
        }
        let ids: Vec<ChunkId> = pieces.iter().filter_map(Piece::chunk).collect();
        let chunks = self.read(store, &ids).await?;
        let mut bytes = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Chunk { id, .. } => bytes.extend_from_slice(chunks.get(id).map_or(&[][..], |bytes| bytes)),
                Piece::Hole { length } => bytes.resize(bytes.len() + *length as usize, 0),
            }
        }
        Ok(Some(bytes))
    }
}
