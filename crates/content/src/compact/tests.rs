//! What comes free, what is copied, and that every root keeps its files. What happens between the steps is tested with the collection's.

use std::sync::Mutex;

use super::*;
use crate::chunk::{Chunk, tests::noise};
use crate::collect::{Live, tests::model::put_package};
use crate::store::{ObjectName, StoreSettings};

/// Notes what was replaced.
#[derive(Debug, Default)]
struct Replaced {
    roots: Mutex<Vec<(RootId, RootId)>>,
    fails: bool,
}

impl Ledger for Replaced {
    type Error = std::io::Error;

    async fn live(&self) -> Result<Live, Self::Error> {
        unreachable!("a compaction is told its roots")
    }

    async fn condemn(&self, _names: &[ObjectName]) -> Result<(), Self::Error> {
        unreachable!("a compaction removes nothing")
    }

    async fn replace(&self, old: RootId, new: RootId) -> Result<bool, Self::Error> {
        if self.fails {
            return Err(std::io::Error::other("the database is away"));
        }
        self.roots.lock().unwrap().push((old, new));
        Ok(true)
    }
}

fn site() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&StoreSettings::Local { dir: dir.path().to_owned() }).unwrap();
    (dir, store)
}

async fn run(store: &Store, ledger: &Replaced, roots: &[RootId]) -> Result<Compacted, CompactError> {
    compact(store, ledger, roots, CompactOptions::default(), &|_| ()).await
}

#[tokio::test]
async fn two_uploads_of_the_same_chunks_share_one_copy_afterwards() {
    let (_dir, store) = site();
    let one = put_package(&store, &[1, 2, 3, 4]).await;
    let two = put_package(&store, &[4, 3, 2, 1, 5]).await;
    let ledger = Replaced::default();
    let done = run(&store, &ledger, &[one, two]).await.unwrap();
    assert_eq!((done.packs_dissolved, done.packs_written, done.roots_replaced), (1, 1, 1));
    assert_eq!((done.bytes_dissolved, done.bytes_copied), (500, 100));
    let replaced = ledger.roots.lock().unwrap().clone();
    let [(old, new)] = replaced[..] else { panic!("{replaced:?}") };
    assert_eq!(old, two);
    let (old, new_root) = (store.root(old).await.unwrap(), store.root(new).await.unwrap());
    assert_eq!(new_root.tree, old.tree);
    assert!(new_root.packs.contains(&store.root(one).await.unwrap().packs[0]));
    assert_eq!(new_root.packs.len(), 2);
    assert_eq!(crate::verify(&store, &[one, two, new], &|_| ()).await.unwrap(), [], "the old ones are whole, too");
    // There is nothing more to do.
    let again = run(&store, &Replaced::default(), &[one, new]).await.unwrap();
    assert_eq!(again, Compacted::default());
}

#[tokio::test]
async fn a_dry_run_writes_nothing_and_says_what_would_be() {
    let (_dir, store) = site();
    let (one, two) = (put_package(&store, &[1, 2]).await, put_package(&store, &[2, 1]).await);
    let before = crate::stats(&store, &[one, two]).await.unwrap();
    assert_eq!((before.logical_bytes, before.unique_bytes, before.packs.objects), (400, 200, 2));
    assert!(before.stored_bytes >= 400 && before.ratio().unwrap() < 1.0);
    let options = CompactOptions { is_dry_run: true, ..CompactOptions::default() };
    let ledger = Replaced::default();
    let done = compact(&store, &ledger, &[one, two, one], options, &|_| ()).await.unwrap();
    assert_eq!((done.packs_dissolved, done.bytes_dissolved, done.bytes_copied, done.roots_replaced), (1, 200, 0, 1));
    assert!(ledger.roots.lock().unwrap().is_empty());
    assert_eq!(crate::stats(&store, &[one, two]).await.unwrap(), before);
}

