//! Saves in the store: encrypted, and of each version only what the version before does not have.
//!
//! Chunks that a version shares with the one before stay in that one's packs. Equal saves of two players are not joined: their keys differ.

use std::collections::{BTreeSet, HashMap, HashSet};

use crate::chunk::{Chunk, ChunkId};
use crate::id::{PackId, RootId};
use crate::pack::{Pack, Packer};
use crate::root::Root;
use crate::seal::{SealError, SealKey};
use crate::store::{ObjectKind, ObjectName, Store, StoreError};
use crate::tree::{Piece, Tree};

/// Packs that one version may be spread over. More makes restoring slow, fewer writes everything anew more often.
const MAX_PACKS: usize = 24;

/// Why a save was not kept or not read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store failed, or an object is missing or damaged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key is another one, or the bytes are damaged.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was decrypted is no save: it is damaged.
    #[error("the save {0} is damaged in the content store")]
    Damaged(RootId),
    /// A chunk of the tree was not given.
    #[error("chunk {0} of the save is missing")]
    Incomplete(ChunkId),
    /// No memory for the compressor.
    #[error("the save cannot be packed")]
    Memory(#[source] std::io::Error),
}

/// The versions of one player's save of one app.
#[derive(Clone, Debug)]
pub struct Archive {
    store: Store,
    key: SealKey,
    /// Where the chunks of the newest version lie.
    known: HashMap<ChunkId, PackId>,
}

/// A version that was read.
#[derive(Clone, Debug)]
pub struct SaveContent {
    /// Its files.
    pub tree: Tree,
    /// Their bytes.
    pub chunks: HashMap<ChunkId, Vec<u8>>,
}

impl Archive {
    /// One that has no version yet.
    #[must_use]
    pub fn new(store: Store, key: SealKey) -> Archive {
        Archive { store, key, known: HashMap::new() }
    }

    /// Reads a version; the next one that is written is compared with it.
    pub async fn read(&mut self, id: RootId) -> Result<SaveContent, ArchiveError> {
        let root = self.store.root(id).await?;
        let damaged = || ArchiveError::Damaged(id);
        let tree = self.key.open(&self.store.tree_bytes(root.tree).await?)?;
        let tree = Tree::decode(&tree).map_err(|_error| damaged())?;
        let (mut chunks, mut known) = (HashMap::new(), HashMap::new());
        for pack_id in root.packs {
            let bytes = self.key.open(&self.store.pack_bytes(pack_id).await?)?;
            let pack = Pack::read(bytes, None).map_err(|_error| damaged())?;
            for place in &pack.places {
                let chunk = pack.chunk(place).map_err(|_error| damaged())?;
                known.insert(chunk.id, pack_id);
                chunks.insert(chunk.id, chunk.bytes);
            }
        }
        if let Some(missing) = tree.pieces().filter_map(|piece| piece.chunk()).find(|id| !chunks.contains_key(id)) {
            return Err(ArchiveError::Incomplete(missing));
        }
        self.known = known;
        Ok(SaveContent { tree, chunks })
    }

    /// Writes a version. `chunks` has at least what the newest version before has not.
    pub async fn write(&mut self, tree: &Tree, chunks: &HashMap<ChunkId, Vec<u8>>) -> Result<RootId, ArchiveError> {
        let needed: BTreeSet<ChunkId> = tree.pieces().filter_map(|piece| Piece::chunk(&piece)).collect();
        let mut known: HashMap<ChunkId, PackId> =
            self.known.iter().filter(|(id, _)| needed.contains(id)).map(|(id, pack)| (*id, *pack)).collect();
        let spread: HashSet<PackId> = known.values().copied().collect();
        if spread.len() >= MAX_PACKS && needed.iter().all(|id| chunks.contains_key(id)) {
            known.clear();
        }
        let mut packer = Packer::new().map_err(ArchiveError::Memory)?;
        let missing: Vec<ChunkId> = needed.iter().filter(|id| !known.contains_key(id)).copied().collect();
        for (index, id) in missing.iter().enumerate() {
            let bytes = chunks.get(id).ok_or(ArchiveError::Incomplete(*id))?;
            packer.add(&Chunk { id: *id, bytes: bytes.clone() });
            if packer.is_full() || index + 1 == missing.len() {
                let pack = packer.finish();
                let sealed = self.key.seal(pack.bytes)?;
                let name = PackId::of(&sealed);
                self.store.put_pack(name, sealed).await?;
                known.extend(pack.places.iter().map(|place| (place.id, name)));
            }
        }
        let tree = self.store.put_tree_bytes(self.key.seal(tree.encode())?).await?;
        let packs: BTreeSet<PackId> = known.values().copied().collect();
        let root = self.store.put_root(&Root { tree, packs: packs.into_iter().collect(), is_sealed: true }).await?;
        self.known = known;
        Ok(root)
    }

