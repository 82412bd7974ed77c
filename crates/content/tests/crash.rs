//! Kills a process that pushes, fetches, captures and restores, again and again at random moments, and looks each time at what it left: all that
//! was committed is whole, and nothing half-written is served.
//!
//! The process is this test's own program, run again with a variable that says what to do. `KITE_TEST_SEED` repeats a run; `KITE_TEST_KILLS`
//! says how many.

#![allow(clippy::unwrap_used, reason = "what goes wrong in a test's support fails the test")]

use std::collections::HashMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use content::saves::{Archive, Limits, Pattern, Place, Places, SavePaths, capture, restore_save};
use content::transfer::{Known, Progress, Remote, RemoteError, Upload, push};
use content::{ChunkId, RootId, SealKey, Store, StoreSettings, Volume, VolumeSettings, scan};

const WORK: &str = "KITE_TEST_WORK";
const KILLS: u32 = 200;

/// Numbers that look random, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

struct Dirs {
    root: PathBuf,
}

impl Dirs {
    fn store(&self) -> Store {
        Store::open(&StoreSettings::Local { dir: self.root.join("store") }).unwrap()
    }

    fn volume(&self) -> Volume {
        Volume::open(VolumeSettings::new(self.root.join("volume")), self.store()).unwrap()
    }

    /// What was committed of a kind: `release ROOT` or `save ROOT`, one a line. Stands for the database: a line is there whole or not at all.
    fn committed(&self, kind: &str) -> Vec<RootId> {
        let text = fs::read_to_string(self.root.join("committed")).unwrap_or_default();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| line.strip_prefix(kind)?.trim().parse().ok()).collect()
    }

    fn commit(&self, kind: &str, root: RootId) {
        let path = self.root.join("committed");
        let mut file = fs::File::options().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{kind} {root}\n").as_bytes()).unwrap();
    }
}

/// An upload in the same process, which notes nothing and commits at its end.
struct Direct {
    store: Store,
    upload: Upload,
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> RemoteError {
    RemoteError(Box::new(error))
}

impl Remote for Direct {
    async fn signatures(&self, numbers: Vec<u32>) -> Result<Vec<u8>, RemoteError> {
        self.upload.signatures(&self.store, &numbers).await.map_err(failed)
    }

    async fn send(&self, parcel: Vec<u8>) -> Result<Vec<ChunkId>, RemoteError> {
        let received = self.upload.receive(&self.store, &parcel).await.map_err(failed)?;
        for mut pack in received.packs {
            let bytes = std::mem::take(&mut pack.bytes);
            self.store.put_pack(pack.id, bytes).await.map_err(failed)?;
            self.upload.keep(&pack);
        }
        Ok(received.refused)
    }

