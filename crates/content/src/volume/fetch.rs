//! Brings a release from the store to the volume, and verifies one that is there.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};

use super::plan::{Elder, Local, Plan};
use super::scrub::{self, Leash, TREE_FILE};
use super::write::{Files, Writer};
use super::{Policy, Rate, ReplicaState, Volume, VolumeError, check, space};
use crate::chunk::ChunkId;
use crate::id::{PackId, RootId, TreeId};
use crate::pack::Place;
use crate::root::Root;
use crate::store::StoreError;
use crate::tree::Tree;

/// Packs whose indexes are read at the same time.
const INDEXES_AT_ONCE: usize = 16;

/// The release's root, which names the tree beside it.
const ROOT_FILE: &str = "root";

/// How often the disk is told to write what came: half a second of a fast disk's work.
const FLUSH_PERIOD: Duration = Duration::from_millis(500);

/// Everything that the threads of one fetch share.
struct Job {
    volume: Volume,
    root: RootId,
    files: Files,
    tree: Arc<Tree>,
    plan: Plan,
    bytes_total: u64,
    bytes_done: AtomicU64,
    bytes_fetched: AtomicU64,
    /// Set with the first failure: what was not begun is not begun any more.
    has_failed: AtomicBool,
}

impl Job {
    fn report(&self) {
        let state = ReplicaState::Replicating {
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total,
            bytes_fetched: self.bytes_fetched.load(Ordering::Relaxed),
        };
        self.volume.update(self.root, |replica| replica.state = state);
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeError> + Send + 'static,
) -> Result<T, VolumeError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| VolumeError::Failed(error.to_string()))?
}

/// Makes the copy whole, wherever it stands; the bytes of its files. What is there already is read and kept.
pub(super) async fn replicate(volume: &Volume, id: RootId) -> Result<u64, VolumeError> {
    volume.update(id, |replica| {
        replica.state = ReplicaState::Replicating { bytes_done: 0, bytes_total: 0, bytes_fetched: 0 };
    });
    let store = volume.store();
    let root = store.root(id).await?;
    let tree_bytes = store.tree_bytes(root.tree).await?;
    let tree = Tree::decode(&tree_bytes).map_err(|_error| StoreError::Damaged(root.tree.into()))?;
    let tree = Arc::new(tree);
    // A copy that is damaged is mended where it is: instances may be using it.
    let present = volume.present_dir(id);
    let (dir, is_new) = if present.is_dir() { (present.clone(), false) } else { (volume.partial_dir(id), true) };

    let (to_check, reporting, root_bytes) = (dir.clone(), volume.clone(), root.encode());
    let (for_check, bytes_total) = (Arc::clone(&tree), tree.bytes());
    let found = blocking(move || {
        let files = to_check.join("files");
        let is_fresh = !files.is_dir();
        fs::create_dir_all(&files).map_err(VolumeError::disk(&files.display()))?;
        for (name, bytes) in [(ROOT_FILE, &root_bytes[..]), (TREE_FILE, &tree_bytes[..])] {
            fs::write(to_check.join(name), bytes).map_err(VolumeError::disk(&to_check.display()))?;
        }
        // Whoever ends before all is good must not leave a copy that looks as if it had been.
        scrub::note_unchecked(&to_check).map_err(VolumeError::disk(&to_check.display()))?;
        if is_fresh {
            return Ok(check::Found::default());
        }
        let report = |bytes_done| {
            let state = ReplicaState::Replicating { bytes_done, bytes_total, bytes_fetched: 0 };
            reporting.update(id, |replica| replica.state = state);
            true
        };
        Ok(check::check(&Files::open(&files)?, &for_check, &report).unwrap_or_default())
    });
    let found = found.await?;
    let packs = indexes(volume, &root).await?;
    let elders = elders(volume, id).await;
    let plan = Plan::make(&tree, &packs, &elders, &found.good, is_new);
    let plan = plan.map_err(|path| VolumeError::Incomplete { path: path.to_string() })?;
    space::make_room(volume, id, plan.bytes).await?;

    let linked_bytes = bytes_total.saturating_sub(found.good_bytes + plan.bytes);
    let job = Arc::new(Job {
        volume: volume.clone(),
        root: id,
        files: Files::open(&dir.join("files"))?,
        tree,
        plan,
        bytes_total,
        bytes_done: AtomicU64::new(found.good_bytes + linked_bytes),
        bytes_fetched: AtomicU64::new(0),
        has_failed: AtomicBool::new(false),
    });
    job.report();
    fill(&job).await?;
    let finishing = Arc::clone(&job);
    blocking(move || finish(&finishing, &dir, is_new.then_some(present.as_path()))).await?;
    let (bytes_fetched, linked) = (job.bytes_fetched.load(Ordering::Relaxed), job.plan.linked.len());
    volume.update(id, |replica| replica.tree = Some(Arc::clone(&job.tree)));
    tracing::info!(root = %id, bytes = bytes_total, bytes_fetched, files_shared = linked, "release is on the site's volume");
    Ok(bytes_total)
}

