//! What the process does that is killed: builds are pushed, fetched and removed, plays are captured and restored, and beside all this a collection
//! or a compaction follows the other.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use content::saves::{Archive, Limits, Pattern, Place, Places, SavePaths, capture, restore_save};
use content::transfer::{Known, Progress, Remote, RemoteError, Upload, push};
use content::{ChunkId, CollectOptions, CompactOptions, RootId, SealKey, Store, collect, compact};

use super::books::{Books, Dirs};
use super::{COLLECTION_STEP, Random, STEP, mark};

/// Different builds. Few, so that one comes again after it was removed and while its objects are: old names are written anew then.
const BUILDS: u64 = 5;

/// Releases that are left alone. With few of them their objects differ little, with many each look at all of them takes long.
const RELEASES: usize = 3;

/// Between a compaction and the next collection.
const REST: Duration = Duration::from_millis(10);

/// Before the first one at most, in milliseconds: as long as a push takes, so that it falls anywhere into one.
const DELAY_MS: u64 = 100;

/// An upload in the same process.
struct Direct {
    store: Store,
    books: Arc<Books>,
    upload: Upload,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> RemoteError {
    RemoteError(Box::new(error))
}

impl Remote for Direct {
    async fn signatures(&self, numbers: Vec<u32>) -> Result<Vec<u8>, RemoteError> {
        self.upload.signatures(&self.store, &numbers).await.map_err(failed)
    }

    async fn send(&self, parcel: bytes::Bytes) -> Result<Vec<ChunkId>, RemoteError> {
        let received = self.upload.receive(&self.store, &parcel).await.map_err(failed)?;
        for mut pack in received.packs {
            self.books.note(pack.id.into()).await;
            let bytes = std::mem::take(&mut pack.bytes);
            self.store.put_pack(pack.id, bytes).await.map_err(failed)?;
            self.upload.keep(&pack);
        }
        Ok(received.refused)
    }

    async fn finish(&self, outline: Vec<u8>) -> Result<Result<String, Vec<ChunkId>>, RemoteError> {
        let (tree, root) = self.upload.finish(&outline).map_err(failed)?;
        self.books.note(root.tree.into()).await;
        self.books.note(root.id().into()).await;
        let root = self.upload.write(&self.store, &tree, &root).await.map_err(failed)?;
        Ok(Ok(root.to_string()))
    }
}

pub(super) fn key() -> SealKey {
    SealKey::new([5; 32])
}

fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

fn paths() -> SavePaths {
    SavePaths::new([Pattern { place: Place::Home, glob: "saves".to_owned() }]).unwrap()
}

/// Builds go from one to the next by a small change, as real ones do.
fn build(dir: &Path, seed: u64) {
    fs::create_dir_all(dir).unwrap();
    // Of one time: what is the same build is the same tree.
    let write = |name: &str, bytes: Vec<u8>| {
        fs::write(dir.join(name), bytes).unwrap();
        let file = File::options().write(true).open(dir.join(name)).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    };
    let mut packed = noise(1_500_000, 1);
    packed[700_000..700_100].copy_from_slice(&noise(100, seed));
    write("packed", packed);
    for index in 0..20 {
        write(&format!("small{index}"), noise(3000, index + seed % 3));
    }
}

/// Until it is killed.
pub(super) async fn work(dirs: &Dirs, mut random: Random) {
    let (store, volume) = (dirs.store(), dirs.volume());
    let books = Arc::new(Books::open(dirs, || mark(COLLECTION_STEP)));
    let delay = Duration::from_millis(random.below(DELAY_MS));
    tokio::spawn(keep(dirs.clone(), Arc::clone(&books), delay));
    loop {
        let pushed = push_build(dirs, &store, &books, random.below(BUILDS)).await;
        mark(STEP);
        books.commit("release", pushed);
        mark(STEP);
        let all = dirs.committed("release");
        let wanted = all[random.below(all.len() as u64) as usize];
        drop(volume.ensure(wanted).await.unwrap());
        mark(STEP);
        // Some go again.
        if random.below(3) == 0 {
            volume.evict(wanted).await.unwrap();
        }
        if all.len() > RELEASES {
            books.commit("removed", wanted);
        }
        play(dirs, &store, &books, random.next()).await;
    }
}

async fn push_build(dirs: &Dirs, store: &Store, books: &Arc<Books>, seed: u64) -> RootId {
    let package = dirs.root.join("package");
    build(&package, seed);
    let newest: Vec<RootId> = dirs.committed("release").last().copied().into_iter().collect();
    let known = Known::read(store, &newest, &[]).await.unwrap();
    let (prefixes, base) = (known.prefixes().collect::<Vec<_>>(), known.base());
    let remote = Direct { store: store.clone(), books: Arc::clone(books), upload: Upload::new(known) };
    let pushed = push(&package, &prefixes, base, Arc::new(remote), Arc::<Progress>::default()).await.unwrap();
    pushed.answer.parse().unwrap()
}

/// Collects and compacts. Saves have no rows while they are captured: what this process wrote is younger than the grace.
async fn keep(dirs: Dirs, books: Arc<Books>, delay: Duration) {
    tokio::time::sleep(delay).await;
    // A database that names nothing yet is right here.
    let options = CollectOptions { may_be_empty: true, ..CollectOptions::default() };
    let store = dirs.store();
    loop {
        collect(&store, &*books, options, &|_| ()).await.unwrap();
        let releases = dirs.committed("release");
        compact(&store, &*books, &releases, CompactOptions::default(), &|_| ()).await.unwrap();
        tokio::time::sleep(REST).await;
    }
}

/// A play: the newest save is written, the game changes it, it is captured.
async fn play(dirs: &Dirs, store: &Store, books: &Books, seed: u64) {
    let home = dirs.root.join(format!("home{seed}"));
    fs::create_dir_all(home.join("saves")).unwrap();
    let places = Places { home: &home, base: None };
    let mut archive = Archive::new(store.clone(), key());
    if let Some(newest) = dirs.committed("save").last() {
        let content = archive.read(*newest).await.unwrap();
        let mut fetch = |id: ChunkId| Ok(content.chunks[&id].clone());
        restore_save(&content.tree, &places, None, &mut fetch).unwrap();
    }
    mark(STEP);
    fs::write(home.join(format!("saves/slot{}", seed % 9)), noise(50_000, seed)).unwrap();
    let mut chunks = HashMap::new();
    let mut keep = |chunk: content::Chunk| {
        chunks.insert(chunk.id, chunk.bytes);
        Ok(())
    };
    let captured = capture(&places, &paths(), Limits::default(), &mut keep).unwrap();
    let root = archive.write(&captured.tree, &chunks).await.unwrap();
    mark(STEP);
    books.commit("save", root);
    fs::remove_dir_all(&home).unwrap();
}