    async fn finish(&self, outline: Vec<u8>) -> Result<Result<String, Vec<ChunkId>>, RemoteError> {
        let (tree, root) = self.upload.finish(&outline).map_err(failed)?;
        let root = self.upload.write(&self.store, &tree, &root).await.map_err(failed)?;
        Ok(Ok(root.to_string()))
    }
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
    let mut packed = noise(1_500_000, 1);
    packed[700_000..700_100].copy_from_slice(&noise(100, seed));
    fs::write(dir.join("packed"), packed).unwrap();
    for index in 0..20 {
        fs::write(dir.join(format!("small{index}")), noise(3000, index + seed % 3)).unwrap();
    }
}

/// Tells the parent that a step is done.
fn step() {
    // Not to standard output, where the test program writes of its own.
    let mut out = std::io::stderr();
    out.write_all(b".").and_then(|()| out.flush()).unwrap();
}

/// What the child does until it is killed.
async fn work(dirs: &Dirs, mut random: Random) {
    let (store, volume) = (dirs.store(), dirs.volume());
    let key = SealKey::new([5; 32]);
    loop {
        let releases = dirs.committed("release");
        let package = dirs.root.join("package");
        build(&package, random.next());
        let newest: Vec<RootId> = releases.last().copied().into_iter().collect();
        let known = Known::read(&store, &newest, &[]).await.unwrap();
        let (prefixes, base) = (known.prefixes().collect::<Vec<_>>(), known.base());
        let remote = Arc::new(Direct { store: store.clone(), upload: Upload::new(known) });
        let pushed = push(&package, &prefixes, base, remote, Arc::<Progress>::default()).await.unwrap();
        step();
        dirs.commit("release", pushed.answer.parse().unwrap());
        step();
        let all = dirs.committed("release");
        let wanted = all[random.below(all.len() as u64) as usize];
        drop(volume.ensure(wanted).await.unwrap());
        step();
        // Some go again.
        if random.below(3) == 0 {
            volume.evict(wanted).await.unwrap();
        }
        play(dirs, &store, &key, random.next()).await;
    }
}

/// A play: the newest save is written, the game changes it, it is captured.
async fn play(dirs: &Dirs, store: &Store, key: &SealKey, seed: u64) {
    let home = dirs.root.join(format!("home{seed}"));
    fs::create_dir_all(home.join("saves")).unwrap();
    let places = Places { home: &home, base: None };
    let mut archive = Archive::new(store.clone(), key.clone());
    if let Some(newest) = dirs.committed("save").last() {
        let content = archive.read(*newest).await.unwrap();
        let mut fetch = |id: ChunkId| Ok(content.chunks[&id].clone());
        restore_save(&content.tree, &places, None, &mut fetch).unwrap();
    }
    step();
    fs::write(home.join(format!("saves/slot{}", seed % 9)), noise(50_000, seed)).unwrap();
    let mut chunks = HashMap::new();
    let mut keep = |chunk: content::Chunk| {
        chunks.insert(chunk.id, chunk.bytes);
        Ok(())
    };
    let captured = capture(&places, &paths(), Limits::default(), &mut keep).unwrap();
    let root = archive.write(&captured.tree, &chunks).await.unwrap();
    step();
    dirs.commit("save", root);
    fs::remove_dir_all(&home).unwrap();
}

/// Everything that was committed is whole, and what the volume shows as present is what it has to be.
async fn check(dirs: &Dirs, is_last: bool) {
    let store = dirs.store();
    let (releases, saves) = (dirs.committed("release"), dirs.committed("save"));
    let recent = |all: &[RootId]| if is_last { all.to_vec() } else { all.iter().rev().take(3).copied().collect() };
    for release in recent(&releases) {
        let root = store.root(release).await.unwrap();
        let tree = store.tree(root.tree).await.unwrap();
        let mut chunks = HashMap::new();
        for pack in root.packs {
            let pack = store.pack(pack).await.unwrap();
            chunks.extend(pack.places.iter().map(|place| (place.id, pack.chunk(place).unwrap().bytes)));
        }
        let out = tempfile::tempdir().unwrap();
        content::restore(&tree, out.path(), &mut |id| Ok(chunks[&id].clone())).unwrap();
    }
    for save in recent(&saves) {
        Archive::new(store.clone(), SealKey::new([5; 32])).read(save).await.unwrap();
    }
    let present = dirs.root.join("volume/present");
    for entry in fs::read_dir(&present).into_iter().flatten().flatten() {
        let root: RootId = entry.file_name().to_str().unwrap().parse().unwrap();
        let tree = store.tree(store.root(root).await.unwrap().tree).await.unwrap();
        let found = scan(&entry.path().join("files"), &mut |_| Ok(())).unwrap();
        let content = |tree: &content::Tree| tree.pieces().collect::<Vec<_>>();
        assert_eq!(content(&found), content(&tree), "a copy that is served is not whole");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_killed_when_all_that_was_committed_is_whole() {
    if let Some(place) = std::env::var_os(WORK) {
        let seed = std::env::var("KITE_TEST_SEED").unwrap().parse().unwrap();
        work(&Dirs { root: place.into() }, Random(seed)).await;
    }
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = variable("KITE_TEST_SEED").unwrap_or_else(|| {
        u64::from(std::process::id())
            ^ std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    });
    let kills = variable("KITE_TEST_KILLS").map_or(KILLS, |kills| u32::try_from(kills).unwrap());
    eprintln!("KITE_TEST_SEED={seed} KITE_TEST_KILLS={kills}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let dirs = Dirs { root: dir.path().to_owned() };
    let started = Instant::now();
    for kill in 0..kills {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "whatever_is_killed_when_all_that_was_committed_is_whole", "--nocapture"])
            .env(WORK, dir.path())
            .env("KITE_TEST_SEED", random.next().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // So many steps, and a moment more: wherever that is.
        let mut steps = vec![0; random.below(7) as usize];
        let mut heard = child.stderr.take().unwrap();
        heard.read_exact(&mut steps).unwrap();
        std::thread::sleep(Duration::from_micros(random.below(30_000)));
        assert!(child.try_wait().unwrap().is_none(), "kill {kill}: the process ended by itself: a fault of its own");
        child.kill().unwrap();
        child.wait().unwrap();
        check(&dirs, false).await;
    }
    check(&dirs, true).await;
    let (releases, saves) = (dirs.committed("release").len(), dirs.committed("save").len());
    eprintln!("{kills} kills, {releases} releases, {saves} saves, {:.0} s", started.elapsed().as_secs_f32());
    assert!(releases > 10 && saves > 10, "too little was done between the kills to say anything");
}