/// What lies where in the release's packs.
async fn indexes(volume: &Volume, root: &Root) -> Result<Vec<(PackId, Vec<Place>)>, VolumeError> {
    let packs = futures_util::stream::iter(root.packs.clone()).map(|pack| async move {
        let places = volume.store().places(pack).await?;
        Ok::<_, VolumeError>((pack, places))
    });
    packs.buffered(INDEXES_AT_ONCE).try_collect().await
}

/// The other releases that are present, with their trees.
async fn elders(volume: &Volume, id: RootId) -> Vec<Elder> {
    let present: Vec<(RootId, Option<Arc<Tree>>)> = {
        let replicas = volume.lock();
        let present =
            replicas.iter().filter(|(root, one)| **root != id && matches!(one.state, ReplicaState::Present { .. }));
        present.map(|(root, one)| (*root, one.tree.clone())).collect()
    };
    let mut elders = Vec::new();
    for (root, tree) in present {
        let dir = volume.present_dir(root);
        let tree = match tree {
            Some(tree) => Some(tree),
            None => {
                let path = dir.join(TREE_FILE);
                // One that cannot be read is no help here, and found when it is verified.
                let read = blocking(move || fs::read(&path).map_err(VolumeError::disk(&path.display()))).await;
                let tree = read.ok().and_then(|bytes| Tree::decode(&bytes).ok()).map(Arc::new);
                volume.update(root, |replica| replica.tree.clone_from(&tree));
                tree
            }
        };
        elders.extend(tree.map(|tree| Elder { files: dir.join("files"), tree }));
    }
    elders
}

/// Directories, then all chunks.
async fn fill(job: &Arc<Job>) -> Result<(), VolumeError> {
    let making = Arc::clone(job);
    blocking(move || making.files.make_directories(&making.tree)).await?;
    let copying = Arc::clone(job);
    let left = blocking(move || {
        let mut left = HashSet::new();
        for local in &copying.plan.local {
            copy_local(&copying, local, &mut left)?;
        }
        Ok(left)
    });
    let flushing = Flushing::start(job);
    let left = left.await?;
    let parallel = job.volume.shared.settings.parallel.max(1);
    let fetches = futures_util::stream::iter(0..job.plan.packs.len()).map(|index| {
        let (pack, places) = &job.plan.packs[index];
        fetch_pack(Arc::clone(job), *pack, places.clone())
    });
    // To the end of each that was begun: nothing may write or report any more when this has failed.
    fetches.buffer_unordered(parallel).collect::<Vec<_>>().await.into_iter().collect::<Result<(), _>>()?;
    drop(flushing);
    if left.is_empty() { Ok(()) } else { fetch_left(job, &left).await }
}

/// Has the disk write while the processor works: else all of it would be waited for at the end. Goes on until this is dropped.
struct Flushing {
    _until: std::sync::mpsc::SyncSender<()>,
}

impl Flushing {
    fn start(job: &Arc<Job>) -> Flushing {
        // Nothing is ever sent: that it is dropped is the word.
        let (until, over) = std::sync::mpsc::sync_channel::<()>(0);
        let job = Arc::clone(job);
        tokio::task::spawn_blocking(move || {
            while over.recv_timeout(FLUSH_PERIOD) == Err(RecvTimeoutError::Timeout) {
                // What fails here fails at the end as well, where it is told.
                let _told_later = job.files.flush();
            }
        });
        Flushing { _until: until }
    }
}

/// Copies from an elder release what is as it has to be; the rest is left for the store.
fn copy_local(job: &Job, local: &Local, left: &mut HashSet<ChunkId>) -> Result<(), VolumeError> {
    let mut writer = Writer::new(&job.files, &job.tree, &job.plan);
    let file = fs::File::open(&local.file);
    let mut buffer = Vec::new();
    for (chunk, offset, length) in &local.chunks {
        buffer.resize(*length as usize, 0);
        let is_read = file.as_ref().is_ok_and(|file| file.read_exact_at(&mut buffer, *offset).is_ok());
        if is_read && ChunkId::of(&buffer) == *chunk {
            let written = writer.write(*chunk, &buffer)?;
            job.bytes_done.fetch_add(written, Ordering::Relaxed);
        } else {
            tracing::warn!(file = %local.file.display(), "a file on the site's volume is damaged");
            left.insert(*chunk);
        }
    }
    job.report();
    Ok(())
}

/// What an elder release should have had.
async fn fetch_left(job: &Arc<Job>, left: &HashSet<ChunkId>) -> Result<(), VolumeError> {
    let root = job.volume.store().root(job.root).await?;
    for (pack, places) in indexes(&job.volume, &root).await? {
        let wanted: Vec<Place> = places.into_iter().filter(|place| left.contains(&place.id)).collect();
        if !wanted.is_empty() {
            fetch_pack(Arc::clone(job), pack, wanted).await?;
        }
    }
    Ok(())
}

