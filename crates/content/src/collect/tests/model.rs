//! A control plane in memory: releases, uploads, saves and a clock, over a real store in a directory. It does what [`Ledger`] demands and no
//! more, and each of its steps is one that a process could be killed after.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use crate::chunk::{Chunk, ChunkId, tests::noise};
use crate::collect::steps::Collection;
use crate::collect::{COLLECT_GRACE, CollectOptions, Ledger, Live};
use crate::compact::{CompactOptions, Compaction, compact};
use crate::id::{PackId, RootId, TreeId};
use crate::pack::{Pack, Packer};
use crate::path::TreePath;
use crate::root::Root;
use crate::store::{ObjectKind, ObjectName, Store, StoreSettings};
use crate::tree::{Entry, EntryKind, Piece, Tree};

/// Something that happens. Numbers choose among what there is.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// An upload of these chunks begins, which relies on a release or on none.
    Begin { chunks: Vec<u64>, base: Option<usize> },
    /// The next step of an upload.
    Upload(usize),
    /// An upload is given up.
    Abandon(usize),
    /// A release or a save goes.
    Delete(usize),
    /// A node begins to write a save.
    Save,
    /// The next step of a save.
    Capture(usize),
    /// Hours go by.
    Age(u64),
    /// The next step of a collection.
    Collect,
    /// The next step of a compaction.
    Compact,
    /// The keeper is killed.
    Kill,
}

fn chunk(number: u64) -> Chunk {
    Chunk::new(noise(100, number))
}

fn pack(numbers: &[u64]) -> Pack {
    let mut packer = Packer::new().unwrap();
    numbers.iter().for_each(|number| packer.add(&chunk(*number)));
    packer.finish()
}

fn tree(numbers: &[u64]) -> Tree {
    let pieces = numbers.iter().map(|number| Piece::Chunk { id: chunk(*number).id, length: 100 }).collect();
    let kind = EntryKind::File { is_executable: false, modified_s: 0, pieces };
    Tree::new(vec![Entry { path: TreePath::new("file").unwrap(), kind }]).unwrap()
}

/// Puts a package of these chunks into the store, in one pack.
pub(crate) async fn put_package(store: &Store, chunks: &[u64]) -> RootId {
    let pack = pack(chunks);
    store.put_pack(pack.id, pack.bytes).await.unwrap();
    let tree = store.put_tree_bytes(tree(chunks).encode()).await.unwrap();
    store.put_root(&Root { tree, packs: vec![pack.id], is_sealed: false }).await.unwrap()
}

/// What an upload or a capture writes, in this order; then it ends.
#[derive(Debug)]
struct Job {
    begun: SystemTime,
    base: Option<RootId>,
    packs: Vec<Pack>,
    tree: Vec<u8>,
    root: Root,
    /// The row.
    pending: BTreeSet<ObjectName>,
    written: usize,
}

impl Job {
    fn next(&self) -> Option<ObjectName> {
        let ends = [ObjectName::from(self.root.tree), ObjectName::from(self.root.id())];
        self.packs.iter().map(|pack| pack.id.into()).chain(ends).nth(self.written)
    }

    async fn write(&mut self, store: &Store) {
        let packs = self.packs.len();
        match self.packs.get(self.written) {
            Some(pack) => store.put_pack(pack.id, pack.bytes.clone()).await.unwrap(),
            None if self.written == packs => {
                store.put_tree_bytes(self.tree.clone()).await.unwrap();
            }
            None => {
                store.put_root(&self.root).await.unwrap();
            }
        }
        self.written += 1;
    }
}

/// The database.
#[derive(Debug, Default)]
struct Rows {
    /// Releases and saves, and their trees, which never change.
    releases: Vec<(RootId, TreeId)>,
    uploads: Vec<Job>,
    retired: Vec<(RootId, SystemTime)>,
    condemned: BTreeSet<ObjectName>,
}