#[tokio::test]
async fn sealed_and_damaged_roots_are_left_alone() {
    let (dir, store) = site();
    let (one, two) = (put_package(&store, &[1, 2]).await, put_package(&store, &[2, 1]).await);
    let sealed = Root { is_sealed: true, ..store.root(one).await.unwrap() };
    let sealed = store.put_root(&sealed).await.unwrap();
    let tree = store.root(two).await.unwrap().tree.to_string();
    std::fs::write(dir.path().join(format!("trees/{}/{tree}", &tree[..2])), b"no tree").unwrap();
    let ledger = Replaced::default();
    let done = run(&store, &ledger, &[one, two, sealed]).await.unwrap();
    let expected = Compacted { roots_sealed: 1, roots_damaged: vec![two], ..Compacted::default() };
    assert_eq!(done, expected);
    assert!(ledger.roots.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_root_without_a_chunk_is_damaged_and_a_damaged_chunk_is_never_copied() {
    let (dir, store) = site();
    let (one, two) = (put_package(&store, &[1]).await, put_package(&store, &[2]).await);
    let lacking = Root { packs: Vec::new(), ..store.root(two).await.unwrap() };
    let lacking = store.put_root(&lacking).await.unwrap();
    let done = run(&store, &Replaced::default(), &[one, lacking]).await.unwrap();
    assert_eq!(done.roots_damaged, [lacking]);
    let faults = crate::verify(&store, &[lacking, one], &|_| ()).await.unwrap();
    let problem = crate::Problem::Lacks { chunks: 1 };
    assert_eq!(faults, [crate::Fault { object: lacking.into(), problem, roots: vec![lacking] }]);

    // Little of this pack is needed, and that is not what its name says.
    let mut packer = Packer::new().unwrap();
    [7, 8, 9].iter().for_each(|number| packer.add(&Chunk::new(noise(100, *number))));
    let mut pack = packer.finish();
    let needed = put_package(&store, &[7]).await;
    let root = Root { packs: vec![pack.id], ..store.root(needed).await.unwrap() };
    pack.bytes[20] ^= 1;
    store.put_pack(pack.id, pack.bytes.clone()).await.unwrap();
    let root = store.put_root(&root).await.unwrap();
    let ledger = Replaced::default();
    let error = run(&store, &ledger, &[root]).await.unwrap_err();
    assert!(matches!(&error, CompactError::Store(StoreError::Damaged(name)) if *name == pack.id.into()), "{error}");
    assert!(ledger.roots.lock().unwrap().is_empty());
    let faults = crate::verify(&store, &[root, one], &|_| ()).await.unwrap();
    assert_eq!(faults, [crate::Fault { object: pack.id.into(), problem: crate::Problem::Damaged, roots: vec![root] }]);
    drop(dir);
}

#[tokio::test]
async fn a_ledger_that_fails_leaves_everything_as_it_was() {
    let (_dir, store) = site();
    let (one, two) = (put_package(&store, &[1, 2]).await, put_package(&store, &[2, 1]).await);
    let away = Replaced { fails: true, ..Replaced::default() };
    let error = run(&store, &away, &[one, two]).await.unwrap_err();
    assert!(matches!(error, CompactError::Ledger(_)), "{error}");
    assert_eq!(crate::verify(&store, &[one, two], &|_| ()).await.unwrap(), []);
    assert_eq!(run(&store, &Replaced::default(), &[one, two]).await.unwrap().roots_replaced, 1);
}

#[tokio::test]
async fn chunks_of_many_packs_fill_new_ones() {
    let (_dir, store) = site();
    // Of each pack of two chunks the second is needed; together they are more than one pack.
    let chunks: Vec<Chunk> = (0..140).map(|number| Chunk::new(noise(crate::chunk::MAX_CHUNK_BYTES, number))).collect();
    let mut packs = Vec::new();
    for pair in chunks.chunks(2) {
        let mut packer = Packer::new().unwrap();
        pair.iter().for_each(|chunk| packer.add(chunk));
        let pack = packer.finish();
        packs.push(pack.id);
        store.put_pack(pack.id, pack.bytes).await.unwrap();
    }
    let length = u32::try_from(crate::chunk::MAX_CHUNK_BYTES).unwrap();
    let pieces = chunks.iter().skip(1).step_by(2).map(|chunk| Piece::Chunk { id: chunk.id, length }).collect();
    let kind = crate::tree::EntryKind::File { is_executable: false, modified_s: 0, pieces };
    let path = crate::path::TreePath::new("file").unwrap();
    let tree = Tree::new(vec![crate::tree::Entry { path, kind }]).unwrap();
    let tree = store.put_tree_bytes(tree.encode()).await.unwrap();
    let root = store.put_root(&Root { tree, packs, is_sealed: false }).await.unwrap();
    let ledger = Replaced::default();
    let done = run(&store, &ledger, &[root]).await.unwrap();
    assert_eq!((done.packs_dissolved, done.packs_written), (70, 2));
    assert_eq!(done.bytes_copied * 2, done.bytes_dissolved);
    let new = ledger.roots.lock().unwrap()[0].1;
    assert_eq!(store.root(new).await.unwrap().packs.len(), 2);
    assert_eq!(crate::verify(&store, &[new], &|_| ()).await.unwrap(), []);
}