    /// True when the store has the version's root, tree and packs whole.
    pub async fn check(&self, id: RootId) -> Result<bool, StoreError> {
        let root = self.store.root(id).await?;
        let tree = ObjectName { kind: ObjectKind::Tree, id: root.tree.to_string() };
        let packs = root.packs.iter().map(|pack| ObjectName { kind: ObjectKind::Pack, id: pack.to_string() });
        for name in std::iter::once(tree).chain(packs) {
            if !self.store.check(&name).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, Pattern, Place, Places, SavePaths, capture, restore_save};
    use super::*;
    use crate::store::StoreSettings;

    fn paths() -> SavePaths {
        SavePaths::new([Pattern { place: Place::Home, glob: "saves".to_owned() }]).unwrap()
    }

    fn captured(home: &std::path::Path) -> (Tree, HashMap<ChunkId, Vec<u8>>) {
        let mut chunks = HashMap::new();
        let places = Places { home, base: None };
        let captured = capture(&places, &paths(), Limits::default(), &mut |chunk| {
            chunks.insert(chunk.id, chunk.bytes);
            Ok(())
        });
        (captured.unwrap().tree, chunks)
    }

    #[tokio::test]
    async fn each_version_is_read_as_it_was_and_nothing_of_it_can_be_read_in_the_store() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("home");
        std::fs::create_dir_all(home.join("saves")).unwrap();
        let store = Store::open(&StoreSettings::Local { dir: dir.path().join("store") }).unwrap();
        let key = SealKey::new([3; 32]).derive(&["ply_1", "doom"]);
        let mut archive = Archive::new(store.clone(), key.clone());
        let mut versions = Vec::new();
        for level in 0..30 {
            std::fs::write(home.join("saves/slot0"), format!("you are in level {level}")).unwrap();
            std::fs::write(home.join(format!("saves/slot{level}")), b"a treasure map ".repeat(1000)).unwrap();
            let (tree, chunks) = captured(&home);
            versions.push((archive.write(&tree, &chunks).await.unwrap(), tree));
        }
        for (root, tree) in &versions {
            let content = Archive::new(store.clone(), key.clone()).read(*root).await.unwrap();
            assert_eq!(content.tree, *tree);
            let restored = tempfile::tempdir().unwrap();
            let places = Places { home: restored.path(), base: None };
            let mut fetch = |id| Ok(content.chunks[&id].clone());
            restore_save(&content.tree, &places, None, &mut fetch).unwrap();
            assert_eq!(captured(restored.path()).0, *tree);
            assert!(store.root(*root).await.unwrap().packs.len() <= MAX_PACKS + 1);
        }
        let stranger =
            Archive::new(store.clone(), SealKey::new([3; 32]).derive(&["ply_2", "doom"])).read(versions[0].0).await;
        assert!(matches!(stranger, Err(ArchiveError::Seal(SealError::Open))));
        let mut open = vec![dir.path().join("store")];
        while let Some(at) = open.pop() {
            for entry in std::fs::read_dir(at).unwrap().flatten() {
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    let bytes = std::fs::read(entry.path()).unwrap();
                    assert!(!bytes.windows(8).any(|part| part == b"treasure" || part == b"slot29\0\0"));
                }
            }
        }
    }
}