/// The store, the database, and the clock of both.
#[derive(Debug)]
pub(crate) struct World {
    dir: tempfile::TempDir,
    store: Store,
    rows: Mutex<Rows>,
    now: Mutex<SystemTime>,
}

impl Ledger for World {
    type Error = Infallible;

    async fn live(&self) -> Result<Live, Infallible> {
        let (now, rows) = (self.now(), self.rows());
        let mut live = Live { roots: rows.releases.iter().map(|(root, _)| *root).collect(), ..Live::default() };
        live.roots.extend(rows.uploads.iter().filter_map(|upload| upload.base));
        live.roots.extend(rows.retired.iter().filter(|(_, until)| *until > now).map(|(root, _)| *root));
        for name in rows.uploads.iter().flat_map(|upload| &upload.pending) {
            match name.kind {
                ObjectKind::Pack => live.pending_packs.push(name.id.parse().unwrap()),
                ObjectKind::Tree => live.pending_trees.push(name.id.parse().unwrap()),
                ObjectKind::Root => live.pending_roots.push(name.id.parse().unwrap()),
            }
        }
        Ok(live)
    }

    async fn condemn(&self, names: &[ObjectName]) -> Result<(), Infallible> {
        self.rows().condemned = names.iter().cloned().collect();
        Ok(())
    }

    async fn replace(&self, old: RootId, new: RootId) -> Result<bool, Infallible> {
        let until = self.now() + COLLECT_GRACE;
        let mut rows = self.rows();
        let mut is_named = false;
        for (root, _) in rows.releases.iter_mut().filter(|(root, _)| *root == old) {
            (*root, is_named) = (new, true);
        }
        if is_named {
            rows.retired.push((old, until));
        }
        Ok(is_named)
    }
}

impl World {
    pub(crate) fn new() -> World {
        // In memory where there is such a place: a real store waits for the disk at each write.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        let store = Store::open(&StoreSettings::Local { dir: dir.path().to_owned() }).unwrap();
        // Years ago, to tell what was written since the last step from the rest.
        let now = Mutex::new(SystemTime::UNIX_EPOCH + Duration::from_hours(24 * 365 * 31));
        World { dir, store, rows: Mutex::default(), now }
    }

    fn now(&self) -> SystemTime {
        *self.now.lock().unwrap()
    }

    fn rows(&self) -> MutexGuard<'_, Rows> {
        self.rows.lock().unwrap()
    }

    /// What was written with the real time was written at the model's.
    fn stamp(&self) {
        let (now, mut dirs) = (self.now(), vec![self.dir.path().to_owned()]);
        let real = now + Duration::from_hours(24 * 365 * 10);
        while let Some(dir) = dirs.pop() {
            for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
                let about = entry.metadata().unwrap();
                if about.is_dir() {
                    dirs.push(entry.path());
                } else if about.modified().unwrap() > real {
                    File::options().write(true).open(entry.path()).unwrap().set_modified(now).unwrap();
                }
            }
        }
    }

    /// Every release and every save can be read whole, and has the files that it had.
    async fn check(&self) {
        let releases = self.rows().releases.clone();
        let roots: Vec<RootId> = releases.iter().map(|(root, _)| *root).collect();
        assert_eq!(crate::verify(&self.store, &roots, &|_| ()).await.unwrap(), []);
        for (root, tree) in releases {
            assert_eq!(self.store.root(root).await.unwrap().tree, tree);
        }
    }
}

/// The world and those who act in it.
#[derive(Debug)]
pub(crate) struct Model {
    world: World,
    captures: Vec<Job>,
    collection: Option<Collection>,
    compaction: Option<(Compaction, bool)>,
    saves: u64,
}

impl Model {
    pub(crate) fn new(world: World) -> Model {
        Model { world, captures: Vec::new(), collection: None, compaction: None, saves: 0 }
    }