async fn fetch_pack(job: Arc<Job>, pack: PackId, wanted: Vec<Place>) -> Result<(), VolumeError> {
    if job.has_failed.load(Ordering::Relaxed) {
        return Ok(());
    }
    let fetched = fetch_checked(&job, pack, &wanted).await;
    job.has_failed.fetch_or(fetched.is_err(), Ordering::Relaxed);
    fetched
}

async fn fetch_checked(job: &Arc<Job>, pack: PackId, wanted: &[Place]) -> Result<(), VolumeError> {
    let mut was_damaged = false;
    loop {
        let range = wanted.first().zip(wanted.last()).map_or(0, |(first, last)| last.range().end - first.range().start);
        job.volume.shared.pace.wait(range).await;
        let stored = job.volume.store().stored(pack, wanted).await?;
        job.bytes_fetched.fetch_add(stored.bytes(), Ordering::Relaxed);
        job.volume.shared.fetched_bytes.fetch_add(stored.bytes(), Ordering::Relaxed);
        let writing = Arc::clone(job);
        let written = blocking(move || {
            let mut writer = Writer::new(&writing.files, &writing.tree, &writing.plan);
            stored.each(|place, _stored, bytes| {
                let written = writer.write(place.id, bytes)?;
                writing.bytes_done.fetch_add(written, Ordering::Relaxed);
                Ok::<(), VolumeError>(())
            })?;
            writing.report();
            Ok(())
        });
        match written.await {
            // It may have been damaged on the way.
            Err(VolumeError::Store(StoreError::Damaged(name))) if !was_damaged => {
                tracing::warn!(%name, "a damaged chunk came from the store, it is fetched again");
                was_damaged = true;
            }
            done => return done,
        }
    }
}

/// Everything onto the disk, then one rename.
fn finish(job: &Job, dir: &Path, present: Option<&Path>) -> Result<(), VolumeError> {
    let failed = |path: &Path| VolumeError::disk(&path.display());
    job.files.finish(&job.tree, &job.plan)?;
    job.files.remove_strangers(&job.tree)?;
    space::write_bytes(dir, job.bytes_total).map_err(failed(dir))?;
    scrub::note_checked(dir).map_err(failed(dir))?;
    job.files.flush().map_err(failed(dir))?;
    if let Some(present) = present {
        fs::rename(dir, present).map_err(failed(present))?;
        let parent: PathBuf = present.parent().unwrap_or(present).to_owned();
        fs::File::open(&parent).and_then(|parent| parent.sync_all()).map_err(failed(&parent))?;
    }
    Ok(())
}

/// Reads a copy that is present: its bytes, and how much of it is wrong. The store is asked only when what the copy has to be does not stand beside
/// it, or is damaged, too.
pub(super) async fn verify(volume: &Volume, id: RootId, rate: Option<Rate>) -> Result<(u64, u64), VolumeError> {
    let dir = volume.present_dir(id);
    let reading = dir.clone();
    let tree = match blocking(move || Ok(written_tree(&reading, id))).await? {
        Some(tree) => tree,
        None => {
            let root = volume.store().root(id).await?;
            let bytes = volume.store().tree_bytes(root.tree).await?;
            let tree = Tree::decode(&bytes).map_err(|_error| StoreError::Damaged(root.tree.into()))?;
            let beside = dir.clone();
            blocking(move || {
                // A copy that is gone altogether is found to be so below.
                let written = fs::write(beside.join(ROOT_FILE), root.encode());
                let _found_below = written.and_then(|()| fs::write(beside.join(TREE_FILE), bytes));
                Ok(())
            })
            .await?;
            tree
        }
    };
    let (bytes_total, reporting) = (tree.bytes(), volume.clone());
    let (leash, _holder) = Leash::new(rate);
    blocking(move || {
        let Ok(files) = Files::open(&dir.join("files")) else { return Ok((bytes_total, 1)) };
        let report = |bytes_done| {
            let state = ReplicaState::Verifying { bytes_done, bytes_total };
            reporting.update(id, |replica| replica.state = state);
            leash.wait(bytes_done)
        };
        report(0);
        let ended = || VolumeError::Failed("verifying it was ended".to_owned());
        let faults = check::check(&files, &tree, &report).ok_or_else(ended)?.faults;
        if faults == 0 {
            scrub::note_checked(&dir).map_err(VolumeError::disk(&dir.display()))?;
        }
        Ok((bytes_total, faults))
    })
    .await
}

/// What a copy has to be, by the files beside it, when they are what the release's name says.
fn written_tree(dir: &Path, id: RootId) -> Option<Tree> {
    let root = fs::read(dir.join(ROOT_FILE)).ok().filter(|bytes| RootId::of(bytes) == id)?;
    let root = Root::decode(&root).ok()?;
    let tree = fs::read(dir.join(TREE_FILE)).ok().filter(|bytes| TreeId::of(bytes) == root.tree)?;
    Tree::decode(&tree).ok()
}

/// True when this copy may make others go that are wanted, too.
pub(super) fn is_urgent(volume: &Volume, id: RootId) -> bool {
    let replicas = volume.lock();
    replicas.get(&id).is_some_and(|one| one.uses > 0 || one.policy == Policy::Pinned)
}