    pub(crate) async fn step(&mut self, step: Step) {
        match step {
            Step::Begin { chunks, base } => self.begin(&chunks, base).await,
            Step::Upload(index) => self.upload(index).await,
            Step::Abandon(index) => {
                let mut rows = self.world.rows();
                let uploads = rows.uploads.len();
                if uploads > 0 {
                    rows.uploads.remove(index % uploads);
                }
            }
            Step::Delete(index) => {
                let mut rows = self.world.rows();
                let releases = rows.releases.len();
                // The first one stays.
                if releases > 1 {
                    rows.releases.remove(1 + index % (releases - 1));
                }
            }
            Step::Save => {
                // No two saves have a byte in common: each is encrypted with random bytes of its own.
                self.saves += 1;
                let job = self.job(&[1000 + self.saves, 2000 + self.saves], None, &BTreeMap::new());
                self.captures.push(job);
            }
            Step::Capture(index) => self.capture(index).await,
            Step::Age(hours) => *self.world.now.lock().unwrap() += Duration::from_hours(hours),
            Step::Collect => {
                self.collect(false).await;
            }
            Step::Compact => self.compact().await,
            Step::Kill => {
                (self.collection, self.compaction) = (None, None);
                let left = self.world.dir.path().join("packs/ab");
                fs::create_dir_all(&left).unwrap();
                fs::write(left.join(format!("{}#1", PackId::of(b"left"))), b"half").unwrap();
            }
        }
        self.world.stamp();
    }

    fn job(&self, chunks: &[u64], base: Option<RootId>, known: &BTreeMap<ChunkId, PackId>) -> Job {
        let mut new: Vec<u64> =
            chunks.iter().copied().filter(|number| !known.contains_key(&chunk(*number).id)).collect();
        new.sort_unstable();
        new.dedup();
        let packs: Vec<Pack> = new.chunks(3).map(pack).collect();
        let tree = tree(chunks).encode();
        let old = chunks.iter().filter_map(|number| known.get(&chunk(*number).id).copied());
        let named: BTreeSet<PackId> = old.chain(packs.iter().map(|pack| pack.id)).collect();
        let root = Root { tree: TreeId::of(&tree), packs: named.into_iter().collect(), is_sealed: false };
        Job { begun: self.world.now(), base, packs, tree, root, pending: BTreeSet::new(), written: 0 }
    }

    async fn begin(&self, chunks: &[u64], base: Option<usize>) {
        // The choice and the row are one transaction: nothing comes between in this model.
        let releases = self.world.rows().releases.clone();
        let base = base.filter(|_| !releases.is_empty()).map(|index| releases[index % releases.len()].0);
        let mut known = BTreeMap::new();
        if let Some(base) = base {
            for pack in self.world.store.root(base).await.unwrap().packs {
                let places = self.world.store.places(pack).await.unwrap();
                known.extend(places.iter().map(|place| (place.id, pack)));
            }
        }
        let job = self.job(chunks, base, &known);
        self.world.rows().uploads.push(job);
    }

    /// Names the next object in the row, or writes what is named, or ends.
    async fn upload(&self, index: usize) {
        let mut upload = {
            let mut rows = self.world.rows();
            if rows.uploads.is_empty() {
                return;
            }
            let index = index.min(rows.uploads.len() - 1);
            let Some(next) = rows.uploads[index].next() else {
                let ended = rows.uploads.remove(index);
                rows.releases.push((ended.root.id(), ended.root.tree));
                return;
            };
            if !rows.uploads[index].pending.contains(&next) {
                if !rows.condemned.contains(&next) {
                    rows.uploads[index].pending.insert(next);
                }
                return;
            }
            rows.uploads.remove(index)
        };
        upload.write(&self.world.store).await;
        self.world.rows().uploads.push(upload);
    }

    async fn capture(&mut self, index: usize) {
        if self.captures.is_empty() {
            return;
        }
        let index = index % self.captures.len();
        if self.captures[index].next().is_some() {
            return self.captures[index].write(&self.world.store).await;
        }
        let capture = self.captures.remove(index);
        let mut rows = self.world.rows();
        let is_young = self.world.now() < capture.begun + COLLECT_GRACE / 2;
        if is_young && !rows.condemned.contains(&capture.root.id().into()) {
            rows.releases.push((capture.root.id(), capture.root.tree));
        }
    }

    /// One step; false when there is none left.
    async fn collect(&mut self, is_last: bool) -> bool {
        if self.compaction.is_some() {
            return false;
        }
        let now = self.world.now();
        let collection = self.collection.get_or_insert_with(|| {
            let options = CollectOptions { now: Some(now), may_be_empty: is_last, ..CollectOptions::default() };
            let mut collection = Collection::new(self.world.store.clone(), options, now);
            collection.batch = 1;
            collection
        });
        let before = collection.collected.removed;
        // It ends early where nothing is live.
        let goes_on = collection.step(&self.world, &|_| ()).await.unwrap_or(false);
        let has_removed = collection.collected.removed != before;
        if !goes_on {
            self.collection = None;
        }
        if has_removed {
            self.world.check().await;
        }
        goes_on
    }

    async fn compact(&mut self) {
        if self.collection.is_some() {
            return;
        }
        let roots: Vec<RootId> = self.world.rows().releases.iter().map(|(root, _)| *root).collect();
        let options = CompactOptions::default();
        match &mut self.compaction {
            None => {
                let begun = Compaction::read(self.world.store.clone(), &roots, options, &|_| ()).await.unwrap();
                assert_eq!(begun.done.roots_damaged, []);
                self.compaction = Some((begun, false));
            }
            Some((compaction, is_copied @ false)) => {
                compaction.copy(&|_| ()).await.unwrap();
                *is_copied = true;
            }
            Some((compaction, true)) => {
                if !compaction.swing(&self.world).await.unwrap() {
                    self.compaction = None;
                }
                self.world.check().await;
            }
        }
    }

    /// Everybody goes, a day passes, and what is left is what is needed.
    pub(crate) async fn end(mut self) {
        self.world.check().await;
        (self.collection, self.compaction) = (None, None);
        self.world.rows().uploads.clear();
        let roots = |world: &World| world.rows().releases.iter().map(|(root, _)| *root).collect::<BTreeSet<_>>();
        // Each time that something is dissolved the store becomes smaller, so that there is an end.
        for round in 0.. {
            let now: Vec<RootId> = roots(&self.world).into_iter().collect();
            let done = compact(&self.world.store, &self.world, &now, CompactOptions::default(), &|_| ()).await.unwrap();
            self.world.check().await;
            if done.packs_dissolved == 0 {
                break;
            }
            assert!(round < 10, "there is no end: {done:?}");
        }
        self.world.stamp();
        *self.world.now.lock().unwrap() += COLLECT_GRACE * 2;
        while self.collect(true).await {}
        self.world.check().await;
        let mut needed = BTreeSet::new();
        for id in roots(&self.world) {
            let root = self.world.store.root(id).await.unwrap();
            needed.extend([ObjectName::from(id), root.tree.into()]);
            needed.extend(root.packs.into_iter().map(ObjectName::from));
        }
        assert_eq!(files(&self.world.dir.path().join("")), needed.iter().map(ToString::to_string).collect());
    }
}

/// All files of a store, staging files too, as names of objects.
fn files(dir: &Path) -> BTreeSet<String> {
    let below = |dir: &Path| -> Vec<fs::DirEntry> {
        fs::read_dir(dir).map(|found| found.map(|entry| entry.unwrap()).collect()).unwrap_or_default()
    };
    let mut names = BTreeSet::new();
    for kind in ObjectKind::ALL {
        for start in below(&dir.join(kind.directory())) {
            for file in below(&start.path()) {
                names.insert(format!("{}/{}", kind.directory(), file.file_name().to_str().unwrap()));
            }
        }
    }
    names
}
